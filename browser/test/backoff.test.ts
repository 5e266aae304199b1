import assert from "node:assert/strict";
import test from "node:test";

import { Backoff } from "../src/protocol/backoff.js";

test("the ceiling doubles up to the cap, and a success begins anew", () => {
  const backoff = new Backoff(1_000, 8_000, 1_000);
  const waits = Array.from({ length: 6 }, () => backoff.wait(0, 0.5));
  assert.deepEqual(waits, [500, 1_000, 2_000, 4_000, 4_000, 4_000]);
  backoff.reset();
  assert.equal(backoff.wait(0, 0.5), 500);
});

test("no more attempts than the budget start in any hour", () => {
  const backoff = new Backoff(1_000, 60_000, 120);
  const starts: number[] = [];
  for (let now = 0; now < 4 * 3_600_000; ) {
    backoff.started(now);
    starts.push(now);
    backoff.reset(); // whatever shortens the wait does not widen the budget
    now += Math.max(1, backoff.wait(now, 0));
  }
  for (const [index, start] of starts.entries()) {
    const later = starts[index + 120];
    if (later !== undefined) assert.ok(later - start >= 3_600_000);
  }
  assert.ok(starts.length > 300);
});
