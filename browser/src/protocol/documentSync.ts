/**
 * One room's document on a device, and how it comes level with the relay's log.
 *
 * The shell (`roomSync`) tells this machine what happened and does what it is told through `Shell`;
 * it asks `nextFrame` whenever the socket takes more. It is the machine of
 * `collab/protocol/document_sync.py`, but for one thing: Yjs itself holds back what comes too
 * early, so the shell tells whether an update left something waiting.
 */

import { isEqual } from "../bytes.js";
import * as limits from "../limits.js";
import { Access, type FrameOf } from "./frames.js";

/** A device's place in a relay's log: an offset, and the run of the relay that gave it. */
export interface Position {
  readonly generation: Uint8Array;
  readonly offset: number;
}

/** No relay ever gives this generation: a join from here always exchanges differences. */
export const NOWHERE: Position = { generation: new Uint8Array(16), offset: 0 };

/** A local update that is on this disk; ids rise with the order of the edits. */
export interface Row {
  readonly id: number;
  readonly data: Uint8Array;
}

/** What the relay refused for good. */
export interface Refusal {
  readonly code: string;
  readonly reason: string;
}

/** What the machine has its room do. */
export interface Shell {
  /** Store this, all or nothing, behind all that waits. */
  store(what: {
    readonly update?: Uint8Array | null;
    readonly position?: Position | null;
    readonly ackedThrough?: number | null;
    readonly epoch?: Uint8Array | null;
  }): void;
  /** Make the difference against `stateVector`, save all it holds, then `offer`. */
  differ(stateVector: Uint8Array, turn: number): void;
  rejoin(): void;
  /** The relay's room is another one; `isDeleted`: ours was deleted there. */
  replaced(isDeleted: boolean): void;
}

/** Detached: not joined; stopped: replaced, the program must decide. */
export type Phase = "detached" | "joining" | "open" | "stopped";

const EMPTY_STATE_VECTOR = Uint8Array.of(0);

/**
 * The state machine of one room's document.
 *
 * Invariants:
 *
 * 1. Nothing goes up that is not on this disk, and nothing before JOINED.
 * 2. After a JOIN without a good offset, or a RESYNC, or while an OFFER is owed (6), an OFFER goes
 *    up before any UPDATE.
 * 3. The position never passes an update that was not given to the replica.
 * 4. A row is acked only by an ACK for a number that covered it.
 * 5. While something waits for a predecessor there is no position.
 * 6. A JOIN without a good offset makes an OFFER due, until one is acked: on this connection or a
 *    later one, and of who may only read, once he may write. While it is due no position is stored.
 */
export class DocumentSync {
  phase: Phase = "detached";
  refusal: Refusal | null = null;
  access: number = Access.NONE;
  channel = -1;
  private unacked: Row[];
  private unsent: Row[] = [];
  private inFlight: { number: number; through: number }[] = [];
  private number = 0;
  private offerReady: { update: Uint8Array; through: number } | null = null;
  private turn = 0;
  private awaitingOffer = false;
  private awaitingDifference = false;
  private owesOffer = false;
  private offered = 0; // the number of the last offer of this join, 0 before it
  private generation = NOWHERE.generation;
  private target = 0;
  private resyncs = 0;
  private beganAnew = false;

  constructor(
    public epoch: Uint8Array | null,
    public position: Position,
    unacked: readonly Row[],
    private readonly shell: Shell,
  ) {
    this.unacked = [...unacked];
  }

  /** Whether all that was in the log at joining has come. */
  get isCaughtUp(): boolean {
    return (
      this.phase === "open" && !this.awaitingDifference && this.position.offset >= this.target
    );
  }

  /** Whether it has caught up, and all of ours is acked. */
  get isLevel(): boolean {
    return this.isCaughtUp && !this.awaitingOffer && this.unacked.length === 0;
  }

  // What happens to the room

  /** Local rows are on this disk now; they may go up. */
  saved(rows: readonly Row[]): void {
    this.unacked.push(...rows);
    if (this.phase === "open") this.unsent.push(...rows);
    this.refuseReaders();
  }

  /** The frame that opens the room. `stateVector`: of all that is saved or applied here. */
  join(request: number, room: string, stateVector: Uint8Array): FrameOf<"join"> {
    this.phase = "joining";
    const { generation, offset } = this.position;
    return { kind: "join", request, room, epoch: this.epoch, generation, offset, stateVector };
  }

  /** The connection is gone. What was in flight is resolved at the next joining. */
  detach(): void {
    if (this.phase !== "stopped") this.phase = "detached";
    this.inFlight = [];
    this.unsent = [];
    this.offerReady = null;
    this.awaitingOffer = this.awaitingDifference = false;
    this.beganAnew = false;
  }

  /**
   * The relay deleted the room of our epoch; another one may have its name by now. Who has nothing
   * of it (`isEmpty`) joins that one, once a connection.
   */
  deleted(isEmpty: boolean): void {
    if (this.phase === "stopped") return;
    const { beganAnew } = this;
    this.detach();
    if (beganAnew || !isEmpty) {
      this.replaced(true);
      return;
    }
    this.beganAnew = true;
    this.adopt(null);
    this.losePosition();
    this.shell.rejoin();
  }

  /** The relay opened the room. `isEmpty`: nothing of it is here, saved or not. */
  joined(frame: FrameOf<"joined">, generation: Uint8Array, isEmpty: boolean): void {
    if (this.phase === "stopped") return;
    if (!isEqual(frame.epoch, this.epoch)) {
      const isStranger = !isEqual(frame.stateVector, EMPTY_STATE_VECTOR);
      if (this.epoch !== null && !isEmpty && isStranger) {
        this.replaced(false);
        return;
      }
      this.adopt(frame.epoch);
    }
    this.phase = "open";
    this.channel = frame.channel;
    this.access = Math.min(frame.access, Access.ADMIN);
    this.generation = generation;
    this.target = frame.head;
    this.number = this.resyncs = this.offered = 0;
    this.inFlight = [];
    this.offerReady = null;
    this.unsent = [...this.unacked];
    const mayWrite = this.access >= Access.WRITE;
    if (mayWrite && this.refusal?.code === "forbidden") this.refusal = null;
    const good = frame.good && this.hasPosition;
    if (!good) {
      this.losePosition();
      this.owesOffer ||= mayWrite || !isEmpty;
    }
    this.awaitingDifference = !good;
    this.awaitingOffer = false;
    this.refuseReaders();
    if (this.owesOffer && mayWrite && this.refusal === null) this.differ(frame.stateVector);
  }

  /**
   * The log from our place to `offset`, given to the replica. `isNew`: it changed something;
   * `isEarly`: something of it waits for what it builds on.
   */
  updates(offset: number, update: Uint8Array, isNew: boolean, isEarly: boolean): void {
    if (this.phase !== "open") return;
    if (isEarly) {
      this.shell.store({ update });
      if (this.awaitingDifference) return; // the one on its way contains what is missing
      this.awaitingDifference = true;
      this.losePosition();
      this.shell.rejoin();
      return;
    }
    const position = this.awaitingDifference ? null : this.advance(offset);
    if (isNew || position !== null) this.shell.store({ update: isNew ? update : null, position });
  }

  /** All that we lacked, given to the replica; our place is `offset` now. */
  difference(offset: number, update: Uint8Array, isNew: boolean, isEarly: boolean): void {
    if (this.phase === "open" && !isEarly) this.awaitingDifference = false;
    this.updates(offset, update, isNew, isEarly);
  }

  /** Every number up to `number` is committed at the relay. */
  ack(number: number, offset: number): void {
    let ackedThrough: number | null = null;
    while (this.inFlight[0] !== undefined && this.inFlight[0].number <= number) {
      ackedThrough = this.inFlight.shift()?.through ?? ackedThrough;
    }
    if (ackedThrough !== null) {
      const last = ackedThrough;
      this.resyncs = 0;
      this.unacked = this.unacked.filter((row) => row.id > last);
    }
    const settles = this.owesOffer && this.offered > 0 && this.offered <= number;
    if (settles) this.owesOffer = false;
    let position: Position | null = null;
    if (this.phase === "open" && !this.awaitingDifference) {
      position = this.advance(offset);
      if (settles) position = this.position;
    }
    if (ackedThrough !== null || position !== null) this.shell.store({ position, ackedThrough });
  }

  /** The relay missed something that our update builds on. */
  resync(stateVector: Uint8Array): void {
    this.resyncs += 1;
    if (this.resyncs <= limits.MAX_RESYNCS_IN_A_ROW) this.differ(stateVector);
    else this.refused("invalid", "the relay asks again and again");
  }

  /** The relay refused our updates for good. */
  refused(code: string, reason: string): void {
    this.refusal = { code, reason };
  }

  /** The difference that was asked for in `turn`; all that it holds is on this disk. */
  offer(update: Uint8Array, through: number, turn: number): void {
    if (update.length > limits.MAX_UPDATE_BYTES) {
      this.refused("too_large", `${update.length} bytes at once`);
    } else if (this.awaitingOffer && turn === this.turn) this.offerReady = { update, through };
  }

  // What goes up

  /** The next frame of this room, or null. */
  nextFrame(): FrameOf<"offer" | "update"> | null {
    const mayWrite = this.access >= Access.WRITE;
    if (this.phase !== "open" || this.refusal !== null || !mayWrite) return null;
    if (this.awaitingOffer) {
      if (this.offerReady === null) return null;
      const { update, through } = this.offerReady;
      this.offerReady = null;
      this.awaitingOffer = false;
      this.unsent = this.unsent.filter((row) => row.id > through);
      this.number += 1;
      this.offered = this.number;
      this.inFlight.push({ number: this.number, through });
      return { kind: "offer", channel: this.channel, number: this.number, update };
    }
    const row = this.unsent.shift();
    if (row === undefined) return null;
    this.number += 1;
    this.inFlight.push({ number: this.number, through: row.id });
    return { kind: "update", channel: this.channel, number: this.number, update: row.data };
  }

  // How it decides

  private get hasPosition(): boolean {
    return !isEqual(this.position.generation, NOWHERE.generation);
  }

  /** Who may only read learns at the first edit that it stays here. */
  private refuseReaders(): void {
    const mayWrite = this.phase !== "open" || this.access >= Access.WRITE;
    if (mayWrite || this.unacked.length === 0 || this.refusal !== null) return;
    this.refused("forbidden", "this user may read the room, not write it");
  }

  private differ(stateVector: Uint8Array): void {
    this.awaitingOffer = true;
    this.offerReady = null;
    this.offered = 0;
    this.turn += 1;
    this.shell.differ(stateVector, this.turn);
  }

  private adopt(epoch: Uint8Array | null): void {
    this.epoch = epoch;
    this.shell.store({ epoch });
  }

  private replaced(isDeleted: boolean): void {
    this.phase = "stopped";
    this.shell.replaced(isDeleted);
  }

  private losePosition(): void {
    if (!this.hasPosition) return;
    this.position = NOWHERE;
    this.shell.store({ position: NOWHERE });
  }

  /** Move to `offset` of this run of the relay; the position, if it is to be stored. */
  private advance(offset: number): Position | null {
    const known = this.position;
    if (isEqual(known.generation, this.generation) && known.offset >= offset) return null;
    this.position = { generation: this.generation, offset };
    return this.owesOffer ? null : this.position;
  }
}
