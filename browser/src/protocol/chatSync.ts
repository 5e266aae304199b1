/**
 * One room's chat on one joining: what lives no longer than that. What is durable (the lane, the
 * mark, the gaps) is in the store, and this machine is told how it stands there.
 *
 * Invariants
 * 1. Nothing but ENTER goes up before ENTERED, and ENTER names a lane and a mark of this disk.
 * 2. A SEND goes up only for a slot that is bound on this disk, in the order of the slots, beginning
 *    again at any of them; a SKIP only for one whose giving up is on it.
 * 3. A MARK goes up at most every `MARK_EVERY_MS`, and says what is on this disk.
 */

import { BadFrame } from "../errors.js";
import * as limits from "../limits.js";
import { packRows } from "./codec.js";
import type { Frame, FrameOf } from "./frames.js";
import { idBytes, unpackRun, type LoggedMessage } from "./messages.js";
import type { Requests } from "./requests.js";

const NO_PAUSE = { slot: 0, until: 0, isSkip: false };
const RENEWAL_WAIT_MS = 100; // before the second lane of one joining; it doubles

export type ChatFrame = FrameOf<
  | "entered"
  | "outcome"
  | "expected"
  | "messages"
  | "page"
  | "receipts"
  | "members"
  | "changed"
  | "answer"
  | "verdicts"
>;

/** A message that is bound to a slot, on this disk. Times are running time, in milliseconds. */
export interface Slot {
  readonly slot: number | null;
  readonly id: string;
  readonly body: string;
  readonly meta: Uint8Array;
  readonly sentAt: number;
  readonly expiresAt: number | null;
  readonly givingUp: string | null;
  readonly verdict: number;
}

/** The lane and the mark as they are on the disk. */
export interface Standing {
  readonly laneEpoch: Uint8Array;
  readonly bound: number;
  readonly generation: Uint8Array;
  readonly seq: number;
  readonly readUpto: number;
}

/** A range that was asked for, from one of its ends. */
export interface Asked {
  readonly low: number;
  readonly high: number;
  readonly newest: boolean;
}

export class ChatSync {
  /** "closed": the relay takes us for somebody else than whose the disk is. */
  phase: "joined" | "entering" | "open" | "closed" = "joined";
  /** Whether messages can go up, as far as the disk has it. */
  isOpen = false;
  /** ENTERED came, at least once. */
  isPlaced = false;
  /** The newest message when ENTERED came. */
  head = 0;
  user = "";
  private slots: readonly Slot[] = [];
  private enteredAt = 0;
  private next = 1; // the lowest slot that was not sent since ENTERED
  private readonly skipped = new Set<number>(); // below it, and given up since they were sent
  /** Nothing goes up before `until`; `isSkip`: not even that the slot is given up. */
  private pause = NO_PAUSE;
  private stumbles = 0; // EXPECTEDs of one slot in a row
  private stumbledAt = 0;
  private renewals = 0; // lanes begun on this joining
  private enterFrom = 0;
  private readonly asked = new Map<number, Asked>();
  private toInquire: string[] = [];
  private told = { delivered: 0, read: 0 };
  private markFrom = 0;

  /** `run`: the generation of the connection. `standing` is as it was read last. */
  constructor(
    readonly channel: number,
    readonly run: Uint8Array,
    public standing: Standing,
    private readonly requests: Requests,
  ) {}

  /** The disk is like this now. */
  stands(standing: Standing, slots: readonly Slot[]): void {
    this.standing = standing;
    this.slots = slots;
    this.isOpen = this.phase === "open";
    const { slot, isSkip } = this.pause;
    const paused = this.at(slot);
    if (paused === undefined || (paused.givingUp !== null && !isSkip)) this.pause = NO_PAUSE;
  }

  // What the relay says

  /** Throws {@link BadFrame} for a history that cannot be. */
  checkEntered(frame: FrameOf<"entered">): void {
    const { oldest, head, after } = frame;
    const fits = 0 < oldest && oldest <= head + 1 && oldest - 1 <= after && after <= head;
    if (this.phase !== "entering" || !fits || (frame.good && after < this.enteredAt)) {
      throw new BadFrame("an ENTERED that does not fit");
    }
  }

  /** The lane goes on behind its slot `last`; or it was renewed, and is to be entered. */
  entered(frame: FrameOf<"entered">, goesOn: boolean, now: number): void {
    this.isPlaced = true;
    this.head = frame.head;
    this.user = frame.user;
    this.told = { delivered: 0, read: frame.readUpto };
    this.skipped.clear();
    this.next = frame.laneSeq + 1;
    this.phase = "open";
    if (!goesOn) this.renewed(now);
  }

  /** These are in the log and undecided, as far as the disk has it: the relay is asked about them. */
  awaits(ids: Iterable<string>): void {
    this.toInquire.push(...ids);
  }

  /** Another lane was begun: enter it, but not at the pace of a relay gone mad. */
  renewed(now: number): void {
    if (this.renewals > 0) this.enterFrom = now + RENEWAL_WAIT_MS * 2 ** Math.min(this.renewals, 10);
    this.renewals += 1;
    this.phase = "joined";
    this.requests.detach(); // to enter again is to hear nothing more of what was asked
  }

  /** Whether a slot went up since ENTERED. */
  isSent(slot: number): boolean {
    return slot < this.next;
  }

  /** A slot was refused for now, for the `refusals`th time. `chance` is uniform in [0, 1). */
  refusedForNow(slot: number, waitMs: number, refusals: number, now: number, chance: number): void {
    this.next = Math.min(this.next, slot);
    const ceiling = Math.min(limits.RETRY_CAP_MS, limits.RETRY_BASE_MS * 2 ** refusals);
    const wait = Math.min(waitMs, limits.MAX_RETRY_AFTER_MS) || ceiling * (0.5 + chance / 2);
    this.hold(slot, now + Math.ceil(wait));
  }

  /** The relay has dropped what came before its turn; false: it asks for what cannot be. */
  expected(slot: number, now: number): boolean {
    const first = this.slots[0]?.slot ?? this.standing.bound + 1;
    if (slot < first || slot > this.standing.bound + 1) return false;
    if (this.at(slot) === undefined || slot >= this.next) return true;
    this.stumbles = slot === this.stumbledAt ? this.stumbles + 1 : 0;
    this.stumbledAt = slot;
    if (this.stumbles > 0) {
      const wait = Math.min(limits.RETRY_CAP_MS, 100 * 2 ** Math.min(this.stumbles, 16));
      this.hold(slot, Math.max(now + wait, this.pause.until));
    }
    this.next = slot;
    return true;
  }

  /** The messages above the mark `seq`; null: they are of a place before this one. */
  messages(frame: FrameOf<"messages">, seq: number): LoggedMessage[] | null {
    const run = unpackRun(frame.data, frame.after, frame.upto);
    if (!this.isPlaced || frame.after > seq) throw new BadFrame("messages that do not fit");
    return frame.upto > seq ? run.filter((message) => message.seq > seq) : null;
  }

  /** The answer to a FETCH: the range that is settled by it; null if nobody waits for it. */
  page(frame: FrameOf<"page">): { run: LoggedMessage[]; low: number; high: number } | null {
    const asked = this.asked.get(frame.request);
    if (!this.asked.delete(frame.request) || asked === undefined) return null;
    const run = unpackRun(frame.data, frame.after, frame.upto);
    const { low, high } = asked;
    if (run.length === 0) {
      if (frame.oldest <= high) throw new BadFrame("a page that does not fit");
      return { run, low: high + 1, high };
    }
    const start = Math.max(low, frame.oldest);
    const touches = asked.newest ? frame.upto === high : frame.after === start - 1;
    if (!touches || frame.after < start - 1 || frame.upto > high) {
      throw new BadFrame("a page that does not fit");
    }
    return { run, low: frame.after + 1, high: frame.upto };
  }

  /** The user has read so far on another device, and the relay knows it. */
  heard(readUpto: number): void {
    this.told.read = Math.max(this.told.read, readUpto);
  }

  // What goes up

  /** The FETCH of what is missing. */
  fetch(request: number, asked: Asked): FrameOf<"fetch"> {
    const { low, high, newest } = asked;
    this.asked.set(request, asked);
    return { kind: "fetch", channel: this.channel, request, after: low - 1, before: high + 1, newest };
  }

  /** ENTER, if it is due. */
  nextEnter(now: number): FrameOf<"enter"> | null {
    if (this.phase !== "joined" || now < this.enterFrom) return null;
    const { laneEpoch, bound, generation, seq } = this.standing;
    this.phase = "entering";
    this.enteredAt = seq;
    return { kind: "enter", channel: this.channel, laneEpoch, laneSeq: bound, generation, seq };
  }

  /** The next frame of this chat: the outbox first, then what is asked for, and marks. */
  nextFrame(now: number): Frame | null {
    if (this.phase !== "open") return this.nextEnter(now);
    return this.nextOfLane(now) ?? this.requests.next() ?? this.nextInquiry() ?? this.nextMark(now);
  }

  /** The running time, after `now`, at which there is something to be sent; Infinity: never. */
  deadline(now: number): number {
    if (this.phase === "joined") return this.enterFrom > now ? this.enterFrom : Infinity;
    if (this.phase !== "open") return Infinity;
    const times = [this.due === undefined ? 0 : this.pause.until, this.hasNews ? this.markFrom : 0];
    return Math.min(...times.map((time) => (time > now ? time : Infinity)));
  }

  private at(slot: number): Slot | undefined {
    return this.slots.find((one) => one.slot === slot);
  }

  private hold(slot: number, until: number): void {
    this.pause = { slot, until, isSkip: (this.at(slot)?.givingUp ?? null) !== null };
  }

  private get due(): Slot | undefined {
    return this.slots.find((one) => (one.slot as number) >= this.next);
  }

  private nextOfLane(now: number): Frame | null {
    const { channel } = this;
    for (const { slot, id, givingUp } of this.slots) {
      const laneSeq = slot as number;
      if (givingUp === null || !this.isSent(laneSeq) || this.skipped.has(laneSeq)) continue;
      this.skipped.add(laneSeq);
      return { kind: "skip", channel, laneSeq, messageId: idBytes(id) };
    }
    const { due } = this;
    if (due === undefined || now < this.pause.until) return null;
    const { body, meta, sentAt, expiresAt } = due;
    const confirm = due.verdict > 0;
    const laneSeq = due.slot as number;
    const messageId = idBytes(due.id);
    this.next = laneSeq + 1;
    this.skipped.delete(laneSeq);
    if (due.givingUp !== null) {
      this.skipped.add(laneSeq);
      return { kind: "skip", channel, laneSeq, messageId };
    }
    const ttlMs = expiresAt === null ? null : Math.max(0, expiresAt - now);
    return { kind: "send", channel, laneSeq, messageId, body, meta, sentAt, ttlMs, confirm };
  }

  private nextInquiry(): Frame | null {
    const rows = this.toInquire.splice(0, limits.PAGE_MESSAGES).map((id) => [idBytes(id)]);
    return rows.length > 0 ? { kind: "inquire", channel: this.channel, data: packRows(rows) } : null;
  }

  private get hasNews(): boolean {
    const { seq, readUpto } = this.standing;
    return seq > this.told.delivered || readUpto > this.told.read;
  }

  private nextMark(now: number): Frame | null {
    if (!this.hasNews || now < this.markFrom) return null;
    const { seq, readUpto } = this.standing;
    this.told = { delivered: seq, read: readUpto };
    this.markFrom = now + limits.MARK_EVERY_MS;
    return { kind: "mark", channel: this.channel, deliveredUpto: seq, readUpto };
  }
}
