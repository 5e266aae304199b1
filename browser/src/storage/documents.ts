/**
 * The updates, snapshots and positions of a device's rooms.
 *
 * Invariants
 * 1. Remote updates and the position that covers them are one transaction: a stored position never
 *    covers an update that is not stored.
 * 2. Updates are kept as they came and read in the order in which they came.
 * 3. What was made here and is not acked stays as its row, until `forget`.
 * 4. What was acked stays acked, and a snapshot is never replaced by an older one.
 */

import { forgotten } from "../errors.js";
import type { Position, Row } from "../protocol/documentSync.js";
import { NOWHERE } from "../protocol/documentSync.js";
import { beginChat, CHAT_TABLES, forgetChat, span, type ChatRow } from "./chatRows.js";
import type { Database, RoomRow, SnapshotRow } from "./database.js";

/** What is to be stored of one room, all or nothing, in this order. */
export interface Batch {
  readonly room: number;
  readonly rows: readonly { readonly local: boolean; readonly data: Uint8Array }[];
  readonly position?: Position | null;
  readonly ackedThrough?: number | null;
  /** Undefined leaves it as it is; null forgets it. */
  readonly epoch?: Uint8Array | null;
}

/** What is stored of a room beyond a row id. */
export interface Stored {
  readonly room: RoomRow | undefined;
  /** A snapshot, if it contains rows beyond the asked id. */
  readonly snapshot: SnapshotRow | null;
  readonly updates: readonly { id: number; local: boolean; data: Uint8Array }[];
  /** Rows made here that are not acked, oldest first, whatever the asked id. */
  readonly unacked: readonly Row[];
}

export class Documents {
  constructor(private readonly db: Database) {}

  /** The room of this name and its chat, made if there are none. */
  async create(name: string): Promise<{ room: RoomRow; chat: ChatRow }> {
    return this.db.write(["rooms", "chats"], async (tables) => {
      const { rooms } = tables;
      let room = await rooms.get(name, "byName");
      if (room === undefined) {
        const row = { name, epoch: null, generation: null, offset: 0, ackedThrough: 0 };
        room = { ...row, id: await rooms.add(row) };
      }
      return { room, chat: await beginChat(tables, room.id) };
    });
  }

  /** All rooms of this device. */
  async rooms(): Promise<RoomRow[]> {
    return this.db.read(["rooms"], (tables) => tables.rooms.all());
  }

  /** What is stored of a room after the row `after`; 0: all of it. */
  async load(room: number, after: number): Promise<Stored> {
    return this.db.read(["rooms", "updates", "snapshots"], async (tables) => {
      const row = await tables.rooms.get(room);
      const found = await tables.snapshots.get(room);
      const snapshot = found !== undefined && found.through > after ? found : null;
      const from = Math.max(after, snapshot?.through ?? 0);
      const acked = row?.ackedThrough ?? 0;
      const range = IDBKeyRange.bound([room, Math.min(from, acked)], [room, Infinity], true);
      const rows = await tables.updates.all(range, "byRoom");
      return {
        room: row,
        snapshot,
        updates: rows.filter((update) => update.id > from),
        unacked: rows.filter((update) => update.local && update.id > acked),
      };
    });
  }

  /** Store a batch. Throws {@link Closed} if the room was forgotten meanwhile: nothing was stored. */
  async append(batch: Batch): Promise<void> {
    await this.db.write(["rooms", "updates"], async ({ rooms, updates }) => {
      const row = await rooms.get(batch.room);
      if (row === undefined) throw forgotten();
      const { position, epoch = row.epoch, ackedThrough } = batch;
      const acked = Math.max(row.ackedThrough, ackedThrough ?? 0);
      const place = position && { ...position, ...(position === NOWHERE && { generation: null }) };
      await rooms.put({ ...row, epoch, ackedThrough: acked, ...place });
      for (const { local, data } of batch.rows) await updates.add({ room: row.id, local, data });
    });
  }

  /**
   * Put `snapshot`, which contains every update of the room up to `through`, in their place. Rows
   * that are not acked stay.
   */
  async compact(room: number, snapshot: Uint8Array, through: number): Promise<void> {
    await this.db.write(["rooms", "updates", "snapshots"], async (tables) => {
      const row = await tables.rooms.get(room);
      const known = await tables.snapshots.get(room);
      if (row === undefined || (known !== undefined && known.through >= through)) return;
      await tables.snapshots.put({ room, through, data: snapshot });
      await tables.updates.each(span(room, 0, through), "byRoom", (update, cursor) => {
        if (!update.local || update.id <= row.ackedThrough) cursor.delete();
      });
    });
  }

  /** Delete a room with all that is stored of it, what was never sent included. */
  async forget(room: number): Promise<void> {
    await this.db.write(["rooms", "updates", "snapshots", ...CHAT_TABLES], async (tables) => {
      await tables.rooms.delete(room);
      await tables.snapshots.delete(room);
      await tables.updates.each(span(room), "byRoom", (_, cursor) => cursor.delete());
      await forgetChat(tables, room);
    });
  }
}
