/**
 * The store of one client in IndexedDB: its tables, and how they are read and written.
 *
 * 1. What `write` returned for is durable: its transaction completed, with strict durability.
 * 2. Tabs share the store. Writing transactions are one after the other, and row ids rise in their
 *    order, so whoever reads from a row id on misses nothing.
 */

import { closed, CollabError, QuotaExceeded, unavailable } from "../errors.js";
import type { ChatRow, MessageRow } from "./chatRows.js";

/** What this browser profile is to a relay. `connection` rises with every attempt, for ever. */
export interface DeviceRow {
  readonly id: Uint8Array;
  readonly connection: number;
}

/** A room. `epoch` and the position are null until the relay has told them. */
export interface RoomRow {
  readonly id: number;
  readonly name: string;
  readonly epoch: Uint8Array | null;
  readonly generation: Uint8Array | null;
  readonly offset: number;
  /** Every update made here with a row id up to it is at the relay. */
  readonly ackedThrough: number;
}

/** One update of a room, in the order of arrival. */
export interface UpdateRow {
  readonly id: number;
  readonly room: number;
  readonly local: boolean;
  readonly data: Uint8Array;
}

/** A snapshot contains every update of the room with a row id up to `through`. */
export interface SnapshotRow {
  readonly room: number;
  readonly through: number;
  readonly data: Uint8Array;
}

/** The device's running time, and what a wall clock said then, in milliseconds. */
export interface ClockRow {
  readonly running: number;
  readonly wall: number;
}

/** What waits to be sent, of all rooms together. */
export interface OutboxRow {
  readonly messages: number;
  readonly bytes: number;
}

/** The tables, and what a row of each looks like. */
export interface Tables {
  device: DeviceRow;
  clock: ClockRow;
  outbox: OutboxRow;
  rooms: RoomRow;
  updates: UpdateRow;
  snapshots: SnapshotRow;
  chats: ChatRow;
  messages: MessageRow;
}

export type TableName = keyof Tables;

type Query = IDBValidKey | IDBKeyRange;

/** One table within a transaction. */
export class Table<Row> {
  constructor(private readonly store: IDBObjectStore) {}

  get(key: Query, index?: string): Promise<Row | undefined> {
    return answer(this.source(index).get(key));
  }

  /** Those that a range holds, in its order; `limit` 0: all. */
  all(query?: Query, index?: string, limit = 0): Promise<Row[]> {
    return answer(this.source(index).getAll(query, limit));
  }

  count(query: Query, index: string): Promise<number> {
    return answer(this.source(index).count(query));
  }

  /** Store a row; its key. */
  put(row: Row, key?: IDBValidKey): Promise<number> {
    return answer(this.store.put(row, key)) as Promise<number>;
  }

  /** Store a row that has no key yet; its key. */
  add(row: Omit<Row, "id" | "row">): Promise<number> {
    return answer(this.store.add(row)) as Promise<number>;
  }

  delete(key: Query): Promise<undefined> {
    return answer(this.store.delete(key));
  }

  /** Show one after the other to `visit`, until it returns false. */
  each(
    query: Query,
    index: string,
    visit: (row: Row, cursor: IDBCursor) => unknown,
    direction: IDBCursorDirection = "next",
  ): Promise<void> {
    const request = this.source(index).openCursor(query, direction);
    return new Promise((resolve, reject) => {
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const cursor = request.result;
        if (cursor === null || visit(cursor.value as Row, cursor) === false) resolve();
        else cursor.continue();
      };
    });
  }

  private source(index: string | undefined): IDBObjectStore | IDBIndex {
    return index === undefined ? this.store : this.store.index(index);
  }
}

/** The tables of one transaction. Only their answers may be waited for while it runs. */
export type Transaction<N extends TableName = TableName> = {
  readonly [T in N]: Table<Tables[T]>;
};

function answer<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

const VERSION = 2;

export class Database {
  private constructor(private readonly db: IDBDatabase) {
    // Another tab wants a newer version of the store: let it, or nobody gets on.
    db.onversionchange = () => db.close();
  }

  /** Open the store of this name, made if there is none. Throws `StorageUnavailable`. */
  static async open(name: string): Promise<Database> {
    if (!globalThis.indexedDB) throw unavailable("this browser has no IndexedDB");
    try {
      const request = indexedDB.open(name, VERSION);
      request.onupgradeneeded = (event) => {
        if (event.oldVersion < 1) makeTables(request.result);
        const messages = request.transaction?.objectStore("messages");
        if (event.oldVersion < 2) messages?.createIndex("byVerdict", ["room", "verdict", "place"]);
      };
      return new Database(await answer(request));
    } catch (error) {
      throw unavailable(String(error));
    }
  }

  /** Run `work` in one transaction that reads these tables. */
  read<N extends TableName, T>(
    names: readonly N[],
    work: (tables: Transaction<N>) => Promise<T>,
  ): Promise<T> {
    return this.run(names, "readonly", work);
  }

  /** Run `work` in one transaction; it is durable when this returns, or nothing of it is stored. */
  write<N extends TableName, T>(
    names: readonly N[],
    work: (tables: Transaction<N>) => Promise<T>,
  ): Promise<T> {
    return this.run(names, "readwrite", work);
  }

  private async run<N extends TableName, T>(
    names: readonly N[],
    mode: IDBTransactionMode,
    work: (tables: Transaction<N>) => Promise<T>,
  ): Promise<T> {
    try {
      const tx = this.db.transaction(names, mode, { durability: "strict" });
      const done = new Promise<void>((resolve, reject) => {
        tx.oncomplete = () => resolve();
        tx.onabort = () => reject(tx.error);
      });
      const tables = Object.fromEntries(names.map((name) => [name, new Table(tx.objectStore(name))]));
      const working = work(tables as unknown as Transaction<N>).catch((error: unknown) => {
        try {
          tx.abort();
        } catch {
          // it has ended by itself
        }
        throw error;
      });
      const [result, end] = await Promise.allSettled([working, done]);
      if (result.status === "rejected") {
        // The transaction's own error says why, where it ended under the work.
        throw result.reason instanceof CollabError ? result.reason : (tx.error ?? result.reason);
      }
      if (end.status === "rejected") throw end.reason;
      return result.value;
    } catch (error) {
      throw translated(error);
    }
  }

  close(): void {
    this.db.close();
  }
}

function makeTables(db: IDBDatabase): void {
  db.createObjectStore("device");
  const rooms = db.createObjectStore("rooms", { keyPath: "id", autoIncrement: true });
  rooms.createIndex("byName", "name", { unique: true });
  const updates = db.createObjectStore("updates", { keyPath: "id", autoIncrement: true });
  updates.createIndex("byRoom", ["room", "id"]);
  db.createObjectStore("snapshots", { keyPath: "room" });
  db.createObjectStore("clock");
  db.createObjectStore("outbox");
  db.createObjectStore("chats", { keyPath: "room" });
  const messages = db.createObjectStore("messages", { keyPath: "row", autoIncrement: true });
  messages.createIndex("byId", ["room", "id"]);
  messages.createIndex("byPlace", ["room", "place", "tie"]);
  messages.createIndex("byChange", ["room", "changed"]);
  // A row without the second field is in none of these.
  messages.createIndex("waiting", ["room", "waiting"]);
  messages.createIndex("bound", ["room", "slot"]);
  messages.createIndex("expiring", ["room", "expiring"]);
  messages.createIndex("others", ["room", "other"]);
  messages.createIndex("unseen", ["room", "unseen", "seq"]);
}

function translated(error: unknown): unknown {
  const { name } = error as Error;
  if (name === "QuotaExceededError") {
    return new QuotaExceeded(
      "The storage for this site is full. What was saved is on this device; what was edited since is " +
        "in memory, and tried again. Free space on this device.",
    );
  }
  if (name === "InvalidStateError") {
    return closed("store");
  }
  return error;
}
