/** Who belongs to a room: read from the disk, changed at the relay or not at all. */

import assert from "node:assert/strict";
import test from "node:test";

import { BadArgument, BadFrame, OfflineError, Rejected } from "../src/errors.js";
import type { MembersChanged } from "../src/members.js";
import { packRows } from "../src/protocol/codec.js";
import type { FrameOf } from "../src/protocol/frames.js";
import { unpackMembers, type Role } from "../src/protocol/members.js";
import { Entered, RUN } from "./entered.js";

const news = (whole: boolean, ...rows: [user: string, role: string][]): FrameOf<"members"> => ({
  kind: "members", channel: 3, whole, data: packRows(rows),
});

const list = (room: Entered): string[] =>
  room.tab.members.all().map(({ user, role }) => `${user}: ${role}`);

test("a list with no name, a strange role or a user twice is none", () => {
  const unpacked = (...rows: unknown[][]): unknown => unpackMembers(packRows(rows));
  assert.deepEqual(unpacked(["ada", "admin"], ["ben", ""]), [
    { user: "ada", role: "admin" }, { user: "ben", role: "" },
  ]);
  for (const rows of [
    [["", "admin"]], [["ada", "owner"]], [["ada", "reader"], ["ada", "writer"]], [["ada"]], [["ada", null]],
  ]) {
    assert.throws(() => unpacked(...rows), BadFrame);
  }
});

test("the list is what the relay told, told apart by what came, changed and went", async () => {
  const room = await Entered.open();
  await room.enter();
  const events: MembersChanged[] = [];
  room.tab.members.observe((event) => events.push(event));
  await room.receive(news(true, ["cem", "reader"], ["ada", "admin"], ["ben", "writer"]));
  assert.deepEqual(list(room), ["ada: admin", "ben: writer", "cem: reader"]);
  await room.receive(news(false, ["ben", ""], ["cem", "writer"], ["dov", "reader"]));
  assert.deepEqual(list(room), ["ada: admin", "cem: writer", "dov: reader"]);
  await room.receive(news(true, ["ada", "admin"], ["cem", "writer"], ["dov", "reader"]));
  const names = events.map(({ added, changed, removed }) =>
    [added, changed, removed].map((some) => some.map(({ user }) => user).join()),
  );
  assert.deepEqual(names, [["ada,ben,cem", "", ""], ["dov", "cem", "ben"]]);
  assert.deepEqual(room.tab.members.get("cem"), { user: "cem", role: "writer" });
  assert.equal(room.tab.members.get("ben"), null);
  await room.receive(news(true));
  assert.deepEqual(list(room), []);
  room.chat.end();
});

test("the list is there again without a connection", async () => {
  const room = await Entered.open();
  await room.enter();
  await room.receive(news(true, ["ada", "admin"]));
  room.chat.end();
  const again = await Entered.open(room.store);
  assert.deepEqual(list(again), ["ada: admin"]);
  again.chat.end();
});

test("members before ENTERED end the connection", async () => {
  const room = await Entered.open();
  room.chat.joined(3, RUN);
  await room.receive(news(true, ["ada", "admin"]));
  assert.deepEqual([room.faults.length, list(room)], [1, []]);
  room.chat.end();
});

test("a change is done when the relay says so, and the list says it too by then", async () => {
  const room = await Entered.open();
  await room.enter();
  const done = room.tab.members.set("ben", "writer");
  const change = room.up();
  assert.ok(change?.kind === "change");
  const { request } = change;
  assert.deepEqual(change, { kind: "change", channel: 3, request, user: "ben", role: "writer" });
  assert.equal(room.up(), null);
  await room.receive(
    news(false, ["ben", "writer"]),
    { kind: "changed", channel: 3, request, code: "done", reason: "" },
  );
  await done;
  assert.deepEqual(list(room), ["ben: writer"]);
  const removed = room.tab.members.remove("ben");
  const asked = room.up();
  assert.ok(asked?.kind === "change" && asked.role === "" && asked.request > request);
  const no = { kind: "changed", channel: 3, request: asked.request, code: "forbidden", reason: "" } as const;
  const refused = assert.rejects(
    removed,
    (error) => error instanceof Rejected && error.code === "forbidden" && !error.retryable,
  );
  await room.receive(no, no);
  await refused;
  assert.deepEqual(list(room), ["ben: writer"]);
  room.chat.end();
});

test("without a connection a change fails at once, and nothing is sent later", async () => {
  const room = await Entered.open();
  await assert.rejects(room.tab.members.set("ben", "writer"), OfflineError);
  await room.enter();
  assert.equal(room.up(), null);
  room.chat.end();
});

test("who waits when the connection is lost learns that the outcome is not known", async () => {
  const room = await Entered.open();
  await room.enter();
  const sent = room.tab.members.set("ben", "writer");
  assert.equal(room.up()?.kind, "change");
  const waiting = room.tab.members.set("cem", "writer");
  room.chat.detach();
  for (const change of [sent, waiting]) {
    await assert.rejects(change, (error) => error instanceof OfflineError && /not known/.test(error.message));
  }
  await room.enter();
  assert.equal(room.up(), null); // neither goes up again by itself
  room.chat.end();
});

test("who waits when another lane is entered learns it too: the relay answers nothing of before", async () => {
  const room = await Entered.open();
  await room.enter();
  const sent = room.tab.members.set("ben", "writer");
  assert.equal(room.up()?.kind, "change");
  const refused = assert.rejects(sent, OfflineError);
  await room.receive({ kind: "expected", channel: 3, laneSeq: 9 });
  await refused;
  assert.equal(room.up()?.kind, "enter");
  room.chat.end();
});

test("a name or a role that there cannot be is the program's mistake, and is not sent", async () => {
  const room = await Entered.open();
  await room.enter();
  const { members } = room.tab;
  for (const role of ["owner", "", null]) {
    await assert.rejects(members.set("ben", role as Role), BadArgument);
  }
  for (const user of ["", "x".repeat(256), "\ud800", null]) {
    await assert.rejects(members.set(user as string, "writer"), BadArgument);
    await assert.rejects(members.remove(user as string), BadArgument);
  }
  assert.equal(room.up(), null);
  room.chat.end();
});
