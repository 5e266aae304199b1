/** Gaps, against a plain model: what each number is. */

import assert from "node:assert/strict";
import test from "node:test";

import { add, isMissing, lose, newlyLost, remove, type Gaps } from "../src/protocol/gaps.js";
import { dice } from "./dice.js";

type Model = Map<number, "missing" | "lost">;

function assertAlike(gaps: Gaps, model: Model): void {
  const told: Model = new Map();
  for (const { low, high, lost } of gaps) {
    for (let seq = low; seq <= high; seq += 1) told.set(seq, lost ? "lost" : "missing");
  }
  const sorted = (of: Model): unknown => [...of].sort(([one], [other]) => one - other);
  assert.deepEqual(sorted(told), sorted(model));
  gaps.forEach((gap, at) => {
    const before = gaps[at - 1];
    const isApart = before === undefined || before.high + 1 < gap.low || before.lost !== gap.lost;
    assert.ok(gap.low <= gap.high && isApart, JSON.stringify(gaps));
    assert.equal(isMissing(gaps, gap.low), !gap.lost);
  });
}

for (let seed = 1; seed <= 20; seed += 1) {
  test(`gaps are what each number is (seed ${seed})`, () => {
    const roll = dice(seed);
    const model: Model = new Map();
    let gaps: Gaps = [];
    for (let step = 0; step < 100; step += 1) {
      const low = 1 + roll(30);
      const high = low + roll(12) - 1; // an empty range, too
      const here = Array.from({ length: 45 }, (_, at) => at).filter(() => roll(4) === 0);
      const before = gaps;
      if (roll(2) === 0) {
        const lost = roll(4) === 0;
        gaps = add(gaps, low, high, here, lost);
        for (let seq = low; seq <= high; seq += 1) {
          if (!here.includes(seq) && !model.has(seq)) model.set(seq, lost ? "lost" : "missing");
        }
      } else if (roll(4) > 0) {
        gaps = remove(gaps, low, high);
        for (let seq = low; seq <= high; seq += 1) model.delete(seq);
      } else {
        gaps = lose(gaps, low, here);
        const newly: number[] = [];
        for (const [seq, is] of model) {
          if (is === "lost" || seq >= low) continue;
          if (here.includes(seq)) model.delete(seq);
          else {
            model.set(seq, "lost");
            newly.push(seq);
          }
        }
        const told = newlyLost(gaps, before).flatMap((gap) =>
          Array.from({ length: gap.high - gap.low + 1 }, (_, at) => gap.low + at),
        );
        assert.deepEqual(told, newly.sort((one, other) => one - other));
      }
      assertAlike(gaps, model);
    }
  });
}
