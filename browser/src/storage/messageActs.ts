/** What a program does to messages, as part of one transaction. What throws has stored nothing. */

import { IdConflict, WrongState } from "../errors.js";
import { isSameContent } from "../protocol/messages.js";
import { beforeTail, TAIL, type ChatTransaction, type MessageRow } from "./chatRows.js";

/** A message as a program gives it. `ttlMs` null: it waits for ever. */
export interface Draft {
  readonly id: string;
  readonly body: string;
  readonly meta: Uint8Array;
  readonly sentAt: number;
  readonly ttlMs: number | null;
  /** Whether it asks for one. */
  readonly verdict: number;
}

/** Queue a message, unless it is here already. Throws {@link IdConflict}, {@link OutboxFull}. */
export async function write(work: ChatTransaction, draft: Draft): Promise<MessageRow> {
  const [known] = await work.withId(draft.id);
  if (known?.mine && isSameContent({ ...known, ...known.asSent }, draft)) return known;
  if (known !== undefined) {
    throw new IdConflict(
      `Another message of this room has the id ${draft.id}. Nothing was stored. Give this one ` +
        `another id.`,
    );
  }
  const row = await work.add({
    ...draft,
    ...nextInLine(work, draft.ttlMs),
    state: "queued",
    sender: work.chat.user,
    writtenAfter: work.chat.seq,
    writtenAt: work.now,
  });
  work.checkRoom();
  return row;
}

/** Give a message that was never bound another body. */
export async function edit(work: ChatTransaction, id: number, body: string): Promise<void> {
  const row = await rowOf(work, id);
  if (row.state !== "queued" || row.offered) {
    throw wrong(row, "changed: the relay may have it");
  }
  await work.update(row, { body });
  work.checkRoom();
}

/** Give up a message: at once if it waits here, with its slot if it may be at the relay. */
export async function cancel(work: ChatTransaction, id: number): Promise<void> {
  const row = await rowOf(work, id);
  if (row.state === "sending") await work.update(row, { givingUp: "cancelled" });
  else if (row.state === "queued" || row.state === "stalled") {
    await work.move(row, "cancelled", { place: row.writtenAfter });
  } else throw wrong(row, "cancelled");
}

/** Queue a stalled message again, behind all others; its time to live begins anew. */
export async function retry(work: ChatTransaction, id: number): Promise<void> {
  const row = await rowOf(work, id);
  if (row.state !== "stalled") throw wrong(row, "tried again: it has not stalled");
  const again = { refusals: 0, code: "", reason: "" };
  await work.move(row, "queued", { ...nextInLine(work, row.ttlMs), ...again });
}

/** The user has read up to this seq, or all that is known. It never goes back. */
export async function markRead(work: ChatTransaction, upto: number | null): Promise<void> {
  const { seq, readUpto, room } = work.chat;
  let newest = seq;
  const look = (row: MessageRow): boolean => {
    if (row.tie === 0) newest = Math.max(newest, row.place);
    return row.tie !== 0;
  };
  await work.messages.each(beforeTail(room), "byPlace", look, "prev");
  const read = upto === null ? newest : Math.min(upto, newest);
  if (read > readUpto) work.set({ readUpto: read });
}

function wrong(row: MessageRow, act: string): WrongState {
  return new WrongState(`This message is ${row.state}. It was left as it is. It cannot be ${act}.`);
}

function nextInLine(work: ChatTransaction, ttlMs: number | null): Partial<MessageRow> {
  const position = work.chat.positions + 1;
  work.set({ positions: position });
  const expiresAt = ttlMs === null ? null : work.now + ttlMs;
  return { place: TAIL, tie: position, position, ttlMs, expiresAt };
}

async function rowOf(work: ChatTransaction, id: number): Promise<MessageRow> {
  const row = await work.messages.get(id);
  if (row?.room === work.room) return row;
  throw new WrongState("This message is not of this room.");
}
