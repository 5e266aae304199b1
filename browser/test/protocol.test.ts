/** PROTOCOL.md is what both languages speak: its examples and its limits are this package's too. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { fromHex } from "../src/bytes.js";
import { BadFrame } from "../src/errors.js";
import * as limits from "../src/limits.js";
import { decodeAny, decodeFromRelay, encode, parts, Reassembly } from "../src/protocol/codec.js";
import { FROM_RELAY, SHAPES, type Frame, type Kind } from "../src/protocol/frames.js";

const TEXT = readFileSync(join(process.cwd(), "..", "PROTOCOL.md"), "utf8");
/** What this package does not speak, and what of that a relay sends to every device. */
const UNSPOKEN = ["cast", "call", "answer", "change", "changed", "inquire"];
const IGNORED = ["members", "verdicts", "broadcast"];

const ALL_EXAMPLES = [...TEXT.matchAll(/^```hex (\w+)\n([\s\S]*?)\n\n([\s\S]*?)^```$/gm)].map(
  ([, name = "", digits = "", written = ""]) => ({
    kind: name.toLowerCase() as Kind,
    data: fromHex(digits.replace(/\s/g, "")),
    values: written
      .trimEnd()
      .split("\n")
      .map((line) => line.split(/ = (.*)/s))
      .map(([field = "", value = ""]) => [camel(field), valueOf(value)] as const),
  }),
);

const EXAMPLES = ALL_EXAMPLES.filter(({ kind }) => ![...UNSPOKEN, ...IGNORED].includes(kind));

function camel(name: string): string {
  return name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}

function valueOf(written: string): unknown {
  const digits = /^h'([0-9a-f]*)'$/.exec(written)?.[1];
  return digits === undefined ? JSON.parse(written) : fromHex(digits);
}

test("every frame of PROTOCOL.md is known here, field by field, and no other", () => {
  assert.deepEqual([...new Set(EXAMPLES.map(({ kind }) => kind))].sort(), Object.keys(SHAPES).sort());
  for (const { kind, values } of EXAMPLES) {
    assert.deepEqual(values.map(([field]) => field), Object.keys(SHAPES[kind][1]), kind);
  }
});

test("every example decodes to what is written beside it, and encodes to its bytes", () => {
  for (const { kind, data, values } of EXAMPLES) {
    const frame = decodeAny(data);
    assert.deepEqual(frame, { kind, ...Object.fromEntries(values) });
    assert.deepEqual(encode(frame!), data, kind);
  }
});

test("what only a device may send is not taken from a relay", () => {
  for (const { kind, data } of EXAMPLES) {
    if ((FROM_RELAY as readonly Kind[]).includes(kind)) assert.equal(decodeFromRelay(data)?.kind, kind);
    else assert.throws(() => decodeFromRelay(data), BadFrame, kind);
  }
});

test("what a relay tells every device is ignored where it is not spoken", () => {
  const ignored = ALL_EXAMPLES.filter(({ kind }) => IGNORED.includes(kind));
  assert.equal(ignored.length, IGNORED.length);
  for (const { data } of ignored) assert.equal(decodeFromRelay(data), null);
});

test("a frame with any byte cut off is refused", () => {
  for (const { data } of EXAMPLES) {
    for (let length = 0; length < data.length; length += 1) {
      assert.throws(() => decodeAny(data.subarray(0, length)), BadFrame);
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
  const pieces = [...parts(encode(frame), 5)];
  pieces.forEach((piece, index) => {
    const part = decodeAny(piece);
    assert.ok(part?.kind === "part" && piece.length <= limits.MAX_FRAME_BYTES);
    const whole = together.add(part);
    assert.deepEqual(whole, index === pieces.length - 1 ? frame : null);
  });
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
