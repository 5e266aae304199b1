"""MARKs: one a second, only with news, only of what is stored."""

from __future__ import annotations

from collab import limits
from collab.protocol import frames
from collab.protocol.marks import Marks

SECOND = limits.MARK_EVERY_MS


def test_a_device_with_nothing_to_tell_says_nothing() -> None:
    marks = Marks(delivered_upto=0, read_upto=0)
    assert marks.next_frame(3, 0) is None
    assert marks.deadline() is None


def test_what_a_device_knew_before_is_told_once_on_each_connection() -> None:
    marks = Marks(delivered_upto=7, read_upto=5)
    for now in (0, 10 * SECOND):
        marks.entered(5)
        assert marks.next_frame(3, now) == frames.Mark(3, 7, 5)
        assert marks.next_frame(3, now + SECOND) is None


def test_a_burst_is_one_mark_now_and_one_a_second_later() -> None:
    marks = Marks(delivered_upto=0, read_upto=0)
    sent = []
    for ms in range(0, 2 * SECOND, 10):
        marks.delivered(ms)
        frame = marks.next_frame(3, ms)
        if frame is not None:
            sent.append((ms, frame.delivered_upto))
    assert sent == [(10, 10), (SECOND + 10, SECOND + 10)]
    assert marks.deadline() == 2 * SECOND + 10


def test_registers_only_rise_but_in_another_history() -> None:
    marks = Marks(delivered_upto=7, read_upto=5)
    marks.delivered(3)
    marks.read(2)
    assert (marks.delivered_upto, marks.read_upto) == (7, 5)
    marks.restart(0, 2)
    assert (marks.delivered_upto, marks.read_upto) == (0, 2)


def test_what_the_relay_told_us_is_not_told_to_it_again() -> None:
    marks = Marks(delivered_upto=0, read_upto=0)
    marks.entered(4)
    marks.read(4)
    marks.heard(6)
    assert marks.read_upto == 6
    assert marks.next_frame(3, 0) is None
