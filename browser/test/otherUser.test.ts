/** Another user signs in on a store: what one user wrote never goes up for another. */

import assert from "node:assert/strict";
import test from "node:test";

import { OtherUser } from "../src/errors.js";
import { packRows } from "../src/protocol/codec.js";
import { idBytes } from "../src/protocol/messages.js";
import { Replica } from "../src/replica.js";
import { Room } from "../src/room.js";
import { NOT_JOINED } from "../src/roomSync.js";
import { Documents } from "../src/storage/documents.js";
import { Entered } from "./entered.js";
import { id, logged } from "./store.js";

/** What goes up until nothing does. */
function goingUp(room: Entered): string[] {
  const frames: string[] = [];
  for (let frame = room.up(); frame !== null; frame = room.up()) {
    frames.push(frame.kind === "send" ? frame.body : frame.kind);
  }
  return frames;
}

/** A room in which Ada has a message that the relay may have, and one that it has not. */
async function ofAda(): Promise<Entered> {
  const room = await Entered.open();
  await room.enter();
  await room.tab.send("sent", { id: id(1) });
  await room.settled();
  assert.deepEqual(goingUp(room), ["sent"]);
  room.chat.detach();
  await room.tab.send("waits", { id: id(2) });
  await room.settled();
  return room;
}

const isHers = (error: unknown): boolean =>
  error instanceof OtherUser && /ada's.*bob.*store of another name/.test(error.message);

test("for another user nothing goes up, nothing is changed, and the room says why", async () => {
  const room = await ofAda();
  const before = await room.store.rows();
  const { laneEpoch, bound } = await room.store.chat();
  await room.enter({ user: "bob", laneSeq: 0, head: 2 });
  assert.deepEqual(goingUp(room), []);
  assert.ok(isHers(room.chat.error));
  assert.equal(room.chat.isOpen, false);
  assert.deepEqual(await room.store.rows(), before);
  const chat = await room.store.chat();
  assert.deepEqual([chat.user, chat.laneEpoch, chat.bound], ["ada", laneEpoch, bound]);
  assert.deepEqual(room.faults, []);
  room.chat.end();
});

test("what the relay tells another user of the room is not stored for this one", async () => {
  const room = await ofAda();
  const before = [await room.store.rows(), (await room.store.chat()).seq];
  const data = packRows([
    [1, idBytes(id(9)), "cem", "hello", new Uint8Array(), 1, 2, 0, 0],
  ]);
  await room.enter({ user: "bob", head: 1, readUpto: 1 });
  await room.receive(
    { kind: "messages", channel: 3, after: 0, upto: 1, data },
    { kind: "receipts", channel: 3, data: packRows([["cem", 1, 1]]) },
    { kind: "members", channel: 3, whole: true, data: packRows([["bob", "writer"]]) },
  );
  const { seq, readUpto, receipts, members } = await room.store.chat();
  assert.deepEqual([await room.store.rows(), seq], before);
  assert.deepEqual([readUpto, receipts, members], [0, [], undefined]);
  assert.deepEqual(room.faults, []);
  room.chat.end();
});

test("another user writes nothing into the store, and does nothing to what waits in it", async () => {
  const room = await ofAda();
  const { messages } = await room.tab.history();
  const waits = messages.at(-1)!;
  assert.equal(waits.body, "waits");
  await room.enter({ user: "bob" });
  const before = [await room.store.rows(), await room.store.chat(), await room.store.outbox()];
  for (const act of [
    () => room.tab.send("bob's"),
    () => room.tab.edit(waits, "bob's"),
    () => room.tab.cancel(waits),
    () => room.tab.retry(waits),
    () => room.tab.markRead(),
  ]) {
    await assert.rejects(act, isHers);
  }
  assert.deepEqual(before, [await room.store.rows(), await room.store.chat(), await room.store.outbox()]);
  assert.equal((await room.tab.history()).messages.length, 2); // what is here can be read
  room.chat.end();
});

test("so it stays when the program starts again, until its user is back", async () => {
  const first = await ofAda();
  await first.enter({ user: "bob" });
  first.chat.end();
  const room = await Entered.open(first.store);
  await room.settled();
  assert.equal(room.chat.error, null); // who is here now the relay has not said
  await assert.rejects(room.tab.send("bob's"), isHers);
  await room.enter({ user: "bob" });
  assert.ok(isHers(room.chat.error));
  await room.enter({ laneSeq: 1, outcomes: packRows([[1, idBytes(id(1)), "accepted", 1]]), head: 1 });
  assert.equal(room.chat.error, null);
  assert.ok(room.chat.isOpen);
  assert.deepEqual(goingUp(room), ["waits"]);
  assert.deepEqual(await room.store.states(), ["sent: accepted", "waits: sending"]);
  await room.tab.send("goes on");
  await room.settled();
  assert.deepEqual(goingUp(room), ["goes on"]);
  room.chat.end();
});

test("another tab of the store learns of it with the next thing that it does", async () => {
  const room = await ofAda();
  const other = await room.store.open();
  await room.enter({ user: "bob" });
  await assert.rejects(other.send("bob's"), isHers); // it was told nothing
  room.chat.end();
});

for (const [before, now, goesOn] of [
  ["", "ada", true],
  ["ada", "ada", true],
  ["anybody-0011223344556677", "anybody-8899aabbccddeeff", true], // the device took another id
  ["anybody-0011223344556677", "ada", true],
  ["ada", "anybody-0011223344556677", false],
  ["ada", "Ada", false],
] as const) {
  const what = goesOn ? "goes on" : "stands still";
  test(`a store of "${before}" ${what} when the relay takes its device for "${now}"`, async () => {
    const room = await Entered.open();
    if (before !== "") await room.enter({ user: before });
    room.chat.detach();
    await room.tab.send("waits");
    await room.enter({ user: now });
    assert.deepEqual(goingUp(room), goesOn ? ["waits"] : []);
    assert.equal((await room.store.chat()).user, goesOn ? now : before);
    assert.equal(room.chat.error === null, goesOn);
    room.chat.end();
  });
}

test("a room of whose messages nothing comes here is as level as it gets, and says so to who waits", async () => {
  const room = await ofAda();
  await room.enter({ user: "bob" });
  const { name, message } = room.chat.error!;
  const documents = new Documents(room.store.db);
  const { room: row } = await documents.create("design");
  const replica = new Replica(row, documents);
  const standing = { ...NOT_JOINED, error: { name, message, code: "" } };
  const owner = { standing: () => standing, closed: () => undefined };
  const shown = new Room("design", replica, room.tab, owner, () => undefined);
  assert.ok(isHers(shown.status.error));
  await assert.rejects(shown.waitSynced(), isHers);
  room.chat.end();
  await shown.close();
  replica.end();
});

test("a frame of the chat before ENTERED ends the connection, whoever the user was", async () => {
  const room = await ofAda();
  room.chat.joined(3, new Uint8Array(16).fill(7));
  const data = packRows([[1, idBytes(id(9)), "cem", "x", logged(1).meta, 1, 2, 0, 0]]);
  await room.receive({ kind: "messages", channel: 3, after: 0, upto: 1, data });
  assert.equal(room.faults.length, 1);
  room.chat.end();
});
