"""The mark moves by runs that join it; holes become gaps; pages bring what they were asked for."""

from __future__ import annotations

from typing import Any

import pytest

from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.chat_changes import Fill, Place, Receive, Replace
from collab.protocol.log_reader import LogReader
from collab.protocol.messages import LoggedMessage, pack_messages
from tests.e2e.support import entered

OLD, RUN = b"o" * 16, b"r" * 16


def message(seq: int) -> LoggedMessage:
    return LoggedMessage(seq, seq.to_bytes(16, "big"), "ana", f"m{seq}", b"", 1, 2, 0, 0)


def run(after: int, upto: int) -> frames.Messages:
    return frames.Messages(7, after, upto, pack_messages(map(message, range(after + 1, upto + 1))))


def page(request: int, after: int, upto: int, *, oldest: int = 1) -> frames.Page:
    data = pack_messages(map(message, range(after + 1, upto + 1)))
    return frames.Page(7, request, after, upto, oldest, data)


def told(after: int, head: int, **fields: Any) -> frames.Entered:
    enter = frames.Enter(7, bytes(16), 0, OLD, 0)
    return entered(enter, after=after, head=head, **fields)


def reader_at(seq: int, *, head: int | None = None) -> LogReader:
    """A reader whose mark is good, and that is told of a head."""
    reader = LogReader(generation=OLD, seq=seq)
    reader.joined(RUN)
    reader.entered(told(seq, seq if head is None else head), 0)
    return reader


def test_messages_that_join_the_mark_move_it_together_with_them() -> None:
    reader = reader_at(3, head=5)
    received = reader.messages(run(3, 5))
    assert received == Receive([message(4), message(5)], RUN, 5)
    assert (reader.generation, reader.seq, reader.stored) == (RUN, 5, 3)
    assert not reader.is_caught_up  # nothing is stored yet
    reader.is_stored(5)
    assert reader.is_caught_up


def test_what_is_here_already_is_left_out() -> None:
    reader = reader_at(5)
    assert reader.messages(run(2, 4)) is None
    assert reader.messages(run(2, 5)) is None
    assert reader.messages(run(3, 7)) == Receive([message(6), message(7)], RUN, 7)


def test_messages_that_leave_a_hole_are_a_bad_frame_and_move_nothing() -> None:
    reader = reader_at(5)
    with pytest.raises(BadFrame, match="at 5"):
        reader.messages(run(6, 7))
    holes = frames.Messages(7, 5, 8, pack_messages([message(6), message(8)]))
    with pytest.raises(BadFrame, match="2 messages"):
        reader.messages(holes)
    assert reader.seq == 5


@pytest.mark.parametrize(
    "frame",
    [
        frames.Messages(7, 5, 6, pack_messages([])),
        frames.Messages(7, 6, 5, pack_messages([])),
        frames.Messages(7, 5, 6, pack_messages([message(7)])),
        frames.Messages(7, 5, 7, pack_messages([message(5), message(6)])),
        frames.Messages(7, 5, 6, b"\xc1"),
    ],
    ids=["too few", "backwards", "beyond", "before", "garbage"],
)
def test_a_run_that_is_none_is_a_bad_frame(frame: frames.Messages) -> None:
    reader = reader_at(5)
    with pytest.raises(BadFrame):
        reader.messages(frame)
    assert reader.seq == 5


def test_messages_before_entered_are_a_bad_frame() -> None:
    reader = LogReader(generation=OLD, seq=5)
    with pytest.raises(BadFrame, match="before ENTERED"):
        reader.messages(run(5, 6))


def test_a_device_that_missed_too_much_goes_on_at_the_newest_and_knows_its_gap() -> None:
    reader = LogReader(generation=OLD, seq=10)
    reader.joined(RUN)
    placed = reader.entered(told(950, 1_000, oldest=40), 0)
    assert placed == Place("me", RUN, after=950, head=1_000, oldest=40, read_upto=0, unread=0)
    assert (reader.seq, reader.generation) == (950, RUN)
    reader.is_stored(950)
    assert not reader.is_caught_up
    assert isinstance(reader.messages(run(950, 1_000)), Receive)
    reader.is_stored(1_000)
    assert reader.is_caught_up


def test_a_log_of_which_nothing_is_left_is_caught_up_at_once() -> None:
    reader = LogReader(generation=OLD, seq=10)
    reader.joined(RUN)
    reader.entered(told(1_000, 1_000, oldest=1_001), 0)
    reader.is_stored(1_000)
    assert reader.is_caught_up


def test_a_mark_that_is_no_place_in_the_history_is_given_up() -> None:
    reader = LogReader(generation=OLD, seq=1_000)
    reader.joined(RUN)
    placed = reader.entered(told(30, 80, good=False), 99)
    assert placed == Replace(Place("me", RUN, 30, 80, 1, 0, 0), since=99)
    assert (reader.generation, reader.seq) == (RUN, 30)
    assert reader.messages(run(30, 80)) is not None
    reader.restart(30)
    assert not reader.is_caught_up


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"after": 5, "head": 4}, 0),
        ({"after": 3, "head": 9, "oldest": 5}, 3),
        ({"after": 0, "head": 0, "oldest": 0}, 0),
        ({"after": 9, "head": 9, "oldest": 11}, 9),
        ({"after": 3, "head": 9}, 4),
        ({"after": 3, "head": 3}, 4),
    ],
    ids=str,
)
def test_a_history_that_cannot_be_is_a_bad_frame(fields: dict[str, Any], asked: int) -> None:
    with pytest.raises(BadFrame):
        LogReader(generation=OLD, seq=asked).check(told(**fields), asked)


def test_a_history_that_can_be_is_none() -> None:
    reader = LogReader(generation=OLD, seq=4)
    for frame in (told(0, 0), told(4, 9), told(9, 9, oldest=10), told(2, 3, good=False)):
        reader.check(frame, 0 if frame.good else 4)


# Pages


def ask(reader: LogReader, low: int, high: int, *, newest: bool = True) -> int:
    request = reader.ask(low, high, newest=newest)
    assert reader.next_frame(7) == frames.Fetch(7, request, low - 1, high + 1, newest)
    return request


def test_a_page_fills_what_it_holds_from_the_asked_end() -> None:
    reader = reader_at(500)
    newest = ask(reader, 1, 400)
    filled = reader.page(page(newest, 300, 400))
    assert filled == Fill(newest, list(map(message, range(301, 401))), 301, 400, 1)
    oldest = ask(reader, 1, 300, newest=False)
    filled = reader.page(page(oldest, 0, 100))
    assert filled is not None
    assert (filled.low, filled.high) == (1, 100)


def test_a_page_that_nobody_waits_for_is_left_alone() -> None:
    reader = reader_at(500)
    assert reader.page(page(9, 300, 400)) is None
    request = ask(reader, 1, 400)
    reader.give_up(request)
    assert reader.page(page(request, 300, 400)) is None


def test_a_range_that_the_relay_has_no_more_is_lost() -> None:
    reader = reader_at(500)
    request = ask(reader, 1, 400)
    filled = reader.page(page(request, 400, 400, oldest=401))
    assert filled == Fill(request, (), 401, 400, 401)


def test_a_page_begins_at_the_oldest_that_is_left() -> None:
    reader = reader_at(500)
    request = ask(reader, 1, 400, newest=False)
    filled = reader.page(page(request, 349, 400, oldest=350))
    assert filled is not None
    assert (filled.low, filled.high, filled.oldest) == (350, 400, 350)


@pytest.mark.parametrize(
    ("newest", "after", "upto", "oldest"),
    [
        (True, 0, 0, 1),  # nothing, although there is something
        (True, 5, 5, 400),  # nothing, although the newest is there
        (True, 300, 399, 1),  # not from the newest end
        (False, 1, 100, 1),  # not from the oldest end
        (True, 350, 401, 1),  # beyond what was asked for
        (False, 0, 401, 1),
        (True, 98, 400, 100),  # older than the oldest
    ],
)
def test_a_page_that_does_not_bring_the_device_on_is_an_error_and_no_loop(
    newest: bool, after: int, upto: int, oldest: int
) -> None:
    reader = reader_at(500)
    low = 2 if upto == 401 and not newest else 1
    request = ask(reader, low, 400, newest=newest)
    frame = frames.Page(
        7, request, after, upto, oldest, pack_messages(map(message, range(after + 1, upto + 1)))
    ) if upto - after <= 100 else page(request, after, after + 100, oldest=oldest)  # fmt: skip
    with pytest.raises(BadFrame):
        reader.page(frame)


def test_what_was_asked_for_is_forgotten_with_the_connection() -> None:
    reader = reader_at(500)
    request = reader.ask(1, 400, newest=True)
    reader.detach()
    assert reader.next_frame(7) is None
    assert reader.page(page(request, 300, 400)) is None
    with pytest.raises(BadFrame):
        reader.messages(run(500, 501))
