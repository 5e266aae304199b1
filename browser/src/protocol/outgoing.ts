/**
 * What goes out on one socket, and in which order.
 *
 * 1. Control frames go first, in the order they were given.
 * 2. Then each source has its turn, one frame each: no room waits behind all of another.
 * 3. What is longer than a frame goes in parts, one a turn; its source is not asked for more until
 *    the last one is out, so the order within a room holds.
 */

import * as limits from "../limits.js";
import { parts } from "./codec.js";

export type Source = () => Uint8Array<ArrayBuffer> | null;

export class Outgoing {
  private control: Uint8Array<ArrayBuffer>[] = [];
  private readonly sources = new Map<string, Source>();
  private readonly cut = new Map<string, Iterator<Uint8Array<ArrayBuffer>>>();
  private turns: string[] = [];
  private streams = 0;

  /** Queue a control frame; it must be short enough for one frame. */
  send(encoded: Uint8Array<ArrayBuffer>): void {
    this.control.push(encoded);
  }

  /** Give `source` a turn from now on: it returns its next frame, or null. */
  attach(key: string, source: Source): void {
    if (!this.turns.includes(key)) this.turns.push(key);
    this.sources.set(key, source);
  }

  /** Take the turn away; parts that are on their way are finished first. */
  detach(key: string): void {
    this.sources.delete(key);
  }

  /** The next frame's bytes, or null when there is nothing to send now. */
  next(): Uint8Array<ArrayBuffer> | null {
    const control = this.control.shift();
    if (control !== undefined) return control;
    for (let tries = this.turns.length; tries > 0; tries -= 1) {
      const key = this.turns.shift();
      if (key === undefined) return null;
      this.turns.push(key);
      const frame = this.turn(key);
      if (frame !== null) return frame;
    }
    return null;
  }

  private turn(key: string): Uint8Array<ArrayBuffer> | null {
    const pieces = this.cut.get(key);
    if (pieces !== undefined) {
      const piece = pieces.next();
      if (piece.done !== true) return piece.value;
      this.cut.delete(key);
    }
    const source = this.sources.get(key);
    if (source === undefined) {
      this.turns = this.turns.filter((one) => one !== key);
      return null;
    }
    const frame = source();
    if (frame === null || frame.length <= limits.MAX_FRAME_BYTES) return frame;
    this.streams += 1;
    const cut = parts(frame, this.streams);
    this.cut.set(key, cut);
    return cut.next().value ?? null;
  }
}
