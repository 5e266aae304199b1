/** What goes up on one joining, and what a relay may say. */

import assert from "node:assert/strict";
import test from "node:test";

import { BadFrame } from "../src/errors.js";
import { ChatSync, type Slot, type Standing } from "../src/protocol/chatSync.js";
import { packRows } from "../src/protocol/codec.js";
import type { Frame, FrameOf } from "../src/protocol/frames.js";
import { idBytes } from "../src/protocol/messages.js";
import { Requests } from "../src/protocol/requests.js";
import { EMPTY, id, logged } from "./store.js";

const RUN = new Uint8Array(16).fill(7);
const STANDING: Standing = {
  laneEpoch: new Uint8Array(16).fill(1), bound: 0, generation: new Uint8Array(16), seq: 0, readUpto: 0,
};

function slot(number: number, more: Partial<Slot> = {}): Slot {
  return {
    slot: number, id: id(number), body: `body ${number}`, meta: EMPTY, sentAt: 5, expiresAt: null,
    givingUp: null, verdict: 0, ...more,
  };
}

function entered(more: Partial<FrameOf<"entered">> = {}): FrameOf<"entered"> {
  return {
    kind: "entered", channel: 3, laneSeq: 0, outcomes: packRows([]), good: true, after: 0, head: 0,
    oldest: 1, readUpto: 0, unread: 0, user: "ada", ...more,
  };
}

/** A machine that is entered, with these slots and this mark on its disk. */
function open(slots: Slot[], standing: Partial<Standing> = {}): ChatSync {
  const chat = new ChatSync(3, RUN, STANDING, new Requests());
  const stored = { ...STANDING, bound: slots.at(-1)?.slot ?? 0, ...standing };
  chat.stands(stored, []);
  chat.nextFrame(0);
  chat.checkEntered(entered({ after: stored.seq, head: stored.seq }));
  chat.entered(entered({ head: stored.seq }), true, 0);
  chat.stands(stored, slots);
  return chat;
}

function all(chat: ChatSync, now = 0): string[] {
  const frames: string[] = [];
  for (let frame = chat.nextFrame(now); frame !== null; frame = chat.nextFrame(now)) {
    frames.push("laneSeq" in frame ? `${frame.kind} ${frame.laneSeq}` : frame.kind);
  }
  return frames;
}

function data(...seqs: number[]): Uint8Array {
  return packRows(
    seqs.map((seq) => {
      const { id: name, sender, body, meta, sentAt, acceptedAt, kind, verdict } = logged(seq);
      return [seq, idBytes(name), sender, body, meta, sentAt, acceptedAt, kind, verdict];
    }),
  );
}

test("before ENTERED nothing goes up but ENTER, once, with the lane and the mark of the disk", () => {
  const requests = new Requests();
  const chat = new ChatSync(3, RUN, STANDING, requests);
  const standing = { ...STANDING, bound: 4, generation: RUN, seq: 9 };
  chat.stands(standing, [slot(4)]);
  void requests.ask((request) => chat.fetch(request, { low: 1, high: 2, newest: true }));
  assert.deepEqual(chat.nextFrame(0), {
    kind: "enter", channel: 3, laneEpoch: STANDING.laneEpoch, laneSeq: 4, generation: RUN, seq: 9,
  });
  assert.equal(chat.nextFrame(0), null);
  assert.throws(() => chat.messages({ kind: "messages", channel: 3, after: 9, upto: 9, data: data() }, 9));
});

test("slots go up in their order, and again from the one that the relay expects", () => {
  const chat = open([slot(1), slot(2), slot(3)]);
  assert.deepEqual(all(chat), ["send 1", "send 2", "send 3"]);
  assert.equal(chat.expected(2, 0), true);
  assert.deepEqual(all(chat), ["send 2", "send 3"]);
  chat.expected(2, 0);
  assert.deepEqual(all(chat), []); // not at the pace of a relay gone mad
  assert.equal(chat.deadline(0), 200);
  assert.deepEqual(all(chat, 200), ["send 2", "send 3"]);
  assert.equal(chat.expected(9, 200), false);
});

test("what was refused for now waits, and those behind it with it", () => {
  const chat = open([slot(1), slot(2)]);
  all(chat);
  chat.refusedForNow(1, 700, 1, 1_000, 0.5);
  assert.deepEqual(all(chat, 1_699), []);
  assert.equal(chat.deadline(1_000), 1_700);
  assert.deepEqual(all(chat, 1_700), ["send 1", "send 2"]);
  chat.refusedForNow(1, 0, 2, 2_000, 1);
  assert.equal(chat.deadline(2_000), 4_000);
  chat.stands({ ...STANDING, bound: 2 }, [slot(1, { givingUp: "stalled" }), slot(2)]);
  assert.deepEqual(all(chat, 2_000), ["skip 1", "send 2"]); // no reason to wait any more
});

test("a skip that is refused for now waits too", () => {
  const slots = [slot(1, { givingUp: "cancelled" })];
  const chat = open(slots);
  assert.deepEqual(all(chat), ["skip 1"]);
  chat.refusedForNow(1, 700, 0, 0, 0.5);
  chat.stands({ ...STANDING, bound: 1 }, slots);
  assert.deepEqual([all(chat, 699), all(chat, 700)], [[], ["skip 1"]]);
});

test("what is given up is skipped in its turn, or after it, once", () => {
  const chat = open([slot(1), slot(2, { givingUp: "cancelled" })]);
  assert.deepEqual(all(chat), ["send 1", "skip 2"]);
  chat.stands({ ...STANDING, bound: 2 }, [slot(1, { givingUp: "cancelled" }), slot(2, { givingUp: "cancelled" })]);
  assert.deepEqual(all(chat), ["skip 1"]);
  chat.expected(1, 0);
  assert.deepEqual(all(chat), ["skip 1", "skip 2"]);
});

test("a message says what remains of its time, and 0 only when it is over", () => {
  const chat = open([slot(1, { expiresAt: 1_000 }), slot(2, { expiresAt: 1_000 }), slot(3)]);
  const ttl = (now: number): number | null => (chat.nextFrame(now) as FrameOf<"send">).ttlMs;
  assert.deepEqual([ttl(999), ttl(1_001), ttl(5_000)], [1, 0, null]);
});

test("marks go up with news, once a second, and never say what is not stored", () => {
  const chat = open([], { seq: 4, readUpto: 2 });
  const mark = (delivered: number, read: number): Frame => ({
    kind: "mark", channel: 3, deliveredUpto: delivered, readUpto: read,
  });
  assert.deepEqual(chat.nextFrame(0), mark(4, 2));
  chat.stands({ ...STANDING, seq: 5, readUpto: 5 }, []);
  assert.deepEqual([chat.nextFrame(999), chat.deadline(0)], [null, 1_000]);
  assert.deepEqual(chat.nextFrame(1_000), mark(5, 5));
  chat.heard(9);
  chat.stands({ ...STANDING, seq: 5, readUpto: 9 }, []);
  assert.equal(chat.nextFrame(9_000), null); // the relay told it
});

test("a second lane on one joining is entered later and later", () => {
  const chat = open([slot(1)]);
  chat.renewed(0);
  assert.equal(chat.nextFrame(0)?.kind, "enter");
  chat.entered(entered(), true, 0);
  chat.renewed(1_000);
  assert.deepEqual([chat.nextFrame(1_000), chat.deadline(1_000)], [null, 1_200]);
  assert.equal(chat.nextFrame(1_200)?.kind, "enter");
});

test("messages that leave a hole, or come in no order, end the connection", () => {
  const chat = open([], { seq: 4 });
  const come = (after: number, upto: number, ...seqs: number[]): number[] | undefined =>
    chat
      .messages({ kind: "messages", channel: 3, after, upto, data: data(...seqs) }, 4)
      ?.map(({ seq }) => seq);
  assert.deepEqual(come(4, 6, 5, 6), [5, 6]);
  assert.deepEqual(come(3, 5, 4, 5), [5]);
  assert.equal(come(2, 4, 3, 4), undefined);
  for (const [after, upto, ...seqs] of [[5, 6, 6], [4, 6, 5], [4, 6, 6, 5], [4, 5, 6]] as const) {
    assert.throws(() => come(after, upto, ...seqs), BadFrame);
  }
});

test("a page is of what was asked for, and brings this device on", () => {
  const chat = open([], { seq: 400 });
  const page = (request: number, after: number, oldest: number, ...seqs: number[]) =>
    chat.page({
      kind: "page", channel: 3, request, after, upto: after + seqs.length, oldest, data: data(...seqs),
    });
  const newest = 7;
  const oldest = 8;
  const ask = (request: number): Frame =>
    chat.fetch(request, { low: 10, high: 20, newest: request === newest });
  assert.deepEqual(ask(newest), {
    kind: "fetch", channel: 3, request: newest, after: 9, before: 21, newest: true,
  });
  for (const [request, after, ...seqs] of [
    [newest, 17, 18, 19], // not from the end that was asked for
    [newest, 18, 19, 20, 21],
    [newest, 20],
    [oldest, 10, 11],
  ] as const) {
    ask(request);
    assert.throws(() => page(request, after, 1, ...seqs), BadFrame);
  }
  ask(newest);
  ask(oldest);
  const found = page(newest, 17, 1, 18, 19, 20);
  assert.deepEqual([found?.low, found?.high, found?.run.length], [18, 20, 3]);
  assert.deepEqual(page(oldest, 20, 21), { run: [], low: 21, high: 20 }); // nothing is left of it
  assert.equal(page(newest, 17, 1, 18, 19, 20), null);
});

test("a history whose ends do not fit is none", () => {
  for (const wrong of [
    { oldest: 0 }, { head: 3, after: 2 }, { head: 3, oldest: 5, after: 3 }, { head: 9, after: 10, oldest: 1 },
    { head: 9, after: 3, oldest: 5 },
  ]) {
    const chat = new ChatSync(3, RUN, { ...STANDING, seq: 3 }, new Requests());
    chat.nextFrame(0);
    assert.throws(() => chat.checkEntered(entered({ after: 3, head: 3, ...wrong })), BadFrame);
  }
  const nobodyAsked = open([]);
  assert.throws(() => nobodyAsked.checkEntered(entered()), BadFrame);
});
