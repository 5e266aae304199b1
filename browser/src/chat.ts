/**
 * A room's chat in one tab: what a program sends, reads and watches.
 *
 * What is sent is on this disk first and goes to the relay in its order, once. All that is shown was
 * read from the store, so it is on this disk, whichever tab or the relay it came from.
 */

import { encodeUtf8, hex, randomBytes } from "./bytes.js";
import type { Clock } from "./clock.js";
import {
  BadArgument,
  BadMessage,
  Closed,
  closed,
  HistoryReplaced,
  lost,
  offline,
  Rejected,
} from "./errors.js";
import { again, Changes, Observers, until, type Unsubscribe } from "./events.js";
import * as limits from "./limits.js";
import { Live } from "./live.js";
import { Members } from "./members.js";
import { Message } from "./message.js";
import { bounded, packed, UNTOUCHED } from "./payload.js";
import { unpackMap } from "./protocol/codec.js";
import { isTransient } from "./protocol/frames.js";
import { newlyLost, type Gap, type Gaps } from "./protocol/gaps.js";
import { AWAITED, NOT_ASKED } from "./protocol/messages.js";
import type { Answer } from "./protocol/requests.js";
import {
  CHAT_TABLES,
  ChatTransaction,
  otherUser,
  span,
  TAIL,
  type ChatRow,
  type MessageRow,
} from "./storage/chatRows.js";
import type { Database } from "./storage/database.js";
import * as acts from "./storage/messageActs.js";
import type { Wish } from "./tabs/hints.js";

/** What happens in a chat; all of it is on this disk by then. */
export type ChatEvent =
  /** There is a new message: it was written here, or it came. */
  | { readonly type: "MessageAdded"; readonly message: Message }
  /** A message changed its state, its number or its body. */
  | { readonly type: "MessageChanged"; readonly message: Message }
  /** The time of a message of ours was over before the relay took it: its body is back. */
  | { readonly type: "MessageExpired"; readonly message: Message }
  /** The relay refused a message of ours for good: its body is back. */
  | {
      readonly type: "MessageRejected";
      readonly message: Message;
      readonly code: string;
      readonly reason: string;
    }
  /** The application at the relay has confirmed a message that asked for it. */
  | { readonly type: "MessageConfirmed"; readonly message: Message }
  /** It has refused what a message asks for, which stays in the room. */
  | { readonly type: "MessageRefused"; readonly message: Message; readonly reason: string }
  /** What is not on this device is more, or less: `gaps` is all of it. */
  | { readonly type: "GapsChanged"; readonly gaps: Gaps }
  /** These never reached this device, and the relay keeps them no more. */
  | { readonly type: "MessagesLost"; readonly low: number; readonly high: number }
  | { readonly type: "UnreadChanged"; readonly unread: number }
  /** Others have received or read more. */
  | { readonly type: "ReceiptsChanged" }
  /** This store was copied or put back; what was undecided is sent again, and comes once. */
  | { readonly type: "StoreRolledBack"; readonly reason: string }
  /** The relay has another history: `resent` of ours go up again, `kept` are here only. */
  | {
      readonly type: "MessagesReplaced";
      readonly resent: number;
      readonly kept: number;
      readonly error: HistoryReplaced;
    };

/** Messages, oldest first; `gaps` are what is missing between and around them. */
export interface History {
  readonly messages: readonly Message[];
  readonly gaps: Gaps;
}

export interface SendOptions {
  /** A UUID of the caller's own, for retries: the same id and bytes give the message that is there. */
  readonly id?: string;
  /** What msgpack can carry, up to 8 KiB. */
  readonly meta?: Readonly<Record<string, unknown>>;
  /** How long it may wait; null: for ever; 0: only if it can go now. Seven days if not said. */
  readonly ttlMs?: number | null;
  /**
   * For acts that need the word of the application at the relay, an order or a payment: accepted, the
   * message is "confirming" until it was confirmed or refused: `await message.wait("confirmed")`.
   */
  readonly confirm?: boolean;
}

/** What a chat needs of its tab. */
export interface ChatTab {
  readonly clock: Clock;
  /** Something was stored of the chat. */
  moved(): void;
  /** Have the leader ask the relay; null if there will be no answer. */
  ask(wish: Wish): Promise<Answer | null>;
  /** Whether messages can go up now. */
  isOpen(): boolean;
  /** What this user may do in the room. */
  access(): number;
  /** Tell this to everybody else who is in the room now. */
  broadcast(data: Uint8Array): void;
}

type Place = readonly [place: number, tie: number];

export class Chat {
  /** @internal */
  readonly changes = new Changes();
  /** @internal Read what changed since the last look. */
  readonly catchUp = again(() => this.readOnce());
  /** @internal */
  isClosed = false;
  /** @internal How many messages are queued or sending. */
  pending = 0;
  /** @internal Who is told that something was read. */
  readonly watchers = new Observers<ChatRow>();
  /** @internal Get it from `room.members`. */
  readonly members = new Members(this);
  /** @internal */
  readonly live = new Live(this);
  private readonly observers = new Observers<ChatEvent>();
  private readonly held = new Map<number, WeakRef<Message>>();

  /** @internal Get it from `room.chat`. */
  constructor(
    private readonly db: Database,
    /** @internal As it was read last. */
    public row: ChatRow,
    /** @internal */
    readonly tab: ChatTab,
  ) {}

  /** How many messages of others the user has not read; counted up to 1,000. */
  get unread(): number {
    return this.row.unread;
  }

  /** Call `callback(event)` for everything that happens here. */
  observe(callback: (event: ChatEvent) => void): Unsubscribe {
    return this.observers.add(callback);
  }

  /**
   * Queue a message; it is on this disk when this resolves, and goes up when it can. Throws
   * `TooLarge` (body above 32 KiB, meta above 8), {@link BadMessage}, {@link IdConflict},
   * {@link OutboxFull}, {@link QuotaExceeded}, `OfflineError` (with `ttlMs: 0`), and, as all that
   * changes something here, {@link OtherUser}. Then nothing was stored and nothing will be sent.
   */
  async send(body: string, options: SendOptions = {}): Promise<Message> {
    const { ttlMs = limits.DEFAULT_TTL_MS } = options;
    this.check();
    const draft: acts.Draft = {
      id: idOf(options.id),
      body: checkedBody(body),
      meta: packedMeta(options.meta),
      sentAt: Date.now(),
      ttlMs: checkedTtl(ttlMs),
      verdict: options.confirm ? AWAITED : NOT_ASKED,
    };
    if (ttlMs === 0 && !this.tab.isOpen()) throw offline("what is to go now or never");
    return this.handle(await this.act((work) => acts.write(work, draft)));
  }

  /** Change the body of a message that was not sent yet. Throws {@link WrongState} after that. */
  async edit(message: Message, body: string): Promise<void> {
    checkedBody(body);
    await this.act((work) => acts.edit(work, message.row.row, body));
  }

  /**
   * Take a message back: at once if it waits here; else its place in the lane is given up. Then it
   * becomes "cancelled", or "accepted" if the relay had it already: wait for it. Throws
   * {@link WrongState} if it is decided.
   */
  async cancel(message: Message): Promise<void> {
    await this.act((work) => acts.cancel(work, message.row.row));
  }

  /** Queue a stalled message again, behind all others; its time to live begins anew. */
  async retry(message: Message): Promise<void> {
    await this.act((work) => acts.retry(work, message.row.row));
  }

  /** The user has read up to here, or all there is. It never goes back. */
  async markRead(upto?: number | Message): Promise<void> {
    const seq = upto === undefined ? null : placeOf(upto)[0];
    await this.act((work) => acts.markRead(work, seq));
  }

  /**
   * Messages, oldest first: the newest `limit`, or those next to `before` or `after`, which are
   * messages or their numbers, and not in the result. What is not on this device is fetched when there
   * is a connection; `gaps` says what is still missing. Messages of ours that wait come last.
   */
  async history(
    options: { limit?: number; before?: number | Message; after?: number | Message } = {},
  ): Promise<History> {
    const { limit = 100, before, after } = options;
    this.check();
    if (!Number.isSafeInteger(limit) || limit < 1) {
      throw new BadArgument("limit is a number from 1.");
    }
    const low: Place = after === undefined ? [0, -Infinity] : placeOf(after);
    const high: Place = before === undefined ? [TAIL, Infinity] : placeOf(before, -Infinity);
    const newest = after === undefined || before !== undefined;
    for (let goesOn = true; ; ) {
      const { rows, gaps } = await this.between(low, high, limit, newest);
      const reach = rows.length === limit ? (newest ? rows[0] : rows.at(-1))?.place : undefined;
      const missing = missingBetween(gaps, low, high, reach, newest);
      const wanted = missing.filter((gap) => !gap.lost).at(newest ? -1 : 0);
      if (wanted === undefined || !goesOn) {
        this.check();
        return { messages: rows.map((row) => this.handle(row)), gaps: missing };
      }
      const answer = await this.tab.ask({ kind: "fetch", low: wanted.low, high: wanted.high, newest });
      goesOn = answer !== null;
    }
  }

  // For the room

  /** @internal Run one transaction on this chat, and show what came of it. */
  async change<T>(work: (at: ChatTransaction) => Promise<T>): Promise<{ chat: ChatRow; result: T }> {
    const stored = await this.db.write(CHAT_TABLES, async (tables) => {
      const begun = await ChatTransaction.begin(tables, this.row.room, this.tab.clock);
      const result = await work(begun);
      await begun.end();
      return { chat: begun.chat, result };
    });
    if (stored.chat.version > this.row.version) {
      this.tab.moved();
      await this.catchUp().catch((error: unknown) => {
        if (!(error instanceof Closed)) reportError(error); // stored all the same; the next look shows it
      });
    }
    return stored;
  }

  /** @internal Whether there are messages: sent or not, here or known to be at the relay. */
  get hasContent(): boolean {
    return this.row.seq > 0 || this.pending > 0 || this.row.gaps.length > 0;
  }

  /**
   * @internal What the relay answers to what needs a connection. Throws `OfflineError` without one, or
   * if it is lost meanwhile; {@link Rejected}; a `TimeoutError`.
   */
  async demand(what: string, wish: Wish, timeoutMs?: number): Promise<unknown> {
    if (!this.tab.isOpen()) throw offline(what);
    let answer: Answer | null | undefined;
    void this.tab.ask(wish).then((given) => {
      answer = given;
      this.changes.wake();
    });
    await until(this.changes, () => answer !== undefined, timeoutMs);
    if (!answer) throw lost(what, this.isClosed);
    const { code, reason, value } = answer;
    if (code === "done") return value;
    const isCut = code === "timeout";
    const howFar = isCut || code === "failed" ? " How far it got is not known." : "";
    throw new Rejected(
      `The relay refused ${what}: ${reason || code}.${howFar}`,
      code,
      isCut || isTransient(code),
    );
  }

  /** @internal */
  end(): void {
    this.isClosed = true;
    this.observers.clear();
    this.watchers.clear();
    this.members.end();
    this.live.observers.clear();
    this.changes.wake();
  }

  private async act<T>(work: (at: ChatTransaction) => Promise<T>): Promise<T> {
    this.check();
    const act = (at: ChatTransaction): Promise<T> => {
      const error = otherUser(at.chat);
      if (error) throw error;
      return work(at);
    };
    return (await this.change(act)).result;
  }

  private async readOnce(): Promise<void> {
    const before = this.row;
    const { room, version } = before;
    const read = await this.db.read(["chats", "messages"], async ({ chats, messages }) => {
      const chat = await chats.get(room);
      if (chat === undefined || chat.version <= version) return null;
      const isFirst = version < 0; // all of it may be much, and nobody holds a message yet
      const rows = isFirst ? [] : await messages.all(span(room, version + 1), "byChange");
      const bound = await messages.all(span(room), "bound");
      const waiting = await messages.count(span(room), "waiting");
      return { chat, rows, bound, waiting };
    });
    if (read === null || this.isClosed) return;
    const { chat } = read;
    this.row = chat;
    this.pending = read.waiting + read.bound.filter((row) => row.state === "sending").length;
    this.show(before, chat, read.rows);
    this.changes.wake();
    this.watchers.emit(chat);
  }

  /** @internal Before the first look: what waits is counted by it. */
  async begin(): Promise<void> {
    const { row } = this;
    this.row = { ...row, version: -1 };
    await this.catchUp();
  }

  private show(before: ChatRow, now: ChatRow, rows: readonly MessageRow[]): void {
    const emit = (event: ChatEvent): void => this.observers.emit(event);
    const since = before.version;
    if (since < 0) return; // the first look
    if (now.rollbacks > before.rollbacks) {
      const reason =
        "This store was copied or put back. What was not decided is sent again, under its old ids.";
      emit({ type: "StoreRolledBack", reason });
    }
    if (!isAlike(now.receipts, before.receipts)) emit({ type: "ReceiptsChanged" });
    for (const row of rows) this.showMessage(row, since);
    if (!isAlike(now.members, before.members)) this.members.show(before.members, now.members);
    if (!isAlike(now.gaps, before.gaps)) emit({ type: "GapsChanged", gaps: now.gaps });
    for (const { low, high } of newlyLost(now.gaps, before.gaps)) {
      emit({ type: "MessagesLost", low, high });
    }
    if (now.replaced.at > since) {
      const resent = now.replaced.resent - before.replaced.resent;
      const kept = now.replaced.kept - before.replaced.kept;
      const error = new HistoryReplaced(
        `The relay's chat of this room has another history. ${resent} messages of ours are sent again. ` +
          `${kept} others are kept on this device alone, and marked.`,
      );
      emit({ type: "MessagesReplaced", resent, kept, error });
    }
    if (now.unread !== before.unread) emit({ type: "UnreadChanged", unread: now.unread });
  }

  private showMessage(row: MessageRow, since: number): void {
    const message = this.handle(row);
    const twin = this.held.get(row.twin as number)?.deref();
    if (twin) twin.row = row;
    const isNew = row.added > since;
    this.observers.emit({ type: isNew ? "MessageAdded" : "MessageChanged", message });
    const { code, reason, decided = 0 } = row;
    if (decided > since) {
      const isRefused = message.verdict === "refused";
      const type = isRefused ? "MessageRefused" : "MessageConfirmed";
      this.observers.emit({ type, message, reason: message.verdictReason });
    }
    if (row.ended <= since) return;
    if (row.state === "expired") this.observers.emit({ type: "MessageExpired", message });
    if (row.state === "rejected") {
      this.observers.emit({ type: "MessageRejected", message, code, reason });
    }
  }

  /** The one object that stands for a message, which is now as `row` says. */
  private handle(row: MessageRow): Message {
    let message = this.held.get(row.row)?.deref();
    if (message === undefined) {
      message = new Message(row, this);
      this.held.set(row.row, new WeakRef(message));
      if (this.held.size % 1_000 === 0) this.sweep();
    } else if (row.changed > message.row.changed) message.row = row;
    return message;
  }

  private sweep(): void {
    for (const [row, held] of this.held) if (held.deref() === undefined) this.held.delete(row);
  }

  /** At most `limit` messages between two places, oldest first, from one of the ends. */
  private async between(
    low: Place,
    high: Place,
    limit: number,
    newest: boolean,
  ): Promise<{ rows: MessageRow[]; gaps: Gaps }> {
    const { room } = this.row;
    return this.db.read(["chats", "messages"], async (tables) => {
      const gaps = (await tables.chats.get(room))?.gaps ?? [];
      const range = IDBKeyRange.bound([room, ...low], [room, ...high], true, true);
      const rows: MessageRow[] = [];
      const take = (row: MessageRow): boolean => rows.push(row) < limit;
      await tables.messages.each(range, "byPlace", take, newest ? "prev" : "next");
      return { rows: newest ? rows.reverse() : rows, gaps };
    });
  }

  /** @internal */
  check(): void {
    if (this.isClosed) throw closed("room");
  }
}

/** The gaps between two places, as far as what is here reaches from one of the ends. */
function missingBetween(
  gaps: Gaps,
  low: Place,
  high: Place,
  reach: number | undefined,
  newest: boolean,
): Gaps {
  let first = low[0] + 1;
  let last = high[0] - (high[1] <= 0 ? 1 : 0);
  if (reach !== undefined && newest) first = Math.max(first, reach);
  else if (reach !== undefined) last = Math.min(last, reach);
  const cut = (gap: Gap): Gap => ({
    low: Math.max(gap.low, first),
    high: Math.min(gap.high, last),
    lost: gap.lost,
  });
  return gaps.map(cut).filter((gap) => gap.low <= gap.high);
}

/** Where a message stands; `tie`: where among those at its number a bare number stands. */
function placeOf(of: number | Message, tie = 0): Place {
  if (of instanceof Message) return [of.row.place, of.row.tie];
  if (Number.isSafeInteger(of) && of >= 0) return [of, tie];
  throw new BadArgument("A message's number is a number from 0.");
}

/** @internal Whether two plain values are written alike. */
export const isAlike = (one: unknown, other: unknown): boolean =>
  JSON.stringify(one) === JSON.stringify(other);

function checkedBody(body: string): string {
  if (typeof body !== "string" || !body.isWellFormed()) {
    throw new BadMessage(`A message's body is text. ${UNTOUCHED}`);
  }
  bounded(encodeUtf8(body), limits.MAX_BODY_BYTES, "body");
  return body;
}

/** A UUIDv7 (RFC 9562), or the caller's own. Nothing is derived from its time or order. */
function idOf(id: string | undefined): string {
  if (id === undefined) {
    const digits = Date.now().toString(16).padStart(12, "0") + hex(randomBytes(10));
    return digits.replace(/(.{8})(.{4}).(...).(...)/, "$1-$2-7$3-8$4-"); // with version and variant
  }
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) return id.toLowerCase();
  throw new BadMessage(`A message's id is a UUID. ${UNTOUCHED}`);
}

function packedMeta(meta: Readonly<Record<string, unknown>> = {}): Uint8Array {
  const bytes = packed(meta, limits.MAX_META_BYTES, "meta");
  if (unpackMap(bytes) === null) throw new BadMessage(`A meta is a plain object. ${UNTOUCHED}`);
  return bytes.length > 1 ? bytes : new Uint8Array();
}

function checkedTtl(ttlMs: number | null): number | null {
  if (ttlMs === null) return null;
  if (typeof ttlMs === "number" && ttlMs >= 0 && ttlMs <= limits.MAX_TTL_MS) {
    return Math.ceil(ttlMs) || limits.LIVE_TTL_MS;
  }
  throw new BadMessage(
    `ttlMs is 0 to ten years, or null: for ever. ${UNTOUCHED}`,
  );
}
