/** What the one leading tab does for all: the connection, and every room that is open in any tab. */

import { randomBytes } from "./bytes.js";
import type { Chat } from "./chat.js";
import type { Clock } from "./clock.js";
import { Connection, type Shell, type Token } from "./connection.js";
import { again } from "./events.js";
import type { Replica } from "./replica.js";
import { RoomSync, type Leader as RoomLeader, type RoomStanding } from "./roomSync.js";
import type { Database } from "./storage/database.js";
import type { Hint } from "./tabs/hints.js";

/** What the leader needs of its tab. */
export interface Tab {
  readonly database: Database;
  readonly clock: Clock;
  /** A room in this tab, opened if need be; call `letGo` when it is not needed. */
  hold(name: string): Promise<{ readonly replica: Replica; readonly chat: Chat }>;
  letGo(name: string): void;
  readonly locks: { openRooms(): Promise<ReadonlySet<string>> };
  /** Tell the other tabs, and this one. */
  tell(hint: Hint): void;
}

export class Leader implements RoomLeader, Shell {
  readonly connection: Connection;
  /** Look which rooms are open in any tab, and join or leave what has changed. */
  readonly look = again(() =>
    this.lookNow().catch((error: unknown) => {
      if (!this.isOver) reportError(error);
    }),
  );
  readonly rooms = new Map<string, RoomSync>();
  private isTelling = false;
  private isOver = false;

  constructor(
    private readonly tab: Tab,
    url: string,
    token: Token,
  ) {
    this.connection = new Connection(url, token, this);
  }

  /** Begin: the rooms first, so that they are joined at once. */
  async start(): Promise<void> {
    this.changed(); // what the last leader said holds no more
    await this.look();
    if (!this.isOver) void this.connection.run();
  }

  end(): void {
    this.isOver = true;
    this.connection.close();
    for (const [name, room] of this.rooms) {
      room.end();
      this.tab.letGo(name);
    }
    this.rooms.clear();
  }


  private async lookNow(): Promise<void> {
    const open = await this.tab.locks.openRooms();
    for (const [name, room] of this.rooms) {
      await room.replica.catchUp().catch(() => undefined); // it may have been forgotten
      if (this.isOver) return;
      if (open.has(name) && !room.replica.closed) continue;
      this.rooms.delete(name);
      this.connection.link?.leave(room);
      room.end();
      this.tab.letGo(name);
    }
    for (const name of open) {
      if (this.rooms.has(name)) continue;
      const { replica, chat } = await this.tab.hold(name);
      if (this.isOver) return this.tab.letGo(name);
      const room = new RoomSync(name, replica, chat, this);
      this.rooms.set(name, room);
      this.connection.link?.join(room);
    }
    this.changed();
  }

  // For the rooms

  changed(): void {
    this.connection.levels();
    if (this.isTelling) return;
    this.isTelling = true;
    queueMicrotask(() => {
      this.isTelling = false;
      if (!this.isOver) this.tellStatus();
    });
  }

  tellStatus(): void {
    const rooms: Record<string, RoomStanding> = {};
    for (const [name, room] of this.rooms) rooms[name] = room.standing;
    const running = this.tab.clock.now();
    this.tab.tell({ type: "status", connection: this.connection.status, rooms, running });
  }

  tell(hint: Hint): void {
    this.tab.tell(hint);
  }

  // The device

  async greet(): Promise<{ device: Uint8Array; connection: number }> {
    return this.tab.database.write(["device"], async ({ device }) => {
      const known = await device.get("device");
      const id = known?.id ?? randomBytes(16);
      // Never below the clock: a store put back from yesterday would be fenced by its own past.
      const connection = Math.max((known?.connection ?? 0) + 1, Date.now());
      await device.put({ id, connection }, "device");
      return { device: id, connection };
    });
  }

  async renewDevice(): Promise<void> {
    await this.tab.database.write(["device"], ({ device }) => device.delete("device"));
  }
}
