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

/** In these a sentence of Python's ends with that of the state, which is all that is said here. */
const AWAY = ["offline", "connecting", "probing", "captive", "suspended", "failed"];

for (const [name, expected] of Object.entries(SHARED)) {
  test(`each feature is there, or is not, as in Python: ${name}`, () => {
    const told = capabilities(name === "without a relay" ? null : (name as State));
    assert.deepEqual(Object.keys(told), Object.keys(expected)); // in the same order, too
    for (const [feature, { availability, why }] of Object.entries(told)) {
      const [inPython, sentence] = expected[feature]!;
      assert.equal(availability, inPython, feature);
      assert.ok(why.length > 10);
      const isBecauseOfState = AWAY.includes(name) && sentence.includes(": ");
      if (isBecauseOfState) assert.ok(sentence.endsWith(`: ${why}`), `${sentence} / ${why}`);
    }
  });
}

test("what is missing without a relay is missing for want of one", () => {
  const { documents, broadcasts } = capabilities(null);
  assert.equal(broadcasts.why, "no relay is configured");
  assert.ok(SHARED["without a relay"]!["documents"]![1].endsWith(documents.why));
});

test("the outcomes are of every state", () => {
  const states: Record<State, true> = {
    offline: true, connecting: true, probing: true, captive: true, syncing: true, live: true,
    suspended: true, failed: true,
  };
  assert.deepEqual(Object.keys(SHARED).sort(), [...Object.keys(states), "without a relay"].sort());
});
