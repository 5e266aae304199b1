/** What is stored of a chat: every step is one transaction, and leaves what it promises. */

import assert from "node:assert/strict";
import test from "node:test";

import { IdConflict, OutboxFull, WrongState } from "../src/errors.js";
import * as limits from "../src/limits.js";
import { advance, EDGES, type MessageState, type SlotOutcome } from "../src/protocol/messages.js";
import { Documents } from "../src/storage/documents.js";
import * as acts from "../src/storage/messageActs.js";
import * as messages from "../src/storage/messages.js";
import { EMPTY, id, logged, Store } from "./store.js";

const RUN = new Uint8Array(16).fill(7);
const OTHER_RUN = new Uint8Array(16).fill(8);

const PLACE: messages.Place = {
  user: "ada", generation: RUN, good: true, after: 0, head: 0, oldest: 1, readUpto: 0, unread: 0,
};

async function entered(
  store: Store,
  last: number,
  outcomes: SlotOutcome[] = [],
  place: Partial<messages.Place> = {},
): Promise<boolean> {
  return store.change(async (work) => {
    const goesOn = await messages.resolve(work, last, outcomes);
    const newest = (await work.inLog(1)).map((row) => row.place);
    const head = Math.max(work.chat.seq, ...newest);
    await messages.place(work, { ...PLACE, after: work.chat.seq, head, ...place });
    return goesOn;
  });
}

const accepted = (laneSeq: number, seq: number, number = laneSeq): SlotOutcome => ({
  laneSeq, id: id(number), code: "accepted", seq,
});

const bindNext = (store: Store): Promise<void> => store.change(messages.bindNext);

async function slots(store: Store): Promise<[string, number | null][]> {
  return (await store.change((work) => work.bound())).map((row) => [row.body, row.slot]);
}

test("the same message twice is one; another under its id is refused and changes nothing", async () => {
  const store = await Store.open();
  const first = await store.write(1);
  assert.deepEqual(await store.write(1), first);
  const [rows, outbox, chat] = [await store.rows(), await store.outbox(), await store.chat()];
  for (const more of [{ body: "other" }, { meta: Uint8Array.of(0x80) }, { verdict: 1 }]) {
    const draft = { id: id(1), body: "body 1", meta: EMPTY, sentAt: 5, ttlMs: null, verdict: 0, ...more };
    await assert.rejects(store.change((work) => acts.write(work, draft)), IdConflict);
  }
  assert.deepEqual([await store.rows(), await store.outbox(), await store.chat()], [rows, outbox, chat]);
  assert.deepEqual(outbox, { messages: 1, bytes: 6 });
});

test("an outbox that is full takes nothing, and gives room when something is decided", async () => {
  const store = await Store.open();
  await store.write(1);
  await store.db.write(["outbox"], async (tx) => {
    await tx.outbox.put({ messages: limits.MAX_OUTBOX_MESSAGES, bytes: 6 }, "outbox");
  });
  await assert.rejects(store.write(2), OutboxFull);
  assert.deepEqual(await store.states(), ["body 1: queued"]);
  const { row } = await store.row(1);
  await store.change((work) => acts.cancel(work, row));
  await store.write(2);
  assert.deepEqual(await store.states(), ["body 1: cancelled", "body 2: queued"]);
});

test("messages are bound in the order of sending, to slots without a hole, sixteen at most", async () => {
  const store = await Store.open();
  for (let number = 1; number <= 20; number += 1) await store.write(number);
  await bindNext(store);
  const first = Array.from({ length: 16 }, (_, at) => [`body ${at + 1}`, at + 1]);
  assert.deepEqual(await slots(store), first);
  await bindNext(store);
  assert.deepEqual(await slots(store), first);
  await entered(store, 2, [accepted(1, 1), accepted(2, 2)]);
  await bindNext(store);
  assert.deepEqual((await slots(store)).slice(-2), [["body 17", 17], ["body 18", 18]]);
  assert.equal((await store.chat()).bound, 18);
});

test("what ENTERED tells is decided by slot and id, and the rest stays bound", async () => {
  const store = await Store.open();
  for (let number = 1; number <= 3; number += 1) await store.write(number);
  await bindNext(store);
  const refused = { laneSeq: 2, id: id(2), code: "forbidden", seq: 0 };
  assert.equal(await entered(store, 2, [accepted(1, 9), refused]), true);
  assert.deepEqual(await slots(store), [["body 3", 3]]);
  assert.deepEqual((await store.states()).sort(), [
    "body 1: accepted", "body 2: rejected", "body 3: sending",
  ]);
  assert.equal((await store.row(1)).seq, 9);
  assert.equal((await store.row(2)).code, "forbidden");
});

for (const [what, last, outcomes, isForeign] of [
  ["a slot with another id", 2, [accepted(1, 1), accepted(2, 2, 77)], true],
  ["a forgotten slot", 2, [accepted(1, 1), { ...accepted(2, 0), code: "forgotten" }], true],
  ["a slot that is not told", 2, [accepted(1, 1)], true],
  ["a last slot that was never bound", 4, [accepted(1, 1), accepted(2, 2), accepted(3, 3)], true],
] as const) {
  test(`${what} begins a new lane, in which all that is undecided goes up again`, async () => {
    const store = await Store.open();
    for (let number = 1; number <= 3; number += 1) await store.write(number, 60_000);
    await bindNext(store);
    const before = await store.chat();
    assert.equal(await entered(store, last, [...outcomes]), false);
    const after = await store.chat();
    assert.notDeepEqual(after.laneEpoch, before.laneEpoch);
    assert.deepEqual([after.bound, after.rollbacks], [0, isForeign ? 1 : 0]);
    const open = (await store.rows()).filter((row) => row.state === "queued");
    assert.ok(open.every((row) => row.slot === null && row.offered));
    store.now += 120_000;
    await store.change(messages.expire); // the relay may have them
    assert.ok((await store.rows()).every((row) => row.state !== "expired"));
    await bindNext(store);
    assert.deepEqual((await slots(store)).map(([body]) => body), open.map((row) => row.body));
  });
}

test("a relay that forgot what it decided gets a new lane, and nobody calls that a copy", async () => {
  const store = await Store.open();
  for (let number = 1; number <= 3; number += 1) await store.write(number);
  await bindNext(store);
  await entered(store, 2, [accepted(1, 1), accepted(2, 2)]);
  assert.equal(await entered(store, 1, [accepted(1, 1)]), false);
  const chat = await store.chat();
  assert.deepEqual([chat.bound, chat.rollbacks], [0, 0]);
  assert.equal((await store.row(3)).state, "queued");
});

test("what is cancelled after binding waits for the relay's word, or ends with its lane", async () => {
  const store = await Store.open();
  for (const number of [1, 2]) await store.write(number);
  await bindNext(store);
  for (const number of [1, 2]) {
    const { row } = await store.row(number);
    await store.change((work) => acts.cancel(work, row));
  }
  assert.deepEqual(await store.states(), ["body 1: sending", "body 2: sending"]);
  await entered(store, 1, [accepted(1, 1)]);
  assert.equal((await store.row(1)).state, "accepted");
  await store.change((work) => messages.beginLane(work, true));
  assert.equal((await store.row(2)).state, "cancelled");
});

test("an own message that the log shows before its outcome is one message", async () => {
  const store = await Store.open();
  await store.write(1);
  await bindNext(store);
  await entered(store, 0);
  const own = logged(1, { sender: "ada", body: "body 1" });
  await store.change((work) => messages.receive(work, [own], RUN, 1));
  assert.deepEqual(await store.states(), ["body 1: accepted"]);
  assert.equal((await store.row(1)).slot, 1);
  await store.change(async (work) => {
    const [row] = await work.bound();
    await messages.decide(work, row!, "accepted", 1, "");
  });
  const row = await store.row(1);
  assert.deepEqual([row.slot, row.seq, row.state], [null, 1, "accepted"]);
  assert.deepEqual(await store.outbox(), { messages: 0, bytes: 0 });
});

test("a step that fails stores neither the mark nor a message", async () => {
  const store = await Store.open();
  await entered(store, 0);
  const before = await store.chat();
  const failing = store.change(async (work) => {
    await messages.receive(work, [logged(1), logged(2)], RUN, 2);
    throw new Error("power");
  });
  await assert.rejects(failing, /power/);
  assert.deepEqual([await store.chat(), await store.rows()], [before, []]);
});

test("a mark that jumps leaves a gap, which pages fill and which is lost below the oldest", async () => {
  const store = await Store.open();
  await entered(store, 0, [], { after: 10, head: 12, unread: 12 });
  assert.deepEqual((await store.chat()).gaps, [{ low: 1, high: 10, lost: false }]);
  assert.equal((await store.chat()).unread, 12); // by the relay's count
  await store.change((work) => messages.receive(work, [logged(11), logged(12)], RUN, 12));
  const page = [logged(8), logged(9), logged(10)];
  await store.change((work) => messages.fill(work, page, 8, 10, 1));
  assert.deepEqual((await store.chat()).gaps, [{ low: 1, high: 7, lost: false }]);
  await store.change((work) => messages.fill(work, [logged(6), logged(7)], 6, 7, 5));
  const { gaps, seq, unread } = await store.chat();
  assert.deepEqual([gaps, seq], [[{ low: 1, high: 4, lost: true }, { low: 5, high: 5, lost: false }], 12]);
  assert.equal(unread, 12);
  assert.deepEqual((await store.rows()).map((row) => row.seq), [6, 7, 8, 9, 10, 11, 12]);
});

test("another history keeps what is here, marks it, and gets our own again", async () => {
  const store = await Store.open();
  await store.write(1, 60_000);
  await bindNext(store);
  await entered(store, 1, [accepted(1, 1)]);
  const theirs = [logged(2), logged(3)];
  const own = logged(1, { sender: "ada", body: "body 1" });
  await store.change((work) => messages.receive(work, [own, ...theirs], RUN, 3));
  // The relay was put back: it has one message, which is not ours.
  await entered(store, 1, [accepted(1, 1)], {
    good: false, generation: OTHER_RUN, after: 1, head: 1, oldest: 1,
  });
  const chat = await store.chat();
  assert.deepEqual([chat.seq, chat.generation, chat.gaps], [1, OTHER_RUN, [{ low: 1, high: 1, lost: false }]]);
  assert.deepEqual([chat.replaced.resent, chat.replaced.kept], [1, 2]);
  const mine = await store.row(1);
  assert.deepEqual([mine.state, mine.seq, mine.expiresAt], ["queued", null, null]);
  const kept = (await store.rows()).filter((row) => row.replaced);
  assert.deepEqual(kept.map((row) => row.body), ["message 2", "message 3"]);
  await store.change((work) => messages.fill(work, [logged(1, { id: id(50), body: "new" })], 1, 1, 1));
  const again = logged(2, { id: id(3), body: "message 3" });
  await store.change((work) => messages.receive(work, [again], OTHER_RUN, 2));
  const back = await store.row(3);
  assert.deepEqual([back.seq, back.replaced], [2, false]); // the same one, no second
  const inLog = (await store.rows()).filter((row) => row.seq !== null && !row.replaced);
  assert.deepEqual(inLog.map((row) => row.body), ["new", "message 3"]);
});

test("what was accepted above a good mark and is beyond the log's end goes up again, under its id", async () => {
  const store = await Store.open();
  for (const number of [1, 2]) await store.write(number, 60_000);
  await bindNext(store);
  await entered(store, 2, [accepted(1, 3), accepted(2, 9)], { after: 3, head: 9 });
  await store.change((work) => messages.takeReceipts(work, [{ user: "cem", deliveredUpto: 9, readUpto: 9 }], 9));
  await entered(store, 2, [], { after: 3, head: 5 }); // an older backup, with all up to our mark
  assert.deepEqual(await store.states(), ["body 1: read", "body 2: queued"]);
  const chat = await store.chat();
  assert.deepEqual(chat.receipts, []); // the relay tells them after ENTERED
  assert.equal(chat.readUpto, 5);
  assert.deepEqual([chat.replaced.at, chat.replaced.resent, chat.replaced.kept], [chat.version, 1, 0]);
  store.now += 120_000;
  await store.change(messages.expire); // it was taken in time once
  await bindNext(store);
  assert.deepEqual(await slots(store), [["body 2", 3]]);
});

test("what was accepted with a number that the log gives to another goes up again", async () => {
  const store = await Store.open();
  await store.write(1);
  await bindNext(store);
  await entered(store, 1, [accepted(1, 2)], { head: 2 });
  const run = [logged(1, { id: id(7) }), logged(2, { id: id(8) })];
  await store.change((work) => messages.receive(work, run, RUN, 2));
  assert.deepEqual(await store.states(), ["message 1: accepted", "message 2: accepted", "body 1: queued"]);
  assert.deepEqual(await store.outbox(), { messages: 1, bytes: 6 });
  const { replaced, version } = await store.chat();
  assert.deepEqual(replaced, { at: version, resent: 1, kept: 0 });
});

test("what is here above the mark, by an outcome alone, is asked for with all around it", async () => {
  const store = await Store.open();
  await store.write(1);
  await bindNext(store);
  await entered(store, 1, [accepted(1, 400)], { head: 400 });
  await entered(store, 1, [], { after: 500, head: 500 });
  assert.deepEqual((await store.chat()).gaps, [{ low: 1, high: 500, lost: false }]);
});

test("receipts rise and never fall, and carry our messages along", async () => {
  const store = await Store.open();
  for (const number of [1, 2]) await store.write(number);
  await bindNext(store);
  await entered(store, 2, [accepted(1, 1), accepted(2, 2)]);
  const take = (deliveredUpto: number, readUpto: number): Promise<void> =>
    store.change((work) => messages.takeReceipts(work, [{ user: "cem", deliveredUpto, readUpto }], 0));
  await take(2, 0);
  assert.deepEqual(await store.states(), ["body 1: delivered", "body 2: delivered"]);
  await take(2, 1);
  await take(1, 0);
  assert.deepEqual(await store.states(), ["body 1: read", "body 2: delivered"]);
  assert.deepEqual((await store.chat()).receipts, [{ user: "cem", deliveredUpto: 2, readUpto: 1 }]);
});

test("only what was never bound expires, at its time and not before", async () => {
  const store = await Store.open();
  await store.write(1, 1_000);
  await bindNext(store);
  await store.write(2, 1_000);
  await store.write(3);
  store.now += 999;
  await store.change(messages.expire);
  assert.equal((await store.row(2)).state, "queued");
  assert.equal((await store.change(messages.nextExpiry)) - store.clock.now(), 1);
  store.now += 1;
  await store.change(messages.expire);
  assert.deepEqual((await store.states()).sort(), ["body 1: sending", "body 2: expired", "body 3: queued"]);
  assert.equal((await store.row(2)).body, "body 2");
});

test("unread is counted, the user's own and the relay's words are not, and reading never goes back", async () => {
  const store = await Store.open();
  await entered(store, 0);
  const run = [logged(1), logged(2, { sender: "ada" }), logged(3, { kind: 1 }), logged(4)];
  await store.change((work) => messages.receive(work, run, RUN, 4));
  assert.equal((await store.chat()).unread, 2);
  await store.change((work) => acts.markRead(work, 3));
  assert.equal((await store.chat()).unread, 1);
  await store.change((work) => acts.markRead(work, 1));
  assert.equal((await store.chat()).readUpto, 3);
  await store.change((work) => acts.markRead(work, null));
  assert.deepEqual([(await store.chat()).readUpto, (await store.chat()).unread], [4, 0]);
});

test("after ten refusals for now a message gives its slot up, stalls, and can be tried again", async () => {
  const store = await Store.open();
  for (const number of [1, 2]) await store.write(number);
  await bindNext(store);
  for (let refusals = 1; refusals <= 10; refusals += 1) {
    await store.change(async (work) => {
      const [row] = await work.bound();
      assert.equal(row!.givingUp, null);
      assert.equal(await messages.countRefusal(work, row!), refusals);
    });
  }
  assert.equal((await store.row(1)).givingUp, "stalled");
  await entered(store, 1, [{ laneSeq: 1, id: id(1), code: "skipped", seq: 0 }]);
  const { row, state } = await store.row(1);
  assert.equal(state, "stalled");
  const { row: sending } = await store.row(2);
  await assert.rejects(store.change((work) => acts.retry(work, sending)), WrongState);
  await store.change((work) => acts.retry(work, row));
  await bindNext(store);
  assert.deepEqual(await slots(store), [["body 2", 2], ["body 1", 3]]);
});

test("a body can be changed until it is bound", async () => {
  const store = await Store.open();
  const { row } = await store.write(1);
  await store.change((work) => acts.edit(work, row, "longer body"));
  assert.deepEqual(await store.outbox(), { messages: 1, bytes: 11 });
  await bindNext(store);
  await assert.rejects(store.change((work) => acts.edit(work, row, "no")), WrongState);
  assert.equal((await store.row(1)).body, "longer body");
});

test("a room that is forgotten takes its messages out of the outbox", async () => {
  const store = await Store.open();
  await store.write(1);
  await new Documents(store.db).forget(store.room);
  assert.deepEqual([await store.rows(), await store.outbox()], [[], { messages: 0, bytes: 0 }]);
  await assert.rejects(store.write(2), /forgotten/);
});

test("a message goes along the edges of the state machine, and along no other", () => {
  const states = Object.keys(EDGES) as MessageState[];
  for (const from of states) {
    for (const to of states) {
      if (EDGES[from].includes(to)) assert.equal(advance(from, to), to);
      else assert.throws(() => advance(from, to), WrongState);
    }
  }
});
