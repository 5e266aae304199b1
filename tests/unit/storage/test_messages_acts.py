"""What a program does to messages: stored whole, or refused by name with nothing changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from collab.errors import Closed, CollabError, IdConflict, OutboxFull, WrongState
from collab.protocol import chat_changes as cc
from collab.protocol.message_state import MessageState
from collab.storage import message_acts
from collab.storage.chat_rows import FORGET
from collab.storage.message_acts import Draft, OutboxCaps
from collab.storage.message_rows import MessageRow
from tests.property.chat_device import ROOM, new_file
from tests.unit.storage.test_messages_changes import (
    EPOCH,
    at,
    bind,
    decide,
    ident,
    loaded,
    message,
    order,
    place,
    receive,
    row,
    send,
    states,
    store,
)


@pytest.fixture
def file() -> sqlite3.Connection:
    return new_file(EPOCH)


def dump(file: sqlite3.Connection) -> list[str]:
    """All that is in the file."""
    return list(file.iterdump())


def draft(number: int, body: str = "hello", meta: bytes = b"", ttl: int | None = None) -> Draft:
    return Draft(ident(number), body, meta, 5, ttl)


def write(
    file: sqlite3.Connection, given: Draft, *, now: int = 0, caps: OutboxCaps | None = None
) -> tuple[MessageRow, cc.Waiting | None]:
    return message_acts.write(file, ROOM, given, at(now), caps or OutboxCaps())


def refused(file: sqlite3.Connection, error: type[CollabError], act: Callable[[], Any]) -> str:
    """The message with which ``act`` is refused; the file is as it was."""
    before = dump(file)
    with pytest.raises(error) as caught:
        act()
    assert dump(file) == before
    return str(caught.value)


def test_a_message_is_queued_at_the_end_with_its_time(file: sqlite3.Connection) -> None:
    written, waiting = write(file, draft(1, "你好", b"\x80", ttl=500), now=1_000)
    assert waiting == cc.Waiting(ident(1), 1, 1_500, offered=False)
    assert (written.state, written.body, written.meta) == ("queued", "你好", b"\x80")
    assert written.seq is None
    assert written.mine
    _, second = write(file, draft(2))
    assert second == cc.Waiting(ident(2), 2, None, offered=False)
    assert loaded(file).waiting == [waiting, second]
    assert message_acts.clock(file) == at(0)


def test_the_same_message_again_is_the_one_that_is_there_in_any_state(
    file: sqlite3.Connection,
) -> None:
    first, _ = write(file, draft(1))
    assert write(file, draft(1)) == (first, None)
    bind(file, 1)
    store(file, decide(1, "rejected"))
    again, waiting = write(file, draft(1))
    assert (again.row, again.state, waiting) == (first.row, "rejected", None)
    assert len(loaded(file).waiting) == 0


@pytest.mark.parametrize(
    "other", [draft(1, "hello!"), draft(1, meta=b"\x81\xa1a\x01"), draft(1, "")], ids=str
)
def test_the_same_id_with_other_bytes_is_refused(file: sqlite3.Connection, other: Draft) -> None:
    write(file, draft(1))
    assert "Nothing was stored" in refused(file, IdConflict, lambda: write(file, other))


def test_an_id_of_somebody_elses_message_is_refused(file: sqlite3.Connection) -> None:
    store(file, place())
    receive(file, message(1, 1, body="hello"))
    refused(file, IdConflict, lambda: write(file, draft(1)))


def test_a_message_of_another_device_of_this_user_is_the_one_that_is_there(
    file: sqlite3.Connection,
) -> None:
    store(file, place())
    receive(file, message(1, 1, body="hello", sender="me"))
    found, waiting = write(file, draft(1))
    assert (found.seq, waiting) == (1, None)


@pytest.mark.parametrize("caps", [OutboxCaps(messages=2), OutboxCaps(bytes=14)], ids=str)
def test_a_full_outbox_takes_no_more_until_something_is_decided(
    file: sqlite3.Connection, caps: OutboxCaps
) -> None:
    write(file, draft(1), caps=caps)
    write(file, draft(2), caps=caps)
    told = refused(file, OutboxFull, lambda: write(file, draft(3), caps=caps))
    assert "stay queued" in told
    bind(file, 1)
    refused(file, OutboxFull, lambda: write(file, draft(3), caps=caps))
    store(file, decide(1, "rejected"))
    write(file, draft(3), caps=caps)


def test_the_outbox_is_that_of_all_rooms(file: sqlite3.Connection) -> None:
    file.execute("INSERT INTO rooms (id, name) VALUES (2, 'other')")
    file.execute("INSERT INTO chats (room_id, lane_epoch) VALUES (2, x'00')")
    caps = OutboxCaps(messages=1)
    message_acts.write(file, 2, draft(1), at(0), caps)
    refused(file, OutboxFull, lambda: write(file, draft(2), caps=caps))


def test_the_same_message_again_needs_no_room_in_the_outbox(file: sqlite3.Connection) -> None:
    caps = OutboxCaps(messages=1)
    write(file, draft(1), caps=caps)
    assert write(file, draft(1), caps=caps)[1] is None


def test_a_room_that_was_forgotten_takes_nothing(file: sqlite3.Connection) -> None:
    for statement in FORGET:
        file.execute(statement, (ROOM,))
    for act in (
        lambda: write(file, draft(1)),
        lambda: message_acts.read(file, ROOM, None),
    ):
        assert "nothing was stored" in refused(file, Closed, act)


def test_what_the_outbox_is_said_to_hold_is_what_it_holds(file: sqlite3.Connection) -> None:
    def check() -> None:
        counted = file.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM messages"
            " WHERE state = 'queued' OR slot IS NOT NULL"
        ).fetchone()
        assert file.execute("SELECT messages, bytes FROM outbox").fetchone() == counted

    acts: list[Callable[[], object]] = [
        lambda: send(file, *range(1, 9)),
        lambda: message_acts.edit(file, row(file, 8).row, "longer than it was", OutboxCaps()),
        lambda: bind(file, 1, 2, 3, 4, 5),
        lambda: store(file, decide(1, "accepted", 1), decide(2, "rejected"), decide(3, "stalled")),
        lambda: receive(file, message(1, 1, sender=""), message(2, 4, sender="")),
        lambda: store(file, decide(4, "accepted", 2)),
        lambda: message_acts.cancel(file, row(file, 6).row),
        lambda: message_acts.retry(file, ROOM, row(file, 3).row, at(0)),
        lambda: store(file, cc.Expire((ident(7),))),
        lambda: store(file, cc.NewLane(b"n" * 16, rolled_back=False)),
        lambda: store(file, cc.Replace(place(), 0)),
        lambda: [file.execute(statement, (ROOM,)) for statement in FORGET],
    ]
    for act in acts:
        act()
        check()
    assert file.execute("SELECT messages, bytes FROM outbox").fetchone() == (0, 0)


# Edit


def test_a_queued_message_can_be_edited(file: sqlite3.Connection) -> None:
    written, _ = write(file, draft(1))
    assert message_acts.edit(file, written.row, "bye", OutboxCaps()).body == "bye"
    assert bind(file, 1).slots[0].body == "bye"


def test_what_may_be_at_the_relay_cannot_be_edited(file: sqlite3.Connection) -> None:
    written, _ = write(file, draft(1))
    bind(file, 1)
    edit = lambda: message_acts.edit(file, written.row, "bye", OutboxCaps())  # noqa: E731
    refused(file, WrongState, edit)
    store(file, cc.NewLane(b"n" * 16, rolled_back=True))  # queued again, but it was sent
    assert states(file) == ["queued"]
    assert "another message" in refused(file, WrongState, edit)
    store(file, cc.Bind(b"n" * 16, 1, (ident(1),)), decide(1, "accepted", 1))
    refused(file, WrongState, edit)


def test_an_edit_counts_against_the_outbox(file: sqlite3.Connection) -> None:
    caps = OutboxCaps(bytes=10)
    written, _ = write(file, draft(1), caps=caps)
    message_acts.edit(file, written.row, "x" * 10, caps)
    refused(file, OutboxFull, lambda: message_acts.edit(file, written.row, "x" * 11, caps))


# Cancel and retry


def test_a_queued_or_stalled_message_is_cancelled_at_once(file: sqlite3.Connection) -> None:
    send(file, 1, 2)
    bind(file, 1)
    store(file, decide(1, "stalled"))
    for number in (1, 2):
        message_acts.cancel(file, row(file, number).row)
    assert states(file) == ["cancelled", "cancelled"]
    assert loaded(file).waiting == []


def test_a_bound_message_is_cancelled_with_its_slot(file: sqlite3.Connection) -> None:
    send(file, 1)
    bind(file, 1)
    message_acts.cancel(file, row(file, 1).row)
    assert states(file) == ["sending"]
    assert loaded(file).slots[0].giving_up is MessageState.CANCELLED


@pytest.mark.parametrize("state", ["accepted", "rejected", "expired"])
def test_what_is_decided_can_neither_be_cancelled_nor_retried(
    file: sqlite3.Connection, state: str
) -> None:
    send(file, 1)
    bind(file, 1)
    store(file, decide(1, state, int(state == "accepted")))
    refused(file, WrongState, lambda: message_acts.cancel(file, row(file, 1).row))
    refused(file, WrongState, lambda: message_acts.retry(file, ROOM, row(file, 1).row, at(0)))


def test_a_retry_goes_to_the_end_with_its_whole_time(file: sqlite3.Connection) -> None:
    send(file, 1, 2, ttl=100)
    bind(file, 1)
    store(file, cc.CountRefusal(ident(1), 10), decide(1, "stalled", code="busy"))
    again, waiting = message_acts.retry(file, ROOM, row(file, 1).row, at(700))
    assert (again.state, again.code) == ("queued", "")
    assert waiting == cc.Waiting(ident(1), 3, 800, offered=True)
    assert [one.id for one in loaded(file).waiting] == [ident(2), ident(1)]
    assert order(file) == ["m2", "m1"]
    assert bind(file, 2, 1, first=2).slots[1].refusals == 0


# Read


def test_reading_goes_to_the_newest_and_not_beyond(file: sqlite3.Connection) -> None:
    receive(file, message(1), message(2), message(3))
    assert message_acts.read(file, ROOM, 2) == (2, 1)
    assert message_acts.read(file, ROOM, 1 << 62) == (3, 0)
    assert message_acts.read(file, ROOM, None) == (3, 0)
    store(file, place(after=9, head=9))
    assert message_acts.read(file, ROOM, None) == (9, 0)


def test_a_message_whose_outcome_came_before_the_log_can_be_read(file: sqlite3.Connection) -> None:
    send(file, 1)
    bind(file, 1)
    store(file, decide(1, "accepted", 7))
    assert message_acts.read(file, ROOM, None) == (7, 0)


# The clock


def test_the_anchor_is_stored_with_the_first_message_and_moves_then(
    file: sqlite3.Connection,
) -> None:
    assert not message_acts.move_clock(file, at(5))
    assert message_acts.clock(file) is None
    send(file, 1, now=6)
    assert message_acts.move_clock(file, at(9))
    assert message_acts.clock(file) == at(9)
