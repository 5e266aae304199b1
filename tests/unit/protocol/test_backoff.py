"""The wait before the next attempt."""

from __future__ import annotations

import random

import pytest

from collab.protocol.backoff import HOUR_S, Backoff, BackoffSettings

ALMOST_ONE = 1 - 2**-53


def ceilings(backoff: Backoff, count: int) -> list[float]:
    return [backoff.wait(0.0, ALMOST_ONE) for _ in range(count)]


def test_the_ceiling_doubles_from_the_base_to_the_cap() -> None:
    assert ceilings(Backoff(), 9) == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])


def test_the_jitter_is_full() -> None:
    rng = random.Random(1)
    waits = []
    for _ in range(500):
        backoff = Backoff()
        ceilings(backoff, 3)
        waits.append(backoff.wait(0.0, rng.random()))
    assert all(0 <= wait < 8 for wait in waits)
    assert min(waits) < 0.5
    assert max(waits) > 7.5
    assert Backoff().wait(0.0, 0.0) == 0


def test_ten_thousand_failures_wait_no_longer_than_the_cap() -> None:
    assert max(ceilings(Backoff(), 10_000)) <= 60


def test_a_reset_makes_the_next_wait_short_again() -> None:
    backoff = Backoff()
    ceilings(backoff, 6)
    backoff.reset()
    assert ceilings(backoff, 2) == pytest.approx([1, 2])


def test_the_settings_are_used() -> None:
    backoff = Backoff(BackoffSettings(base_s=0.5, cap_s=3))
    assert ceilings(backoff, 5) == pytest.approx([0.5, 1, 2, 3, 3])


def test_below_the_budget_of_an_hour_only_the_jitter_counts() -> None:
    backoff = Backoff()
    for _ in range(119):
        backoff.started(0.0)
    assert backoff.wait(10.0, 0.0) == 0


def test_at_the_budget_it_waits_until_the_oldest_attempt_is_an_hour_old() -> None:
    backoff = Backoff()
    for attempt in range(120):
        backoff.started(float(attempt))
    assert backoff.wait(200.0, 0.0) == pytest.approx(HOUR_S - 200)
    assert backoff.wait(HOUR_S, 0.0) == 0  # the first one has left the hour


def test_above_the_budget_it_waits_for_as_many_to_grow_old_as_are_too_many() -> None:
    backoff = Backoff(BackoffSettings(attempts_per_hour=2))
    for attempt in (0.0, 10.0, 20.0):
        backoff.started(attempt)
    assert backoff.wait(30.0, 0.0) == pytest.approx(10 + HOUR_S - 30)


def test_a_reset_does_not_refill_the_budget() -> None:
    backoff = Backoff(BackoffSettings(attempts_per_hour=1))
    backoff.started(0.0)
    backoff.reset()
    assert backoff.wait(60.0, 0.0) == pytest.approx(HOUR_S - 60)


def test_a_client_that_obeys_never_starts_more_often_than_the_budget() -> None:
    rng = random.Random(2)
    backoff = Backoff()
    now, starts = 0.0, []
    while now < 3 * HOUR_S:
        backoff.started(now)
        starts.append(now)
        backoff.reset()  # as flapping would: a second of success each time
        now += 1 + backoff.wait(now, rng.random())
    for start in starts:
        assert sum(1 for other in starts if start <= other < start + HOUR_S) <= 120
