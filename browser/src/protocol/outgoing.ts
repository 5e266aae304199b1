/**
 * What goes out on one socket, and in which order.
 *
 * 1. Control frames go first, in the order they were given.
 * 2. Then each source has its turn, one frame each: no room waits behind all of another.
 * 3. What is longer than a frame goes in parts, one a turn; its source is not asked for more until
 *    the last one is out, so the order within a room holds.
 * 4. No more payloads are on their way in parts than the peer puts together at once; others wait.
 */

import * as limits from "../limits.js";
import { encode } from "./codec.js";

type Encoded = Uint8Array<ArrayBuffer>;

export type Source = () => Encoded | null;

/** A payload that goes in parts: `sent` of its bytes are out. */
interface Cut {
  readonly payload: Encoded;
  readonly stream: number;
  sent: number;
}

export class Outgoing {
  private control: Encoded[] = [];
  private readonly sources = new Map<string, Source>(); // whose turn is next comes first
  private readonly cut = new Map<string, Cut>();
  private streams = 0;

  /** Queue a control frame; it must be short enough for one frame. */
  send(encoded: Encoded): void {
    this.control.push(encoded);
  }

  /** Give `source` a turn from now on: it returns its next frame, or null. */
  attach(key: string, source: Source): void {
    this.sources.set(key, source);
  }

  /** The next frame's bytes, or null when there is nothing to send now. */
  next(): Encoded | null {
    let frame = this.control.shift() ?? null;
    for (const [key, source] of [...this.sources]) {
      if (frame !== null) break;
      this.sources.delete(key); // to the end
      this.sources.set(key, source);
      frame = this.turn(key, source);
    }
    return frame;
  }

  private turn(key: string, source: Source): Encoded | null {
    let cut = this.cut.get(key);
    if (cut === undefined) {
      const payload = source();
      if (payload === null || payload.length <= limits.MAX_FRAME_BYTES) return payload;
      this.streams += 1;
      cut = { payload, stream: this.streams, sent: 0 };
      this.cut.set(key, cut);
    }
    const { payload, stream, sent } = cut;
    const total = payload.length;
    if (sent === 0 && !this.hasRoom(total)) return null;
    cut.sent += limits.PART_BYTES;
    if (cut.sent >= total) this.cut.delete(key);
    return encode({ kind: "part", stream, total, data: payload.subarray(sent, cut.sent) });
  }

  /** Whether the peer puts one more payload of this size together. */
  private hasRoom(size: number): boolean {
    const begun = [...this.cut.values()].filter((cut) => cut.sent > 0);
    const promised = begun.reduce((sum, cut) => sum + cut.payload.length, size);
    return begun.length < limits.MAX_OPEN_PARTS && promised <= limits.MAX_OPEN_PART_BYTES;
  }
}
