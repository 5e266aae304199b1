"""Rooms that are deleted (rules 7 and 8 of ``log/port.py``), asked of the log in SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from collab.errors import Closed, DiskFull
from collab.storage.database import Factory
from collab_server.log import schema
from collab_server.log.port import RoomDeleted, RoomRow
from collab_server.log.sqlite import SqliteLog
from tests.unit.server.test_log_sqlite import (
    EPOCH,
    PAUSES,
    RELAY,
    Disk,
    durable,
    generation,
    put,
    running,
)

OTHER = b"f" * 16


async def open_log(path: Path, number: int = 1, *, disk: Factory | None = None) -> SqliteLog:
    return await SqliteLog.open(
        path / "log.db", generation=generation(number), relay_id=RELAY, now_ms=0, factory=disk,
        retry_pauses_s=PAUSES,
    )  # fmt: skip


def stored(path: Path, table: str) -> list[tuple[object, ...]]:
    """The rows of a table, from the file itself."""
    reader = sqlite3.connect(f"file:{path / 'log.db'}?mode=ro", uri=True)
    with contextlib.closing(reader):
        return reader.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


# 7. What a deletion takes, and what it leaves


def test_a_deleted_room_goes_whole_and_its_epoch_stays_known(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(await open_log(tmp_path)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            other = await log.open_room("b", epoch=OTHER)
            for number in range(10):
                put(log, room.id, b"a%d" % number)
                kept = put(log, other.id, b"b%d" % number)
            await log.compact(room.id, b"A", log.head, keep_after=5)
            await log.compact(other.id, b"B", 4, keep_after=4)
            assert not await log.is_deleted("a", EPOCH)
            await log.delete_room(room.id, now_ms=1234)
            assert await log.find_room("a") is None
            with pytest.raises(KeyError):
                await log.load(room.id)
            assert await log.read(room.id, 0, 999) == []
            assert await log.is_deleted("a", EPOCH)
            assert not await log.is_deleted("a", OTHER)
            assert not await log.is_deleted("b", EPOCH)
            whole = await log.load(other.id)
            assert whole.snapshot == b"B"
            assert whole.updates[-1] == (kept, b"b9")
        assert stored(tmp_path, "deleted_rooms") == [(room.id, "a", EPOCH, 1234)]
        assert {row[1] for row in stored(tmp_path, "updates")} == {other.id}
        assert [row[0] for row in stored(tmp_path, "snapshots")] == [other.id]

    asyncio.run(main())


def test_a_deletion_takes_what_was_queued_before_it_and_nothing_of_other_rooms(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        disk = Disk()
        async with running(await open_log(tmp_path, disk=disk)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            other = await log.open_room("b", epoch=EPOCH)
            announced: list[tuple[int, frozenset[int]]] = []
            log.on_commit(lambda offset, rooms: announced.append((offset, rooms)))
            disk.may_commit.clear()
            disk.committing.clear()
            put(log, room.id, b"in the commit that runs")
            await asyncio.to_thread(disk.committing.wait, 5)
            put(log, room.id, b"in the next one")
            deleting = asyncio.create_task(log.delete_room(room.id, now_ms=0))
            await asyncio.sleep(0)
            last = put(log, other.id, b"kept")
            before = disk.transactions
            disk.may_commit.set()
            await deleting
            assert disk.transactions == before + 2
            assert announced == [(1, frozenset({room.id})), (last, frozenset({other.id}))]
            assert (log.uncommitted_bytes, log.committed) == (0, last)
            assert await log.read(other.id, 0, 999) == [(last, b"kept")]
        assert [row[1] for row in stored(tmp_path, "updates")] == [other.id]

    asyncio.run(main())


def test_nothing_is_appended_to_a_room_from_the_moment_of_its_deletion_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(await open_log(tmp_path)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            deleting = asyncio.create_task(log.delete_room(room.id, now_ms=0))
            await asyncio.sleep(0)
            for _ in range(2):
                with pytest.raises(ValueError, match="deleted"):
                    put(log, room.id, b"x")
                await deleting
        assert stored(tmp_path, "updates") == []

    asyncio.run(main())


def test_a_snapshot_that_was_on_its_way_does_not_bring_a_deleted_room_back(tmp_path: Path) -> None:
    async def main() -> None:
        disk = Disk()
        async with running(await open_log(tmp_path, disk=disk)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            offset = put(log, room.id, b"x")
            await durable(log, offset)
            disk.may_commit.clear()
            compacting = asyncio.create_task(log.compact(room.id, b"X", offset, keep_after=offset))
            deleting = asyncio.create_task(log.delete_room(room.id, now_ms=0))
            await asyncio.sleep(0.01)
            disk.may_commit.set()
            await deleting
            assert not await compacting
            assert not await log.compact(room.id, b"X", offset, keep_after=offset)
        for table in ("snapshots", "updates", "rooms"):
            assert stored(tmp_path, table) == []

    asyncio.run(main())


def test_offsets_do_not_fall_when_a_deletion_took_every_row(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(await open_log(tmp_path)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            last = [put(log, room.id, b"x") for _ in range(5)][-1]
            await log.delete_room(room.id, now_ms=0)
        async with running(await open_log(tmp_path, 2)) as log:
            assert log.head == last
            assert log.is_good(generation(1), last)
            assert log.next_offset() == last + 1

    asyncio.run(main())


def test_deleting_an_unknown_room_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(await open_log(tmp_path)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            offset = put(log, room.id, b"x")
            await log.delete_room(room.id + 1, now_ms=0)
            assert (await log.load(room.id)).updates == [(offset, b"x")]
        assert stored(tmp_path, "deleted_rooms") == []

    asyncio.run(main())


def test_a_full_disk_delays_a_deletion_and_leaves_the_room_whole_until_then(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        disk = Disk()
        async with running(await open_log(tmp_path, disk=disk)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            other = await log.open_room("b", epoch=EPOCH)
            offset = put(log, room.id, b"x")
            await durable(log, offset)
            disk.full = True
            deleting = asyncio.create_task(log.delete_room(room.id, now_ms=0))
            async with asyncio.timeout(5):
                while log.failing is None:
                    await asyncio.sleep(0.001)
            last = put(log, other.id, b"y")
            await asyncio.sleep(0.03)
            assert not deleting.done()
            assert (await log.load(room.id)).updates == [(offset, b"x")]
            assert not await log.is_deleted("a", EPOCH)
            disk.full = False
            await deleting
            assert log.failing is None
            assert await log.find_room("a") is None
            assert (await log.load(other.id)).updates == [(last, b"y")]

    asyncio.run(main())


def test_a_deletion_goes_on_when_who_asked_for_it_is_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        disk = Disk()
        async with running(await open_log(tmp_path, disk=disk)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            disk.full = True
            deleting = asyncio.create_task(log.delete_room(room.id, now_ms=0))
            await asyncio.sleep(0.01)
            deleting.cancel()
            with suppress(asyncio.CancelledError):
                await deleting
            disk.full = False
            async with asyncio.timeout(5):
                while not await log.is_deleted("a", EPOCH):
                    await asyncio.sleep(0.001)
            assert await log.find_room("a") is None

    asyncio.run(main())


def test_a_deletion_in_a_commit_whose_end_nobody_saw_is_made_once(tmp_path: Path) -> None:
    async def main() -> None:
        disk = Disk()
        log = await open_log(tmp_path, disk=disk)
        commits = asyncio.create_task(log.run())
        room = await log.open_room("a", epoch=EPOCH)
        other = await log.open_room("b", epoch=EPOCH)
        disk.may_commit.clear()
        disk.committing.clear()
        put(log, room.id, b"x")
        deleting = asyncio.create_task(log.delete_room(room.id, now_ms=0))
        await asyncio.to_thread(disk.committing.wait, 5)
        await asyncio.sleep(0.01)
        commits.cancel()
        with suppress(asyncio.CancelledError):
            await commits
        last = put(log, other.id, b"y")
        disk.may_commit.set()
        await log.close()
        await deleting
        assert [row[1] for row in stored(tmp_path, "rooms")] == ["b"]
        assert stored(tmp_path, "updates") == [(last, other.id, b"y")]
        assert [row[:2] for row in stored(tmp_path, "deleted_rooms")] == [(room.id, "a")]

    asyncio.run(main())


def test_closing_with_a_full_disk_ends_a_deletion_that_waits_and_leaves_the_room(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        disk = Disk()
        log = await open_log(tmp_path, disk=disk)
        commits = asyncio.create_task(log.run())
        room = await log.open_room("a", epoch=EPOCH)
        offset = put(log, room.id, b"x")
        await durable(log, offset)
        disk.full = True
        deleting = asyncio.create_task(log.delete_room(room.id, now_ms=0))
        await asyncio.sleep(0.01)
        with pytest.raises((DiskFull, sqlite3.OperationalError)):
            await log.close()
        await commits
        with pytest.raises(Closed):
            await deleting
        again = await open_log(tmp_path, 2)
        assert (await again.load(room.id)).updates == [(offset, b"x")]
        await again.close()

    asyncio.run(main())


# 8. What comes after


def test_no_room_is_made_under_the_epoch_of_a_deleted_one_of_its_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(await open_log(tmp_path)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            await log.delete_room(room.id, now_ms=0)
            with pytest.raises(RoomDeleted) as refused:
                await log.open_room("a", epoch=EPOCH)
            assert (refused.value.name, refused.value.epoch) == ("a", EPOCH)
            assert await log.find_room("a") is None
            assert (await log.open_room("b", epoch=EPOCH)).epoch == EPOCH
            new = await log.open_room("a", epoch=OTHER)
            assert (new.epoch, new.base) == (OTHER, 0)
            assert (await log.load(new.id)).updates == []
        async with running(await open_log(tmp_path, 2)) as log:
            assert await log.is_deleted("a", EPOCH)
            await log.delete_room(new.id, now_ms=0)
            for epoch in (EPOCH, OTHER):
                with pytest.raises(RoomDeleted):
                    await log.open_room("a", epoch=epoch)

    asyncio.run(main())


def test_who_opens_a_room_while_it_is_being_deleted_is_judged_after_it(tmp_path: Path) -> None:
    async def main() -> None:
        disk = Disk()
        async with running(await open_log(tmp_path, disk=disk)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            disk.full = True
            deleting = asyncio.create_task(log.delete_room(room.id, now_ms=0))
            await asyncio.sleep(0.01)
            epochs = (EPOCH, OTHER, EPOCH)
            opening = [asyncio.create_task(log.open_room("a", epoch=epoch)) for epoch in epochs]
            await asyncio.sleep(0.01)
            assert not any(task.done() for task in [deleting, *opening])
            disk.full = False
            refused, new, joins_it = await asyncio.gather(*opening, return_exceptions=True)
            assert isinstance(refused, RoomDeleted)
            assert isinstance(new, RoomRow)
            assert (new.epoch, new.id == room.id) == (OTHER, False)
            assert joins_it == new  # there was one of the name by then

    asyncio.run(main())


def test_the_id_of_a_deleted_room_is_never_given_to_another(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[int] = []
        for number in range(1, 4):
            async with running(await open_log(tmp_path, number)) as log:
                for name in "abc":
                    room = await log.open_room(name, epoch=generation(len(seen) + 100))
                    seen.append(room.id)
                    await log.delete_room(room.id, now_ms=0)
        assert len(set(seen)) == len(seen) == 9

    asyncio.run(main())


# A file from before rooms could be deleted

VERSION_1 = """
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA application_id = 0x434C4F47;
    PRAGMA journal_mode = WAL;
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        relay_id BLOB NOT NULL CHECK (length(relay_id) = 16),
        head INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE generations (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
        start_offset INTEGER NOT NULL,
        opened_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE rooms (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        epoch BLOB NOT NULL CHECK (length(epoch) = 16),
        base INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE snapshots (
        room_id INTEGER PRIMARY KEY,
        "offset" INTEGER NOT NULL,
        data BLOB NOT NULL,
        coverage BLOB
    ) STRICT;
    CREATE TABLE updates (
        "offset" INTEGER PRIMARY KEY,
        room_id INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
    CREATE INDEX updates_by_room ON updates (room_id);
    PRAGMA user_version = 1;
"""
ROWS: Sequence[tuple[str, tuple[object, ...]]] = [
    ("meta", (1, b"r" * 16, 40)),
    ("generations", (1, generation(1), 0, 5)),
    ("generations", (2, generation(2), 12, 6)),
    ("rooms", (3, "a", EPOCH, 20)),
    ("rooms", (7, "b", OTHER, 0)),
    ("snapshots", (3, 30, b"A", b"coverage")),
    ("updates", (25, 3, b"in the snapshot")),
    ("updates", (31, 3, b"after it")),
    ("updates", (35, 7, b"b")),
]


def test_a_log_from_before_deletions_opens_and_keeps_everything(tmp_path: Path) -> None:
    maker = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    with contextlib.closing(maker):
        maker.executescript(VERSION_1)
        for table, row in ROWS:
            maker.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        old = maker.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall()
        fresh = sqlite3.connect(":memory:")
        for statement in schema.MIGRATIONS[0]:
            fresh.execute(statement)
        assert len(old) == len(fresh.execute("SELECT sql FROM sqlite_schema").fetchall())
        fresh.close()

    async def main() -> None:
        async with running(await open_log(tmp_path, 3)) as log:
            assert log.relay_id == b"r" * 16
            assert log.head == 40
            assert log.is_good(generation(1), 12)
            assert log.is_good(generation(2), 40)
            assert await log.find_room("a") == RoomRow(3, "a", EPOCH, 20)
            assert await log.find_room("b") == RoomRow(7, "b", OTHER, 0)
            room = await log.load(3)
            assert (room.snapshot, room.snapshot_offset) == (b"A", 30)
            assert (room.coverage, room.updates) == (b"coverage", [(31, b"after it")])
            assert (await log.load(7)).updates == [(35, b"b")]
            assert (await log.open_room("c", epoch=EPOCH)).id == 8
            await log.delete_room(3, now_ms=9)
            assert await log.is_deleted("a", EPOCH)
            assert log.next_offset() == 41
        assert stored(tmp_path, "updates") == [(35, 7, b"b")]

    asyncio.run(main())
