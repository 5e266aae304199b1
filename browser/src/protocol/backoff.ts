/** How long to wait before the next attempt: full jitter, with a budget. Times are milliseconds. */

import * as limits from "../limits.js";

const HOUR_MS = 3_600_000;

export class Backoff {
  private failures = 0;
  private starts: number[] = [];

  constructor(
    private readonly baseMs = limits.BACKOFF_BASE_MS,
    private readonly capMs = limits.BACKOFF_CAP_MS,
    private readonly attemptsPerHour = limits.ATTEMPTS_PER_HOUR,
  ) {}

  /** A success, a hint or a user's act: the next wait is short again. The budget stays. */
  reset(): void {
    this.failures = 0;
  }

  /** An attempt starts now. */
  started(now: number): void {
    this.starts.push(now);
  }

  /** How long to wait after a failure; `chance` is uniform in [0, 1). */
  wait(now: number, chance: number): number {
    const ceiling = Math.min(this.capMs, this.baseMs * 2 ** Math.min(this.failures, 32));
    this.failures += 1;
    this.starts = this.starts.filter((start) => start > now - HOUR_MS);
    const oldest = this.starts.at(-this.attemptsPerHour);
    const pause = ceiling * chance;
    return oldest === undefined ? pause : Math.max(pause, oldest + HOUR_MS - now);
  }
}
