/**
 * A room's chat as it is stored, and one transaction's view of it.
 *
 * The messages of a room are ordered by (`place`, `tie`):
 *
 * - what is in the relay's log stands at (seq, 0);
 * - what waits to be sent, or is stalled, at the `TAIL`, by its position in the order of sending;
 * - what ended here (rejected, expired, cancelled) after the message that it was written after;
 * - what a relay with another history does not have, or not there, at (its former seq, below 0).
 *
 * Every change of a room's chat has a number, and a row has that of its last change: a tab reads
 * what changed since it last looked, and needs to be told nothing else.
 */

import { randomBytes, sizeOf } from "../bytes.js";
import type { Clock } from "../clock.js";
import { forgotten, OtherUser, OutboxFull } from "../errors.js";
import * as limits from "../limits.js";
import { add, remove, lose, type Gaps } from "../protocol/gaps.js";
import type { Member } from "../protocol/members.js";
import { advance, AWAITED, isDecided, isInLog, type MessageState, type Receipt } from "../protocol/messages.js";
import type { Table, Transaction } from "./database.js";

const STORE_TIME_EVERY_MS = 30_000;

export const TAIL = Infinity;
export const CHAT_TABLES = ["chats", "messages", "clock", "outbox"] as const;

type ChatTables = Transaction<(typeof CHAT_TABLES)[number]>;

/** A room's chat besides its messages. `relay*` is what the relay counted as unread, and of what. */
export interface ChatRow {
  readonly room: number;
  readonly laneEpoch: Uint8Array;
  /** The highest slot that was ever bound in this lane. */
  readonly bound: number;
  readonly positions: number;
  /** The mark: every message up to `seq` is here, or in a gap. */
  readonly generation: Uint8Array;
  readonly seq: number;
  readonly readUpto: number;
  readonly user: string;
  /** Whom the relay takes us for instead, if it said so last: nothing is sent or changed for them. */
  readonly stranger?: string;
  readonly relayRead: number;
  readonly relayHead: number;
  readonly relayUnread: number;
  readonly gaps: Gaps;
  readonly receipts: readonly Receipt[];
  /** By name; nothing before the relay told of them. */
  readonly members?: readonly Member[];
  /** Counted anew with every change. */
  readonly unread: number;
  /** The number of the last change. */
  readonly version: number;
  /** How often this store was found to be a copy. */
  readonly rollbacks: number;
  /** Of replaced histories: the last change that stored one, and how many messages all of them cost. */
  readonly replaced: { readonly at: number; readonly resent: number; readonly kept: number };
}

/** `position`: it was sent from this store. `mine`: this user wrote it. Times as their names say. */
export interface MessageRow {
  readonly row: number;
  readonly room: number;
  readonly id: string;
  readonly place: number;
  readonly tie: number;
  readonly seq: number | null;
  readonly state: MessageState;
  readonly mine: boolean;
  /** Kept here only: the relay has another history. */
  readonly replaced: boolean;
  readonly sender: string;
  readonly body: string;
  readonly meta: Uint8Array;
  readonly sentAt: number;
  readonly acceptedAt: number | null;
  readonly kind: number;
  readonly verdict: number;
  /** Why the application refused it; what was stored before there were verdicts has none. */
  readonly verdictReason?: string | undefined;
  readonly code: string;
  readonly reason: string;
  readonly position: number | null;
  readonly slot: number | null;
  /** What it shall be once the relay has skipped its slot. */
  readonly givingUp: "cancelled" | "stalled" | null;
  readonly refusals: number;
  /** The mark, and the running time, when it was written. */
  readonly writtenAfter: number;
  readonly writtenAt: number;
  readonly ttlMs: number | null;
  readonly expiresAt: number | null;
  /** It was bound before; the relay may have it. */
  readonly offered: boolean;
  /** The changes by which it came, was last changed, and was rejected or expired. */
  readonly added: number;
  readonly changed: number;
  readonly ended: number;
  /** The change by which it was confirmed or refused. */
  readonly decided?: number;
  /** What was sent from here, where the relay keeps something else. */
  readonly asSent?: { readonly body: string; readonly meta: Uint8Array };
  /** The row in which the log had it before its outcome proved them to be one; it is gone. */
  readonly twin?: number;
  // For indexes alone.
  readonly waiting?: number;
  readonly expiring?: number;
  readonly other?: number;
  readonly unseen?: MessageState;
}

/** What a new row must say. */
export type NewRow = Partial<MessageRow> & Pick<MessageRow, "id" | "state" | "body" | "meta">;

const UNSAID = {
  place: TAIL, tie: 0, seq: null, mine: true, replaced: false, sender: "", sentAt: 0, acceptedAt: null,
  kind: 0, verdict: 0, code: "", reason: "", position: null, slot: null, givingUp: null, refusals: 0,
  writtenAfter: 0, writtenAt: 0, ttlMs: null, expiresAt: null, offered: false, ended: 0,
};

/** A slot was settled: the row has none any more. */
export const SETTLED = { slot: null, givingUp: null } as const;

const size = ({ body, meta }: Pick<MessageRow, "body" | "meta">): number =>
  sizeOf(body) + meta.length;

const isOpen = (row: MessageRow): boolean => row.state === "queued" || row.slot !== null;

export const hasSeq = (row: MessageRow): boolean => row.seq !== null && !row.replaced;

/** All keys of a room from `low` to `high`, both included. */
export const span = (room: number, low = 0, high = Infinity): IDBKeyRange =>
  IDBKeyRange.bound([room, low], [room, high]);

/** All places of a room but those of what waits. */
export const beforeTail = (room: number): IDBKeyRange => span(room, 0, Number.MAX_SAFE_INTEGER);

/** Why this room's chat stands still: it is another user's. */
export function otherUser({ user, stranger }: ChatRow): OtherUser | null {
  if (!stranger) return null;
  return new OtherUser(
    `This store is ${user}'s, and the relay takes us for ${stranger}. Its messages are kept on this ` +
      `device, and nothing is sent. Open a store of another name.`,
  );
}

/** One transaction's view of a room's chat. What throws has stored nothing. */
export class ChatTransaction {
  /** The running time. */
  readonly now: number;
  /** Messages of the log that were stored or looked up as awaiting a verdict. */
  readonly awaited = new Set<string>();
  private readonly before: ChatRow;
  private outbox = { messages: 0, bytes: 0 };
  private hasMoved = false;
  private storedTime = 0;

  private constructor(
    private readonly tables: ChatTables,
    public chat: ChatRow,
    private readonly clock: Clock,
  ) {
    this.before = chat;
    this.now = clock.now();
  }

  /** Throws {@link Closed} if the room was forgotten. */
  static async begin(tables: ChatTables, room: number, clock: Clock): Promise<ChatTransaction> {
    const time = await tables.clock.get("clock");
    clock.take(time);
    const chat = await tables.chats.get(room);
    if (!chat) throw forgotten();
    const begun = new ChatTransaction(tables, chat, clock);
    begun.storedTime = time?.running ?? 0;
    begun.outbox = (await tables.outbox.get("outbox")) ?? begun.outbox;
    return begun;
  }

  /** Store what is not stored yet. */
  async end(): Promise<void> {
    if (this.hasMoved || this.chat !== this.before) {
      this.set({ version: this.version });
      this.set({ unread: await this.countUnread() });
      await this.tables.chats.put(this.chat);
      await this.tables.outbox.put(this.outbox, "outbox");
      await this.tables.clock.put(this.clock.row, "clock");
    }
  }

  /** Store the running time, if it was not stored lately: something waits by it. */
  async storeTime(): Promise<void> {
    if (this.now - this.storedTime < STORE_TIME_EVERY_MS) return;
    await this.tables.clock.put(this.clock.row, "clock");
  }

  /** The number of this change. */
  get version(): number {
    return this.before.version + 1;
  }

  get messages(): Table<MessageRow> {
    return this.tables.messages;
  }

  get room(): number {
    return this.chat.room;
  }

  set(changes: Partial<ChatRow>): void {
    this.chat = { ...this.chat, ...changes };
  }

  // Finding

  async bound(): Promise<MessageRow[]> {
    return this.messages.all(span(this.room), "bound");
  }

  /** What is queued and not bound, in the order of sending. */
  async waiting(limit?: number): Promise<MessageRow[]> {
    return this.messages.all(span(this.room), "waiting", limit);
  }

  async withId(id: string): Promise<MessageRow[]> {
    return this.messages.all([this.room, id], "byId");
  }

  /** Messages of the log with these numbers. */
  async inLog(low: number, high = Number.MAX_SAFE_INTEGER): Promise<MessageRow[]> {
    if (low > high) return [];
    const range = IDBKeyRange.bound([this.room, low, 0], [this.room, high, 0]);
    const rows = await this.messages.all(range, "byPlace");
    return rows.filter((row) => row.tie === 0);
  }

  /** Look up the newest messages of the log that await a verdict. */
  async lookForAwaited(): Promise<void> {
    const range = IDBKeyRange.bound(
      [this.room, AWAITED],
      [this.room, AWAITED, Number.MAX_SAFE_INTEGER],
    );
    const look = ({ id, tie }: MessageRow): boolean =>
      tie !== 0 || this.awaited.add(id).size < limits.MAX_INQUIRED;
    await this.messages.each(range, "byVerdict", look, "prev");
  }

  // Messages

  async add(fields: NewRow): Promise<MessageRow> {
    const made = { ...UNSAID, ...fields, room: this.room, added: this.version };
    return this.put(null, made as unknown as MessageRow);
  }

  async update(row: MessageRow, changes: Partial<MessageRow>): Promise<MessageRow> {
    return this.put(row, { ...row, ...changes });
  }

  /** To another state, along a legal edge. */
  async move(row: MessageRow, to: MessageState, more: Partial<MessageRow> = {}): Promise<MessageRow> {
    const hasEnded = to === "expired" || to === "rejected";
    const ended = hasEnded ? this.version : row.ended;
    return this.update(row, { state: advance(row.state, to), ended, ...more });
  }

  private async put(before: MessageRow | null, after: MessageRow): Promise<MessageRow> {
    const { waiting: _, expiring: __, other: ___, unseen: ____, ...rest } = after;
    const waits = after.state === "queued" && after.slot === null;
    const row: MessageRow = {
      ...rest,
      changed: this.version,
      ...(isDecided(after.verdict) && before?.verdict === AWAITED && { decided: this.version }),
      ...(waits && { waiting: after.position as number }),
      ...(waits && after.expiresAt !== null && !after.offered && { expiring: after.expiresAt }),
      ...(!after.mine && after.kind === 0 && after.tie === 0 && { other: after.place }),
      ...(after.mine && hasSeq(after) && after.state !== "read" && { unseen: after.state }),
    };
    if (before !== null && isOpen(before)) this.count(before, -1);
    if (isOpen(row)) this.count(row, 1);
    if (row.verdict === AWAITED && hasSeq(row)) this.awaited.add(row.id);
    this.hasMoved = true;
    return { ...row, row: await this.messages.put(row) };
  }

  private count(row: MessageRow, sign: number): void {
    const { messages, bytes } = this.outbox;
    this.outbox = { messages: messages + sign, bytes: bytes + sign * size(row) };
  }

  /** Throws {@link OutboxFull} if too much would wait. */
  checkRoom(): void {
    const { messages, bytes } = this.outbox;
    if (messages <= limits.MAX_OUTBOX_MESSAGES && bytes <= limits.MAX_OUTBOX_BYTES) return;
    throw new OutboxFull(
      `At most ${limits.MAX_OUTBOX_MESSAGES} messages with ${limits.MAX_OUTBOX_BYTES} bytes may ` +
        `wait on this device. Nothing was stored. Connect to the relay, or cancel some.`,
    );
  }

  // Gaps

  async miss(low: number, high: number, lost = false): Promise<void> {
    const here = (await this.inLog(low, high)).map((row) => row.place);
    this.set({ gaps: add(this.chat.gaps, low, high, here, lost) });
  }

  /** The range is asked for, whatever of it is here. */
  wants(low: number, high: number): void {
    this.set({ gaps: add(this.chat.gaps, low, high) });
  }

  has(low: number, high: number): void {
    if (this.chat.gaps.length > 0) this.set({ gaps: remove(this.chat.gaps, low, high) });
  }

  /** All below `oldest` that is not here is lost. */
  async lose(oldest: number): Promise<void> {
    const first = this.chat.gaps.find((gap) => !gap.lost && gap.low < oldest);
    if (first === undefined) return;
    const here = (await this.inLog(first.low, oldest - 1)).map((row) => row.place);
    this.set({ gaps: lose(this.chat.gaps, oldest, here) });
  }

  // Counting

  /**
   * Other people's messages after `readUpto`. Where some of them lie in a gap, the relay's count at
   * the last joining stands for what was in the log by then.
   */
  private async countUnread(): Promise<number> {
    const { readUpto, relayRead, relayHead, relayUnread, gaps, room } = this.chat;
    const most = limits.MAX_UNREAD_COUNTED;
    const here = async (after: number, upto = Number.MAX_SAFE_INTEGER): Promise<number> =>
      after >= upto
        ? 0
        : Math.min(most, await this.messages.count(span(room, after + 1, upto), "others"));
    const counted = await here(readUpto);
    if (!gaps.some((gap) => gap.high > readUpto && !gap.lost)) return counted;
    let told = relayUnread + (await here(Math.max(relayHead, readUpto)));
    if (relayUnread < most) told -= await here(relayRead, Math.min(readUpto, relayHead));
    return Math.min(Math.max(counted, told), most);
  }

  /** The state of an own message of the log with this number. */
  stateInLog(seq: number): MessageState {
    const { receipts } = this.chat;
    if (receipts.some((one) => one.readUpto >= seq)) return "read";
    return receipts.some((one) => one.deliveredUpto >= seq) ? "delivered" : "accepted";
  }

  /** What changes of an own message that is in the log, whatever became of it here. */
  accepted(row: MessageRow, seq: number): Partial<MessageRow> {
    // Receipts do not reach what is in the log and has no number yet.
    if (isInLog(row.state) && row.seq !== null) return {};
    return { state: this.stateInLog(seq), code: "", reason: "" };
  }
}

/** The chat of a room that exists, begun with a fresh lane if it has none. */
export async function beginChat(tables: Transaction<"chats">, room: number): Promise<ChatRow> {
  const known = await tables.chats.get(room);
  if (known !== undefined) return known;
  const begun: ChatRow = {
    room, laneEpoch: randomBytes(16), bound: 0, positions: 0, generation: new Uint8Array(16), seq: 0,
    readUpto: 0, user: "", relayRead: 0, relayHead: 0, relayUnread: 0, gaps: [], receipts: [],
    unread: 0, version: 0, rollbacks: 0, replaced: { at: 0, resent: 0, kept: 0 },
  };
  await tables.chats.put(begun);
  return begun;
}

/** Delete a room's chat, with what was never sent. */
export async function forgetChat(tables: ChatTables, room: number): Promise<void> {
  let { messages = 0, bytes = 0 } = (await tables.outbox.get("outbox")) ?? {};
  await tables.messages.each(span(room), "byChange", (row, cursor) => {
    if (isOpen(row)) {
      messages -= 1;
      bytes -= size(row);
    }
    cursor.delete();
  });
  await tables.outbox.put({ messages, bytes }, "outbox");
  await tables.chats.delete(room);
}
