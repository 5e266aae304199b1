"""Broadcasts that wait for a socket: bounded, newest kept, in order."""

from __future__ import annotations

import random

import pytest

from collab import limits
from collab.protocol.waiting_casts import WaitingCasts


def all_of(queue: WaitingCasts) -> list[bytes]:
    found = []
    while (frame := queue.next()) is not None:
        found.append(frame)
    return found


def test_they_come_out_as_they_went_in_and_then_there_are_none() -> None:
    queue = WaitingCasts()
    for number in range(5):
        queue.put(number % 2, b"%d" % number)
    assert (len(queue), queue.size, queue.dropped) == (5, 5, 0)
    assert all_of(queue) == [b"0", b"1", b"2", b"3", b"4"]
    assert (len(queue), queue.size, queue.next()) == (0, 0, None)


def test_above_the_number_the_oldest_go() -> None:
    queue = WaitingCasts()
    for number in range(limits.MAX_WAITING_CASTS + 3):
        queue.put(1, b"%d" % number)
    assert (len(queue), queue.dropped) == (limits.MAX_WAITING_CASTS, 3)
    assert queue.next() == b"3"


def test_above_the_bytes_the_oldest_go_until_the_new_one_fits() -> None:
    queue = WaitingCasts()
    half = limits.MAX_WAITING_CAST_BYTES // 2
    for byte in (b"a", b"b"):
        queue.put(1, byte * half)
    assert (len(queue), queue.dropped) == (2, 0)
    queue.put(1, b"c")
    assert (len(queue), queue.dropped, queue.size) == (2, 1, half + 1)
    assert queue.next() == b"b" * half


def test_the_largest_broadcast_there_is_fits_alone() -> None:
    assert limits.MAX_CAST_BYTES + limits.MAX_USER_BYTES + 64 < limits.MAX_WAITING_CAST_BYTES


def test_a_closed_channel_is_forgotten_and_the_others_keep_their_order() -> None:
    queue = WaitingCasts()
    for number in range(6):
        queue.put(number % 3, b"x" * number)
    queue.forget(1)
    queue.forget(7)
    assert (len(queue), queue.size, queue.dropped) == (4, 0 + 2 + 3 + 5, 0)
    assert [len(frame) for frame in all_of(queue)] == [0, 2, 3, 5]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_bounds_hold_and_what_is_left_is_the_newest(seed: int) -> None:
    rng, queue, kept = random.Random(seed), WaitingCasts(), list[tuple[int, bytes]]()
    for number in range(3_000):
        match rng.randrange(20):
            case 0:
                channel = rng.randrange(4)
                queue.forget(channel)
                kept = [each for each in kept if each[0] != channel]
            case 1 | 2 | 3:
                found = queue.next()
                assert found == (kept.pop(0)[1] if kept else None)
            case _:
                channel, size = rng.randrange(4), rng.choice((1, 10, 30_000))
                frame = (b"%d" % number).ljust(size, b"x")
                before = queue.dropped
                queue.put(channel, frame)
                kept.append((channel, frame))
                del kept[: queue.dropped - before]
        assert len(queue) == len(kept) <= limits.MAX_WAITING_CASTS
        assert queue.size == sum(len(frame) for _, frame in kept) <= limits.MAX_WAITING_CAST_BYTES
    assert queue.dropped > 0
