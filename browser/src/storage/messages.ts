/**
 * What the relay says of a room's messages, and what is sent to it: each a step of one transaction.
 *
 * Invariants
 * 1. A slot is bound here before anything goes up in it; messages are bound in the order of sending,
 *    to slots without a hole, and at most `LANE_WINDOW` are bound and undecided.
 * 2. A bound message leaves by an outcome for its slot *and* its id. A slot that holds another id, or
 *    nobody remembers, begins a new lane; what is undecided is queued again, under the old ids.
 * 3. The mark and the messages that it covers, or the gap, are one transaction.
 * 4. Two messages never have one number. What comes from the log takes its place in it; what stood
 *    there by another history is kept, and marked. Nothing is deleted, but the second row of what
 *    proves to be one message.
 * 5. What may be at the relay never expires here.
 */

import { randomBytes } from "../bytes.js";
import * as limits from "../limits.js";
import { isMissing } from "../protocol/gaps.js";
import { GONE, type Member, type MemberNews } from "../protocol/members.js";
import {
  AWAITED,
  isDecided,
  isInLog,
  isSameContent,
  NOT_ASKED,
  REFUSED,
  type GivenVerdict,
  type LoggedMessage,
  type MessageState,
  type Receipt,
  type SlotOutcome,
} from "../protocol/messages.js";
import { beforeTail, hasSeq, SETTLED, span, TAIL, type ChatTransaction, type MessageRow } from "./chatRows.js";

/** How the name of a user begins that an open relay made of the device's id. */
const ANYBODY = "anybody-";

/** The relay's history, and where it goes on for us. `generation`: that of this connection. */
export interface Place {
  readonly user: string;
  readonly generation: Uint8Array;
  readonly good: boolean;
  readonly after: number;
  readonly head: number;
  readonly oldest: number;
  readonly readUpto: number;
  readonly unread: number;
}

// The lane

/** Bind what the window has room for. */
export async function bindNext(work: ChatTransaction): Promise<void> {
  const room = limits.LANE_WINDOW - (await work.bound()).length;
  if (room <= 0) return;
  for (const row of await work.waiting(room)) {
    const slot = work.chat.bound + 1;
    work.set({ bound: slot });
    await work.move(row, "sending", { slot, offered: true });
  }
}

/** The time of these is over, and the relay never saw them. */
export async function expire(work: ChatTransaction): Promise<void> {
  for (const row of await work.messages.all(span(work.room, 0, work.now), "expiring")) {
    await work.move(row, "expired", { place: row.writtenAfter });
  }
}

/** When something expires next, in running time; Infinity: nothing does. */
export async function nextExpiry(work: ChatTransaction): Promise<number> {
  return (await work.messages.get(span(work.room), "expiring"))?.expiring ?? Infinity;
}

/** Whether what a slot holds by the relay is what this store bound to it. */
export function isOf(row: MessageRow, id: string, code: string): boolean {
  return row.id === id && code !== "forgotten";
}

/**
 * The lane as the relay has it: what it decided is decided. Returns whether the lane goes on; if not,
 * another one was begun.
 */
export async function resolve(
  work: ChatTransaction,
  last: number,
  outcomes: readonly SlotOutcome[],
): Promise<boolean> {
  let isForeign = last > work.chat.bound;
  let decidedThrough = work.chat.bound;
  for (const row of (await work.bound()).reverse()) {
    const slot = row.slot as number;
    const found = slot > last ? undefined : outcomes.find((one) => one.laneSeq === slot);
    if (found !== undefined && isOf(row, found.id, found.code)) {
      await decide(work, row, found.code, found.seq, "");
    } else {
      isForeign ||= slot <= last;
      decidedThrough = slot - 1;
    }
  }
  if (!isForeign && last >= decidedThrough) return true;
  await beginLane(work, isForeign);
  return false;
}

/** A bound message is decided, and its slot with it. */
export async function decide(
  work: ChatTransaction,
  row: MessageRow,
  code: string,
  seq: number,
  reason: string,
): Promise<void> {
  if (isInLog(row.state)) await work.update(row, SETTLED); // the log was faster
  else if (code === "accepted") {
    const [there] = await work.inLog(seq, seq);
    const told = { sender: work.chat.user, ...SETTLED };
    if (there === undefined) await intoLog(work, row, seq, told);
    else if (there.id === row.id) {
      // The log was faster, and has what the application at the relay made of it.
      const { row: twin, verdict, verdictReason } = there;
      await work.messages.delete(twin);
      await intoLog(work, row, seq, { ...told, ...ofLog(row, there), verdict, verdictReason, twin });
    } else {
      // A relay may give one number twice; then the first keeps it.
      await work.update(row, { ...told, ...work.accepted(row, seq), place: row.writtenAfter });
    }
  } else {
    const state = stateOf(row, code);
    const place = state === "stalled" ? TAIL : row.writtenAfter;
    await work.move(row, state, { place, code, reason, ...SETTLED });
  }
}

function stateOf(row: MessageRow, code: string): MessageState {
  // Skipped by somebody else than us, a copy of this store: it stays where it can be seen.
  if (code === "skipped") return row.givingUp ?? "stalled";
  return code === "expired" ? "expired" : "rejected";
}

/** A bound message was refused for now; after too many times its slot is given up. */
export async function countRefusal(work: ChatTransaction, row: MessageRow): Promise<number> {
  const refusals = row.refusals + 1;
  const isOver = refusals >= limits.MAX_TRANSIENT_REFUSALS;
  await work.update(row, { refusals, ...(isOver && { givingUp: "stalled" }) });
  return refusals;
}

/** Begin a lane. `isForeign`: because this store is not the only one with its lane. */
export async function beginLane(work: ChatTransaction, isForeign: boolean): Promise<void> {
  const rollbacks = work.chat.rollbacks + (isForeign ? 1 : 0);
  work.set({ laneEpoch: randomBytes(16), bound: 0, rollbacks });
  for (const row of await work.bound()) {
    if (isInLog(row.state)) await work.update(row, SETTLED);
    else if (row.givingUp === "cancelled") {
      // Whether the relay took it nobody can say; the log will. It is not sent again.
      await work.move(row, "cancelled", { place: row.writtenAfter, ...SETTLED });
    } else await work.move(row, "queued", { refusals: 0, ...SETTLED });
  }
}

// The log

/** Whether the relay takes us for the user whose store this is; if not, all stays as it is. */
export function isOwner(work: ChatTransaction, user: string): boolean {
  const owner = work.chat.user;
  // At an open relay a device that took another id is the same person under another name.
  const isSame = owner === user || owner === "" || owner.startsWith(ANYBODY);
  work.set({ stranger: isSame ? "" : user });
  return isSame;
}

/** The relay says how its history stands. */
export async function place(work: ChatTransaction, at: Place): Promise<void> {
  const { generation, after, oldest, head } = at;
  if (!at.good) await replace(work, at);
  else {
    if (after > work.chat.seq) {
      // What is here above the mark is ours, by outcomes alone: they do not say what the log has of it,
      // and may be of a history that is gone. It is asked for all the same.
      work.wants(work.chat.seq + 1, after);
      work.set({ generation, seq: after });
    }
    await cut(work, head);
    await work.lose(oldest);
  }
  const { readUpto } = at;
  work.set({
    user: at.user,
    readUpto: at.good ? Math.min(Math.max(work.chat.readUpto, readUpto), head) : readUpto,
    relayRead: readUpto,
    relayHead: head,
    relayUnread: at.unread,
  });
  await work.lookForAwaited();
}

/** The log ends at `head`, and our mark is good: what was told beyond it was of another history. */
async function cut(work: ChatTransaction, head: number): Promise<void> {
  for (const row of await work.inLog(head + 1)) {
    if (row.position === null) await keep(work, row);
    else await offerAgain(work, row);
  }
  // The relay tells after ENTERED how far those are in this one.
  work.set({ receipts: work.chat.receipts.filter((one) => one.deliveredUpto <= head) });
}

/** The log does not have this under its number: it is kept here, and marked. */
async function keep(work: ChatTransaction, row: MessageRow): Promise<void> {
  note(work, 0, 1);
  await work.update(row, { replaced: true, tie: -row.row });
}

/** A message of ours that was accepted is queued again, under its id. */
async function offerAgain(work: ChatTransaction, row: MessageRow): Promise<void> {
  // In another history a verdict may not have fallen, or be another one.
  const verdict = Math.min(row.verdict, AWAITED);
  const fields = {
    seq: null, place: TAIL, tie: row.position as number, replaced: false, acceptedAt: null, refusals: 0,
    offered: true, verdict,
  };
  note(work, 1, 0);
  // Its slot is sent again anyhow; or it was taken in time once, and must not expire now.
  if (row.slot === null) await work.move(row, "queued", { ...fields, expiresAt: null });
  else await work.update(row, { ...fields, state: "sending" });
}

/** The program is told of so many more, once this change is stored. */
function note(work: ChatTransaction, more: number, others: number): void {
  const { resent, kept } = work.chat.replaced;
  work.set({ replaced: { at: work.version, resent: resent + more, kept: kept + others } });
}

/** The relay has another history: our mark means nothing in it. */
async function replace(work: ChatTransaction, at: Place): Promise<void> {
  note(work, 0, 0);
  // Own messages that were accepted lately are queued again, under their ids.
  const since = work.now - limits.REOFFER_MS;
  for (const row of await work.messages.all(beforeTail(work.room), "byPlace")) {
    const isOurs = row.position !== null && isInLog(row.state) && row.writtenAt >= since;
    if (isOurs) await offerAgain(work, row);
    else if (row.tie !== 0) continue;
    else if (row.place > at.head) await keep(work, row);
    else if (row.place >= at.oldest && isDecided(row.verdict)) await work.update(row, { verdict: AWAITED });
  }
  work.set({
    receipts: [],
    gaps: [],
    generation: at.generation,
    seq: at.after,
  });
  await work.miss(1, at.oldest - 1, true);
  // What is here of the rest is shown, and asked for all the same: it may be another now.
  work.wants(at.oldest, at.after);
}

/** Messages above the mark, which moves to `upto`. */
export async function receive(
  work: ChatTransaction,
  messages: readonly LoggedMessage[],
  generation: Uint8Array,
  upto: number,
): Promise<void> {
  for (const message of messages) await take(work, message);
  work.set({ generation, seq: upto });
}

/** All messages from `low` to `high` that the relay has; what is below `oldest` is lost. */
export async function fill(
  work: ChatTransaction,
  messages: readonly LoggedMessage[],
  low: number,
  high: number,
  oldest: number,
): Promise<void> {
  for (const message of messages) await take(work, message);
  work.has(low, high);
  await work.lose(oldest);
}

/** How far others are, merged by max; `readUpto`: what this user read on another device. */
export async function takeReceipts(
  work: ChatTransaction,
  news: readonly Receipt[],
  readUpto: number,
): Promise<void> {
  const known = new Map(work.chat.receipts.map((one) => [one.user, one]));
  for (const { user, ...one } of news) {
    const old = known.get(user);
    if (old === undefined && known.size >= limits.MAX_RECEIPTS) continue;
    known.set(user, {
      user,
      deliveredUpto: Math.max(one.deliveredUpto, one.readUpto, old?.deliveredUpto ?? 0),
      readUpto: Math.max(one.readUpto, old?.readUpto ?? 0),
    });
  }
  const { chat } = work;
  work.set({ receipts: [...known.values()], readUpto: Math.max(chat.readUpto, readUpto) });
  await advanceOurs(work);
}

/** Who belongs to the room; `whole`: and nobody else. */
export function takeMembers(work: ChatTransaction, news: readonly MemberNews[], whole: boolean): void {
  const known = whole ? [] : (work.chat.members ?? []);
  const members = new Map(known.map((one) => [one.user, one]));
  for (const { user, role } of news) {
    if (role === GONE) members.delete(user);
    else members.set(user, { user, role });
  }
  const byName = (one: Member, other: Member): number => (one.user < other.user ? -1 : 1);
  work.set({ members: [...members.values()].sort(byName) });
}

/** The application at the relay has spoken. */
export async function takeVerdicts(
  work: ChatTransaction,
  verdicts: readonly GivenVerdict[],
): Promise<void> {
  for (const { id, verdict, reason } of verdicts) {
    for (const row of await work.withId(id)) {
      const isAwaited = hasSeq(row) && row.verdict === AWAITED;
      if (isAwaited) await work.update(row, { verdict, verdictReason: reason });
    }
  }
}

/** Our messages that others have received or read since. */
async function advanceOurs(work: ChatTransaction): Promise<void> {
  const { receipts } = work.chat;
  const delivered = Math.max(0, ...receipts.map((one) => one.deliveredUpto));
  const read = Math.max(0, ...receipts.map((one) => one.readUpto));
  for (const [from, upto] of [["accepted", delivered], ["delivered", read]] as const) {
    const range = IDBKeyRange.bound([work.room, from, 0], [work.room, from, upto]);
    for (const row of await work.messages.all(range, "unseen")) {
      await work.move(row, work.stateInLog(row.seq as number));
    }
  }
}

/** A message of the log. */
async function take(work: ChatTransaction, message: LoggedMessage): Promise<void> {
  const { seq, id, sender } = message;
  const [there] = await work.inLog(seq, seq);
  if (there?.id === id && isSame(work, there, message)) {
    await work.update(there, ofLog(there, message));
    return;
  }
  if (there?.id !== id && there?.position != null) await offerAgain(work, there);
  else if (there) await work.update(there, { replaced: true, tie: -there.row });
  for (const row of await work.withId(id)) {
    const isCertain = hasSeq(row) && !isMissing(work.chat.gaps, row.place);
    if (isCertain || !isSame(work, row, message)) continue;
    await intoLog(work, row, seq, ofLog(row, message));
    return;
  }
  const mine = sender === work.chat.user;
  const state = mine ? work.stateInLog(seq) : "accepted";
  await work.add({ ...message, verdict: verdictOf(message), place: seq, state, mine });
}

/** What the log says of a message that is here, which the application at the relay may have rewritten. */
function ofLog(row: MessageRow, message: LoggedMessage | MessageRow): Partial<MessageRow> {
  const { sender, body, meta, sentAt, acceptedAt, kind } = message;
  const asSent = { body: row.body, meta: row.meta };
  return {
    sender, body, meta, sentAt, acceptedAt, kind,
    verdict: verdictOf(message, row.verdict),
    ...(!isSameContent(row, message) && { asSent: row.asSent ?? asSent }),
  };
}

/**
 * What to store of a verdict: the first one stays, and a refusal counts once its reason is here, which
 * comes in VERDICTS alone.
 */
function verdictOf({ verdict }: LoggedMessage | MessageRow, known: number = NOT_ASKED): number {
  if (isDecided(known)) return known;
  return verdict === REFUSED ? AWAITED : verdict;
}

/** Whether a message of the same id is the same message. */
function isSame(work: ChatTransaction, row: MessageRow, message: LoggedMessage): boolean {
  const isUnseen = row.position !== null && row.acceptedAt === null; // ours, and not from the log yet
  const isTaken = isUnseen && isInLog(row.state);
  // Before ENTERED nobody can say who we are.
  const sender = (isUnseen && !isTaken ? work.chat.user : row.sender) || message.sender;
  // Of what was taken the log alone says what it is.
  return sender === message.sender && (isTaken || isSameContent(row, message));
}

/** A message that is here has this number. */
async function intoLog(
  work: ChatTransaction,
  row: MessageRow,
  seq: number,
  more: Partial<MessageRow>,
): Promise<void> {
  const place = { seq, place: seq, tie: 0, replaced: false };
  await work.update(row, { ...more, ...work.accepted(row, seq), ...place });
  work.has(seq, seq);
}
