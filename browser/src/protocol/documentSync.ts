/**
 * One room's document on a device, and how it comes level with the relay's log.
 *
 * The shell (`roomSync`) tells this machine what happened and carries out the effects that it
 * answers with; it asks `nextFrame` whenever the socket takes more. It is the machine of
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

export type Effect =
  /** Store `update` (null: nothing was new) and the position that covers it together. */
  | { readonly do: "apply"; readonly update: Uint8Array | null; readonly position: Position | null }
  /** Store that rows through `ackedThrough` are acked, and the new position. */
  | { readonly do: "store"; readonly position: Position | null; readonly ackedThrough: number | null }
  | { readonly do: "adopt"; readonly epoch: Uint8Array | null }
  /** Make the difference against `stateVector`, save all it holds, then `offer`. */
  | { readonly do: "differ"; readonly stateVector: Uint8Array; readonly turn: number }
  | { readonly do: "rejoin" }
  | { readonly do: "replaced"; readonly deleted: boolean }
  | { readonly do: "refusal" };

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
  ) {
    this.unacked = [...unacked];
  }

  /** How many saved rows the relay has not acked. */
  get pendingUpdates(): number {
    return this.unacked.length;
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
  saved(rows: readonly Row[]): Effect[] {
    this.unacked.push(...rows);
    if (this.phase === "open") this.unsent.push(...rows);
    return this.refuseReaders();
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

  /** Nothing of this room goes up or comes down until it is opened anew. */
  stop(): void {
    this.detach();
    this.phase = "stopped";
  }

  /**
   * The relay deleted the room of our epoch; another one may have its name by now. Who has nothing
   * of it (`isEmpty`) joins that one, once a connection.
   */
  deleted(isEmpty: boolean): Effect[] {
    if (this.phase === "stopped") return [];
    const beganAnew = this.beganAnew;
    this.detach();
    if (beganAnew || !isEmpty) {
      this.phase = "stopped";
      return [{ do: "replaced", deleted: true }];
    }
    this.beganAnew = true;
    this.epoch = null;
    return [{ do: "adopt", epoch: null }, ...this.losePosition(), { do: "rejoin" }];
  }

  /** The relay opened the room. `isEmpty`: nothing of it is here, saved or not. */
  joined(frame: FrameOf<"joined">, generation: Uint8Array, isEmpty: boolean): Effect[] {
    if (this.phase === "stopped") return [];
    const effects: Effect[] = [];
    if (!isEqual(frame.epoch, this.epoch)) {
      const isStranger = !isEqual(frame.stateVector, EMPTY_STATE_VECTOR);
      if (this.epoch !== null && !isEmpty && isStranger) {
        this.phase = "stopped";
        return [{ do: "replaced", deleted: false }];
      }
      this.epoch = frame.epoch;
      effects.push({ do: "adopt", epoch: frame.epoch });
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
      effects.push(...this.losePosition());
      this.owesOffer ||= mayWrite || !isEmpty;
    }
    this.awaitingDifference = !good;
    this.awaitingOffer = false;
    effects.push(...this.refuseReaders());
    if (this.owesOffer && mayWrite && this.refusal === null) {
      effects.push(this.differ(frame.stateVector));
    }
    return effects;
  }

  /**
   * The log from our place to `offset`, given to the replica. `isNew`: it changed something;
   * `isEarly`: something of it waits for what it builds on.
   */
  updates(offset: number, update: Uint8Array, isNew: boolean, isEarly: boolean): Effect[] {
    if (this.phase !== "open") return [];
    if (isEarly) {
      const effects: Effect[] = [{ do: "apply", update, position: null }];
      if (this.awaitingDifference) return effects; // the one on its way contains what is missing
      this.awaitingDifference = true;
      return [...effects, ...this.losePosition(), { do: "rejoin" }];
    }
    const moved = this.awaitingDifference ? null : this.advance(offset);
    return isNew || moved !== null
      ? [{ do: "apply", update: isNew ? update : null, position: moved }]
      : [];
  }

  /** All that we lacked, given to the replica; our place is `offset` now. */
  difference(offset: number, update: Uint8Array, isNew: boolean, isEarly: boolean): Effect[] {
    if (this.phase !== "open") return [];
    if (isEarly) return this.updates(offset, update, isNew, true);
    this.awaitingDifference = false;
    const moved = this.advance(offset);
    return [{ do: "apply", update: isNew ? update : null, position: moved }];
  }

  /** Every number up to `number` is committed at the relay. */
  ack(number: number, offset: number): Effect[] {
    let through: number | null = null;
    while (this.inFlight[0] !== undefined && this.inFlight[0].number <= number) {
      through = this.inFlight.shift()?.through ?? through;
    }
    if (through !== null) {
      const last = through;
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
    if (through === null && position === null) return [];
    return [{ do: "store", position, ackedThrough: through }];
  }

  /** The relay missed something that our update builds on. */
  resync(stateVector: Uint8Array): Effect[] {
    this.resyncs += 1;
    if (this.resyncs > limits.MAX_RESYNCS_IN_A_ROW) {
      return this.refused("invalid", "the relay asks for the same difference for ever");
    }
    return [this.differ(stateVector)];
  }

  /** The relay refused our updates for good. */
  refused(code: string, reason: string): Effect[] {
    this.refusal = { code, reason };
    return [{ do: "refusal" }];
  }

  /** The difference that was asked for in `turn`; all that it holds is on this disk. */
  offer(update: Uint8Array, through: number, turn: number): Effect[] {
    if (update.length > limits.MAX_UPDATE_BYTES) {
      return this.refused("too_large", `no relay takes ${update.length} bytes at once`);
    }
    if (this.awaitingOffer && turn === this.turn) this.offerReady = { update, through };
    return [];
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
  private refuseReaders(): Effect[] {
    const mayWrite = this.phase !== "open" || this.access >= Access.WRITE;
    if (mayWrite || this.unacked.length === 0 || this.refusal !== null) return [];
    return this.refused("forbidden", "this user may read the room, not write it");
  }

  private differ(stateVector: Uint8Array): Effect {
    this.awaitingOffer = true;
    this.offerReady = null;
    this.offered = 0;
    this.turn += 1;
    return { do: "differ", stateVector, turn: this.turn };
  }

  private losePosition(): Effect[] {
    if (!this.hasPosition) return [];
    this.position = NOWHERE;
    return [{ do: "store", position: NOWHERE, ackedThrough: null }];
  }

  /** Move to `offset` of this run of the relay; the position, if it is to be stored. */
  private advance(offset: number): Position | null {
    const known = this.position;
    if (isEqual(known.generation, this.generation) && known.offset >= offset) return null;
    this.position = { generation: this.generation, offset };
    return this.owesOffer ? null : this.position;
  }
}
