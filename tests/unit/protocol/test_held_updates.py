"""Updates wait for what they need, in bounds."""

from __future__ import annotations

import pytest

from collab import limits
from collab.protocol.held_updates import HeldUpdates
from collab.protocol.update import Coverage, Fit, walk
from tests.unit.protocol.updates import text, update

FIRST = update((1, 0, [text("a")]))
SECOND = update((1, 1, [text("b", left=(1, 0))]))
THIRD = update((1, 2, [text("c", left=(1, 1))]))


def held(*updates: bytes) -> HeldUpdates:
    waiting = HeldUpdates()
    for each in updates:
        waiting.hold(each, walk(each))
    return waiting


def released(waiting: HeldUpdates, coverage: Coverage) -> list[tuple[bytes, Fit]]:
    out = []
    for data, walked, fit in waiting.release(coverage):
        coverage.add(walked)
        out.append((data, fit))
    return out


def test_what_fits_comes_out_and_lets_out_what_needs_it() -> None:
    waiting = held(THIRD, SECOND)
    assert released(waiting, Coverage()) == []
    assert waiting
    coverage = Coverage.from_update(FIRST)
    assert released(waiting, coverage) == [(SECOND, Fit.NEW), (THIRD, Fit.NEW)]
    assert not waiting


def test_what_became_known_meanwhile_is_dropped() -> None:
    waiting = held(SECOND)
    assert released(waiting, Coverage.from_update(update((1, 0, [text("ab")])))) == []
    assert not waiting


@pytest.mark.parametrize("bound", ["MAX_HELD_UPDATES", "MAX_HELD_BYTES"])
def test_above_a_bound_nothing_more_is_kept(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, bound, 1 if bound == "MAX_HELD_UPDATES" else len(SECOND))
    waiting = held(SECOND, THIRD)
    coverage = Coverage.from_update(FIRST)
    assert released(waiting, coverage) == [(SECOND, Fit.NEW)]
    waiting.hold(THIRD, walk(THIRD))  # there is room again
    assert released(waiting, coverage) == [(THIRD, Fit.NEW)]
    waiting.hold(THIRD, walk(THIRD))
    waiting.clear()
    assert not waiting
