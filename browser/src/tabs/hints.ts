/**
 * What the tabs of one store tell each other. A hint carries nothing that is not in the store, or
 * that may not be lost: presence, and how the connection stands.
 */

import type { ConnectionStatus } from "../connection.js";
import type { Asked } from "../protocol/chatSync.js";
import type { Answer } from "../protocol/requests.js";
import type { RoomStanding } from "../roomSync.js";

/** What a tab has the leader ask the relay for: messages that are missing, another role, a service's answer. */
export type Wish =
  | ({ readonly kind: "fetch" } & Asked)
  | { readonly kind: "change"; readonly user: string; readonly role: string }
  | { readonly kind: "call"; readonly service: string; readonly payload: Uint8Array };

/** What a user may do to the connection, by the name that it has there. */
export type Act = "connect" | "suspend" | "resume";

export type Hint =
  /** The store has more of a room, or of its chat, than it had. */
  | { readonly type: "moved"; readonly room: number }
  /** To the leader: ask the relay. */
  | { readonly type: "wish"; readonly room: string; readonly ask: string; readonly wish: Wish }
  /** The relay's answer, once what came with it is in the store; null: there will be none. */
  | { readonly type: "granted"; readonly ask: string; readonly answer: Answer | null }
  /** Another set of rooms is open in some tab. */
  | { readonly type: "rooms" }
  /** The leader: how the connection and its rooms stand, and its running time. */
  | {
      readonly type: "status";
      readonly connection: ConnectionStatus;
      readonly rooms: Readonly<Record<string, RoomStanding>>;
      readonly running: number;
    }
  /** Who has just come: leader, say how things stand. */
  | { readonly type: "ask" }
  /** Presence, to the relay (`up`) or from it. */
  | { readonly type: "presence"; readonly room: string; readonly data: Uint8Array; readonly up: boolean }
  /** A broadcast, to the relay (`up`) and to the other tabs, or from it. */
  | {
      readonly type: "broadcast";
      readonly room: string;
      readonly sender: string;
      readonly payload: Uint8Array;
      readonly up: boolean;
    }
  /** The leader joined a room: everybody, announce yourself. */
  | { readonly type: "announce"; readonly room: string }
  /** To the leader: what a user asked for in another tab. */
  | { readonly type: "act"; readonly act: Act };

export class Hints {
  private readonly channel: BroadcastChannel;
  private isClosed = false;

  constructor(name: string, take: (hint: Hint) => void) {
    this.channel = new BroadcastChannel(name);
    this.channel.onmessage = (event: MessageEvent<Hint>) => take(event.data);
  }

  /** Tell the other tabs. What is stored late, while the client closes, they find by themselves. */
  post(hint: Hint): void {
    if (!this.isClosed) this.channel.postMessage(hint);
  }

  close(): void {
    this.isClosed = true;
    this.channel.close();
  }
}
