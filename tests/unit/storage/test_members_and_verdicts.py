"""Members and verdicts on a device's disk, and files of earlier versions."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from collab import limits
from collab.errors import IdConflict
from collab.protocol import chat_changes as cc
from collab.protocol.messages import Verdict
from collab.protocol.verdicts import GivenVerdict
from collab.storage import message_acts
from collab.storage.chat_rows import FORGET, members, move
from collab.storage.message_acts import Draft, OutboxCaps
from collab.storage.message_rows import own, with_id
from collab.storage.messages import load
from collab.storage.opening import open_store
from collab.storage.schema import APPLICATION_ID, migrations
from tests.property.chat_device import ROOM, new_file
from tests.unit.storage.test_messages_changes import (
    EPOCH,
    at,
    bind,
    decide,
    ident,
    message,
    place,
    receive,
    store,
)
from tests.unit.storage.test_messages_store import Room, chat_of

ASKED, YES, NO = Verdict.AWAITED, Verdict.CONFIRMED, Verdict.REFUSED


@pytest.fixture
def file() -> sqlite3.Connection:
    return new_file(EPOCH)


def order(file: sqlite3.Connection, number: int, *, confirm: bool = True) -> None:
    draft = Draft(ident(number), f"m{number}", b"", 1, None, confirm)
    message_acts.write(file, ROOM, draft, at(0), OutboxCaps())


def verdict(file: sqlite3.Connection, number: int) -> tuple[int, str]:
    (row,) = with_id(file, ROOM, ident(number))
    return row.verdict, row.verdict_reason


def say(*given: tuple[int, int, str]) -> cc.TakeVerdicts:
    return cc.TakeVerdicts([GivenVerdict(ident(number), *rest) for number, *rest in given])  # type: ignore[arg-type]


# --- members ---


def take(*rows: tuple[str, str], whole: bool = False) -> cc.TakeMembers:
    return cc.TakeMembers(rows, whole)


def test_a_whole_list_takes_the_place_of_the_one_before_and_changes_come_to_it(
    file: sqlite3.Connection,
) -> None:
    stored = store(file, take(("ana", "admin"), ("ben", "reader"), whole=True))
    assert stored.members == [("ana", "admin"), ("ben", "reader")]
    assert store(file, take(("ben", "reader"))).members is None  # nothing is new
    assert store(file, take(("ben", ""), ("eve", "writer"), ("x", ""))).members == [
        ("ana", "admin"), ("eve", "writer"),
    ]  # fmt: skip
    assert store(file, take(("ben", "reader"), whole=True)).members == [("ben", "reader")]
    known = load(file, ROOM)
    assert known is not None
    assert known.members == [("ben", "reader")]
    assert store(file, take(whole=True)).members == []


def test_no_relay_can_make_a_device_keep_more_members_than_there_may_be(
    file: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_MEMBERS", 3)
    for number in range(9):
        store(file, take((f"u{number}", "reader")))
    assert len(members(file, ROOM)) == 3
    assert store(file, take(("u0", ""), ("u8", "admin"))).members == [
        ("u1", "reader"), ("u2", "reader"), ("u8", "admin"),
    ]  # fmt: skip


def test_members_move_and_are_forgotten_with_their_room(file: sqlite3.Connection) -> None:
    file.execute("INSERT INTO rooms (id, name) VALUES (2, 'other')")
    store(file, take(("ana", "admin"), whole=True))
    file.execute("INSERT INTO members VALUES (2, 'old', 'reader')")
    move(file, ROOM, 2)
    assert (members(file, ROOM), members(file, 2)) == ([], [("ana", "admin")])
    for statement in FORGET:
        file.execute(statement, (2,))
    assert members(file, 2) == []


# --- verdicts ---


def test_an_order_goes_up_as_one_and_its_id_stands_for_it(file: sqlite3.Connection) -> None:
    order(file, 1)
    order(file, 2, confirm=False)
    assert [slot.confirm for slot in bind(file, 1, 2).slots] == [True, False]
    order(file, 1)  # the same again
    for number, confirm in ((1, False), (2, True)):
        with pytest.raises(IdConflict, match="asks to be confirmed"):
            order(file, number, confirm=confirm)


def test_a_verdict_is_stored_once_and_only_for_what_is_in_the_log(file: sqlite3.Connection) -> None:
    order(file, 1)
    order(file, 2, confirm=False)
    bind(file, 1, 2)
    assert store(file, say((1, YES, ""))).decided == []  # the relay cannot know it yet
    assert verdict(file, 1) == (ASKED, "")
    store(file, decide(1, "accepted", 1), decide(2, "accepted", 2))
    (row,) = store(file, say((1, NO, "sold out"), (2, YES, ""), (9, YES, ""))).decided
    assert (row.id, row.verdict, row.verdict_reason) == (ident(1), NO, "sold out")
    for again in ((1, YES, ""), (1, NO, "another")):
        assert store(file, say(again)).decided == []
    assert verdict(file, 1) == (NO, "sold out")
    assert verdict(file, 2) == (Verdict.NOT_ASKED, "")


def test_the_log_may_tell_of_a_confirmation_but_a_refusal_waits_for_its_reason(
    file: sqlite3.Connection,
) -> None:
    order(file, 1)
    order(file, 2)
    bind(file, 1, 2)
    stored = receive(
        file, message(1, 1, sender="me", verdict=YES), message(2, 2, sender="me", verdict=NO),
        message(3, verdict=NO), message(4, verdict=YES), message(5, verdict=ASKED),
    )  # fmt: skip
    assert [row.id for row in stored.decided] == [ident(1)]
    assert stored.awaited == [ident(2), ident(1_003)]
    assert [verdict(file, number)[0] for number in (1, 2, 1_003, 1_004, 1_005)] == [
        YES, ASKED, ASKED, YES, ASKED,
    ]  # fmt: skip
    again = receive(file, message(1, 1, sender="me", verdict=ASKED))  # older than what is known
    assert again.decided == []
    assert verdict(file, 1) == (YES, "")
    store(file, say((2, NO, "no"), (1_003, NO, "nor this")))
    assert verdict(file, 1_003) == (NO, "nor this")


def test_who_enters_asks_about_all_that_is_undecided_and_who_reads_a_page_about_that(
    file: sqlite3.Connection,
) -> None:
    order(file, 1)
    order(file, 2)
    bind(file, 1)
    receive(file, message(1, verdict=ASKED), message(2), message(3, verdict=YES))
    stored = store(file, decide(1, "accepted", 4), cc.Place("me", b"r" * 16, 3, 4, 1, 0, 0))
    assert set(stored.awaited) == {ident(1_001), ident(1)}  # the queued one is with nobody
    page = cc.Fill(1, [message(1, verdict=ASKED), message(2)], 1, 2, 1)
    assert store(file, page).awaited == [ident(1_001)]
    # What is accepted below the mark was told of before it was known to be ours.
    bind(file, 2, first=2)
    assert store(file, decide(2, "accepted", 2)).awaited == [ident(2)]


def test_in_another_history_what_was_decided_is_awaited_again(file: sqlite3.Connection) -> None:
    order(file, 1)
    bind(file, 1)
    receive(file, message(1, verdict=YES), message(2, verdict=YES))
    store(file, decide(1, "accepted", 3), say((1, NO, "sold out")))
    stored = store(file, cc.Replace(place(0, 2, oldest=2), 0))
    mine = own(file, ROOM, ident(1))
    assert mine is not None
    assert (mine.state, mine.verdict, mine.verdict_reason) == ("queued", ASKED, "")
    assert verdict(file, 1_002) == (ASKED, "")
    assert verdict(file, 1_001) == (YES, "")  # this relay keeps it no more: nobody could say
    assert stored.awaited == [ident(1_002)]
    assert bind(file, 1, first=2).slots[-1].confirm


# --- earlier versions ---


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_every_earlier_version_gets_members_and_verdicts(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "a.db"
    opened = open_store(
        path, application_id=APPLICATION_ID, migrations=migrations(bytes(16))[:version],
        factory=None, what="store",
    )  # fmt: skip
    opened.connection.execute("INSERT INTO rooms (name) VALUES ('notes')")
    if version == 2:
        opened.connection.execute("INSERT INTO chats (room_id, lane_epoch) VALUES (1, ?)", (EPOCH,))
        opened.connection.execute(
            "INSERT INTO messages (room_id, message_id, place, tie, seq, state, mine, sender, body,"
            " meta, sent_at, size) VALUES (1, ?, 1, 0, 1, 'accepted', 0, 'ben', 'old', x'', 1, 0)",
            (ident(50),),
        )
    opened.connection.close()
    assert opened.lock is not None
    opened.lock.release()

    async def main() -> None:
        async with chat_of(path) as (database, _, messages, room_id):
            room = Room(messages, room_id)
            await room.send(1)
            room.ledger.put([take(("ana", "admin"), whole=True)])
            await room.ledger.settled()
            known = await database.read(lambda connection: load(connection, room_id))
            assert known is not None
            assert known.members == [("ana", "admin")]
            rows = await database.read(lambda connection: with_id(connection, room_id, ident(50)))
            kept = [(row.body, row.verdict, row.verdict_reason) for row in rows]
            assert kept == ([("old", 0, "")] if version == 2 else [])

    asyncio.run(main())
