/** The application at the relay rewrites what is sent: of one message there is one, as the log has it. */

import assert from "node:assert/strict";
import test from "node:test";

import type { ChatEvent } from "../src/chat.js";
import { IdConflict } from "../src/errors.js";
import type { Message } from "../src/message.js";
import { packRows } from "../src/protocol/codec.js";
import { pack } from "../src/protocol/msgpack.js";
import type { FrameOf } from "../src/protocol/frames.js";
import { idBytes, type LoggedMessage } from "../src/protocol/messages.js";
import { Entered } from "./entered.js";
import { EMPTY, id, logged } from "./store.js";

const META = pack({ checked: true });

/** The message with this number as the log has it. */
function kept(seq: number, number: number, more: Partial<LoggedMessage> = {}): LoggedMessage {
  return logged(seq, { id: id(number), sender: "ada", body: `kept ${number}`, meta: META, ...more });
}

function packed(log: readonly LoggedMessage[]): Uint8Array {
  return packRows(
    log.map(({ seq, id: name, sender, body, meta, sentAt, acceptedAt, kind, verdict }) => [
      seq, idBytes(name), sender, body, meta, sentAt, acceptedAt, kind, verdict,
    ]),
  );
}

function run(...log: LoggedMessage[]): FrameOf<"messages"> {
  const [after, upto] = [log[0]!.seq - 1, log.at(-1)!.seq];
  return { kind: "messages", channel: 3, after, upto, data: packed(log) };
}

function outcome(number: number, code: string, seq: number, laneSeq = number): FrameOf<"outcome"> {
  const rest = { retryAfterMs: 0, reason: "" };
  return { kind: "outcome", channel: 3, laneSeq, messageId: idBytes(id(number)), code, seq, ...rest };
}

const accepted = (number: number, seq: number, laneSeq = number): FrameOf<"outcome"> =>
  outcome(number, "accepted", seq, laneSeq);

const receipts = (deliveredUpto: number, readUpto: number): FrameOf<"receipts"> => ({
  kind: "receipts", channel: 3, data: packRows([["cem", deliveredUpto, readUpto]]),
});

/** A room in which messages with these numbers are on their way. */
async function sending(...numbers: number[]): Promise<[Entered, Message[]]> {
  const room = await Entered.open();
  await room.enter();
  const sent: Message[] = [];
  for (const number of numbers) sent.push(await room.tab.send(`sent ${number}`, { id: id(number) }));
  await room.settled();
  for (const _ of numbers) assert.equal(room.up()?.kind, "send");
  return [room, sent];
}

/** The same room in the next life of its program. */
async function reloaded(room: Entered): Promise<Entered> {
  room.chat.end();
  return Entered.open(room.store);
}

/** The first message of the log is asked for once more, and is this one. */
async function fetched(room: Entered, first: LoggedMessage): Promise<void> {
  await room.store.change(async (work) => work.wants(1, 1));
  await room.tab.catchUp();
  await room.settled();
  const answer = room.chat.ask({ kind: "fetch", low: 1, high: 1, newest: true });
  const fetch = room.up();
  assert.ok(fetch?.kind === "fetch");
  const page = { request: fetch.request, after: 0, upto: 1, oldest: 1, data: packed([first]) };
  await room.receive({ kind: "page", channel: 3, ...page });
  assert.equal((await answer)?.code, "done");
}

/** All that is here of messages: their number, body, state, and whether they are marked. */
async function all(room: Entered): Promise<unknown[]> {
  const rows = await room.store.rows();
  return rows.map(({ seq, body, state, replaced }) => [seq, body, state, replaced]);
}

async function isWell(room: Entered): Promise<void> {
  assert.deepEqual(await room.store.outbox(), { messages: 0, bytes: 0 });
  assert.deepEqual(room.faults, []);
  room.chat.end();
}

test("its outcome first, then the log: the message becomes what the log has", async () => {
  const [room, [message]] = await sending(1);
  await room.receive(accepted(1, 1));
  assert.deepEqual(await all(room), [[1, "sent 1", "accepted", false]]);
  const events: ChatEvent[] = [];
  room.tab.observe((event) => events.push(event));
  await room.receive(run(kept(1, 1)));
  assert.deepEqual(await all(room), [[1, "kept 1", "accepted", false]]);
  assert.deepEqual(events.map(({ type }) => type), ["MessageChanged"]);
  assert.deepEqual([message!.body, message!.meta, message!.acceptedAt], ["kept 1", { checked: true }, 2]);
  assert.ok(message!.isMine);
  await room.receive(receipts(1, 1));
  assert.deepEqual([message!.state, message!.readBy], ["read", 1]);
  await isWell(room);
});

test("the log first, then its outcome: two prove to be one, for whoever holds either", async () => {
  const [room, [message]] = await sending(1);
  const shown: Message[] = [];
  room.tab.observe((event) => event.type === "MessageAdded" && shown.push(event.message));
  await room.receive(run(kept(1, 1)));
  const states = async (): Promise<unknown[]> => (await room.store.rows()).map(({ state }) => state);
  assert.deepEqual(await states(), ["accepted", "sending"]); // its id alone proves nothing
  await room.receive(receipts(1, 0));
  await room.receive(accepted(1, 1));
  assert.deepEqual(await all(room), [[1, "kept 1", "delivered", false]]);
  for (const held of [message!, shown[0]!]) {
    assert.deepEqual([held.seq, held.body, held.state], [1, "kept 1", "delivered"]);
  }
  await room.receive(receipts(1, 1));
  assert.deepEqual([message!.state, shown[0]!.state, shown[0]!.readBy], ["read", "read", 1]);
  const { messages } = await room.tab.history();
  assert.deepEqual(messages, [message]);
  await isWell(room);
});

test("the log first, and its outcome with the next ENTERED of another life", async () => {
  const [first] = await sending(1, 2);
  await first.receive(run(kept(1, 1), kept(2, 2)));
  const room = await reloaded(first);
  const rows = [[1, idBytes(id(1)), "accepted", 1], [2, idBytes(id(2)), "accepted", 2]];
  await room.enter({ laneSeq: 2, outcomes: packRows(rows) });
  const expected = [[1, "kept 1", "accepted", false], [2, "kept 2", "accepted", false]];
  assert.deepEqual(await all(room), expected);
  assert.equal(room.tab.pending, 0);
  const again = await reloaded(room);
  assert.deepEqual(await all(again), expected);
  await isWell(again);
});

test("its outcome first, and the log in another life, as its messages or as a page", async () => {
  for (const isPage of [false, true]) {
    const [first] = await sending(1);
    await first.receive(accepted(1, 1));
    const room = await reloaded(first);
    if (isPage) {
      await room.enter({ laneSeq: 1, outcomes: packRows([]), after: 1, head: 1 });
      await room.receive(receipts(1, 0));
      await fetched(room, kept(1, 1));
    } else {
      await room.enter({ laneSeq: 1, outcomes: packRows([]), head: 1 });
      await room.receive(receipts(1, 0), run(kept(1, 1)));
    }
    assert.deepEqual(await all(room), [[1, "kept 1", "delivered", false]]);
    await isWell(room);
  }
});

test("what was taken under a number that another has here gets its own by the log, with its receipts", async () => {
  const [room, [message]] = await sending(1);
  await room.receive(run(logged(1, { id: id(9), body: "another" })));
  await room.receive(accepted(1, 1)); // a relay that gave one number twice
  assert.deepEqual([message!.seq, message!.state], [null, "accepted"]);
  await room.receive(receipts(2, 2));
  assert.equal(message!.state, "accepted"); // they do not reach it
  const next = await reloaded(room);
  await next.enter({ laneSeq: 1, head: 2 });
  await next.receive(run(kept(2, 1)));
  assert.deepEqual(await all(next), [[1, "another", "accepted", false], [2, "kept 1", "read", false]]);
  await isWell(next);
});

test("sent once more by its program it is the one that is there, whatever the relay made of it", async () => {
  const [room, [message]] = await sending(1);
  await room.receive(accepted(1, 1), run(kept(1, 1)));
  assert.equal(await room.tab.send("sent 1", { id: id(1) }), message);
  await assert.rejects(room.tab.send("kept 1", { id: id(1) }), IdConflict);
  await assert.rejects(room.tab.send("sent 1", { id: id(1), meta: { of: "its own" } }), IdConflict);
  assert.deepEqual(await all(room), [[1, "kept 1", "accepted", false]]);
  await isWell(room);
});

test("a message of the log that has the id of ours and is another's stays another", async () => {
  const [room, [message]] = await sending(1);
  await room.receive(run(kept(1, 1, { sender: "cem" })), outcome(1, "conflict", 0));
  const bodies = (await room.store.rows()).map(({ body, state }) => [body, state]).sort();
  assert.deepEqual(bodies, [["kept 1", "accepted"], ["sent 1", "rejected"]]);
  assert.deepEqual([message!.body, message!.code], ["sent 1", "conflict"]);
  await isWell(room);
});

test("what the log has once is what it is: another text under its number is another message", async () => {
  const [room] = await sending(1);
  await room.receive(accepted(1, 1), run(kept(1, 1)));
  await fetched(room, kept(1, 1, { body: "later", meta: EMPTY }));
  const rows = (await room.store.rows()).map(({ body, replaced }) => [body, replaced]);
  assert.deepEqual(rows, [["kept 1", true], ["later", false]]);
  await isWell(room);
});

test("a word that the application gave before the outcome stays given", async () => {
  for (const [verdict, reason] of [[2, ""], [3, "sold out"]] as const) {
    const room = await Entered.open();
    await room.enter();
    const order = await room.tab.send("sent 1", { id: id(1), confirm: true });
    await room.settled();
    assert.equal(room.up()?.kind, "send");
    const data = packRows([[idBytes(id(1)), verdict, reason]]);
    const told: string[] = [];
    room.tab.observe(({ type }) => /Confirmed|Refused/.test(type) && told.push(type));
    await room.receive(run(kept(1, 1, { verdict: 1 })), { kind: "verdicts", channel: 3, data });
    await room.receive(accepted(1, 1));
    assert.deepEqual([order.body, order.verdictReason], ["kept 1", reason]);
    const [word, event] = verdict === 2 ? ["confirmed", "MessageConfirmed"] : ["refused", "MessageRefused"];
    assert.equal(order.verdict, word);
    assert.ok(told.every((type) => type === event), told.join());
    await order.wait(word as "confirmed");
    await isWell(room);
  }
});
