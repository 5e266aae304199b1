/** Tabs of one browser, all in this process, and a relay that the test speaks for. Not a test. */

import "fake-indexeddb/auto";

import assert from "node:assert/strict";

import { open, type Client } from "../src/client.js";
import { decode, packRows } from "../src/protocol/codec.js";
import type { Frame, FrameOf } from "../src/protocol/frames.js";
import type { Room } from "../src/room.js";
import type { Hint } from "../src/tabs/hints.js";
import { FakeSocket } from "./fakeSocket.js";

interface Held {
  readonly name: string;
  readonly mode: LockMode;
}

type Granted = (lock: Held | null) => unknown;

/** Web Locks, as far as they are used. */
class FakeLocks {
  private held: Held[] = [];
  private waiting: { readonly lock: Held; readonly grant: () => void }[] = [];

  async request(
    name: string,
    { mode = "exclusive", ifAvailable = false, signal }: LockOptions,
    granted: Granted,
  ): Promise<unknown> {
    signal?.throwIfAborted();
    const lock = { name, mode };
    if (!this.isFree(lock) || this.waiting.some((one) => one.lock.name === name)) {
      if (ifAvailable) return granted(null);
      await new Promise<void>((resolve, reject) => {
        this.waiting.push({ lock, grant: resolve });
        signal?.addEventListener("abort", () => reject(signal.reason));
      });
    } else this.held.push(lock);
    try {
      return await granted(lock);
    } finally {
      this.held = this.held.filter((one) => one !== lock);
      this.grant();
    }
  }

  async query(): Promise<{ held: Held[] }> {
    return { held: [...this.held] };
  }

  private isFree({ name, mode }: Held): boolean {
    const others = this.held.filter((one) => one.name === name);
    return others.every((one) => one.mode === "shared" && mode === "shared");
  }

  private grant(): void {
    for (const one of [...this.waiting]) {
      if (!this.isFree(one.lock)) continue;
      this.waiting = this.waiting.filter((other) => other !== one);
      this.held.push(one.lock);
      one.grant();
    }
  }
}

/** The channel of the tabs; a test may keep some hints on their way. */
export class Channel {
  static keep: (hint: Hint) => boolean = () => false;
  private static kept: (() => void)[] = [];
  private static readonly all = new Set<Channel>();
  onmessage: (event: { data: Hint }) => void = () => undefined;

  constructor(readonly name: string) {
    Channel.all.add(this);
  }

  postMessage(hint: Hint): void {
    for (const other of Channel.all) {
      if (other === this || other.name !== this.name) continue;
      const data = structuredClone(hint);
      const deliver = (): void => void (Channel.all.has(other) && other.onmessage({ data }));
      if (Channel.keep(hint)) Channel.kept.push(deliver);
      else setImmediate(deliver);
    }
  }

  close(): void {
    Channel.all.delete(this);
  }

  /** What was kept arrives, and nothing more is kept. */
  static deliver(): void {
    Channel.keep = () => false;
    for (const deliver of Channel.kept.splice(0)) deliver();
  }
}

const globals = {
  navigator: { locks: new FakeLocks() },
  BroadcastChannel: Channel,
  addEventListener: () => undefined,
  // Node has none: what a page would report fails the test.
  reportError: (error: unknown) => {
    queueMicrotask(() => {
      throw error;
    });
  },
};
for (const [name, value] of Object.entries(globals)) {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

const EMPTY_ROWS = packRows([]);
export const EPOCH = new Uint8Array(16).fill(9);

/** The relay's end of the one connection. It greets; the rest is for the test. */
export class Relay {
  socket: FakeSocket | null = null;
  private seen = 0;

  /** The next frame of this kind that comes up; the others before it are passed over. */
  async next<K extends Frame["kind"]>(kind: K): Promise<FrameOf<K>> {
    for (let turns = 0; turns < 5_000; turns += 1) {
      this.greet();
      const data = this.socket?.sent[this.seen];
      if (data === undefined) {
        await new Promise(setImmediate);
        continue;
      }
      this.seen += 1;
      const frame = decode(data);
      if (frame.kind === kind) return frame as FrameOf<K>;
    }
    assert.fail(`no ${kind} came`);
  }

  /** Whether a frame of this kind came up since the last that was looked at. */
  has(kind: Frame["kind"]): boolean {
    const sent = this.socket?.sent.slice(this.seen) ?? [];
    return sent.some((data) => decode(data).kind === kind);
  }

  tell(...frames: Frame[]): void {
    for (const frame of frames) this.socket?.receive(frame);
  }

  /** Answer a JOIN. */
  async joined(more: Partial<FrameOf<"joined">> = {}): Promise<FrameOf<"join">> {
    const join = await this.next("join");
    this.tell({
      kind: "joined", request: join.request, channel: 3, epoch: EPOCH, good: true, head: 0,
      stateVector: Uint8Array.of(0), access: 2, ...more,
    });
    return join;
  }

  /** Answer an ENTER. */
  async entered(more: Partial<FrameOf<"entered">> = {}): Promise<FrameOf<"enter">> {
    const enter = await this.next("enter");
    const { channel, laneSeq, seq } = enter;
    this.tell({
      kind: "entered", channel, laneSeq, outcomes: EMPTY_ROWS, good: true, after: seq, head: seq,
      oldest: 1, readUpto: 0, unread: 0, user: "ada", ...more,
    });
    return enter;
  }

  private greet(): void {
    const { last } = FakeSocket;
    if (last === this.socket || last === undefined || last.isClosed) return;
    this.socket = last;
    this.seen = 1;
    last.onopen();
    last.receive(last.welcome);
  }
}

let stores = 0;

/** A browser whose tabs share one store. */
export class Browser {
  readonly relay = new Relay();
  private readonly name = `tabs${(stores += 1)}`;
  readonly tabs: Client[] = [];

  async tab(): Promise<Client> {
    const tab = await open({ name: this.name, relay: "ws://relay" });
    this.tabs.push(tab);
    return tab;
  }

  /** A room in a tab of its own. */
  async room(name: string): Promise<Room> {
    return (await this.tab()).room(name);
  }

  async close(): Promise<void> {
    Channel.deliver();
    await Promise.allSettled(this.tabs.map((tab) => tab.close()));
  }
}

/** Wait until this holds. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  for (let turns = 0; !holds(); turns += 1) {
    assert.ok(turns < 500, `it never came: ${what}`);
    await new Promise(setImmediate);
  }
}

/** Let all that is under way, and waits for nobody, come to its end. */
export async function idle(): Promise<void> {
  for (let turns = 0; turns < 100; turns += 1) await new Promise(setImmediate);
}
