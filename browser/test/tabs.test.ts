/** Several tabs of one browser, and what is true between them while one of them is ahead. */

import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";

import * as Y from "yjs";

import { BadArgument, Closed } from "../src/errors.js";
import { packRows } from "../src/protocol/codec.js";
import { idBytes } from "../src/protocol/messages.js";
import { id } from "./store.js";
import { Browser, Channel, EPOCH, idle, until } from "./tabs.js";

function browser(test: TestContext): Browser {
  const opened = new Browser();
  test.after(() => opened.close());
  return opened;
}

/** What somebody else typed. */
function typed(text: string): Uint8Array {
  const doc = new Y.Doc();
  doc.getText("body").insert(0, text);
  return Y.encodeStateAsUpdate(doc);
}

const text = (room: { readonly doc: Y.Doc }): string => room.doc.getText("body").toString();

/** One tab with a room that has come level with an empty relay, and owes it nothing. */
async function level(browser: Browser): ReturnType<Browser["room"]> {
  const { relay } = browser;
  const room = await browser.room("design");
  await relay.joined({ good: false });
  relay.tell({ kind: "difference", channel: 3, offset: 1, update: Uint8Array.of(0, 0) });
  const { number } = await relay.next("offer");
  relay.tell({ kind: "ack", channel: 3, number, offset: 1 });
  await relay.entered();
  await until(() => room.status.synced, "synced");
  return room;
}

test("a room is synced again as soon as what came is on the disk", async (t) => {
  const ada = browser(t);
  const room = await level(ada);
  ada.relay.tell({ kind: "updates", channel: 3, offset: 2, update: typed("hello") });
  await until(() => !room.status.synced, "not synced");
  await until(() => room.status.synced, "synced");
  assert.equal(text(room), "hello");
});

test("a tab is not synced before it has read what the leader stored", async (t) => {
  const ada = browser(t);
  const first = await level(ada);
  const second = await ada.room("design");
  await second.waitSynced();
  Channel.keep = ({ type }) => type === "moved";
  ada.relay.tell({ kind: "updates", channel: 3, offset: 2, update: typed("hello") });
  await until(() => text(first) !== "" && first.status.saved && first.status.synced, "synced");
  await idle();
  assert.deepEqual([text(second), second.status.synced], ["", false]);
  Channel.deliver();
  await second.waitSynced();
  assert.equal(text(second), "hello");
});

test("a tab is not synced before it has read the messages that the leader stored", async (t) => {
  const ada = browser(t);
  const first = await level(ada);
  const second = await ada.room("design");
  await second.waitSynced();
  Channel.keep = ({ type }) => type === "moved";
  const data = packRows([[1, idBytes(id(1)), "cem", "hello", new Uint8Array(), 1, 2, 0, 0]]);
  ada.relay.tell({ kind: "messages", channel: 3, after: 0, upto: 1, data });
  await until(() => first.chat.unread === 1, "the message");
  await idle();
  assert.deepEqual([first.status.synced, second.chat.unread, second.status.synced], [true, 0, false]);
  Channel.deliver();
  await second.waitSynced();
  assert.equal(second.chat.unread, 1);
});

test("who leads next knows the epoch that the tab before it learned", async (t) => {
  const ada = browser(t);
  const { relay } = ada;
  const first = await ada.room("design");
  const second = await ada.room("design");
  await relay.joined({ good: false });
  relay.tell({ kind: "difference", channel: 3, offset: 1, update: typed("of the first room") });
  await until(() => text(second) !== "", "the text");
  const [leader] = ada.tabs;
  await leader!.close();
  const { epoch } = await relay.next("join");
  assert.notEqual(epoch, null);
  void first;
});

test("nothing of a chat goes up before the epoch of its room is on the disk", async (t) => {
  const ada = browser(t);
  const { relay } = ada;
  const room = await ada.room("design");
  const { documents } = (room as unknown as { replica: { documents: { append: unknown } } }).replica;
  const append = documents.append as (batch: unknown) => Promise<void>;
  let goOn = (): void => assert.fail("nothing was to be stored");
  documents.append = async (batch: unknown) => {
    await new Promise<void>((resolve) => (goOn = resolve));
    await append.call(documents, batch);
  };
  await relay.joined({ good: false });
  await idle();
  const isEarly = relay.has("enter");
  documents.append = append;
  goOn();
  assert.equal(isEarly, false);
  await relay.next("enter");
});

test("a room that is opened again while it closes is another one, and keeps what is typed", async (t) => {
  const ada = browser(t);
  const tab = await ada.tab();
  const room = await tab.room("design");
  const closing = room.close();
  const again = await tab.room("design");
  await closing;
  again.doc.getText("body").insert(0, "kept");
  await again.waitSaved();
  await again.close();
  assert.equal(text(await tab.room("design")), "kept");
});

test("a room that is being opened is not forgotten under the edits", async (t) => {
  const ada = browser(t);
  const [one, two] = [await ada.tab(), await ada.tab()];
  await (await one.room("design")).close();
  const [forgetting, room] = await Promise.all([
    one.forget("design").catch((error: unknown) => error),
    two.room("design"),
  ]);
  assert.ok(forgetting === undefined || forgetting instanceof BadArgument);
  room.doc.getText("body").insert(0, "kept");
  await room.waitSaved();
  await room.close();
  assert.equal(text(await two.room("design")), "kept");
});

test("a room that was forgotten and made anew is the one that the leader joins", async (t) => {
  const ada = browser(t);
  const { relay } = ada;
  const first = await level(ada);
  const [, two] = [ada.tabs[0]!, await ada.tab()];
  const second = await two.room("design");
  await until(() => second.status.synced, "synced");
  Channel.keep = ({ type }) => type === "rooms"; // the leader has other things to do
  await first.close();
  await idle();
  await second.close();
  await two.forget("design");
  const again = await two.room("design");
  Channel.deliver();
  assert.equal(again.status.synced, false);
  const join = await relay.joined({ good: false });
  assert.equal(join.epoch, null);
  again.doc.getText("body").insert(0, "kept");
  await relay.next("offer");
});

test("a store that was closed under a tab is said to be, and the tab can be closed", async (t) => {
  const ada = browser(t);
  const room = await ada.room("design");
  const [tab] = ada.tabs;
  tab!.database.close();
  room.doc.getText("body").insert(0, "lost");
  await assert.rejects(room.waitSaved(), Closed);
  assert.equal(room.status.saved, false);
  await assert.rejects(room.waitSynced(), Closed);
  await assert.rejects(tab!.close(), Closed);
  assert.equal(tab!.isLeader, false);
});

test("who is here is said again when a room is opened once more", async (t) => {
  const ada = browser(t);
  const first = await level(ada);
  const [tab] = ada.tabs;
  const second = await ada.room("design"); // so that the leader keeps it
  await second.waitSynced();
  await first.close();
  const again = await tab!.room("design");
  again.awareness.setLocalStateField("user", "ada");
  await until(() => second.awareness.getStates().has(again.doc.clientID), "ada");
});

test("nobody is synced by the word of a leader that is gone", async (t) => {
  const ada = browser(t);
  await level(ada);
  const second = await ada.room("design");
  await second.waitSynced();
  const [one, two] = ada.tabs;
  let goOn = (): void => assert.fail("nobody looked");
  const load = two!.locks.openRooms.bind(two!.locks);
  two!.locks.openRooms = async () => {
    await new Promise<void>((resolve) => (goOn = resolve));
    return load();
  };
  await one!.close();
  await until(() => two!.isLeader, "the next leader");
  await idle();
  assert.deepEqual([second.status.synced, two!.connection.state], [false, "offline"]);
  two!.locks.openRooms = load;
  goOn();
});

test("a JOIN whose room was closed meanwhile comes to nothing, also if it is open again by then", async (t) => {
  const ada = browser(t);
  const { relay } = ada;
  const room = await ada.room("design");
  const [tab] = ada.tabs;
  const first = await relay.next("join");
  const looks = tab!.locks.openRooms.bind(tab!.locks);
  tab!.locks.openRooms = async () => {
    await idle(); // the room is open again when the leader acts on what it saw
    tab!.locks.openRooms = looks;
    return new Set();
  };
  await room.close();
  await tab!.room("design");
  const second = await relay.next("join");
  const joined = { epoch: EPOCH, good: true, head: 0, stateVector: Uint8Array.of(0), access: 2 };
  relay.tell({ kind: "joined", request: first.request, channel: 3, ...joined });
  assert.equal((await relay.next("leave")).channel, 3);
  relay.tell({ kind: "joined", request: second.request, channel: 4, ...joined });
  assert.equal((await relay.next("enter")).channel, 4);
});
