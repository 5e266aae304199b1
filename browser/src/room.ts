/** One name's document, chat and presence in this tab. Get one from `client.room(name)`. */

import type * as Y from "yjs";
import type { Awareness } from "y-protocols/awareness";

import type { Chat } from "./chat.js";
import { Closed, closed, CollabError, OtherUser, QuotaExceeded, Rejected, RoomReplaced } from "./errors.js";
import { Observers, until, type Unsubscribe } from "./events.js";
import type { Broadcast } from "./live.js";
import type { Members } from "./members.js";
import { isTransient } from "./protocol/frames.js";
import type { Gaps } from "./protocol/gaps.js";
import type { Replica } from "./replica.js";
import type { RoomStanding } from "./roomSync.js";

/** How a room stands with this disk and with the relay. Times are milliseconds since 1970. */
export interface Status {
  readonly saved: boolean;
  readonly synced: boolean;
  readonly pendingUpdates: number;
  /** Messages that are queued or sending. */
  readonly pendingMessages: number;
  /** Messages that are not on this device. */
  readonly gaps: Gaps;
  readonly lastSaved: number | null;
  readonly refused: string | null;
  readonly error: CollabError | null;
}

export interface RoomOwner {
  standing(name: string): RoomStanding;
  closed(name: string): void;
}

export class Room {
  private readonly observers = new Observers<Status>();
  private isClosed = false;
  /** @internal */
  closing: Promise<void> | null = null;
  private shown = "";

  constructor(
    readonly name: string,
    private readonly replica: Replica,
    /** The messages. */
    readonly chat: Chat,
    private readonly owner: RoomOwner,
    private readonly release: () => void,
  ) {
    void this.watch();
  }

  /** The document; every binding made for Yjs works with it. */
  get doc(): Y.Doc {
    return this.replica.doc;
  }

  /** Who belongs to the room, and with which role. */
  get members(): Members {
    return this.chat.members;
  }

  /** Who is here, as y-protocols has it. */
  get awareness(): Awareness {
    return this.replica.awareness;
  }

  /**
   * Tell `payload`, which is what msgpack can carry in 32 KiB, to everybody else who is in the room now,
   * other tabs included, and keep nothing of it. There is no acknowledgement: of what a slow connection
   * holds up the oldest is not sent. Throws `OfflineError` at once if the room is not open at a relay,
   * `ReadOnly`, `BadMessage` or `TooLarge`: nothing was sent, and nothing is queued.
   */
  async broadcast(payload: unknown): Promise<void> {
    this.chat.live.broadcast(payload);
  }

  /** Call \`callback(broadcast)\` for everything that others broadcast. */
  onBroadcast(callback: (broadcast: Broadcast) => void): Unsubscribe {
    return this.chat.live.observers.add(callback);
  }

  /**
   * What a service of the application at the relay answers. `payload` may have 192 KiB. Nothing of a
   * call is stored or tried again. Throws `OfflineError` at once if the room is not open at a relay, and
   * if it is lost before the answer, or a `TimeoutError`: then it is not known whether it was carried
   * out; {@link Rejected} if it is refused: `unknown_service`, `forbidden`, `invalid`, `failed`,
   * `timeout`, `busy`, or a word of the application's own; `BadMessage` or `TooLarge`: nothing was sent.
   */
  async call(
    service: string,
    payload: unknown = null,
    { timeoutMs = 30_000 }: { timeoutMs?: number } = {},
  ): Promise<unknown> {
    return this.chat.live.call(service, payload, timeoutMs);
  }

  get status(): Status {
    const { replica, chat } = this;
    const standing = this.owner.standing(this.name);
    const saved = replica.isSaved;
    const { refusal } = standing;
    return {
      saved,
      synced:
        saved && standing.isLevel && replica.unacked.length === 0 && chat.pending === 0 &&
        // What the leader speaks of was read here too.
        replica.place >= standing.place && chat.row.version >= standing.version,
      pendingUpdates: replica.unacked.length,
      pendingMessages: chat.pending,
      gaps: chat.row.gaps,
      lastSaved: replica.lastSaved,
      refused: refusal === null ? null : `${refusal.code}: ${refusal.reason}`,
      error: replica.error ?? errorOf(standing),
    };
  }

  /** Call `callback(status)` whenever it changes. */
  observe(callback: (status: Status) => void): Unsubscribe {
    return this.observers.add(callback);
  }

  /** Resolves when everything edited until now is durable on this device. */
  async waitSaved(): Promise<void> {
    this.check();
    await this.replica.waitSaved();
  }

  /**
   * Resolves when all local work is committed at the relay, every message of ours is decided, and all
   * that it had at joining is here, or in a gap. Throws
   * a `TimeoutError`, {@link Rejected} or {@link RoomReplaced}.
   */
  async waitSynced({ timeoutMs }: { timeoutMs?: number } = {}): Promise<void> {
    this.check();
    const isSynced = (): boolean => {
      this.check();
      const { error, synced, refused } = this.status;
      const isFinal =
        error instanceof Closed ||
        error instanceof OtherUser ||
        error instanceof RoomReplaced ||
        (error instanceof Rejected && !error.retryable);
      if (isFinal) throw error;
      if (refused !== null) {
        throw new Rejected(
          `The relay refuses this room's updates for good: ${refused}. They are kept on this device.`,
          refused.split(":")[0] ?? "",
        );
      }
      return synced;
    };
    await until(this.replica.changes, isSynced, timeoutMs);
  }

  /** Save what waits, and let go of the document. Throws {@link Closed} if it cannot be saved. */
  close(): Promise<void> {
    return (this.closing ??= this.replica.waitSaved().finally(() => {
      this.isClosed = true;
      this.observers.clear();
      this.release();
      this.owner.closed(this.name);
    }));
  }

  private async watch(): Promise<void> {
    while (!this.isClosed && !this.replica.closed) {
      const status = this.status;
      const shown = JSON.stringify({ ...status, error: status.error?.message });
      if (shown !== this.shown) {
        this.shown = shown;
        this.observers.emit(status);
      }
      await this.replica.changes.next();
    }
  }

  private check(): void {
    if (this.isClosed || this.replica.closed) throw closed("room");
  }
}

/** The leader's error, as it was before it crossed from one tab to another. */
function errorOf({ error }: RoomStanding): CollabError | null {
  if (error === null) return null;
  const { name, message, code } = error;
  if (name === "Rejected") return new Rejected(message, code, isTransient(code));
  const kinds: Record<string, typeof CollabError> = { RoomReplaced, OtherUser, QuotaExceeded };
  return new (kinds[name] ?? CollabError)(message);
}
