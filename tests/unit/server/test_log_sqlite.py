"""What every log promises (``log/port.py``), asked of the one in SQLite."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from collab.errors import Closed, DiskFull, StoreCorrupt, StoreLocked
from collab.storage.database import Factory
from collab_server.log import port
from collab_server.log.port import Log
from collab_server.log.sqlite import SqliteLog

RELAY: Final = bytes(16)
EPOCH: Final = b"e" * 16
PAUSES: Final = (0.005, 0.01)


def generation(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Disk:
    """An SQLite whose transactions can be held up, fail, and be counted. Belongs to one test."""

    def __init__(self) -> None:
        self.transactions = 0
        self.full = False
        self.may_commit = threading.Event()
        self.may_commit.set()
        self.committing = threading.Event()

    def __call__(self, path: str) -> sqlite3.Connection:
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                if sql == "COMMIT":
                    disk.committing.set()
                    disk.may_commit.wait()
                    if disk.full:
                        raise sqlite3.OperationalError("database or disk is full")
                    disk.transactions += 1
                return super().execute(sql, *parameters)

        return sqlite3.connect(path, factory=Connection)


Opener = Callable[..., Coroutine[Any, Any, Log]]


@pytest.fixture(params=["sqlite"])
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the log of this test, as one more start of a relay. A new log joins by its name."""

    async def sqlite(
        number: int = 1, *, disk: Factory | None = None, relay_id: bytes = RELAY
    ) -> Log:
        return await SqliteLog.open(
            tmp_path / "log.db",
            generation=generation(number),
            relay_id=relay_id,
            now_ms=0,
            factory=disk,
            retry_pauses_s=PAUSES,
        )

    return {"sqlite": sqlite}[request.param]


@asynccontextmanager
async def running(log: Log) -> AsyncIterator[Log]:
    commits = asyncio.create_task(log.run())
    try:
        yield log
    finally:
        await log.close()
        await commits


def put(log: Log, room_id: int, data: bytes) -> int:
    offset = log.next_offset()
    log.append(room_id, offset, data)
    return offset


async def durable(log: Log, offset: int) -> None:
    async with asyncio.timeout(10):
        while log.committed < offset:
            await asyncio.sleep(0.001)


# --- acks ---


def test_an_append_is_announced_after_its_commit_and_not_before(open_log: Opener) -> None:
    async def main() -> None:
        disk = Disk()
        async with running(await open_log(disk=disk)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            announced: list[tuple[int, frozenset[int]]] = []
            log.on_commit(lambda offset, rooms: announced.append((offset, rooms)))
            disk.may_commit.clear()
            disk.committing.clear()
            offset = put(log, room.id, b"x")
            await asyncio.to_thread(disk.committing.wait, 5)
            await asyncio.sleep(0.02)
            assert (announced, log.committed, log.head) == ([], offset - 1, offset)
            disk.may_commit.set()
            await durable(log, offset)
            assert announced == [(offset, frozenset({room.id}))]
            assert log.uncommitted_bytes == 0

    asyncio.run(main())


def test_what_arrives_during_a_commit_is_one_transaction(open_log: Opener) -> None:
    async def main() -> None:
        disk = Disk()
        async with running(await open_log(disk=disk)) as log:
            rooms = [(await log.open_room(name, epoch=EPOCH)).id for name in "abc"]
            disk.may_commit.clear()
            disk.committing.clear()
            before = disk.transactions
            put(log, rooms[0], b"first")
            await asyncio.to_thread(disk.committing.wait, 5)
            for number in range(1000):
                last = put(log, rooms[number % 3], b"%d" % number)
                if number % 100 == 0:
                    await asyncio.sleep(0)
            disk.may_commit.set()
            await durable(log, last)
            assert disk.transactions == before + 2

    asyncio.run(main())


def test_a_callback_that_was_taken_back_is_not_called(open_log: Opener) -> None:
    async def main() -> None:
        async with running(await open_log()) as log:
            room = await log.open_room("a", epoch=EPOCH)
            announced: list[int] = []
            stop = log.on_commit(lambda offset, _: announced.append(offset))
            first = put(log, room.id, b"x")
            await durable(log, first)
            stop()
            await durable(log, put(log, room.id, b"y"))
            assert announced == [first]

    asyncio.run(main())


def test_closing_commits_what_is_queued_and_announces_it(open_log: Opener) -> None:
    async def main() -> None:
        log = await open_log()
        async with running(log):
            room = await log.open_room("a", epoch=EPOCH)
            announced: list[int] = []
            log.on_commit(lambda offset, _: announced.append(offset))
            offset = put(log, room.id, b"x")
        assert announced == [offset]
        with pytest.raises(Closed):
            log.append(room.id, log.next_offset(), b"y")
        again = await open_log(2)
        assert (await again.load(room.id)).updates == [(offset, b"x")]
        await again.close()

    asyncio.run(main())


def test_a_commit_loop_that_was_cancelled_in_a_commit_loses_and_doubles_nothing(
    open_log: Opener,
) -> None:
    async def main() -> None:
        disk = Disk()
        log = await open_log(disk=disk)
        commits = asyncio.create_task(log.run())
        room = await log.open_room("a", epoch=EPOCH)
        disk.may_commit.clear()
        disk.committing.clear()
        first = put(log, room.id, b"first")
        await asyncio.to_thread(disk.committing.wait, 5)
        commits.cancel()
        with suppress(asyncio.CancelledError):
            await commits
        second = put(log, room.id, b"second")
        disk.may_commit.set()
        await log.close()
        again = await open_log(2)
        assert (await again.load(room.id)).updates == [(first, b"first"), (second, b"second")]
        await again.close()

    asyncio.run(main())


# --- a disk that takes nothing ---


def test_a_full_disk_delays_acks_and_loses_nothing(open_log: Opener) -> None:
    async def main() -> None:
        disk = Disk()
        async with running(await open_log(disk=disk)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            disk.full = True
            offsets = [put(log, room.id, b"%d" % number) for number in range(10)]
            async with asyncio.timeout(5):
                while log.failing is None:
                    await asyncio.sleep(0.001)
            offsets += [put(log, room.id, b"%d" % number) for number in range(10, 20)]
            await asyncio.sleep(0.05)
            assert "full" in str(log.failing)
            assert log.committed < offsets[0]
            assert (await log.load(room.id)).updates == []
            disk.full = False
            await durable(log, offsets[-1])
            assert log.failing is None
            stored = (await log.load(room.id)).updates
            assert stored == [(offset, b"%d" % n) for n, offset in enumerate(offsets)]

    asyncio.run(main())


def test_closing_with_a_full_disk_says_so_and_still_lets_go_of_the_file(open_log: Opener) -> None:
    async def main() -> None:
        disk = Disk()
        log = await open_log(disk=disk)
        commits = asyncio.create_task(log.run())
        room = await log.open_room("a", epoch=EPOCH)
        disk.full = True
        put(log, room.id, b"x")
        with pytest.raises((DiskFull, sqlite3.OperationalError)):
            await log.close()
        await commits
        again = await open_log(2)
        assert (await again.load(room.id)).updates == []
        await again.close()

    asyncio.run(main())


def test_writers_wait_at_the_bound_and_go_on_after_the_commit(open_log: Opener) -> None:
    async def main() -> None:
        disk = Disk()
        async with running(await open_log(disk=disk)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            await asyncio.wait_for(log.wait_for_room(), 1)
            disk.may_commit.clear()
            for _ in range(9):
                put(log, room.id, bytes(port.MAX_UNCOMMITTED_BYTES // 8))
            assert log.uncommitted_bytes > port.MAX_UNCOMMITTED_BYTES
            waiting = asyncio.create_task(log.wait_for_room())
            await asyncio.sleep(0.03)
            assert not waiting.done()
            disk.may_commit.set()
            await asyncio.wait_for(waiting, 5)
            assert log.uncommitted_bytes == 0

    asyncio.run(main())


def test_many_small_updates_reach_the_bound_too(open_log: Opener) -> None:
    async def main() -> None:
        log = await open_log()
        for _ in range(port.MAX_UNCOMMITTED_ENTRIES + 1):
            put(log, 1, b"")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(log.wait_for_room(), 0.01)
        await log.close()
        await asyncio.wait_for(log.wait_for_room(), 1)

    asyncio.run(main())


# --- generations and offsets ---


def test_a_restart_keeps_good_offsets_good_and_what_was_lost_bad(open_log: Opener) -> None:
    async def main() -> None:
        log = await open_log(1)
        async with running(log):
            room = await log.open_room("a", epoch=EPOCH)
            for _ in range(5):
                last = put(log, room.id, b"x")
        shown_and_lost = log.next_offset()
        assert log.is_good(generation(1), last)
        assert log.is_good(generation(1), 0)

        async with running(await open_log(2)) as log:
            assert log.head == log.committed == last
            assert log.is_good(generation(1), last)
            assert not log.is_good(generation(1), shown_and_lost)
            assert log.is_good(generation(2), last)
            assert not log.is_good(generation(2), last + 1)
            reused = put(log, room.id, b"another")
            assert reused == shown_and_lost
            assert log.is_good(generation(2), reused)
            assert not log.is_good(generation(1), reused)
            assert not log.is_good(generation(9), 0)
            assert not log.is_good(generation(2), -1)

        async with running(await open_log(3)) as log:
            assert log.is_good(generation(2), reused)
            assert not log.is_good(generation(1), reused)
            assert log.is_good(generation(1), last)

    asyncio.run(main())


def test_a_start_without_an_append_is_a_generation_of_its_own(open_log: Opener) -> None:
    async def main() -> None:
        for number in range(1, 5):
            await (await open_log(number)).close()
        log = await open_log(5)
        assert all(log.is_good(generation(number), 0) for number in range(1, 6))
        assert not any(log.is_good(generation(number), 1) for number in range(1, 6))
        await log.close()

    asyncio.run(main())


def test_the_generation_is_durable_before_open_returns(open_log: Opener, tmp_path: Path) -> None:
    async def main() -> None:
        log = await open_log(1)
        reader = sqlite3.connect(f"file:{tmp_path / 'log.db'}?mode=ro", uri=True)
        stored = reader.execute("SELECT id, start_offset FROM generations").fetchall()
        reader.close()
        assert stored == [(generation(1), 0)]
        await log.close()

    asyncio.run(main())


def test_a_generation_is_never_used_twice(open_log: Opener) -> None:
    async def main() -> None:
        await (await open_log(1)).close()
        with pytest.raises(sqlite3.IntegrityError):
            await open_log(1)
        await (await open_log(2)).close()

    asyncio.run(main())


def test_the_relay_keeps_the_id_of_its_first_start(open_log: Opener) -> None:
    async def main() -> None:
        await (await open_log(1, relay_id=b"1" * 16)).close()
        log = await open_log(2, relay_id=b"2" * 16)
        assert log.relay_id == b"1" * 16
        assert log.generation == generation(2)
        await log.close()

    asyncio.run(main())


def test_offsets_rise_and_are_appended_once_and_in_order(open_log: Opener) -> None:
    async def main() -> None:
        log = await open_log()
        offsets = [log.next_offset() for _ in range(4)]
        assert offsets == sorted(set(offsets))
        log.append(1, offsets[0], b"")
        log.append(1, offsets[2], b"")
        for taken in (offsets[0], offsets[1], offsets[2], offsets[3] + 1):
            with pytest.raises(ValueError, match="order"):
                log.append(1, taken, b"")
        await log.close()

    asyncio.run(main())


def test_offsets_do_not_start_again_when_compaction_took_every_row(open_log: Opener) -> None:
    async def main() -> None:
        async with running(await open_log(1)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            other = await log.open_room("b", epoch=EPOCH)
            put(log, other.id, b"b")
            last = put(log, room.id, b"a")
            await log.compact(room.id, b"A", last, keep_after=last)
            await log.compact(other.id, b"B", last - 1, keep_after=last)
        log = await open_log(2)
        assert log.head == last
        assert log.is_good(generation(1), last)
        await log.close()

    asyncio.run(main())


# --- rooms ---


def test_a_room_keeps_its_first_epoch_and_id(open_log: Opener) -> None:
    async def main() -> None:
        async with running(await open_log(1)) as log:
            assert await log.find_room("\u90e8\u5c4b") is None
            row = await log.open_room("\u90e8\u5c4b", epoch=EPOCH)
            assert (row.name, row.epoch, row.base) == ("\u90e8\u5c4b", EPOCH, 0)
            assert await log.open_room("\u90e8\u5c4b", epoch=b"f" * 16) == row
            assert await log.open_room("other", epoch=b"f" * 16) != row
        async with running(await open_log(2)) as log:
            assert await log.find_room("\u90e8\u5c4b") == row

    asyncio.run(main())


def test_a_room_that_many_open_at_once_is_one_room(open_log: Opener) -> None:
    async def main() -> None:
        async with running(await open_log()) as log:
            rows = await asyncio.gather(
                *(log.open_room("a", epoch=bytes([n]) * 16) for n in range(20))
            )
            assert len(set(rows)) == 1

    asyncio.run(main())


def test_a_new_room_is_durable_when_it_is_returned(open_log: Opener) -> None:
    async def main() -> None:
        disk = Disk()
        async with running(await open_log(disk=disk)) as log:
            disk.full = True
            opening = asyncio.create_task(log.open_room("a", epoch=EPOCH))
            await asyncio.sleep(0.03)
            assert not opening.done()
            disk.full = False
            row = await opening
            assert await log.find_room("a") == row

    asyncio.run(main())


def test_an_unknown_room_cannot_be_loaded(open_log: Opener) -> None:
    async def main() -> None:
        log = await open_log()
        with pytest.raises(KeyError):
            await log.load(7)
        assert await log.read(7, 0, 100) == []
        await log.close()

    asyncio.run(main())


# --- reading ---


def test_reading_goes_on_from_an_offset_in_pieces_and_always_moves(open_log: Opener) -> None:
    async def main() -> None:
        async with running(await open_log()) as log:
            one = await log.open_room("a", epoch=EPOCH)
            two = await log.open_room("b", epoch=EPOCH)
            written: dict[int, list[tuple[int, bytes]]] = {one.id: [], two.id: []}
            for number in range(100):
                room_id = (one.id, two.id)[number % 3 == 0]
                data = bytes([number]) * (number % 7 * 10)
                written[room_id].append((put(log, room_id, data), data))
            await durable(log, log.head)
            for room_id, rows in written.items():
                read: list[tuple[int, bytes]] = []
                while some := await log.read(room_id, read[-1][0] if read else 0, 50):
                    assert len(some) == 1 or sum(len(data) for _, data in some) <= 50
                    read += some
                assert read == rows
            assert await log.read(one.id, log.head, 1000) == []

    asyncio.run(main())


# --- compaction ---


def test_compaction_keeps_content_and_rows_that_a_reader_needs(open_log: Opener) -> None:
    async def main() -> None:
        dice = random.Random(7)
        async with running(await open_log()) as log:
            room = await log.open_room("a", epoch=EPOCH)
            other = await log.open_room("b", epoch=EPOCH)
            rows: list[tuple[int, bytes]] = []
            elsewhere: list[tuple[int, bytes]] = []
            base = 0
            for _ in range(30):
                for _ in range(dice.randrange(1, 20)):
                    data = dice.randbytes(5)
                    if dice.random() < 0.7:
                        rows.append((put(log, room.id, data), data))
                    else:
                        elsewhere.append((put(log, other.id, data), data))
                offset = log.head
                keep_after = dice.randrange(0, offset + 5)
                snapshot = b"".join(data for _, data in rows)
                assert await log.compact(
                    room.id, snapshot, offset, keep_after=keep_after, coverage=b"c"
                )
                base = max(base, min(offset, keep_after))
                tail = [(put(log, room.id, b"tail"), b"tail")]
                rows += tail
                await durable(log, log.head)
                stored = await log.load(room.id)
                assert (stored.snapshot, stored.snapshot_offset) == (snapshot, offset)
                assert (stored.coverage, stored.base) == (b"c", base)
                assert stored.updates == tail
                kept = await log.read(room.id, base, 10**9)
                assert kept == [row for row in rows if row[0] > base]
                assert (await log.find_room("a")) == port.RoomRow(room.id, "a", EPOCH, base)
            assert await log.read(other.id, 0, 10**9) == elsewhere

    asyncio.run(main())


def test_an_older_snapshot_never_replaces_a_newer_one(open_log: Opener) -> None:
    async def main() -> None:
        async with running(await open_log()) as log:
            room = await log.open_room("a", epoch=EPOCH)
            offsets = [put(log, room.id, b"x") for _ in range(10)]
            assert await log.compact(room.id, b"new", offsets[6], keep_after=offsets[2])
            assert not await log.compact(room.id, b"old", offsets[4], keep_after=offsets[4])
            stored = await log.load(room.id)
            assert (stored.snapshot, stored.base) == (b"new", offsets[2])
            assert [offset for offset, _ in await log.read(room.id, 0, 999)] == offsets[3:]

    asyncio.run(main())


def test_a_snapshot_waits_for_the_updates_that_it_stands_for(open_log: Opener) -> None:
    async def main() -> None:
        disk = Disk()
        async with running(await open_log(disk=disk)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            disk.full = True
            offset = put(log, room.id, b"x")
            compacting = asyncio.create_task(log.compact(room.id, b"X", offset, keep_after=offset))
            await asyncio.sleep(0.05)
            assert not compacting.done()
            assert (await log.load(room.id)).snapshot is None
            disk.full = False
            assert await compacting
            with pytest.raises(ValueError, match="given out"):
                await log.compact(room.id, b"X", log.head + 1, keep_after=0)

    asyncio.run(main())


def test_a_snapshot_that_was_asked_for_during_a_commit_waits_for_the_next(
    open_log: Opener,
) -> None:
    async def main() -> None:
        disk = Disk()
        async with running(await open_log(disk=disk)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            disk.may_commit.clear()
            disk.committing.clear()
            put(log, room.id, b"x")
            await asyncio.to_thread(disk.committing.wait, 5)
            offset = put(log, room.id, b"y")
            compacting = asyncio.create_task(log.compact(room.id, b"XY", offset, keep_after=offset))
            log.on_commit(lambda committed, _: setattr(disk, "full", committed < offset))
            await asyncio.sleep(0)
            disk.may_commit.set()
            await asyncio.sleep(0.05)
            assert not compacting.done()  # it would have failed: there is no room for it
            assert log.committed < offset
            disk.full = False
            assert await compacting

    asyncio.run(main())


def test_a_snapshot_that_the_disk_has_no_place_for_does_not_stop_updates(tmp_path: Path) -> None:
    class Narrow(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if "INTO snapshots" in sql:
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, *parameters)

    async def main() -> None:
        opened = await SqliteLog.open(
            tmp_path / "log.db",
            generation=generation(1),
            relay_id=RELAY,
            now_ms=0,
            factory=lambda path: sqlite3.connect(path, factory=Narrow),
        )
        async with running(opened) as log:
            room = await log.open_room("a", epoch=EPOCH)
            offset = put(log, room.id, b"x")
            with pytest.raises((DiskFull, sqlite3.OperationalError)):
                await log.compact(room.id, b"X", offset, keep_after=offset)
            await durable(log, put(log, room.id, b"y"))
            assert log.failing is None
            assert [data for _, data in (await log.load(room.id)).updates] == [b"x", b"y"]

    asyncio.run(main())


def test_closing_ends_a_compaction_that_waits(open_log: Opener) -> None:
    async def main() -> None:
        log = await open_log()
        compacting = asyncio.create_task(log.compact(1, b"X", 0, keep_after=0))
        await asyncio.sleep(0)
        await log.close()
        with pytest.raises(Closed):
            await compacting

    asyncio.run(main())


# --- the file ---


def test_a_second_relay_on_the_same_file_is_refused(open_log: Opener) -> None:
    async def main() -> None:
        log = await open_log(1)
        with pytest.raises(StoreLocked):
            await open_log(2)
        assert log.failing is None
        await log.close()
        await (await open_log(3)).close()

    asyncio.run(main())


@pytest.mark.parametrize("damage", ["header", "foreign", "short"])
def test_a_damaged_file_is_refused_and_left_as_it_is(
    open_log: Opener, tmp_path: Path, damage: str
) -> None:
    async def main() -> None:
        path = tmp_path / "log.db"
        async with running(await open_log(1)) as log:
            room = await log.open_room("a", epoch=EPOCH)
            await durable(log, put(log, room.id, bytes(100_000)))
        whole = path.read_bytes()
        damaged = {
            "header": b"\0" * 100 + whole[100:],
            "foreign": b"not a log at all" * 1000,
            "short": whole[: len(whole) // 2],
        }[damage]
        path.write_bytes(damaged)
        with pytest.raises(StoreCorrupt):
            await open_log(2)
        assert path.read_bytes() == damaged

    asyncio.run(main())
