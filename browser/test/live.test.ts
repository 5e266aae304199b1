/** Broadcasts and calls: now or not at all. */

import assert from "node:assert/strict";
import test from "node:test";

import { BadFrame, BadMessage, OfflineError, ReadOnly, Rejected, TooLarge } from "../src/errors.js";
import * as limits from "../src/limits.js";
import type { Broadcast } from "../src/live.js";
import { decode } from "../src/protocol/codec.js";
import type { FrameOf } from "../src/protocol/frames.js";
import { pack, unpack } from "../src/protocol/msgpack.js";
import type { RoomSync } from "../src/roomSync.js";
import { Entered, RUN } from "./entered.js";
import { welcomed } from "./fakeSocket.js";

const answer = (request: number, code: string, value: unknown = null): FrameOf<"answer"> => ({
  kind: "answer", channel: 3, request, code, reason: "",
  payload: code === "done" ? pack(value) : new Uint8Array(),
});

/** The call that goes up next. */
function called(room: Entered): FrameOf<"call"> {
  const frame = room.up();
  assert.ok(frame?.kind === "call");
  return frame;
}

test("a call goes up once, and answers come in any order, each to its caller", async () => {
  const room = await Entered.open();
  await room.enter();
  const { live } = room.tab;
  const first = live.call("translate", { text: "hello" }, 20_000);
  const second = live.call("translate", null, 20_000);
  const asked = [called(room), called(room)];
  assert.equal(room.up(), null);
  const { request } = asked[0]!;
  assert.deepEqual(asked[0], {
    kind: "call", channel: 3, request, service: "translate", payload: pack({ text: "hello" }),
  });
  assert.ok(asked[1]!.request > request);
  await room.receive(answer(asked[1]!.request, "done", [1, "two"]), answer(request, "done", "hallo"));
  assert.deepEqual([await first, await second], ["hallo", [1, "two"]]);
  await room.receive(answer(request, "done", "again")); // nobody waits for it
  assert.deepEqual(room.faults, []);
  room.chat.end();
});

for (const [code, retryable, isUnknown] of [
  ["unknown_service", false, false], ["forbidden", false, false], ["invalid", false, false],
  ["failed", false, true], ["timeout", true, true], ["busy", true, false], ["sold_out", false, false],
] as const) {
  test(`a call that is refused says so by its code: ${code}`, async () => {
    const room = await Entered.open();
    await room.enter();
    const call = room.tab.live.call("buy", "tea", 20_000);
    const refused = assert.rejects(call, (error) => {
      assert.ok(error instanceof Rejected);
      assert.deepEqual([error.code, error.retryable], [code, retryable]);
      return isUnknown === /not known/.test(error.message) && error.message.includes("buy");
    });
    await room.receive(answer(called(room).request, code));
    await refused;
    room.chat.end();
  });
}

test("offline a call and a broadcast fail at once, and nothing is sent later", async () => {
  const room = await Entered.open();
  const told: Uint8Array[] = [];
  (room.tab.tab as { broadcast: unknown }).broadcast = (data: Uint8Array) => told.push(data);
  await assert.rejects(room.tab.live.call("buy", "tea", 20_000), OfflineError);
  assert.throws(() => room.tab.live.broadcast("hello?"), OfflineError);
  await room.enter();
  assert.equal(room.up(), null);
  assert.deepEqual(told, []);
  room.tab.live.broadcast("hello!");
  assert.deepEqual(told.map(unpack), ["hello!"]);
  room.chat.end();
});

test("who waits for an answer learns it when the connection is lost, or the time is over", async () => {
  const room = await Entered.open();
  await room.enter();
  const lost = room.tab.live.call("buy", "tea", 20_000);
  called(room);
  room.chat.detach();
  await assert.rejects(lost, (error) => error instanceof OfflineError && /not known/.test(error.message));
  await room.enter();
  assert.equal(room.up(), null); // it does not go up again by itself
  const late = room.tab.live.call("buy", "tea", 20);
  called(room);
  const alive = setInterval(() => undefined, 1_000); // nothing else keeps Node waiting
  await assert.rejects(late, (error: Error) => error.name === "TimeoutError");
  clearInterval(alive);
  room.chat.end();
});

test("what cannot be packed, is too long or has no name is not sent", async () => {
  const room = await Entered.open();
  await room.enter();
  const { live } = room.tab;
  for (const service of ["", "x".repeat(256), null]) {
    await assert.rejects(live.call(service as string, null, 20_000), BadMessage);
  }
  await assert.rejects(live.call("buy", () => undefined, 20_000), BadMessage);
  await assert.rejects(live.call("buy", new Uint8Array(limits.MAX_CALL_BYTES), 20_000), TooLarge);
  assert.throws(() => live.broadcast(Symbol("none")), BadMessage);
  assert.throws(() => live.broadcast(new Uint8Array(limits.MAX_CAST_BYTES)), TooLarge);
  (room.tab.tab as { access: unknown }).access = () => 1;
  assert.throws(() => live.broadcast("hello"), ReadOnly);
  assert.equal(room.up(), null);
  room.chat.end();
});

test("an answer that is no value ends the connection, a broadcast that is none is ignored", async () => {
  const room = await Entered.open();
  await room.enter();
  const call = assert.rejects(room.tab.live.call("buy", "tea", 20_000), OfflineError);
  await room.receive({ ...answer(called(room).request, "done"), payload: Uint8Array.of(0xc1) });
  await call;
  assert.ok(room.faults[0] instanceof BadFrame);
  const heard: Broadcast[] = [];
  room.tab.live.observers.add((broadcast) => heard.push(broadcast));
  room.tab.live.hear("ben", Uint8Array.of(0xc1));
  room.tab.live.hear("ben", pack({ at: 3 }));
  assert.deepEqual(heard, [{ sender: "ben", payload: { at: 3 } }]);
  room.chat.end();
});

/** A link on which this room is open at the relay, on channel 3. */
async function opened(name: string): Promise<{
  link: Awaited<ReturnType<typeof welcomed>>["link"];
  room: RoomSync;
  casts: () => unknown[];
  end: () => Promise<void>;
}> {
  const { link, socket, end } = await welcomed();
  const machine = { phase: "open", channel: 3 };
  const room = {
    name, machine, isStopped: false, chat: { nextFrame: () => null }, receive: () => undefined,
    nextFrame: () => null, link: null,
    join: (request: number) => ({
      kind: "join", request, room: name, epoch: null, generation: RUN, offset: 0, stateVector: RUN,
    }),
  } as unknown as RoomSync;
  link.join(room);
  const joined = { request: 1, channel: 3, epoch: RUN, good: true, head: 0, stateVector: RUN, access: 3 };
  socket.receive({ kind: "joined", ...joined });
  const casts = (): unknown[] =>
    socket.sent.map((data) => decode(data)).filter(({ kind }) => kind === "cast").map((frame) => {
      assert.ok(frame.kind === "cast" && frame.channel === 3);
      return unpack(frame.payload);
    });
  return { link, room, casts, end };
}

test("of broadcasts that wait for a slow socket the newest are sent, in their order", async () => {
  const { link, room, casts, end } = await opened("design");
  for (let number = 0; number < 300; number += 1) link.cast(room, pack(number));
  await new Promise(setImmediate);
  const newest = Array.from({ length: limits.MAX_WAITING_CASTS }, (_, at) => at + 300 - 256);
  assert.deepEqual(casts(), newest);
  await end();
  const long = await opened("design");
  for (let number = 0; number < 40; number += 1) long.link.cast(long.room, pack("x".repeat(32_000)));
  await new Promise(setImmediate);
  assert.equal(long.casts().length, 32);
  await long.end();
});

test("what was to be told in a room that is left, or joined anew, is not sent", async () => {
  const { link, room, casts, end } = await opened("design");
  link.cast(room, pack("before"));
  link.leave(room);
  await new Promise(setImmediate);
  assert.deepEqual(casts(), []);
  await end();
  const again = await opened("design");
  again.link.cast(again.room, pack("before"));
  (again.room.machine as { phase: string }).phase = "joining";
  await new Promise(setImmediate);
  assert.deepEqual(again.casts(), []);
  await again.end();
});
