/** What works when: the outcomes that both languages share. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { capabilities } from "../src/capabilities.js";
import type { State } from "../src/connection.js";

/** By state, then by feature; written by Python's table and compared with it in its tests. */
const SHARED = JSON.parse(
  readFileSync(join(process.cwd(), "..", "tests", "unit", "capabilities.json"), "utf8"),
) as Record<string, Record<string, [string, string]>>;

for (const [name, expected] of Object.entries(SHARED)) {
  test(`each feature is as in Python: ${name}`, () => {
    const told = capabilities(name === "without a relay" ? null : (name as State));
    const pairs = Object.entries(told).map(([feature, { availability, why }]) => [
      feature,
      [availability, why],
    ]);
    assert.deepEqual(pairs, Object.entries(expected)); // in the same order, too
  });
}

test("the outcomes are of every state", () => {
  const states: Record<State, true> = {
    offline: true, connecting: true, probing: true, captive: true, syncing: true, live: true,
    suspended: true, failed: true,
  };
  assert.deepEqual(Object.keys(SHARED).sort(), [...Object.keys(states), "without a relay"].sort());
});
