"""Ranges of what is missing: what a set of numbers would say, in a few tuples."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from collab.protocol.gaps import Gap, Gaps, add, is_missing, lose, remove

SEQS = st.integers(1, 30)
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "lose"]), SEQS, SEQS, st.sets(SEQS)), max_size=20
)


def members(gaps: Gaps, *, lost: bool) -> set[int]:
    return {seq for gap in gaps if gap.lost is lost for seq in range(gap.low, gap.high + 1)}


@given(STEPS)
def test_gaps_are_what_a_set_of_numbers_would_be(
    steps: list[tuple[str, int, int, set[int]]],
) -> None:
    gaps: Gaps = ()
    missing: set[int] = set()
    lost: set[int] = set()
    for kind, one, other, here in steps:
        low, high = sorted((one, other))
        whole = set(range(low, high + 1))
        if kind == "add":
            gaps = add(gaps, low, high, here=here)
            missing |= whole - here - lost
        elif kind == "remove":
            gaps = remove(gaps, low, high)
            missing -= whole
            lost -= whole
        else:
            before = missing
            gaps, newly = lose(gaps, low, here=here)
            gone = {seq for seq in before if seq < low} - here
            missing = {seq for seq in before if seq >= low}
            lost |= gone
            assert members(newly, lost=True) == gone
        assert members(gaps, lost=False) == missing
        assert members(gaps, lost=True) == lost
        assert list(gaps) == sorted(gaps)
        assert all(
            gap.high + 1 < later.low or (gap.high < later.low and gap.lost != later.lost)
            for gap, later in pairwise(gaps)
        )
        for seq in range(32):
            assert is_missing(gaps, seq) == (seq in missing)


def test_a_gap_leaves_out_what_is_here() -> None:
    assert add((), 1, 10, here=[4, 5, 10]) == (Gap(1, 3), Gap(6, 9))
    assert add((), 1, 3, here=[1, 2, 3]) == ()


def test_neighbours_of_one_kind_are_one_gap_and_of_two_kinds_are_two() -> None:
    assert add((Gap(1, 3),), 4, 6) == (Gap(1, 6),)
    assert add((Gap(1, 3, lost=True),), 4, 6) == (Gap(1, 3, lost=True), Gap(4, 6))


def test_what_was_lost_stays_lost_and_is_told_once() -> None:
    gaps, newly = lose((Gap(1, 10),), 6)
    assert (gaps, newly) == ((Gap(1, 5, lost=True), Gap(6, 10)), (Gap(1, 5, lost=True),))
    assert lose(gaps, 6) == (gaps, ())
    assert add(gaps, 1, 3) == gaps


def test_a_range_of_nothing_changes_nothing() -> None:
    assert add((), 5, 4) == ()
    assert remove((Gap(1, 2),), 5, 4) == (Gap(1, 2),)
