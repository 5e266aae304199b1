/** What a room can do only while its relay is there: broadcasts, and calls to services. */

import type { Chat } from "./chat.js";
import { BadMessage, offline, ReadOnly } from "./errors.js";
import { Observers } from "./events.js";
import * as limits from "./limits.js";
import { packed, UNTOUCHED } from "./payload.js";
import { Access, isText } from "./protocol/frames.js";
import { unpack } from "./protocol/msgpack.js";

/** What somebody, as the relay knows them, said to everybody who was in the room then. */
export interface Broadcast {
  readonly sender: string;
  readonly payload: unknown;
}

/** Nothing of either is stored or queued. */
export class Live {
  readonly observers = new Observers<Broadcast>();

  constructor(private readonly chat: Chat) {}

  /** What somebody else broadcast, as bytes. */
  hear(sender: string, data: Uint8Array): void {
    let payload: unknown;
    try {
      payload = unpack(data);
    } catch {
      return; // the relay passes on what it did not read; its sender is no client of ours
    }
    this.observers.emit({ sender, payload });
  }

  broadcast(payload: unknown): void {
    const { tab } = this.chat;
    this.chat.check();
    const data = packed(payload, limits.MAX_CAST_BYTES, "broadcast");
    if (!tab.isOpen()) throw offline("a broadcast");
    if (tab.access() < Access.WRITE) {
      throw new ReadOnly(`This user may read the room, not write it. ${UNTOUCHED}`);
    }
    tab.broadcast(data);
  }

  async call(service: string, value: unknown, timeoutMs: number): Promise<unknown> {
    this.chat.check();
    if (!isText(limits.MAX_SERVICE_BYTES)(service) || service === "") {
      throw new BadMessage(`A service's name is 1 to ${limits.MAX_SERVICE_BYTES} bytes of text. ${UNTOUCHED}`);
    }
    const payload = packed(value, limits.MAX_CALL_BYTES, "call");
    return this.chat.demand(`a call to "${service}"`, { kind: "call", service, payload }, timeoutMs);
  }
}
