/** Messages, outcomes and receipts as they travel in a field of a frame; and a message's states. */

import { fromHex, hex, isEqual } from "../bytes.js";
import { BadFrame, WrongState } from "../errors.js";
import * as limits from "../limits.js";
import { unpackRows } from "./codec.js";

/**
 * Where a message is between its writer and its readers:
 *
 *     queued ──► sending ──► accepted ──► delivered ──► read
 *       │          │  └─ (back to queued: a new lane, under the same id)
 *       │          ├────► rejected · expired · cancelled
 *       │          └────► stalled ──► queued, by a retry
 *       └─► expired · cancelled
 *
 * What may be at the relay is never called expired, cancelled or rejected by anybody but the relay.
 * The log has the last word: what ended here and is found in it is accepted.
 */
export type MessageState =
  | "queued"
  | "sending"
  | "accepted"
  | "delivered"
  | "read"
  | "rejected"
  | "expired"
  | "cancelled"
  | "stalled";

/** The legal edges; there are no others. */
export const EDGES: Readonly<Record<MessageState, readonly MessageState[]>> = {
  queued: ["sending", "expired", "cancelled", "accepted"],
  sending: ["accepted", "rejected", "expired", "cancelled", "stalled", "queued"],
  accepted: ["delivered", "read", "queued"],
  delivered: ["read", "queued"],
  read: ["queued"],
  rejected: ["accepted"],
  expired: ["accepted"],
  cancelled: ["accepted"],
  stalled: ["queued", "cancelled", "accepted"],
};

/** The way of a message to which nothing happens. */
export const PATH: readonly MessageState[] = ["queued", "sending", "accepted", "delivered", "read"];

/** Whether a message in this state was taken into the relay's log. */
export function isInLog(state: MessageState): boolean {
  return PATH.indexOf(state) > 1;
}

/** `to`, if a message may go there. Throws {@link WrongState}. */
export function advance(from: MessageState, to: MessageState): MessageState {
  if (EDGES[from].includes(to)) return to;
  throw new WrongState(`This message is ${from}. It was left as it is. It cannot become ${to}.`);
}

/** A message as the relay's log has it; the id as a UUID. Times are milliseconds since 1970. */
export interface LoggedMessage {
  readonly seq: number;
  readonly id: string;
  readonly sender: string;
  readonly body: string;
  readonly meta: Uint8Array;
  readonly sentAt: number;
  readonly acceptedAt: number;
  readonly kind: number;
  readonly verdict: number;
}

/** What a consumed slot of a lane holds; `seq` is 0 unless it was accepted. */
export interface SlotOutcome {
  readonly laneSeq: number;
  readonly id: string;
  readonly code: string;
  readonly seq: number;
}

/** What is known of the word of the application at the relay, as messages carry it. 2: confirmed. */
export const NOT_ASKED = 0;
export const AWAITED = 1;
export const REFUSED = 3;

/** The application's word on a message: confirmed, or refused for this reason. */
export interface GivenVerdict {
  readonly id: string;
  readonly verdict: number;
  readonly reason: string;
}

/** How far a user has received and read a room. */
export interface Receipt {
  readonly user: string;
  readonly deliveredUpto: number;
  readonly readUpto: number;
}

/** All messages with a seq above `after`, up to `upto`. Throws {@link BadFrame}. */
export function unpackRun(data: Uint8Array, after: number, upto: number): LoggedMessage[] {
  const shape = "seq id sender body meta sentAt acceptedAt kind verdict";
  const run = withIds(unpackRows(data, shape, limits.PAGE_MESSAGES));
  if (run.length !== upto - after || run.some((one, at) => one.seq !== after + 1 + at)) {
    throw new BadFrame(`${run.length} messages for the range ${after} to ${upto}`);
  }
  return run;
}

/** Throws {@link BadFrame}. */
export function unpackOutcomes(data: Uint8Array): SlotOutcome[] {
  return withIds(unpackRows(data, "laneSeq id code:code seq", limits.LANE_WINDOW));
}

/** Throws {@link BadFrame}. */
export function unpackReceipts(data: Uint8Array): Receipt[] {
  return unpackRows(data, "user deliveredUpto readUpto", limits.MAX_RECEIPTS);
}

/** Throws {@link BadFrame}. */
export function unpackVerdicts(data: Uint8Array): GivenVerdict[] {
  const verdicts = withIds(unpackRows(data, "id verdict reason", limits.PAGE_MESSAGES));
  if (verdicts.every(({ verdict }) => isDecided(verdict) && verdict <= REFUSED)) return verdicts;
  throw new BadFrame("a verdict that does not fit");
}

/** Whether two messages of one id say and ask for the same. */
export function isSameContent(
  one: Pick<LoggedMessage, "body" | "meta" | "verdict">,
  other: Pick<LoggedMessage, "body" | "meta" | "verdict">,
): boolean {
  const isAsked = one.verdict > 0 === other.verdict > 0;
  return isAsked && one.body === other.body && isEqual(one.meta, other.meta);
}

export const isDecided = (verdict: number): boolean => verdict > AWAITED;

/** The rows, with their ids as people write them. */
function withIds<R extends { readonly id: Uint8Array }>(rows: R[]): (Omit<R, "id"> & { id: string })[] {
  return rows.map((row) => ({ ...row, id: uuid(row.id) }));
}

/** 16 bytes as people write them. */
export function uuid(bytes: Uint8Array): string {
  return hex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** The bytes of a UUID. */
export function idBytes(id: string): Uint8Array {
  return fromHex(id.replaceAll("-", ""));
}

/** Whether a refusal leaves the slot free: the same message may be sent in it again. */
export function isForNow(code: string): boolean {
  return code === "busy" || code === "rate_limited";
}

/** Throws {@link BadFrame} unless a seq comes with `accepted`, and only with it. */
export function checkOutcome(code: string, seq: number): void {
  if ((code === "accepted") !== seq > 0) throw new BadFrame("an outcome that does not fit");
}
