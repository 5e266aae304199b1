/** How one room comes level with the relay: carries out, in the leading tab, what the machine decides. */

import {
  applyAwarenessUpdate,
  encodeAwarenessUpdate,
  removeAwarenessStates,
} from "y-protocols/awareness";
import * as Y from "yjs";

import type { Chat } from "./chat.js";
import { CollabError, Rejected, RoomReplaced } from "./errors.js";
import { DocumentSync, NOWHERE, type Effect, type Refusal } from "./protocol/documentSync.js";
import { isTransient, type Frame, type FrameOf } from "./protocol/frames.js";
import type { Replica } from "./replica.js";
import { RoomChat } from "./roomChat.js";

/** How a room stands with the relay, as the leader tells the other tabs. */
export interface RoomStanding {
  readonly isCaughtUp: boolean;
  readonly isLevel: boolean;
  /** Whether messages can go up now. */
  readonly isChatOpen: boolean;
  readonly access: number;
  readonly refusal: Refusal | null;
  readonly error: { readonly name: string; readonly message: string; readonly code: string } | null;
}

export const NOT_JOINED: RoomStanding = {
  isCaughtUp: false,
  isLevel: false,
  isChatOpen: false,
  access: 0,
  refusal: null,
  error: null,
};

/** What a room needs of the leader's connection, and of the other tabs. */
export interface Leader {
  /** There may be something to send. */
  wake(): void;
  /** Open the room again on this connection. */
  rejoin(room: RoomSync): void;
  /** Queue a control frame. */
  send(frame: Frame): void;
  /** The relay broke the protocol: end the connection. */
  fail(error: CollabError): void;
  /** Something of the room's standing changed. */
  changed(): void;
  /** Presence came from the relay: give it to the other tabs. */
  tellPresence(room: string, data: Uint8Array): void;
  /** The room was joined: everybody is to announce themselves. */
  announce(room: string): void;
}

const RELAY = Symbol("presence from the relay");

export type DocumentFrame = FrameOf<
  | "joined"
  | "denied"
  | "left"
  | "updates"
  | "difference"
  | "ack"
  | "resync"
  | "refused"
  | "awareness"
>;

export class RoomSync {
  readonly machine: DocumentSync;
  readonly chat: RoomChat;
  error: CollabError | null = null;
  private readonly strangers = new Set<number>(); // client ids of presence that the relay told

  constructor(
    readonly name: string,
    readonly replica: Replica,
    private readonly messages: Chat,
    private readonly leader: Leader,
  ) {
    const { epoch, generation, offset } = replica.row;
    const position = generation === null ? NOWHERE : { generation, offset };
    this.machine = new DocumentSync(epoch, position, replica.unacked);
    this.chat = new RoomChat(messages, {
      wake: () => leader.wake(),
      changed: () => leader.changed(),
      rejoin: () => leader.rejoin(this),
      fail: (error) => leader.fail(error),
    });
    replica.compacts = true;
    replica.onRows = (rows) => {
      this.carryOut(this.machine.saved(rows));
      leader.wake();
      leader.changed();
    };
  }

  /** Whether nothing is to be joined: stopped for good. */
  get isStopped(): boolean {
    return this.machine.phase === "stopped" || this.replica.closed;
  }

  get standing(): RoomStanding {
    const { machine, chat } = this;
    const error = this.error ?? chat.error;
    const code = error instanceof Rejected ? error.code : "";
    return {
      isCaughtUp: machine.isCaughtUp && chat.isCaughtUp,
      isLevel: machine.isLevel && this.replica.isSaved && chat.isCaughtUp,
      isChatOpen: chat.isOpen,
      access: machine.access,
      refusal: machine.refusal,
      error: error === null ? null : { name: error.name, message: error.message, code },
    };
  }

  /** Whether nobody has to wait for it: it has caught up, or cannot. */
  get isSettled(): boolean {
    const isCaughtUp = this.machine.isCaughtUp && (this.chat.isCaughtUp || this.chat.error !== null);
    return isCaughtUp || this.isStopped || this.error !== null;
  }

  /** The frame that opens the room. */
  join(request: number): FrameOf<"join"> {
    this.chat.detach();
    return this.machine.join(request, this.name, Y.encodeStateVector(this.replica.doc));
  }

  /** The next frame that goes up in the room's order. */
  nextFrame(): Frame | null {
    return this.machine.nextFrame();
  }

  /** A frame of this room's document came from the relay. */
  receive(frame: DocumentFrame, generation: Uint8Array): void {
    if (this.replica.closed) return;
    const { machine, replica } = this;
    switch (frame.kind) {
      case "joined":
        this.error = null;
        this.carryOut(machine.joined(frame, generation, this.isEmpty));
        if (machine.phase === "open") {
          this.chat.joined(frame.channel, generation);
          this.leader.announce(this.name);
        }
        break;
      case "updates":
      case "difference": {
        if (machine.phase !== "open") return;
        const { isNew, isEarly } = replica.apply(frame.update);
        this.carryOut(machine[frame.kind](frame.offset, frame.update, isNew, isEarly));
        break;
      }
      case "ack":
        this.carryOut(machine.ack(frame.number, frame.offset));
        break;
      case "resync":
        this.carryOut(machine.resync(frame.stateVector));
        break;
      case "refused":
        this.carryOut(machine.refused(frame.code, frame.reason));
        break;
      case "awareness":
        this.takePresence(frame.data);
        break;
      case "denied":
      case "left":
        this.denied(frame);
        break;
    }
    this.leader.changed();
  }

  /** The connection is gone. */
  detached(): void {
    this.machine.detach();
    this.chat.detach();
    this.alone();
    this.leader.changed();
  }

  /** Presence of a tab of this browser goes up. */
  sendPresence(data: Uint8Array): void {
    if (this.machine.phase !== "open") return;
    this.leader.send({ kind: "awareness", channel: this.machine.channel, data });
  }

  /** The tab leads no more, or the room is open in no tab. */
  end(): void {
    this.replica.onRows = () => undefined;
    this.replica.compacts = false;
    this.chat.end();
    this.alone();
  }

  // What the machine decided

  private carryOut(effects: readonly Effect[]): void {
    const { replica } = this;
    for (const effect of effects) {
      switch (effect.do) {
        case "apply":
          replica.store({ update: effect.update, position: effect.position });
          break;
        case "store":
          replica.store({ position: effect.position, ackedThrough: effect.ackedThrough });
          break;
        case "adopt":
          replica.store({ epoch: effect.epoch });
          break;
        case "differ":
          void this.differ(effect.stateVector, effect.turn);
          break;
        case "rejoin":
          this.leader.rejoin(this);
          break;
        case "replaced":
          this.replaced(effect.deleted);
          break;
        case "refusal":
          break;
      }
    }
  }

  /** Offer all that the relay lacks, once it is on this disk. */
  private async differ(stateVector: Uint8Array, turn: number): Promise<void> {
    try {
      const { update, through } = await this.replica.difference(stateVector);
      this.carryOut(this.machine.offer(update, through, turn));
      this.leader.wake();
    } catch (error) {
      if (!this.replica.closed) reportError(error);
    }
  }

  // Presence

  private takePresence(data: Uint8Array): void {
    const { awareness } = this.replica;
    const note = ({ added, updated }: { added: number[]; updated: number[] }): void => {
      for (const client of [...added, ...updated]) this.strangers.add(client);
    };
    awareness.on("update", note);
    applyAwarenessUpdate(awareness, data, RELAY);
    awareness.off("update", note);
    this.leader.tellPresence(this.name, data);
  }

  /** Nobody elsewhere is seen without a relay. */
  private alone(): void {
    const gone = [...this.strangers].filter((client) => this.replica.awareness.meta.has(client));
    this.strangers.clear();
    if (gone.length === 0) return;
    removeAwarenessStates(this.replica.awareness, gone, RELAY);
    this.leader.tellPresence(this.name, encodeAwarenessUpdate(this.replica.awareness, gone));
  }

  // What went wrong

  /** Whether this device has nothing of the room, saved or not. */
  private get isEmpty(): boolean {
    return this.replica.isEmpty && !this.messages.hasContent;
  }

  private denied(frame: FrameOf<"denied" | "left">): void {
    this.alone();
    this.chat.detach();
    if (frame.code === "deleted") {
      this.carryOut(this.machine.deleted(this.isEmpty));
      return;
    }
    this.machine.detach();
    this.error = new Rejected(
      `The relay does not open this room: ${frame.reason} (${frame.code}). Everything here is ` +
        `kept on this device and edits are saved; nothing is sent.`,
      frame.code,
      isTransient(frame.code),
    );
  }

  private replaced(deleted: boolean): void {
    const what = deleted
      ? `The room "${this.name}" that is on this device was deleted at the relay.`
      : `The relay's room "${this.name}" has another history than the one on this device.`;
    this.error = new RoomReplaced(
      `${what} Everything here is kept and saved; nothing is sent or received. Copy what you need ` +
        `into a room of another name, then give this one up: client.forget(name).`,
    );
    this.chat.detach();
    this.alone();
  }
}
