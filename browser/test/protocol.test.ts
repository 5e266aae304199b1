/** PROTOCOL.md is what both languages speak: its examples and its limits are this package's too. */

import assert from "node:assert/strict";
import test from "node:test";

import { BadFrame } from "../src/errors.js";
import * as limits from "../src/limits.js";
import { decode, encode, Reassembly } from "../src/protocol/codec.js";
import { fieldsOf, SHAPES, type Frame } from "../src/protocol/frames.js";
import { Outgoing } from "../src/protocol/outgoing.js";
import { EXAMPLES, TEXT } from "./examples.js";

test("every frame of PROTOCOL.md is known here, field by field, and no other", () => {
  assert.deepEqual([...new Set(EXAMPLES.map(({ kind }) => kind))].sort(), Object.keys(SHAPES).sort());
  for (const { kind, values } of EXAMPLES) {
    assert.deepEqual(values.map(([field]) => field), fieldsOf(SHAPES[kind]).map(([name]) => name), kind);
  }
});

test("every example decodes to what is written beside it, and encodes to its bytes", () => {
  for (const { kind, data, values } of EXAMPLES) {
    const frame = decode(data);
    assert.deepEqual(frame, { kind, ...Object.fromEntries(values) });
    assert.deepEqual(encode(frame!), data, kind);
  }
});

test("a frame with any byte cut off is refused", () => {
  for (const { data } of EXAMPLES) {
    for (let length = 0; length < data.length; length += 1) {
      assert.throws(() => decode(data.subarray(0, length)), BadFrame);
    }
  }
});

test("the limits are those of PROTOCOL.md", () => {
  const ours = limits as unknown as Record<string, number>;
  const rows = [...TEXT.matchAll(/^\| `limits\.(\w+)` \| ([\d,]+) \|/gm)];
  const shared = rows.filter(([, name = ""]) => name in ours);
  assert.ok(shared.length > 10);
  for (const [, name = "", value = ""] of shared) {
    assert.equal(ours[name], Number(value.replace(/,/g, "")), name);
  }
});

test("a long frame goes in parts and comes together again", () => {
  const update = Uint8Array.from({ length: 1_000_000 }, (_, index) => index % 251);
  const frame: Frame = { kind: "updates", channel: 3, offset: 7, update };
  const together = new Reassembly();
  const outgoing = new Outgoing();
  const encoded = [encode(frame)];
  outgoing.attach("design", () => encoded.shift() ?? null);
  let whole: Frame | null = null;
  for (let piece = outgoing.next(); piece !== null; piece = outgoing.next()) {
    assert.equal(whole, null);
    const part = decode(piece);
    assert.ok(part?.kind === "part" && piece.length <= limits.MAX_FRAME_BYTES);
    whole = together.add(part);
  }
  assert.deepEqual(whole, frame);
});

test("parts that do not fit together are refused", () => {
  const data = new Uint8Array(10);
  const total = limits.MAX_FRAME_BYTES + 1;
  const refused = [
    [{ stream: 1, total: 10, data }],
    [{ stream: 1, total: limits.MAX_PAYLOAD_BYTES + 1, data }],
    [{ stream: 1, total, data: new Uint8Array(0) }],
    [{ stream: 1, total, data }, { stream: 1, total: total + 1, data }],
    [{ stream: 1, total, data: new Uint8Array(total) }, { stream: 1, total: 20, data }],
  ];
  for (const sequence of refused) {
    assert.throws(() => {
      const together = new Reassembly();
      for (const part of sequence) together.add(part);
    }, BadFrame);
  }
});
