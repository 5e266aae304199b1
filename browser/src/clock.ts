/**
 * This device's running time, which no wall clock can hurry. What remains of a message's time to
 * live is counted on it. Milliseconds.
 *
 * A page counts by its own monotonic clock. For the time in which none counted (no page was open, or
 * the machine slept) nothing but the wall clock can speak: it is believed less `CLOCK_SLACK_MS`, so
 * that a jump of a day expires nothing. It never goes back: all tabs go on from the latest of them.
 */

import * as limits from "./limits.js";
import type { ClockRow } from "./storage/database.js";

export class Clock {
  private running = 0;
  private up: number;
  private wall: number;

  constructor(
    private readonly uptime: () => number = () => performance.now(),
    private readonly wallTime: () => number = () => Date.now(),
  ) {
    this.up = uptime();
    this.wall = wallTime();
  }

  now(): number {
    const up = this.uptime();
    const wall = this.wallTime();
    this.running += Math.max(up - this.up, wall - this.wall - limits.CLOCK_SLACK_MS);
    this.up = up;
    this.wall = wall;
    return Math.floor(this.running);
  }

  /** What was stored when some tab last did; go on from there. */
  take(stored: ClockRow | undefined): void {
    if (stored === undefined) return;
    const since = Math.max(0, this.wallTime() - stored.wall - limits.CLOCK_SLACK_MS);
    this.hear(stored.running + since);
  }

  /** Another tab is this far. */
  hear(running: number): void {
    this.now();
    this.running = Math.max(this.running, running);
  }

  /** To be stored. */
  get row(): ClockRow {
    return { running: this.now(), wall: this.wallTime() };
  }
}
