/**
 * One room's document in one tab: it is saved as it changes, and reads what other tabs saved.
 *
 * Invariants
 * 1. What goes to the store goes in the order in which it came about, and a remote update together
 *    with the position that covers it.
 * 2. The replica has every row up to `place`. What other tabs made it has only from the store.
 * 3. While the store refuses, edits stay in memory and are tried again.
 * 4. What was edited here counts as saved only when it was read back, so that it counts as not acked
 *    by then: at no moment is it neither.
 */

import * as Y from "yjs";
import { Awareness } from "y-protocols/awareness";

import { Closed, closed, type CollabError } from "./errors.js";
import { again, Changes, until } from "./events.js";
import * as limits from "./limits.js";
import type { Position, Row } from "./protocol/documentSync.js";
import type { RoomRow } from "./storage/database.js";
import type { Batch, Documents } from "./storage/documents.js";

const STORED = Symbol();
const REMOTE = Symbol();
const RETRY_BASE_MS = 100;
const RETRY_CAP_MS = 2_000;

interface Waiting {
  readonly row: { readonly local: boolean; readonly data: Uint8Array } | null;
  readonly position?: Position | null;
  readonly ackedThrough?: number | null;
  readonly epoch?: Uint8Array | null;
}

/** What an update did to the replica. `isEarly`: some of it waits for what it builds on. */
export interface Applied {
  readonly isNew: boolean;
  readonly isEarly: boolean;
}

export class Replica {
  readonly doc = new Y.Doc();
  readonly awareness = new Awareness(this.doc);
  readonly changes = new Changes();
  /** Read what the store has beyond `place`. */
  readonly catchUp = again(() => this.readOnce());
  /** The highest row of the store that this replica has. */
  place = 0;
  /** Rows made on this device that the relay has not acked, as far as they were read. */
  unacked: Row[] = [];
  error: CollabError | null = null;
  closed = false;
  lastSaved: number | null = null;
  /**
   * Called with local rows of any tab once they are saved and read here, in their order, and with none
   * when all that this tab had to save is.
   */
  onRows: (rows: readonly Row[]) => void = () => undefined;
  /** Whether this tab puts snapshots in the place of rows: the leader's does. */
  compacts = false;
  /** Called when this tab has saved something. */
  onMoved: () => void = () => undefined;
  private readonly queue: Waiting[] = [];
  private queued = 0;
  private saved = 0;
  private saving = false;
  private changed = false;
  private snapshotBytes = 0;
  private tailBytes = 0;

  constructor(
    /** As it was read last. */
    public row: RoomRow,
    private readonly documents: Documents,
  ) {
    this.doc.on("update", (update: Uint8Array, origin: unknown) => {
      if (origin === STORED) return;
      if (origin === REMOTE) this.changed = true;
      else this.put({ row: { local: true, data: update } });
    });
  }

  /** Whether all that was edited here is saved. */
  get isSaved(): boolean {
    return this.saved === this.queued;
  }

  /** Whether the room has nothing, saved or not. */
  get isEmpty(): boolean {
    return this.unacked.length === 0 && this.isSaved && this.doc.store.clients.size === 0;
  }

  /** Return when all that was edited here until now is saved. Throws {@link Closed} if it cannot be. */
  async waitSaved(): Promise<void> {
    const goal = this.queued;
    await until(this.changes, () => this.saved >= goal || this.closed || this.error instanceof Closed);
    if (this.saved < goal) throw closed("room");
  }

  // What the leader does

  /** Give an update from the relay to the document; `store` it after that. */
  apply(update: Uint8Array): Applied {
    this.changed = false;
    Y.applyUpdate(this.doc, update, REMOTE);
    return { isNew: this.changed || this.isWaiting, isEarly: this.isWaiting };
  }

  /** Store something of the room's, behind all that waits. */
  store(what: Omit<Batch, "room" | "rows"> & { readonly update?: Uint8Array | null }): void {
    const { update = null, ...rest } = what;
    this.put({ row: update === null ? null : { local: false, data: update }, ...rest });
  }

  /** All that a state vector lacks, and the row up to which everything is in it, once it is saved. */
  async difference(stateVector: Uint8Array): Promise<{ update: Uint8Array; through: number }> {
    await this.waitSaved();
    const through = this.place;
    const update = Y.encodeStateAsUpdate(this.doc, stateVector);
    await this.waitSaved();
    return { update, through };
  }

  /** Put a snapshot in the place of the rows that are acked, if that is worth it. */
  private async compact(): Promise<void> {
    const acked = this.tailBytes - sizeOf(this.unacked);
    const isWorthIt = acked > Math.max(this.snapshotBytes, limits.COMPACT_FROM_BYTES);
    if (!isWorthIt || !this.isSaved || this.isWaiting || this.closed) return;
    const snapshot = Y.encodeStateAsUpdate(this.doc);
    await this.documents.compact(this.row.id, snapshot, this.place);
    this.tailBytes = sizeOf(this.unacked);
    this.snapshotBytes = snapshot.length;
  }

  /** Whether something in the document waits for what it builds on. */
  private get isWaiting(): boolean {
    return this.doc.store.pendingStructs !== null || this.doc.store.pendingDs !== null;
  }

  // Reading

  private async readOnce(): Promise<void> {
    const before = this.place;
    const stored = await this.documents.load(this.row.id, before);
    if (this.closed) return;
    if (stored.room === undefined) {
      this.end(); // it was forgotten
      return;
    }
    this.row = stored.room;
    if (stored.snapshot !== null) {
      this.snapshotBytes = stored.snapshot.data.length;
      this.place = stored.snapshot.through;
      Y.applyUpdate(this.doc, stored.snapshot.data, STORED);
    }
    const last = stored.updates.at(-1);
    if (last !== undefined) {
      this.place = last.id;
      this.tailBytes += sizeOf(stored.updates);
      Y.applyUpdate(this.doc, Y.mergeUpdates(stored.updates.map((update) => update.data)), STORED);
    }
    this.unacked = [...stored.unacked];
    const rows = stored.unacked.filter((row) => row.id > before);
    if (rows.length > 0) this.onRows(rows);
    this.changes.wake();
  }

  // Writing

  private put(what: Waiting): void {
    if (this.closed) return;
    this.queue.push(what);
    this.queued += 1;
    this.changes.wake();
    if (!this.saving) void this.saveAll();
  }

  private async saveAll(): Promise<void> {
    this.saving = true;
    // What is edited in one turn of the event loop is one row.
    await Promise.resolve();
    for (let failures = 0, unread = 0; !this.isSaved; ) {
      try {
        const batch = [...this.queue];
        await this.documents.append(batchOf(this.row.id, batch));
        unread += this.queue.splice(0, batch.length).length;
        this.onMoved();
        await this.catchUp();
        this.saved += unread;
        this.lastSaved = Date.now();
        this.error = null;
        failures = unread = 0;
        this.onRows([]);
        this.changes.wake();
      } catch (error) {
        this.error = error as CollabError;
        this.changes.wake();
        if (error instanceof Closed) break;
        const pause = Math.min(RETRY_CAP_MS, RETRY_BASE_MS * 2 ** failures);
        failures += 1;
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
    this.saving = false;
    if (this.compacts) await this.compact().catch(() => undefined); // the next one tries again
  }

  /** Let go of the document. What is queued is still saved. */
  end(): void {
    this.closed = true;
    this.awareness.destroy();
    this.doc.destroy();
    this.changes.wake();
  }
}

function sizeOf(rows: readonly { readonly data: Uint8Array }[]): number {
  return rows.reduce((sum, { data }) => sum + data.length, 0);
}

/** One transaction: runs of local updates as one row each, all else as it came. */
function batchOf(room: number, waiting: readonly Waiting[]): Batch {
  const rows: { local: boolean; data: Uint8Array }[] = [];
  let run: Uint8Array[] = [];
  const endRun = (): void => {
    if (run.length > 0) rows.push({ local: true, data: Y.mergeUpdates(run) });
    run = [];
  };
  let rest: Pick<Batch, "position" | "ackedThrough" | "epoch"> = {};
  for (const { row, position, ackedThrough, epoch } of waiting) {
    if (row?.local === true) run.push(row.data);
    else if (row !== null) {
      endRun();
      rows.push(row);
    }
    if (position) rest = { ...rest, position };
    if (ackedThrough) rest = { ...rest, ackedThrough };
    if (epoch !== undefined) rest = { ...rest, epoch };
  }
  endRun();
  return { room, rows, ...rest };
}
