"""What every log promises of members and verdicts (``log/chat_port.py``, rules 11 and 12)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from collab import limits
from collab.protocol.codec import unpack_map
from collab.protocol.members import GONE, MemberRow
from collab.protocol.messages import Kind, LoggedMessage, Verdict
from collab.protocol.verdicts import GivenVerdict
from collab.storage.database import Database
from collab_server.log import schema, transactions
from collab_server.log.chat_port import (
    NO_SUCH_ROOM,
    UNKNOWN,
    ChangeDecision,
    MemberChange,
    VerdictToGive,
)
from tests.unit.server.test_log_chat import (
    ANA,
    BEN,
    EPOCH,
    Chat,
    accepted,
    id_of,
    open_log,
    refused,
    rows,
    with_chat,
)
from tests.unit.server.test_log_sqlite import Disk, generation

YES, NO = Verdict.CONFIRMED, Verdict.REFUSED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


class Desk:
    """Changes and verdicts as they are asked for, and what was told of them, in its order."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.log = chat.log.chat
        self.decided: list[ChangeDecision] = []
        self.given = 0
        self.members: list[Sequence[MemberRow]] = []
        self.verdicts: list[Sequence[tuple[int, GivenVerdict]]] = []
        self.awaited: list[tuple[int, int]] = []
        self._ids = iter(range(10_000, 20_000))
        self.log.on_members(lambda _, rows: self.members.append(rows))
        self.log.on_verdicts(lambda _, given: self.verdicts.append(given))
        self.log.on_awaited(lambda _, low, high: self.awaited.append((low, high)))

    def ask(
        self, user: str, role: str, *, by: str = "ana", admins_only: bool = False,
        room_id: int | None = None,
    ) -> None:  # fmt: skip
        self.log.change_member(
            MemberChange(
                self.chat.room_id if room_id is None else room_id, user, role, by,
                id_of(next(self._ids)), 7, admins_only, self.decided.append,
            )
        )  # fmt: skip

    async def change(self, user: str, role: str, **how: object) -> str:
        before = len(self.decided)
        self.ask(user, role, **how)  # type: ignore[arg-type]
        await self.until(lambda: len(self.decided) > before)
        return str(self.decided[before])

    def give(self, number: int, verdict: int, reason: str = "") -> None:
        def decided() -> None:
            self.given += 1

        given = GivenVerdict(id_of(number), verdict, reason)
        self.log.give_verdict(VerdictToGive(self.chat.room_id, given, decided))

    async def verdict(self, number: int, verdict: int, reason: str = "") -> None:
        before = self.given
        self.give(number, verdict, reason)
        await self.until(lambda: self.given > before)

    async def until(self, condition: object) -> None:
        assert callable(condition)
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    async def messages(self) -> Sequence[LoggedMessage]:
        return (await self.log.after(self.chat.room_id, 0)).messages


# --- members ---


def test_a_change_and_the_message_that_tells_of_it_come_together(path: Path) -> None:
    async def work(chat: Chat) -> None:
        desk = Desk(chat)
        await chat.say(1)
        assert await desk.change("ben", "writer") == "done"
        assert await desk.change("ben", "admin") == "done"
        assert await desk.change("ben", GONE) == "done"
        told = (await desk.messages())[1:]
        assert [(one.seq, one.kind, one.sender, one.body) for one in told] == [
            (2, Kind.SYSTEM, "ana", "ana added ben as a writer"),
            (3, Kind.SYSTEM, "ana", "ana made ben an admin"),
            (4, Kind.SYSTEM, "ana", "ana removed ben"),
        ]
        assert [unpack_map(one.meta) for one in told] == [
            {"member": "ben", "role": "writer", "was": ""},
            {"member": "ben", "role": "admin", "was": "writer"},
            {"member": "ben", "role": "", "was": "admin"},
        ]
        assert desk.members == [[("ben", "writer")], [("ben", "admin")], [("ben", GONE)]]
        assert await desk.log.members(chat.room_id) == []
        assert (await chat.state(BEN)).unread == 1  # a change is nobody's letter

    with_chat(path, work)


def test_a_change_that_changes_nothing_adds_no_message(path: Path) -> None:
    async def work(chat: Chat) -> None:
        desk = Desk(chat)
        await desk.change("ben", "reader")
        before = rows(path, "SELECT * FROM members"), rows(path, "SELECT * FROM messages")
        assert await desk.change("ben", "reader") == "done"
        assert await desk.change("eve", GONE) == "done"
        assert (rows(path, "SELECT * FROM members"), rows(path, "SELECT * FROM messages")) == before

    with_chat(path, work)


@pytest.mark.parametrize(
    ("user", "role", "code"),
    [("", "reader", "invalid"), ("eve", "owner", "invalid"), ("x" * 256, "reader", "invalid")],
)
def test_what_no_member_can_be_is_refused_and_nothing_is_written(
    path: Path, user: str, role: str, code: str
) -> None:
    async def work(chat: Chat) -> None:
        desk = Desk(chat)
        assert await desk.change(user, role) == code
        assert rows(path, "SELECT * FROM members") == rows(path, "SELECT * FROM messages") == []

    with_chat(path, work)


def test_where_roles_are_rights_the_one_who_asks_has_to_be_an_admin_when_it_is_judged(
    path: Path,
) -> None:
    async def work(chat: Chat) -> None:
        desk = Desk(chat)
        await desk.change("ana", "admin")
        # In one commit: what she asks after she gave her right up comes too late.
        desk.ask("ana", "reader", admins_only=True)
        desk.ask("ben", "writer", admins_only=True)
        await desk.until(lambda: len(desk.decided) == 3)
        assert desk.decided[1:] == ["done", "forbidden"]
        assert await desk.log.members(chat.room_id) == [("ana", "reader")]
        assert await desk.change("ben", "reader", by="nobody", admins_only=True) == "forbidden"

    with_chat(path, work)


def test_a_room_has_only_so_many_members_and_those_it_has_can_still_change(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_MEMBERS", 2)

    async def work(chat: Chat) -> None:
        desk = Desk(chat)
        await desk.change("a", "reader")
        await desk.change("b", "reader")
        assert await desk.change("c", "reader") == "limit"
        assert await desk.change("b", "writer") == "done"
        assert await desk.change("a", GONE) == "done"
        assert await desk.change("c", "reader") == "done"
        assert await desk.log.members(chat.room_id) == [("b", "writer"), ("c", "reader")]

    with_chat(path, work)


def test_changes_of_a_commit_that_nobody_saw_end_come_out_the_same_and_once(path: Path) -> None:
    """The first changes nothing; judged again after the second it would undo it."""
    disk = Disk()

    async def main() -> None:
        log = await open_log(path, disk=disk)
        commits = asyncio.create_task(log.run())
        chat = Chat(log, (await log.open_room("a", epoch=EPOCH)).id)
        desk = Desk(chat)
        await desk.change("ben", "writer")
        disk.may_commit.clear()
        disk.committing.clear()
        desk.ask("ben", "writer")
        desk.ask("ben", GONE)
        desk.ask("eve", "reader")
        await asyncio.to_thread(disk.committing.wait, 5)
        commits.cancel()
        with suppress(asyncio.CancelledError):
            await commits
        assert len(desk.decided) == 1
        disk.may_commit.set()
        commits = asyncio.create_task(log.run())
        await desk.until(lambda: len(desk.decided) == 4)
        assert desk.decided == ["done"] * 4
        assert await desk.log.members(chat.room_id) == [("eve", "reader")]
        assert [(message.seq, message.body) for message in await desk.messages()] == [
            (1, "ana added ben as a writer"),
            (2, "ana added eve as a reader"),
            (3, "ana removed ben"),
        ]
        # Told, although it was there when it was judged again.
        assert ("eve", "reader") in [row for rows in desk.members for row in rows]
        await log.close()
        await commits

    asyncio.run(main())


def test_nothing_is_told_of_a_change_before_its_commit(path: Path) -> None:
    disk = Disk()

    async def work(chat: Chat) -> None:
        desk = Desk(chat)
        disk.full = True
        desk.ask("ben", "writer")
        desk.give(1, YES)
        await desk.until(lambda: chat.log.failing is not None)
        assert (desk.decided, desk.members, desk.given) == ([], [], 0)
        assert rows(path, "SELECT * FROM members") == []
        disk.full = False
        await desk.until(lambda: desk.decided and desk.given)
        assert desk.members == [[("ben", "writer")]]
        assert len(await desk.messages()) == 1

    with_chat(path, work, disk=disk)


def test_members_go_with_their_room_and_a_change_of_it_finds_none(path: Path) -> None:
    async def work(chat: Chat) -> None:
        desk = Desk(chat)
        await desk.change("ben", "writer")
        assert await desk.log.role("a", "ben") == "writer"
        await chat.log.delete_room(chat.room_id, now_ms=0)
        assert rows(path, "SELECT * FROM members") == []
        assert await desk.log.role("a", "ben") == GONE
        desk.ask("eve", "reader")
        await desk.until(lambda: len(desk.decided) == 2)
        assert desk.decided[1] is NO_SUCH_ROOM
        room = await chat.log.open_room("a", epoch=b"f" * 16)
        assert await desk.log.members(room.id) == []

    with_chat(path, work)


def test_who_waits_for_a_change_when_the_log_ends_hears_that_nobody_knows(path: Path) -> None:
    async def work(chat: Chat) -> None:
        desk = Desk(chat)
        for _ in range(3):  # one commit each, and closing makes one
            desk.ask("ben", "writer")
        await chat.log.close()
        assert set(desk.decided) <= {"done", UNKNOWN}
        assert UNKNOWN in desk.decided

    with_chat(path, work)


# --- verdicts ---


def test_a_message_that_asks_awaits_its_verdict_and_the_first_one_stays(path: Path) -> None:
    async def work(chat: Chat) -> None:
        desk = Desk(chat)
        await chat.say(1)
        assert await chat.say(2, confirm=True) == accepted(2, 2)
        assert [one.verdict for one in await desk.messages()] == [0, Verdict.AWAITED]
        assert desk.awaited == [(2, 2)]
        await desk.verdict(2, NO, "sold out")
        for again in ((YES, ""), (NO, "other")):
            await desk.verdict(2, *again)
        stands = GivenVerdict(id_of(2), NO, "sold out")
        assert desk.verdicts == [[(2, stands)]] * 3
        assert await desk.log.verdicts(chat.room_id, [id_of(1), id_of(2), id_of(9)]) == [stands]
        assert [one.verdict for one in await desk.messages()] == [0, NO]
        await desk.verdict(1, YES)  # it never asked
        await desk.verdict(9, YES)
        assert [one.verdict for one in await desk.messages()] == [0, NO]
        assert len(desk.verdicts) == 3

    with_chat(path, work)


def test_whether_it_asks_is_part_of_what_a_message_is(path: Path) -> None:
    async def work(chat: Chat) -> None:
        await chat.say(1, confirm=True)
        await chat.say(2)
        again = {"lane": BEN, "sender": "ana"}
        assert await chat.say(1, number=1, confirm=True, **again) == accepted(1, 1)
        assert await chat.say(2, number=1, **again) == refused(2, "conflict", number=1)
        assert await chat.say(3, number=2, confirm=True, **again) == refused(
            3, "conflict", number=2
        )
        await Desk(chat).verdict(1, YES)
        assert await chat.say(4, number=1, confirm=True, **again) == accepted(4, 1, number=1)

    with_chat(path, work)


def test_what_awaits_a_verdict_is_found_after_a_start_with_its_lane(path: Path) -> None:
    async def work(chat: Chat) -> None:
        other = await chat.log.open_room("b", epoch=EPOCH)
        elsewhere = Chat(chat.log, other.id)
        for slot in range(1, 6):
            await chat.say(slot, confirm=slot != 3)
        await chat.say(1, number=50, lane=BEN, confirm=True)
        await elsewhere.say(1, confirm=True)
        await Desk(chat).verdict(2, YES)

    async def later(chat: Chat) -> None:
        found = await chat.log.chat.awaited((0, 0), 100)
        assert [(one.room_id, one.seq, one.message_id) for one in found] == [
            (1, 1, id_of(1)), (1, 4, id_of(4)), (1, 5, id_of(5)), (1, 6, id_of(50)),
            (2, 1, id_of(1)),
        ]  # fmt: skip
        lanes = [one.lane for one in found]
        assert lanes[0] == lanes[1] == lanes[2] != lanes[3]
        assert [one.seq for one in await chat.log.chat.awaited((1, 4), 2)] == [5, 6]
        assert await chat.log.chat.room_name(2) == "b"
        assert await chat.log.chat.room_name(9) is None

    with_chat(path, work)
    with_chat(path, later, 2)
    with sqlite3.connect(path) as connection:
        (plan,) = connection.execute(f"EXPLAIN QUERY PLAN {schema.AWAITED}", (0, 0, 1)).fetchall()
    connection.close()
    assert "messages_awaited" in plan[-1]  # it reads nothing else


# --- the file ---


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_log_of_every_earlier_version_gets_members_and_verdicts(path: Path, version: int) -> None:
    async def first() -> None:
        database = await Database.open(
            path, application_id=schema.APPLICATION_ID, migrations=schema.MIGRATIONS[:version]
        )
        await database.write(lambda c: transactions.start(c, generation(1), bytes(16), 0))

        def fill(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO rooms (name, epoch) VALUES ('a', ?)", (EPOCH,))
            if version == 3:
                connection.execute("INSERT INTO chats VALUES (1, 1)")
                connection.execute(
                    "INSERT INTO messages VALUES (1, 1, ?, 'ana', 4, 5, 0, 0, 1, NULL, x'', 'm1')",
                    (id_of(1),),
                )

        await database.write(fill)
        await database.close()

    asyncio.run(first())

    async def second(chat: Chat) -> None:
        desk = Desk(chat)
        kept = list(await desk.messages())
        assert [one.body for one in kept] == (["m1"] if version == 3 else [])
        assert await desk.change("ben", "writer") == "done"
        await chat.say(1, number=7, confirm=True, lane=ANA)
        await desk.verdict(7, NO, "no")
        bodies = [one.body for one in await desk.messages()]
        assert bodies == [*(one.body for one in kept), "ana added ben as a writer", "m7"]

    with_chat(path, second, 2)
