import assert from "node:assert/strict";
import test from "node:test";

import { Clock } from "../src/clock.js";

const DAY = 24 * 3_600_000;

/** Clocks of a machine: what has passed since it was on, and what its wall clock says. */
function machine(up: number, wall: number): { up: number; wall: number; clock: Clock } {
  const at = { up, wall, clock: null as unknown as Clock };
  at.clock = new Clock(() => at.up, () => at.wall);
  return at;
}

test("running time is the page's own, whatever a wall clock does within a day", () => {
  const at = machine(500, 10 * DAY);
  at.up += 1_000;
  at.wall += DAY;
  assert.equal(at.clock.now(), 1_000);
  at.wall -= 5 * DAY;
  assert.equal(at.clock.now(), 1_000);
  at.up += 1;
  assert.equal(at.clock.now(), 1_001);
});

test("time in which no page counted is what the wall clock says, less a day", () => {
  const at = machine(0, 10 * DAY);
  at.clock.take({ running: 5_000, wall: 10 * DAY - DAY / 2 });
  assert.equal(at.clock.now(), 5_000);
  const later = machine(0, 13 * DAY);
  later.clock.take({ running: 5_000, wall: 10 * DAY });
  assert.equal(later.clock.now(), 5_000 + 2 * DAY);
  const asleep = machine(0, 0);
  asleep.wall += 3 * DAY; // while the machine slept, its uptime stood still
  assert.equal(asleep.clock.now(), 2 * DAY);
});

test("a tab goes on from the latest of all, and loses nothing of what it counted", () => {
  const at = machine(0, 0);
  at.up += 100;
  at.clock.hear(50);
  assert.equal(at.clock.now(), 100);
  at.up += 100;
  at.clock.hear(1_000);
  at.up += 1;
  at.clock.take(undefined);
  assert.equal(at.clock.now(), 1_001);
});
