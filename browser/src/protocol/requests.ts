/**
 * What a room asks of its relay while it is joined, and who waits for the answers.
 *
 * 1. Nothing of it is stored, and nothing outlives the joining: who has no answer by then gets none.
 * 2. A number is of one request for ever: an answer that is late fits no other.
 */

import type { Frame } from "./frames.js";

/** What became of it: "done", or the relay's or its application's name for why not. */
export interface Answer {
  readonly code: string;
  readonly reason: string;
  /** What a service gave. */
  readonly value?: unknown;
}

let last = 0;

export class Requests {
  private toSend: Frame[] = [];
  private readonly waiting = new Map<number, (answer: Answer | null) => void>();

  /** The answer to the frame that `make` gives a number; null: the joining ended before it came. */
  ask(make: (request: number) => Frame): Promise<Answer | null> {
    last += 1;
    this.toSend.push(make(last));
    return new Promise((resolve) => this.waiting.set(last, resolve));
  }

  /** The next frame that goes up. */
  next(): Frame | null {
    return this.toSend.shift() ?? null;
  }

  answered(request: number, answer: Answer): void {
    this.waiting.get(request)?.(answer);
    this.waiting.delete(request);
  }

  /** The connection is gone, or the room is left or joined again. */
  detach(): void {
    this.toSend = [];
    for (const resolve of this.waiting.values()) resolve(null);
    this.waiting.clear();
  }
}
