/** What works when: the outcomes that both languages share. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { capabilities } from "../src/capabilities.js";
import { NOT_CONNECTED, type State } from "../src/connection.js";

/** By state, then by feature; compared with Python's table in its tests. */
const SHARED = JSON.parse(
  readFileSync(join(process.cwd(), "..", "tests", "unit", "capabilities.json"), "utf8"),
) as Record<string, Record<string, [availability: string, why: string]>>;

const ALONE = "without a relay";

for (const [state, expected] of Object.entries(SHARED)) {
  test(`each feature is there, or is not, as in Python: ${state}`, () => {
    const status = { ...NOT_CONNECTED, state: state as State, reason: `it is ${state}` };
    const told = Object.entries(capabilities(state === ALONE ? null : status));
    assert.deepEqual(
      told.map(([feature, { availability }]) => [feature, availability]),
      Object.entries(expected).map(([feature, [availability]]) => [feature, availability]),
    );
    const why = state === ALONE ? "no relay is configured" : `it is ${state}`;
    for (const [feature, capability] of told) {
      const isApart = ["undo", "files", "audio and video"].includes(feature);
      if (!isApart) assert.equal(capability.why, why);
      else assert.ok(expected[feature]![1].startsWith(capability.why));
    }
  });
}

test("the outcomes are of every state", () => {
  const states: Record<State, true> = {
    offline: true, connecting: true, probing: true, captive: true, syncing: true, live: true,
    suspended: true, failed: true,
  };
  assert.deepEqual(Object.keys(SHARED).sort(), [...Object.keys(states), ALONE].sort());
});
