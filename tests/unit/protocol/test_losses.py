"""What a relay lost, told from what it was never given."""

from __future__ import annotations

from collab.protocol.losses import lacking, was_lost
from collab.protocol.sync_effects import Row
from tests.unit.protocol.updates import text, update


def row(number: int, *sections: tuple[int, int, str]) -> Row:
    """A saved row with letters of these clients from these clocks on."""
    return Row(number, update(*((who, clock, [text(it)]) for who, clock, it in sections)))


def test_what_is_lacking_is_counted_from_the_relays_clock_to_ours() -> None:
    assert lacking({1: 5, 2: 3, 3: 4}, {1: 5, 2: 1, 4: 9}) == ((2, 1, 3), (3, 0, 4))
    assert lacking({}, {1: 1}) == ()


def test_what_was_never_acked_was_not_lost() -> None:
    rows = [row(1, (1, 2, "ab")), row(2, (1, 4, "c")), row(3, (2, 0, "d"))]
    assert not was_lost([(1, 2, 5)], rows)
    assert not was_lost([(1, 3, 5), (2, 0, 1)], rows)  # a part of it had come up
    assert not was_lost([], rows)


def test_what_is_below_the_first_row_that_is_not_acked_was_lost() -> None:
    assert was_lost([(1, 1, 5)], [row(1, (1, 2, "abc"))])
    assert was_lost([(1, 2, 5), (2, 0, 1)], [row(1, (1, 2, "abc"))])
    assert was_lost([(7, 0, 1)], [])


def test_of_a_row_with_several_clients_each_is_looked_at() -> None:
    both = [row(1, (2, 3, "x"), (1, 0, "y"))]
    assert not was_lost([(1, 0, 1), (2, 3, 4)], both)
    assert was_lost([(1, 0, 1), (2, 2, 4)], both)


def test_beside_a_snapshot_that_is_not_acked_nothing_counts_as_lost() -> None:
    assert not was_lost([(1, 0, 9), (2, 0, 4)], [row(9, (2, 0, "abcd"), (1, 0, "abcdefghi"))])


def test_a_row_that_no_relay_would_take_explains_nothing() -> None:
    assert was_lost([(1, 0, 1)], [Row(1, b"\xff")])
    assert not was_lost([(1, 0, 1)], [Row(1, b"\xff"), row(2, (1, 0, "a"))])
