"""A steady rate and a burst, in virtual time."""

from __future__ import annotations

import pytest

from collab_server.token_bucket import TokenBucket


def taken(bucket: TokenBucket, tries: int, now: float) -> int:
    """How many of so many tries at one moment succeed."""
    count = 0
    for _ in range(tries):
        if bucket.has(1, now):
            bucket.take(1)
            count += 1
    return count


def test_it_begins_full_and_holds_no_more_than_its_burst() -> None:
    bucket = TokenBucket(10.0, 5, now=100.0)
    assert taken(bucket, 20, 100.0) == 5
    assert taken(bucket, 20, 100.0 + 3600) == 5


def test_it_gains_its_rate_also_in_pieces_smaller_than_a_token() -> None:
    bucket = TokenBucket(10.0, 5, now=0.0)
    taken(bucket, 5, 0.0)
    assert [taken(bucket, 1, 0.03125 * step) for step in range(1, 9)] == [0, 0, 0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("every_s", [0.001, 0.02, 0.5])
def test_over_a_minute_no_more_than_the_burst_and_the_rate_are_taken(every_s: float) -> None:
    bucket = TokenBucket(50.0, 100, now=0.0)
    total = sum(taken(bucket, 60, step * every_s) for step in range(int(60 / every_s)))
    assert 50 * 60 - 60 <= total <= 100 + 50 * 60


def test_what_is_too_much_takes_nothing() -> None:
    bucket = TokenBucket(1.0, 10, now=0.0)
    assert not bucket.has(11, 0.0)
    assert bucket.has(10, 0.0)


def test_a_clock_that_goes_back_adds_nothing_and_takes_nothing() -> None:
    bucket = TokenBucket(10.0, 5, now=100.0)
    assert taken(bucket, 5, 100.0) == 5
    assert taken(bucket, 5, 50.0) == 0
    assert taken(bucket, 5, 100.125) == 1
