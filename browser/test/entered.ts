/** A room's chat that a test has entered, and whose relay it is. Not a test. */

import assert from "node:assert/strict";

import type { Chat } from "../src/chat.js";
import type { BadFrame } from "../src/errors.js";
import { packRows } from "../src/protocol/codec.js";
import type { Frame, FrameOf } from "../src/protocol/frames.js";
import { RoomChat } from "../src/roomChat.js";
import type { Wish } from "../src/tabs/hints.js";
import { Store } from "./store.js";

export const RUN = new Uint8Array(16).fill(7);

/** A room that is entered; `up`: what it sends next. */
export class Entered {
  readonly faults: BadFrame[] = [];
  readonly chat: RoomChat;

  private constructor(
    readonly tab: Chat,
    readonly store: Store,
  ) {
    this.chat = new RoomChat(tab, {
      wake: () => undefined,
      changed: () => undefined,
      rejoin: () => undefined,
      fail: (error) => this.faults.push(error),
    });
  }

  static async open(store?: Store): Promise<Entered> {
    const opened = store ?? (await Store.open());
    const room = new Entered(await opened.open(() => room.chat.isOpen), opened);
    (room.tab as unknown as { tab: { ask: unknown } }).tab.ask = (wish: Wish) => room.chat.ask(wish);
    return room;
  }

  async enter(more: Partial<FrameOf<"entered">> = {}): Promise<void> {
    this.chat.joined(3, RUN);
    await this.settled();
    const enter = this.up();
    assert.ok(enter?.kind === "enter");
    const { laneSeq, seq } = enter;
    await this.receive({
      kind: "entered", channel: 3, laneSeq, outcomes: packRows([]), good: true, after: seq, head: seq,
      oldest: 1, readUpto: 0, unread: 0, user: "ada", ...more,
    });
  }

  up(): Frame | null {
    return this.chat.nextFrame();
  }

  async receive(...frames: Parameters<RoomChat["receive"]>[0][]): Promise<void> {
    for (const frame of frames) this.chat.receive(frame);
    await this.settled();
  }

  async settled(): Promise<void> {
    const { chat } = this;
    while ((chat as unknown as { isRunning: boolean }).isRunning) await new Promise(setImmediate);
  }
}
