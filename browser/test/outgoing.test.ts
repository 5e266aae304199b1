/** What goes out on one socket, and in which order. */

import assert from "node:assert/strict";
import test from "node:test";

import { hex } from "../src/bytes.js";
import * as limits from "../src/limits.js";
import { decode, encode, Reassembly } from "../src/protocol/codec.js";
import { Outgoing, type Source } from "../src/protocol/outgoing.js";

type Encoded = Uint8Array<ArrayBuffer>;

const text = (word: string): Encoded => new TextEncoder().encode(word);

/** An update of this size from the room of this channel, as a relay sends it. */
function big(channel: number, size = 5 * limits.PART_BYTES): Encoded {
  return encode({ kind: "updates", channel, offset: 9, update: new Uint8Array(size) });
}

function source(...frames: Encoded[]): Source {
  return () => frames.shift() ?? null;
}

function* drained(outgoing: Outgoing): Generator<Encoded> {
  for (let data = outgoing.next(); data !== null; data = outgoing.next()) yield data;
}

const words = (outgoing: Outgoing): string[] =>
  [...drained(outgoing)].map((data) => new TextDecoder().decode(data));

/** The channels of what a peer puts together, which refuses more at once than it may take. */
function putTogether(sent: Iterable<Encoded>): number[] {
  const reassembly = new Reassembly();
  const channels: number[] = [];
  for (const data of sent) {
    const frame = decode(data);
    const whole = frame?.kind === "part" ? reassembly.add(frame) : frame;
    if (whole !== null) channels.push((whole as { channel: number }).channel);
  }
  return channels;
}

test("control frames go first in their order, then sources take turns of one frame", () => {
  const outgoing = new Outgoing();
  assert.equal(outgoing.next(), null);
  outgoing.attach("a", source(text("a1"), text("a2"), text("a3")));
  outgoing.attach("b", source(text("b1")));
  outgoing.send(text("c1"));
  outgoing.send(text("c2"));
  assert.deepEqual(words(outgoing), ["c1", "c2", "a1", "b1", "a2", "a3"]);
});

test("who has nothing now is asked again, and who comes again keeps the place", () => {
  const outgoing = new Outgoing();
  const later: Encoded[] = [];
  outgoing.attach("a", () => later.shift() ?? null);
  outgoing.attach("b", source(text("b1"), text("b2")));
  assert.deepEqual(words(outgoing), ["b1", "b2"]);
  later.push(text("a1"));
  assert.deepEqual(words(outgoing), ["a1"]);
  outgoing.attach("a", source(text("a2"), text("a3")));
  outgoing.attach("b", source(text("b3")));
  assert.deepEqual(words(outgoing).sort(), ["a2", "a3", "b3"]);
});

test("a payload in parts holds up no other room and keeps its room's order", () => {
  const outgoing = new Outgoing();
  outgoing.attach("a", source(big(1), encode({ kind: "pong", number: 7 })));
  outgoing.attach("b", source(text("b1")));
  const sent = [outgoing.next(), outgoing.next(), outgoing.next()] as Encoded[];
  assert.equal(hex(sent[1]!), hex(text("b1")));
  outgoing.send(text("c1"));
  assert.equal(hex(outgoing.next()!), hex(text("c1")));
  const rest = [...drained(outgoing)];
  assert.deepEqual(putTogether([sent[0]!, sent[2]!, ...rest.slice(0, -1)]), [1]);
  assert.equal(decode(rest.at(-1)!)?.kind, "pong");
});

test("a payload of exactly one frame goes whole, and of a byte more in parts", () => {
  const envelope = big(1, 100_000).length - 100_000;
  for (const [more, parts] of [[0, 1], [1, 5]] as const) {
    const outgoing = new Outgoing();
    outgoing.attach("a", source(big(1, limits.MAX_FRAME_BYTES - envelope + more)));
    const sent = [...drained(outgoing)];
    assert.equal(sent.length, parts);
    assert.deepEqual(putTogether(sent), [1]);
  }
});

test("no more payloads go in parts at once than the peer puts together", () => {
  const outgoing = new Outgoing();
  const rooms = Array.from({ length: limits.MAX_OPEN_PARTS + 5 }, (_, room) => room);
  for (const room of rooms) outgoing.attach(String(room), source(big(room), big(room)));
  const got = putTogether(drained(outgoing));
  assert.deepEqual(got.sort((one, other) => one - other), rooms.flatMap((room) => [room, room]));
});

test("no more bytes go in parts at once than the peer puts together", () => {
  const outgoing = new Outgoing();
  const payload = big(1, limits.MAX_UPDATE_BYTES);
  for (const room of ["a", "b", "c"]) outgoing.attach(room, source(payload));
  assert.ok(3 * payload.length > limits.MAX_OPEN_PART_BYTES);
  assert.deepEqual(putTogether(drained(outgoing)), [1, 1, 1]);
});
