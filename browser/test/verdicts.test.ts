/** An order is done when the application says so: not when it is sent, and not when it is taken. */

import assert from "node:assert/strict";
import test from "node:test";

import type { Message } from "../src/message.js";
import { Rejected, WrongState } from "../src/errors.js";
import { packRows } from "../src/protocol/codec.js";
import type { FrameOf } from "../src/protocol/frames.js";
import { unpack } from "../src/protocol/msgpack.js";
import { idBytes, uuid, type LoggedMessage } from "../src/protocol/messages.js";
import { Database } from "../src/storage/database.js";
import { Entered, RUN } from "./entered.js";
import { id, logged, Store } from "./store.js";

const [AWAITED, CONFIRMED, REFUSED] = [1, 2, 3];

const verdicts = (...rows: [message: string, verdict: number, reason?: string][]): FrameOf<"verdicts"> => ({
  kind: "verdicts", channel: 3,
  data: packRows(rows.map(([message, verdict, reason = ""]) => [idBytes(message), verdict, reason])),
});

function run(...log: LoggedMessage[]): FrameOf<"messages"> {
  const data = packRows(
    log.map(({ seq, id: name, sender, body, meta, sentAt, acceptedAt, kind, verdict }) => [
      seq, idBytes(name), sender, body, meta, sentAt, acceptedAt, kind, verdict,
    ]),
  );
  return { kind: "messages", channel: 3, after: log[0]!.seq - 1, upto: log.at(-1)!.seq, data };
}

/** The ids about which the room asks next. */
function inquired(room: Entered): string[] {
  const ids: string[] = [];
  for (let frame = room.up(); frame !== null; frame = room.up()) {
    if (frame.kind !== "inquire") continue;
    ids.push(...(unpack(frame.data) as [Uint8Array][]).map(([bytes]) => uuid(bytes)));
  }
  return ids;
}

/** An order that the relay has just taken as the first of its log. */
async function ordered(room: Entered): Promise<Message> {
  const message = await room.tab.send("one tea", { confirm: true });
  await room.settled();
  const send = room.up();
  assert.ok(send?.kind === "send" && send.confirm);
  assert.equal(message.verdict, null);
  const { laneSeq, messageId } = send;
  const rest = { retryAfterMs: 0, reason: "" };
  await room.receive({ kind: "outcome", channel: 3, laneSeq, messageId, code: "accepted", seq: 1, ...rest });
  return message;
}

test("an order is confirming once it is taken, and confirmed when the relay says so", async () => {
  const room = await Entered.open();
  await room.enter();
  const events: string[] = [];
  room.tab.observe(({ type }) => events.push(type));
  const order = await ordered(room);
  assert.deepEqual([order.state, order.verdict], ["accepted", "confirming"]);
  assert.deepEqual(inquired(room), [order.id]); // what was said of it before was not for us
  await order.wait("confirming");
  const confirmed = order.wait("confirmed");
  await room.receive(verdicts([order.id, CONFIRMED]));
  await confirmed;
  assert.deepEqual([order.verdict, order.verdictReason], ["confirmed", ""]);
  assert.ok(events.includes("MessageConfirmed"));
  await assert.rejects(order.wait("refused"), WrongState);
  room.chat.end();
  const again = await room.store.open();
  const [stored] = (await again.history()).messages;
  assert.equal(stored?.verdict, "confirmed");
});

test("a refusal brings its reason, and the first word stays", async () => {
  const room = await Entered.open();
  await room.enter();
  const told: unknown[] = [];
  room.tab.observe((event) => event.type === "MessageRefused" && told.push(event.reason));
  const order = await ordered(room);
  const refused = assert.rejects(
    order.wait("confirmed"),
    (error) => error instanceof Rejected && error.code === "refused" && /sold out/.test(error.message),
  );
  await room.receive(verdicts([order.id, REFUSED, "sold out"]), verdicts([order.id, CONFIRMED]));
  await refused;
  assert.deepEqual([order.verdict, order.verdictReason, told], ["refused", "sold out", ["sold out"]]);
  await order.wait("refused");
  assert.equal(order.state, "accepted");
  room.chat.end();
});

test("a refusal in the log counts once its reason is here, which is asked for", async () => {
  const room = await Entered.open();
  await room.enter();
  await room.receive(run(logged(1, { verdict: REFUSED }), logged(2, { verdict: CONFIRMED }), logged(3)));
  const { messages } = await room.tab.history();
  assert.deepEqual(messages.map(({ verdict }) => verdict), ["confirming", "confirmed", null]);
  assert.deepEqual(inquired(room), [id(1)]);
  await room.receive(verdicts([id(1), REFUSED, "closed"], [id(3), CONFIRMED]));
  assert.deepEqual(messages.map(({ verdict }) => verdict), ["refused", "confirmed", null]);
  assert.equal(messages[0]!.verdictReason, "closed");
  room.chat.end();
});

test("whoever comes back asks about all that is undecided, his own and others'", async () => {
  const room = await Entered.open();
  await room.enter();
  const log = [1, 2, 3, 4].map((seq) => logged(seq, { verdict: seq === 2 ? 0 : AWAITED }));
  await room.receive(run(...log));
  await room.receive(verdicts([id(3), CONFIRMED]));
  room.chat.end();
  const again = await Entered.open(room.store);
  await again.enter();
  assert.deepEqual(inquired(again).sort(), [id(1), id(4)]);
  assert.deepEqual(inquired(again), []);
  again.chat.end();
});

test("in another history no word of the old one counts: the relay is asked anew", async () => {
  const room = await Entered.open();
  await room.enter();
  await room.receive(run(logged(1, { verdict: AWAITED }), logged(2, { verdict: AWAITED })));
  await room.receive(verdicts([id(1), CONFIRMED], [id(2), REFUSED, "no"]));
  const { messages } = await room.tab.history();
  assert.deepEqual(messages.map(({ verdict }) => verdict), ["confirmed", "refused"]);
  inquired(room);
  await room.enter({ good: false, after: 2, head: 2 });
  assert.deepEqual(messages.map(({ verdict }) => verdict), ["confirming", "confirming"]);
  assert.deepEqual(inquired(room).sort(), [id(1), id(2)]);
  room.chat.end();
});

test("a message that asks nobody is never confirmed", async () => {
  const room = await Entered.open();
  await room.enter();
  const plain = await room.tab.send("hello");
  await assert.rejects(plain.wait("confirmed"), WrongState);
  assert.deepEqual([plain.verdict, plain.verdictReason], [null, ""]);
  room.chat.end();
});

test("a verdict that there is not, or before ENTERED, ends the connection", async () => {
  for (const verdict of [0, AWAITED!, 4]) {
    const room = await Entered.open();
    await room.enter();
    await room.receive(verdicts([id(1), verdict]));
    assert.equal(room.faults.length, 1);
    room.chat.end();
  }
  const early = await Entered.open();
  early.chat.joined(3, RUN);
  await early.receive(verdicts([id(1), CONFIRMED!]));
  assert.equal(early.faults.length, 1);
  early.chat.end();
});

test("what a store of the first version kept as undecided is asked about", async () => {
  const room = await Entered.open();
  await room.enter();
  await room.receive(run(logged(1, { verdict: AWAITED })));
  room.chat.end();
  const rows = await room.store.rows();
  const [chat] = [await room.store.chat()];
  room.store.db.close();
  const name = `${room.store.name} of version 1`;
  await firstVersion(name, { chats: [chat], messages: rows });
  const again = await Entered.open(await Store.open(name));
  assert.deepEqual((await again.store.rows()).map(({ body }) => body), ["message 1"]);
  await again.enter();
  assert.deepEqual(inquired(again), [id(1)]);
  again.chat.end();
});

/** A store as the first version made it, with these rows. */
async function firstVersion(name: string, rows: Record<string, object[]>): Promise<void> {
  (await Database.open(name)).close();
  const current = await opened(name);
  const schema = [...current.objectStoreNames].map((table) => {
    const store = current.transaction(table).objectStore(table);
    const indexes = [...store.indexNames].map((index) => store.index(index));
    return { table, store, indexes };
  });
  current.close();
  await done(indexedDB.deleteDatabase(name));
  const first = await opened(name, 1, (db) => {
    for (const { table, store, indexes } of schema) {
      const { keyPath, autoIncrement } = store;
      const made = db.createObjectStore(table, { keyPath, autoIncrement });
      for (const index of indexes) {
        if (index.name === "byVerdict") continue;
        made.createIndex(index.name, index.keyPath, { unique: index.unique });
      }
    }
  });
  const tx = first.transaction([...first.objectStoreNames], "readwrite");
  tx.objectStore("rooms").put({
    id: 1, name: "design", epoch: null, generation: null, offset: 0, ackedThrough: 0,
  });
  for (const [table, some] of Object.entries(rows)) {
    for (const row of some) tx.objectStore(table).put(row);
  }
  await new Promise((resolve) => (tx.oncomplete = resolve));
  first.close();
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function opened(name: string, version?: number, upgrade?: (db: IDBDatabase) => void): Promise<IDBDatabase> {
  const request = indexedDB.open(name, version);
  request.onupgradeneeded = () => upgrade?.(request.result);
  return done(request);
}
