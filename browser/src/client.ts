/** One tab's view of one store: opens rooms, and leads the other tabs if it is the first. */

import {
  applyAwarenessUpdate,
  encodeAwarenessUpdate,
  removeAwarenessStates,
} from "y-protocols/awareness";

import { capabilities, type Capabilities } from "./capabilities.js";
import { Chat, isAlike } from "./chat.js";
import { Clock } from "./clock.js";
import { NOT_CONNECTED, type ConnectionStatus, type Token } from "./connection.js";
import { BadArgument, closed } from "./errors.js";
import { Observers, type Unsubscribe } from "./events.js";
import { Leader } from "./leader.js";
import * as limits from "./limits.js";
import { isRoomName } from "./protocol/frames.js";
import type { Answer } from "./protocol/requests.js";
import { Replica } from "./replica.js";
import { Room } from "./room.js";
import { NOT_JOINED, type RoomStanding } from "./roomSync.js";
import { Database } from "./storage/database.js";
import { Documents } from "./storage/documents.js";
import { Hints, type Act, type Hint, type Wish } from "./tabs/hints.js";
import { Locks } from "./tabs/locks.js";

const LOOK_EVERY_MS = 2_000;
const OTHER_TAB = Symbol();

export interface Options {
  /** Names the store of this device; one name, one store, shared by all tabs of this origin. */
  readonly name: string;
  /** The relay's address, `ws://…` or `wss://…`; without one everything stays on this device. */
  readonly relay?: string;
  readonly token?: Token;
}

/** What this browser promised about the store. `persistent`: not to be evicted under pressure. */
export interface Storage {
  readonly persistent: boolean;
}

/** Open the store. Throws {@link StorageUnavailable} where nothing can be kept. */
export async function open(options: Options): Promise<Client> {
  if (!options.name) {
    throw new BadArgument("A store needs a name. Nothing was opened.");
  }
  const relay = options.relay?.replace(/\/+$/, "");
  if (relay !== undefined && !/^wss?:\/\/[^/]/.test(relay)) {
    throw new BadArgument("A relay's address begins with ws:// or wss://. Nothing was opened.");
  }
  const store = `collab:${options.name}`;
  const locks = new Locks(store);
  const database = await Database.open(store);
  const persistent = (await navigator.storage?.persist?.().catch(() => false)) ?? false;
  return new Client(store, locks, database, { persistent }, relay, options.token ?? null);
}

/** A room in this tab, and how many need it: the program's room, and the leader. */
interface Held {
  readonly replica: Replica;
  readonly chat: Chat;
  users: number;
}

export class Client {
  private readonly documents: Documents;
  private readonly hints: Hints;
  /** @internal */
  readonly clock = new Clock();
  private readonly asks = new Map<
    string,
    { readonly room: string; readonly resolve: (answer: Answer | null) => void }
  >();
  private readonly observers = new Observers<ConnectionStatus>();
  private readonly opening = new Map<string, Promise<Held>>();
  private readonly held = new Map<string, Held>(); // also while it still reads from the store
  private readonly rooms = new Map<string, Promise<Room>>();
  private readonly timer: ReturnType<typeof setInterval>;
  private readonly ended = new AbortController();
  private standings: Readonly<Record<string, RoomStanding>> = {};
  private told: ConnectionStatus = { ...NOT_CONNECTED, since: Date.now() };
  private leader: Leader | null = null;
  private isOffline = false;
  private isClosed = false;

  /** @internal Use {@link open}. */
  constructor(
    store: string,
    /** @internal */
    readonly locks: Locks,
    /** @internal */
    readonly database: Database,
    readonly storage: Storage,
    private readonly relay: string | undefined,
    private readonly token: Token,
  ) {
    this.documents = new Documents(database);
    this.hints = new Hints(store, (hint) => this.take(hint));
    this.hints.post({ type: "ask" });
    this.timer = setInterval(() => this.look(), LOOK_EVERY_MS);
    const { signal } = this.ended;
    addEventListener("pagehide", () => this.sayGoodbye(), { signal });
    addEventListener("online", () => this.look(), { signal });
    addEventListener("focus", () => this.look(), { signal });
    if (relay !== undefined) void locks.lead(() => this.lead(relay)).catch(reportError);
  }

  /** How the one connection of all tabs stands. */
  get connection(): ConnectionStatus {
    return this.told;
  }

  /** Whether this tab has the connection, for all of them. */
  get isLeader(): boolean {
    return this.leader !== null;
  }

  /** Call `callback(status)` whenever the connection's state changes. */
  observe(callback: (status: ConnectionStatus) => void): Unsubscribe {
    return this.observers.add(callback);
  }

  /** What works in the state in which the connection is now, and why: documents, messages, … */
  capabilities(): Capabilities {
    return capabilities(this.relay === undefined ? null : this.told);
  }

  /** Open a room, from this device at once; no network is needed. */
  async room(name: string): Promise<Room> {
    this.check();
    if (!isRoomName(name)) {
      throw new BadArgument(
        "A room's name is 1 to 255 bytes of text without control characters. Nothing was opened.",
      );
    }
    const room = await once(this.rooms, name, () => this.openRoom(name));
    if (!room.closing) return room;
    await room.closing.catch(() => undefined);
    return this.room(name);
  }

  /** The names of all rooms of this device. */
  async roomNames(): Promise<string[]> {
    this.check();
    return (await this.documents.rooms()).map((row) => row.name);
  }

  /**
   * Delete this device's copy of a room, with what was never sent. It must be open in no tab:
   * otherwise this throws {@link BadArgument}, and nothing is deleted.
   */
  async forget(name: string): Promise<void> {
    this.check();
    await this.leader?.look();
    const isClosed = await this.locks.closed(name, async () => {
      const row = (await this.documents.rooms()).find((one) => one.name === name);
      if (row !== undefined) await this.documents.forget(row.id);
    });
    if (!isClosed) {
      throw new BadArgument(`The room "${name}" is open. Nothing was deleted. Close it first.`);
    }
  }

  /** Try to connect now. */
  connect(): void {
    this.act("connect");
  }

  /** Stay away from the network, in all tabs, until `goOnline`. Everything goes on here. */
  goOffline(): void {
    this.act("suspend");
  }

  goOnline(): void {
    this.act("resume");
  }

  /** Save everything and let go. Throws {@link Closed} if that cannot be saved any more. */
  async close(): Promise<void> {
    if (this.isClosed) return;
    const closings = [...this.rooms.values()].map((opening) =>
      opening.then((room) => room.close(), () => undefined),
    );
    await Promise.allSettled(closings);
    this.isClosed = true;
    this.ended.abort();
    clearInterval(this.timer);
    this.leader?.end();
    this.leader = null;
    this.locks.close();
    this.hints.close();
    this.observers.clear();
    this.database.close();
    await Promise.all(closings); // throws what could not be saved
  }

  // Rooms

  private async openRoom(name: string): Promise<Room> {
    const release = await this.locks.open(name); // first, so that nobody forgets it under our hands
    const fail = (error: unknown): never => {
      release();
      throw error;
    };
    const { replica, chat } = await this.hold(name).catch(fail);
    const { awareness } = replica;
    if (!awareness.getLocalState()) awareness.setLocalState({}); // the room was closed here before
    const room = new Room(name, replica, chat, this, release);
    this.tell({ type: "rooms" });
    return room;
  }

  /** @internal How a room stands with the relay, as the leader told last. */
  standing(name: string): RoomStanding {
    return this.standings[name] ?? NOT_JOINED;
  }

  /** @internal */
  closed(name: string): void {
    this.rooms.delete(name);
    this.giveUp((room) => room === name);
    this.goneFrom(name);
    this.letGo(name);
    this.tell({ type: "rooms" });
  }

  /** @internal A room in this tab, opened if need be; call `letGo` when it is not needed. */
  async hold(name: string): Promise<Held> {
    const held = await once(this.opening, name, () => this.openReplica(name));
    held.users += 1;
    const fail = (error: unknown): never => {
      this.letGo(name);
      throw error;
    };
    await read(held).catch(fail); // other tabs may have gone on since
    return held;
  }

  /** @internal */
  letGo(name: string): void {
    const held = this.held.get(name);
    if (held === undefined) return;
    held.users -= 1;
    if (held.users > 0) return;
    this.opening.delete(name);
    this.held.delete(name);
    held.replica.end();
    held.chat.end();
  }

  private async openReplica(name: string): Promise<Held> {
    const stored = await this.documents.create(name);
    const moved = (): void => this.hints.post({ type: "moved", room: stored.room.id });
    const chat = new Chat(this.database, stored.chat, {
      clock: this.clock,
      moved,
      ask: (wish) => this.ask(name, wish, wish.kind === "fetch" ? limits.FETCH_TIMEOUT_MS : undefined),
      isOpen: () => this.standing(name).isChatOpen,
      access: () => this.standing(name).access,
      broadcast: (payload) => {
        const { user } = chat.row;
        this.tell({ type: "broadcast", room: name, sender: user, payload, up: true });
      },
    });
    await chat.begin();
    const replica = new Replica(stored.room, this.documents);
    const held: Held = { replica, chat, users: 0 };
    this.held.set(name, held);
    chat.watchers.add(() => replica.changes.wake());
    replica.onMoved = moved;
    replica.awareness.on(
      "update",
      (changes: { added: number[]; updated: number[]; removed: number[] }, origin: unknown) => {
        if (origin !== "local") return; // of another tab, of the relay, or gone silent
        const data = encodeAwarenessUpdate(replica.awareness, Object.values(changes).flat());
        this.tell({ type: "presence", room: name, data, up: true });
      },
    );
    return held;
  }

  // The other tabs

  /** @internal Tell the other tabs, and this one. */
  tell(hint: Hint): void {
    if (this.isClosed) return;
    this.hints.post(hint);
    this.take(hint, true);
  }

  /** Something that a tab said; `isOwn`: this one. */
  private take(hint: Hint, isOwn = false): void {
    switch (hint.type) {
      case "moved":
        for (const held of this.held.values()) {
          if (held.replica.row.id === hint.room) catchUp(held);
        }
        break;
      case "wish":
        void this.leader?.rooms.get(hint.room)?.chat.ask(hint.wish).then((answer) => {
          this.tell({ type: "granted", ask: hint.ask, answer });
        });
        break;
      case "granted":
        this.asks.get(hint.ask)?.resolve(hint.answer);
        break;
      case "ask":
        this.leader?.tellStatus();
        break;
      case "rooms":
        void this.leader?.look();
        break;
      case "presence": {
        const held = this.held.get(hint.room);
        if (held && !isOwn) applyAwarenessUpdate(held.replica.awareness, hint.data, OTHER_TAB);
        if (hint.up) this.leader?.rooms.get(hint.room)?.sendPresence(hint.data);
        break;
      }
      case "broadcast":
        if (!isOwn || !hint.up) this.held.get(hint.room)?.chat.live.hear(hint.sender, hint.payload);
        if (hint.up) this.leader?.rooms.get(hint.room)?.cast(hint.payload);
        break;
      case "announce":
        this.announce(hint.room);
        break;
      case "act":
        if (hint.act !== "connect") this.isOffline = hint.act === "suspend";
        this.leader?.connection[hint.act]();
        break;
      case "status":
        this.clock.hear(hint.running);
        this.takeStatus(hint.connection, hint.rooms);
        break;
    }
  }

  private act(act: Act): void {
    this.check();
    this.tell({ type: "act", act });
  }

  private takeStatus(
    connection: ConnectionStatus,
    rooms: Readonly<Record<string, RoomStanding>>,
  ): void {
    const isNew = !isAlike(connection, this.told);
    this.told = connection;
    this.standings = rooms;
    this.giveUp((room) => !this.standing(room).isChatOpen);
    this.isOffline = connection.state === "suspended";
    for (const held of this.held.values()) held.replica.changes.wake();
    if (isNew) this.observers.emit(connection);
  }

  /** Have the leader ask the relay; null: there will be no answer. */
  private async ask(room: string, wish: Wish, timeoutMs?: number): Promise<Answer | null> {
    if (!this.standing(room).isChatOpen) return null;
    const ask = crypto.randomUUID();
    const answer = await new Promise<Answer | null>((resolve) => {
      this.asks.set(ask, { room, resolve });
      if (timeoutMs !== undefined) setTimeout(resolve, timeoutMs, null);
      this.tell({ type: "wish", room, ask, wish });
    });
    this.asks.delete(ask);
    return answer;
  }

  /** Whoever waits for an answer in a room in which none can come waits no more. */
  private giveUp(isOver: (room: string) => boolean): void {
    for (const { room, resolve } of this.asks.values()) if (isOver(room)) resolve(null);
  }

  /** Hints may be lost; so everybody looks by itself now and then. */
  private look(): void {
    if (this.isClosed) return;
    for (const held of this.held.values()) catchUp(held);
    void this.leader?.look();
  }

  // Leading

  private lead(relay: string): void {
    if (this.isClosed) return;
    const leader = new Leader(this, relay, this.token);
    this.leader = leader;
    if (this.isOffline) leader.connection.suspend();
    void leader.start();
  }

  // Presence

  /** Say who is here, with a clock above the last one: the relay has just begun to listen. */
  private announce(name: string): void {
    const awareness = this.held.get(name)?.replica.awareness;
    const state = awareness?.getLocalState();
    if (state) awareness?.setLocalState(state);
  }

  private goneFrom(name: string): void {
    const awareness = this.held.get(name)?.replica.awareness;
    if (!awareness?.getLocalState()) return;
    const ours = [awareness.clientID];
    removeAwarenessStates(awareness, ours, OTHER_TAB);
    const data = encodeAwarenessUpdate(awareness, ours);
    this.tell({ type: "presence", room: name, data, up: true });
  }

  private sayGoodbye(): void {
    for (const name of this.held.keys()) this.goneFrom(name);
  }

  private check(): void {
    if (this.isClosed) throw closed("client");
  }
}

/** What \`make\` gives for this name; it is made once, unless that failed. */
function once<T>(made: Map<string, Promise<T>>, name: string, make: () => Promise<T>): Promise<T> {
  const known = made.get(name);
  if (known !== undefined) return known;
  const making = make();
  made.set(name, making);
  making.catch(() => made.delete(name));
  return making;
}

/** Read what other tabs stored of a room; if that fails, the next look does. */
function catchUp(held: Held): void {
  void read(held).catch(() => undefined);
}

async function read({ replica, chat }: Held): Promise<void> {
  await Promise.all([replica.catchUp(), chat.catchUp()]);
}
