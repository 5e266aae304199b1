from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from collab.protocol.clock_runs import ClockRuns, PlaceRuns

spans = st.tuples(st.integers(0, 40), st.integers(1, 10)).map(lambda s: (s[0], s[0] + s[1]))


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(spans, max_size=25), spans)
def test_runs_agree_with_a_plain_set(added: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    runs, plain = ClockRuns(), set[int]()
    for start, end in added:
        runs.add(start, end)
        plain |= set(range(start, end))
    listed = list(runs)
    assert {clock for start, end in listed for clock in range(start, end)} == plain
    assert all(a[1] < b[0] for a, b in itertools.pairwise(listed))
    inside = set(range(*asked))
    assert runs.covers(*asked) == (inside <= plain)
    assert runs.touches(*asked) == bool(inside & plain)
    missing = {clock for start, end in runs.missing(*asked) for clock in range(start, end)}
    assert missing == inside - plain
    assert all((clock in runs) == (clock in plain) for clock in range(60))


def test_a_held_backspace_is_one_run() -> None:
    runs = ClockRuns()
    for clock in range(10_000, 0, -1):
        runs.add(clock, clock + 1)
    assert list(runs) == [(1, 10_001)]


def test_a_copy_does_not_follow() -> None:
    runs = ClockRuns()
    runs.add(1, 2)
    twin = runs.copy()
    twin.add(5, 6)
    assert (list(runs), list(twin)) == ([(1, 2)], [(1, 2), (5, 6)])
    assert runs != twin


def test_depths_are_joined_and_found() -> None:
    runs = PlaceRuns()
    for start, end, depth in [(2, 4, 1), (4, 6, 1), (6, 7, 2), (9, 10, 2)]:
        runs.append(start, end, depth)
    assert list(runs) == [(2, 6, 1), (6, 7, 2), (9, 10, 2)]
    assert [runs.at(clock) for clock in range(11)] == [0, 0, 1, 1, 1, 1, 2, 0, 0, 2, 0]
    assert runs.copy() == runs
