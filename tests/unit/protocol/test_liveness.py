"""PING, PONG and silence."""

from __future__ import annotations

from collab.protocol.liveness import MAX_PONG_S, Liveness


def test_a_ping_goes_out_after_each_period_and_numbers_rise() -> None:
    life, now = Liveness(25, 10, 0), 0.0
    for number in (1, 2, 3):
        now += 25
        assert life.deadline == now
        assert life.due(now) == number
        assert life.deadline == now + 10
        life.ponged(number, now)


def test_silence_after_a_ping_means_that_nobody_is_there() -> None:
    life = Liveness(25, 10, 0)
    life.due(25)
    assert life.due(35) is None


def test_bytes_put_the_verdict_off_but_not_for_ever() -> None:
    life = Liveness(25, 10, 0)
    life.heard(24)
    assert life.deadline == 25  # what came before the PING proves nothing about after it
    life.due(25)
    life.heard(33)
    assert life.deadline == 43
    life.heard(25 + MAX_PONG_S)
    assert life.deadline == 25 + MAX_PONG_S


def test_only_the_newest_pings_pong_counts() -> None:
    life = Liveness(25, 10, 0)
    life.due(25)
    life.ponged(1, 26)
    life.due(51)
    life.ponged(1, 52)
    assert life.due(61) is None


def test_a_reason_to_ask_makes_it_ask_now_and_not_twice() -> None:
    life = Liveness(25, 10, 0)
    life.make_sure(3)
    assert life.deadline == 3
    assert life.due(3) == 1
    life.make_sure(4)
    assert life.deadline == 13


def test_a_reason_that_comes_while_it_is_asked_makes_it_ask_again_after_the_answer() -> None:
    """The PONG may have come before the reason did, and not have been read."""
    life = Liveness(25, 10, 0)
    assert life.proven == 0
    life.due(25)
    life.make_sure(30)
    life.ponged(1, 31)
    assert life.proven == 25
    assert life.deadline == 31
    assert life.due(31) == 2
    life.ponged(2, 32)
    assert life.proven == 31
    assert life.deadline == 57
