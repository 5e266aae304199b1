"""One live connection per user and device."""

from __future__ import annotations

import pytest

from collab.protocol.frames import Close
from collab_server.gateway.fence import Fence

KEY = ("alice", b"d" * 16)


class Connection:
    def __init__(self) -> None:
        self.closed: list[int] = []

    def close(self, code: int, reason: str) -> None:
        assert reason
        self.closed.append(code)


def test_a_newer_connection_ends_the_older() -> None:
    fence, old, new = Fence(), Connection(), Connection()
    fence.enter(KEY, 1, old)
    assert old.closed == []
    fence.enter(KEY, 2, new)
    assert old.closed == [Close.FENCED]
    assert new.closed == []


@pytest.mark.parametrize("number", [4, 5])
def test_an_older_or_equal_number_ends_itself_and_not_the_newer(number: int) -> None:
    fence, new, old = Fence(), Connection(), Connection()
    fence.enter(KEY, 5, new)
    fence.enter(KEY, number, old)
    assert old.closed == [Close.FENCED]
    assert new.closed == []
    fence.leave(KEY, old)  # the loser's end does not open the way for another old one
    third = Connection()
    fence.enter(KEY, 3, third)
    assert third.closed == [Close.FENCED]


@pytest.mark.parametrize("key", [("bob", b"d" * 16), ("alice", b"e" * 16)])
def test_another_user_or_device_is_left_alone(key: tuple[str, bytes]) -> None:
    fence, mine, other = Fence(), Connection(), Connection()
    fence.enter(KEY, 5, mine)
    fence.enter(key, 1, other)
    assert mine.closed == other.closed == []


def test_when_a_connection_is_over_its_number_is_forgotten() -> None:
    fence, first, second = Fence(), Connection(), Connection()
    fence.enter(KEY, 5, first)
    fence.leave(KEY, first)
    fence.enter(KEY, 1, second)
    assert second.closed == []
    fence.leave(KEY, first)  # twice, late
    third = Connection()
    fence.enter(KEY, 2, third)
    assert second.closed == [Close.FENCED]


def test_the_end_of_a_fenced_connection_does_not_free_the_place_of_its_successor() -> None:
    fence, old, new, older = Fence(), Connection(), Connection(), Connection()
    fence.enter(KEY, 1, old)
    fence.enter(KEY, 2, new)
    fence.leave(KEY, old)
    fence.enter(KEY, 1, older)
    assert older.closed == [Close.FENCED]
    assert new.closed == []


def test_fencing_is_permanent_for_the_one_that_lost() -> None:
    assert 4400 <= Close.FENCED < 4500
