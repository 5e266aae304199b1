/** How one room comes level with the relay: carries out, in the leading tab, what the machine decides. */

import {
  applyAwarenessUpdate,
  encodeAwarenessUpdate,
  removeAwarenessStates,
} from "y-protocols/awareness";
import * as Y from "yjs";

import { isEqual } from "./bytes.js";
import type { Chat } from "./chat.js";
import { type BadFrame, CollabError, Rejected, RoomReplaced } from "./errors.js";
import type { Link } from "./link.js";
import { DocumentSync, NOWHERE, type Refusal, type Shell } from "./protocol/documentSync.js";
import { isTransient, type Frame, type FrameOf } from "./protocol/frames.js";
import type { Replica } from "./replica.js";
import { RoomChat, type Uplink } from "./roomChat.js";
import type { Hint } from "./tabs/hints.js";

/** How a room stands with the relay, as the leader tells the other tabs. */
export interface RoomStanding {
  /** How far the leader has read the store, rows and changes of the chat: it speaks of no more. */
  readonly place: number;
  readonly version: number;
  readonly isLevel: boolean;
  /** Whether messages can go up now. */
  readonly isChatOpen: boolean;
  readonly access: number;
  readonly refusal: Refusal | null;
  readonly error: { readonly name: string; readonly message: string; readonly code: string } | null;
}

export const NOT_JOINED: RoomStanding = {
  place: 0,
  version: 0,
  isLevel: false,
  isChatOpen: false,
  access: 0,
  refusal: null,
  error: null,
};

/** What a room needs of the leader, and of the other tabs. */
export interface Leader {
  /** Something of the room's standing changed. */
  changed(): void;
  /** Tell all tabs. */
  tell(hint: Hint): void;
}

const RELAY = Symbol();
const KEPT = "Everything here is kept on this device, and nothing is sent.";

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
  | "broadcast"
>;

export class RoomSync implements Shell, Uplink {
  readonly machine: DocumentSync;
  readonly chat: RoomChat;
  error: CollabError | null = null;
  /** The connection on which this room is joined, or is to be. */
  link: Link | null = null;
  private readonly strangers = new Set<number>(); // client ids of presence that the relay told

  constructor(
    readonly name: string,
    readonly replica: Replica,
    private readonly messages: Chat,
    private readonly leader: Leader,
  ) {
    const { epoch, generation, offset } = replica.row;
    const position = generation === null ? NOWHERE : { generation, offset };
    this.machine = new DocumentSync(epoch, position, replica.unacked, this);
    this.chat = new RoomChat(messages, this);
    replica.compacts = true;
    replica.onRows = (rows) => {
      this.machine.saved(rows);
      this.wake();
      this.changed();
    };
  }

  /** Whether nothing is to be joined: stopped for good. */
  get isStopped(): boolean {
    return this.machine.phase === "stopped" || this.replica.closed;
  }

  get standing(): RoomStanding {
    const { machine, chat, replica } = this;
    const error = this.error ?? chat.error;
    const code = error instanceof Rejected ? error.code : "";
    return {
      place: replica.place,
      version: this.messages.row.version,
      isLevel: machine.isLevel && replica.isSaved && chat.isCaughtUp,
      isChatOpen: chat.isOpen,
      access: machine.access,
      refusal: machine.refusal,
      error: error === null ? null : { name: error.name, message: error.message, code },
    };
  }

  /**
   * Whether the room's epoch is on this disk: before, nothing of its chat goes up. A crash between the
   * two would leave the marks of one room's log, to be taken for those of the next room of its name.
   */
  get isNamed(): boolean {
    return isEqual(this.replica.row.epoch, this.machine.epoch);
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
        machine.joined(frame, generation, this.isEmpty);
        if (machine.phase === "open") {
          this.chat.joined(frame.channel, generation);
          this.leader.tell({ type: "announce", room: this.name });
        }
        break;
      case "updates":
      case "difference": {
        if (machine.phase !== "open") return;
        const { isNew, isEarly } = replica.apply(frame.update);
        machine[frame.kind](frame.offset, frame.update, isNew, isEarly);
        break;
      }
      case "ack":
        machine.ack(frame.number, frame.offset);
        break;
      case "resync":
        machine.resync(frame.stateVector);
        break;
      case "refused":
        machine.refused(frame.code, frame.reason);
        break;
      case "awareness":
        this.takePresence(frame.data);
        break;
      case "broadcast":
        this.leader.tell({ ...frame, type: "broadcast", room: this.name, up: false });
        break;
      case "denied":
      case "left":
        this.denied(frame);
        break;
    }
    this.changed();
  }

  /** The connection is gone. */
  detached(): void {
    this.link = null;
    this.machine.detach();
    this.chat.detach();
    this.alone();
    this.changed();
  }

  /** Presence of a tab of this browser goes up. */
  sendPresence(data: Uint8Array): void {
    if (this.machine.phase !== "open") return;
    this.link?.send({ kind: "awareness", channel: this.machine.channel, data });
  }

  /** A broadcast of a tab of this browser goes up. */
  cast(payload: Uint8Array): void {
    this.link?.cast(this, payload);
  }

  /** The tab leads no more, or the room is open in no tab. */
  end(): void {
    this.machine.phase = "stopped"; // what is under way comes to nothing
    this.replica.onRows = () => undefined;
    this.replica.compacts = false;
    this.chat.end();
    this.alone();
  }

  // For its machines

  wake(): void {
    this.link?.wake();
  }

  changed(): void {
    this.leader.changed();
  }

  rejoin(): void {
    this.link?.join(this);
  }

  fail(error: BadFrame): void {
    this.link?.fail(error);
  }

  store(what: Parameters<Shell["store"]>[0]): void {
    this.replica.store(what);
  }

  /** Offer all that the relay lacks, once it is on this disk. */
  async differ(stateVector: Uint8Array, turn: number): Promise<void> {
    try {
      const { update, through } = await this.replica.difference(stateVector);
      this.machine.offer(update, through, turn);
      this.wake();
    } catch (error) {
      if (!this.replica.closed) reportError(error);
    }
  }

  replaced(isDeleted: boolean): void {
    const how = isDeleted ? "was deleted" : "has another history";
    this.error = new RoomReplaced(
      `The relay's room "${this.name}" ${how}. ${KEPT} Copy what you need into a room of another ` +
        `name, then client.forget(name).`,
    );
    this.chat.detach();
    this.alone();
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
    this.tellPresence(data);
  }

  /** Nobody elsewhere is seen without a relay. */
  private alone(): void {
    const gone = [...this.strangers].filter((client) => this.replica.awareness.meta.has(client));
    this.strangers.clear();
    if (gone.length === 0) return;
    removeAwarenessStates(this.replica.awareness, gone, RELAY);
    this.tellPresence(encodeAwarenessUpdate(this.replica.awareness, gone));
  }

  private tellPresence(data: Uint8Array): void {
    this.leader.tell({ type: "presence", room: this.name, data, up: false });
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
      this.machine.deleted(this.isEmpty);
      return;
    }
    this.machine.detach();
    this.error = new Rejected(
      `The relay does not open this room: ${frame.reason} (${frame.code}). ${KEPT}`,
      frame.code,
      isTransient(frame.code),
    );
  }
}
