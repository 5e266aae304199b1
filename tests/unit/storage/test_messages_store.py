"""The store of messages and the ledger of a room: order, a full disk, a room that closes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from collab.errors import Closed, CollabError, DiskFull, IdConflict, StoreCorrupt
from collab.protocol import chat_changes as cc
from collab.storage import message_acts
from collab.storage.database import Connection, Database
from collab.storage.documents import Documents
from collab.storage.ledger import Ledger
from collab.storage.message_acts import OutboxCaps
from collab.storage.messages import BEGINNING, END, Messages
from collab.storage.opening import open_store
from collab.storage.schema import APPLICATION_ID, migrations
from tests.unit.storage.files import documents
from tests.unit.storage.test_messages_acts import draft
from tests.unit.storage.test_messages_changes import EPOCH, FRESH, RUN, at, ident, message

T = TypeVar("T")


@asynccontextmanager
async def chat_of(path: Path | str) -> AsyncIterator[tuple[Database, Documents, Messages, int]]:
    """A store with one room that has a chat."""
    async with documents(path) as (database, store):
        room = await store.create("notes")
        messages = Messages(database)
        await messages.load(room.id, EPOCH)
        yield database, store, messages, room.id


class Room:
    """A ledger whose disk can be made to refuse, and what it told."""

    def __init__(self, messages: Messages, room_id: int) -> None:
        self.told: list[tuple[str, Any]] = []
        self.errors: list[CollabError | None] = []
        self.full = False
        self.writes = 0
        self.answers = asyncio.Event()  # cleared: what the disk says is on its way
        self.answers.set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._messages = messages
        self.room_id = room_id
        self.ledger = Ledger(
            room_id, self._write, run=self._run,
            on_stored=lambda change, stored: self.told.append(("stored", change)),
            on_error=self.errors.append, retry_pauses_s=(0.01,),
        )  # fmt: skip

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _write(self, transact: Callable[[Connection], T]) -> T:
        self.writes += 1
        try:
            if self.full:
                raise DiskFull("full")
            return await self._messages.write(transact)
        finally:
            await self.answers.wait()

    def send(self, number: int, body: str = "hello") -> Awaitable[Any]:
        given = draft(number, body)
        return self.ledger.ask(
            lambda connection: message_acts.write(
                connection, self.room_id, given, at(0), OutboxCaps()
            ),
            lambda _: self.told.append(("sent", number)),
            lambda: self.told.append(("failed", number)),
        )

    async def bodies(self) -> list[str]:
        rows = await self._messages.between(self.room_id, BEGINNING, END, 99, newest=True)
        return [row.body for row in rows]


def received(seq: int) -> cc.Receive:
    return cc.Receive([message(seq)], RUN, seq)


def ledger_test(test: Callable[[Room], Awaitable[None]]) -> None:
    async def main() -> None:
        async with chat_of(":memory:") as (_, _, messages, room_id):
            async with asyncio.timeout(10):
                await test(Room(messages, room_id))

    asyncio.run(main())


def test_all_that_waits_is_one_transaction_and_is_told_in_order() -> None:
    async def check(room: Room) -> None:
        room.ledger.put([received(1)])
        sends = asyncio.gather(*(room.send(n) for n in range(20)))
        await asyncio.sleep(0)
        room.ledger.put([received(2)])
        await sends
        await room.ledger.settled()
        assert room.writes <= 2
        assert room.told == [
            ("stored", received(1)), *(("sent", n) for n in range(20)), ("stored", received(2)),
        ]  # fmt: skip
        assert room.ledger.pending == 0

    ledger_test(check)


def test_an_act_that_is_refused_harms_nobody_who_shares_its_transaction() -> None:
    async def check(room: Room) -> None:
        results = await asyncio.gather(
            room.send(1), room.send(1, "other bytes"), room.send(2), return_exceptions=True
        )
        assert isinstance(results[1], IdConflict)
        assert room.told == [("sent", 1), ("failed", 1), ("sent", 2)]
        assert await room.bodies() == ["hello", "hello"]
        assert room.errors == []

    ledger_test(check)


def test_a_full_disk_raises_in_the_act_itself_and_keeps_what_was_decided() -> None:
    async def check(room: Room) -> None:
        room.full = True
        room.ledger.put([received(1)])
        with pytest.raises(DiskFull):
            await room.send(1)
        assert room.told == [("failed", 1)]
        assert room.ledger.pending == 1
        assert len(room.errors) == 1
        with pytest.raises(DiskFull):  # at once, not after the pause of the decisions
            await room.send(2)
        room.full = False
        await room.ledger.settled()
        assert room.told[2:] == [("stored", received(1))]
        assert room.errors[1:] == [None]
        assert await room.bodies() == ["m1001"]
        await room.send(3)

    ledger_test(check)


def test_an_act_that_fails_alone_is_no_trouble_of_the_room() -> None:
    async def check(room: Room) -> None:
        room.full = True
        with pytest.raises(DiskFull):
            await room.send(1)
        assert room.errors == []
        assert room.ledger.error is None
        room.full = False
        await room.send(1)

    ledger_test(check)


def test_an_act_whose_caller_has_gone_is_done_all_the_same() -> None:
    async def check(room: Room) -> None:
        sending = asyncio.ensure_future(room.send(1))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await room.ledger.settled()
        assert room.told == [("sent", 1)]
        assert await room.bodies() == ["hello"]

    ledger_test(check)


def test_a_closed_ledger_stores_nothing_more_and_says_so() -> None:
    async def check(room: Room) -> None:
        room.full = True
        room.ledger.put([received(1)])
        waiting = asyncio.ensure_future(room.send(1))
        await asyncio.sleep(0)
        with pytest.raises(DiskFull):
            await waiting
        held = asyncio.ensure_future(room.send(2))
        room.ledger._items.clear()
        held.cancel()
        room.ledger.close()
        room.full = False
        await room.ledger.settled()
        assert await room.bodies() == []
        room.ledger.put([received(1)])
        with pytest.raises(Closed):
            await room.send(3)

    ledger_test(check)


@pytest.mark.parametrize("full", [False, True])
def test_who_asked_hears_what_became_of_it_also_when_the_client_closes_meanwhile(
    full: bool,
) -> None:
    async def check(room: Room) -> None:
        room.full = full
        room.answers.clear()
        sending = asyncio.ensure_future(room.send(1))
        while not room.writes:
            await asyncio.sleep(0)
        late = asyncio.ensure_future(room.send(2))
        await asyncio.sleep(0)
        [task] = room.tasks
        task.cancel()
        asyncio.get_running_loop().call_later(0.01, room.answers.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(Closed):
            await late
        if full:
            with pytest.raises(DiskFull):
                await sending
        else:
            assert (await sending)[0].body == "hello"
        assert await room.bodies() == ([] if full else ["hello"])
        assert room.ledger.closed

    ledger_test(check)


def test_a_fault_of_the_program_ends_the_ledger_and_is_not_built_upon() -> None:
    async def main() -> None:
        failures: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, it: failures.append(it))
        async with chat_of(":memory:") as (_, _, messages, room_id):
            room = Room(messages, room_id)
            room.ledger.put([cc.Bind(EPOCH, 1, (ident(77),))])  # there is no such message
            with pytest.raises(Closed, match="fault of collab"):
                await room.send(1)
            assert room.ledger.closed
            assert isinstance(room.errors[0], Closed)
            assert await room.bodies() == []

    asyncio.run(main())


# The store


def test_a_room_has_one_lane_for_ever_and_another_room_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with chat_of(tmp_path / "a.db") as (_, store, messages, room_id):
            assert (await messages.load(room_id, FRESH)).lane_epoch == EPOCH
            other = await store.create("other")
            assert (await messages.load(other.id, FRESH)).lane_epoch == FRESH
        async with chat_of(tmp_path / "a.db") as (_, _, messages, room_id):
            assert (await messages.load(room_id, FRESH)).lane_epoch == EPOCH

    asyncio.run(main())


def test_forgetting_a_room_deletes_its_messages_in_the_same_transaction(tmp_path: Path) -> None:
    async def main() -> None:
        async with chat_of(tmp_path / "a.db") as (database, store, messages, room_id):
            room = Room(messages, room_id)
            await room.send(1)
            room.ledger.put([cc.Place("me", RUN, 9, 9, 3, 0, 0)])
            await room.ledger.settled()
            other = await store.create("other")
            await messages.load(other.id, FRESH)
            await Room(messages, other.id).send(1)
            await store.forget(room_id)

            def left(connection: Connection) -> list[int]:
                return [
                    connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                    for table in ("rooms", "chats", "messages", "gaps", "receipts")
                ]

            assert await database.read(left) == [1, 1, 1, 0, 0]

    asyncio.run(main())


def test_a_file_of_the_version_before_chats_keeps_its_rooms(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    old = migrations(bytes(16))[:1]
    opened = open_store(
        path, application_id=APPLICATION_ID, migrations=old, factory=None, what="store"
    )
    opened.connection.execute("INSERT INTO rooms (name) VALUES ('notes')")
    opened.connection.execute("INSERT INTO updates (room_id, local, data) VALUES (1, 1, x'0000')")
    opened.connection.close()
    assert opened.lock is not None
    opened.lock.release()

    async def main() -> None:
        async with chat_of(path) as (_, store, messages, room_id):
            assert (await store.load(room_id)).updates == [b"\0\0"]
            await Room(messages, room_id).send(1)

    asyncio.run(main())


def test_a_chat_whose_state_is_damaged_is_not_opened(tmp_path: Path) -> None:
    async def main() -> None:
        async with chat_of(tmp_path / "a.db") as (database, _, messages, room_id):
            await database.write(
                lambda connection: (
                    connection.execute("UPDATE chats SET lane_epoch = x'00'").rowcount
                )
            )
            with pytest.raises(StoreCorrupt):
                await messages.load(room_id, os.urandom(16))

    asyncio.run(main())


def test_messages_are_read_between_two_places_from_either_end() -> None:
    async def check(room: Room) -> None:
        room.ledger.put([cc.Receive([message(seq) for seq in range(1, 11)], RUN, 10)])
        await room.send(1)

        async def read(after: int, before: int, limit: int, *, newest: bool) -> list[str]:
            rows = await room._messages.between(
                room.room_id, (after, 0), (before, 0), limit, newest=newest
            )
            return [row.body for row in rows]

        assert await read(3, 8, 2, newest=True) == ["m1006", "m1007"]
        assert await read(3, 8, 2, newest=False) == ["m1004", "m1005"]
        rows = await room._messages.between(room.room_id, BEGINNING, END, 2, newest=True)
        assert [row.body for row in rows] == ["m1010", "hello"]

    ledger_test(check)


def test_the_anchor_of_the_clock_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with chat_of(tmp_path / "a.db") as (_, _, messages, room_id):
            await messages.move_clock(at(3))
            assert await messages.clock() is None  # nothing is timed by it
            await Room(messages, room_id).send(1)
            await messages.move_clock(at(7))
        async with chat_of(tmp_path / "a.db") as (_, _, messages, _):
            assert await messages.clock() == at(7)

    asyncio.run(main())


def test_what_the_relay_has_not_decided_is_counted_room_by_room() -> None:
    async def main() -> None:
        async with chat_of(":memory:") as (_, store, messages, first):
            rooms = [Room(messages, first)]
            for name in ("busy", "quiet"):
                row = await store.create(name)
                await messages.load(row.id, EPOCH)
                rooms.append(Room(messages, row.id))
            notes, busy, _ = rooms
            assert await messages.unsent() == {}
            for number in (1, 2, 3):
                await busy.send(number)
            await notes.send(4)
            assert await messages.unsent() == {"busy": 3, "notes": 1}
            busy.ledger.put([cc.Bind(EPOCH, 1, (ident(1), ident(2)))])
            await busy.ledger.settled()
            assert await messages.unsent() == {"busy": 3, "notes": 1}  # sending, and not decided
            await store.forget(first)
            assert await messages.unsent() == {"busy": 3}

    asyncio.run(main())
