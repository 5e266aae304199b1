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


def used_up(backoff: Backoff, now: float) -> int:
    """How many attempts the budget has at ``now``; afterwards it has none."""
    count = 0
    while backoff.blocked_for(now) == 0:
        backoff.started(now)
        count += 1
    return count


def test_while_the_budget_lasts_only_the_jitter_counts() -> None:
    backoff = Backoff()
    for _ in range(59):
        backoff.started(0.0)
    assert backoff.wait(0.0, 0.0) == 0


def test_half_of_the_budget_may_be_used_at_once() -> None:
    assert used_up(Backoff(), 0.0) == 60
    assert used_up(Backoff(BackoffSettings(attempts_per_hour=7)), 0.0) == 3


def test_who_has_used_it_up_waits_for_one_share_and_not_for_the_hour() -> None:
    backoff = Backoff()
    used_up(backoff, 0.0)
    assert backoff.wait(0.0, 0.0) == pytest.approx(60)
    assert backoff.blocked_for(45.0) == pytest.approx(15)
    assert used_up(backoff, 60.0) == 1
    assert used_up(backoff, HOUR_S) == 59


def test_the_jitter_counts_where_it_is_longer_than_the_budgets_wait() -> None:
    backoff = Backoff(BackoffSettings(base_s=100, cap_s=100))
    used_up(backoff, 0.0)
    assert backoff.wait(0.0, 0.9) == pytest.approx(90)


def test_attempts_beyond_the_budget_are_paid_back() -> None:
    backoff = Backoff(BackoffSettings(attempts_per_hour=2))
    for moment in (0.0, 10.0):
        backoff.started(moment)
    assert backoff.blocked_for(10.0) == pytest.approx(2 * HOUR_S - 10)


def test_a_reset_does_not_refill_the_budget() -> None:
    backoff = Backoff(BackoffSettings(attempts_per_hour=2))
    backoff.started(0.0)
    backoff.reset()
    assert backoff.wait(60.0, 0.0) == pytest.approx(HOUR_S - 60)


def test_a_budget_that_never_lets_a_second_attempt_begin_is_refused() -> None:
    with pytest.raises(ValueError, match="attempts an hour"):
        BackoffSettings(attempts_per_hour=1)


def test_a_clock_that_goes_back_refills_nothing() -> None:
    backoff = Backoff()
    used_up(backoff, 1000.0)
    assert backoff.blocked_for(0.0) == pytest.approx(60)


@pytest.mark.parametrize("budget", [2, 3, 120])
def test_a_client_that_obeys_never_starts_more_often_than_the_budget(budget: int) -> None:
    rng = random.Random(2)
    backoff = Backoff(BackoffSettings(attempts_per_hour=budget))
    now, starts = 0.0, []
    while now < 5 * HOUR_S:
        backoff.started(now)
        starts.append(now)
        backoff.reset()  # as flapping would: a second of success each time
        now += 1 + backoff.wait(now + 1, rng.random())
    for start in starts:
        assert sum(1 for other in starts if start <= other < start + HOUR_S) <= budget
