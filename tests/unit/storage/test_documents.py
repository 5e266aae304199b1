"""Rooms, their updates in order, what is acked, what is compacted, and where the relay's log is."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from collab.errors import StoreCorrupt
from collab.storage.database import Database
from collab.storage.documents import Batch, Documents, Position, RoomRow, Sizes, Stored
from tests.unit.storage.files import documents

GENERATION = b"g" * 16
EPOCH = b"e" * 16


def in_store(
    path: Path | str, scenario: Callable[[Documents], Awaitable[None]], *, times: int = 1
) -> None:
    async def main() -> None:
        for _ in range(times):
            async with documents(path) as (_, store):
                await scenario(store)

    asyncio.run(main())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


def made_here(*updates: bytes) -> list[tuple[bool, bytes]]:
    return [(True, update) for update in updates]


def test_a_room_is_made_once_and_found_again_by_its_exact_name(path: Path) -> None:
    names = ["design", "设计", "Ünï/ցոդ 🗒️", "é", "e\u0301", "x" * 255]

    async def scenario(store: Documents) -> None:
        rooms = [await store.create(name) for name in names]
        assert len({room.id for room in rooms}) == len(names)
        assert [await store.create(name) for name in names] == rooms
        assert await store.rooms() == rooms
        assert rooms[0] == RoomRow(rooms[0].id, "design", None, None)

    in_store(path, scenario, times=2)


def test_updates_come_back_byte_for_byte_in_order_of_arrival(path: Path) -> None:
    async def scenario(store: Documents) -> None:
        room = await store.create("a")
        other = await store.create("b")
        rows = [(n % 3 == 0, bytes([n]) * n) for n in range(1, 60)]
        ids = await store.append([Batch(other.id, rows[:1]), Batch(room.id, rows[:20])])
        ids += await store.append([Batch(room.id, rows[20:]), Batch(other.id, rows[1:])])
        for id_ in (room.id, other.id):
            stored = await store.load(id_)
            assert stored.updates == [data for _, data in rows]
            assert [data for _, data in stored.unacked] == [d for local, d in rows if local]
            assert stored.tail_bytes == sum(range(1, 60))
        assert [row for row, _ in (await store.load(room.id)).unacked] == ids[1] + ids[2]

    in_store(path, scenario)


def test_the_position_and_the_epoch_stay_until_they_are_given_anew(path: Path) -> None:
    async def scenario(store: Documents) -> None:
        room = await store.create("a")
        first = Position(GENERATION, 7)
        await store.append([Batch(room.id, [(False, b"r")], position=first, epoch=EPOCH)])
        await store.append([Batch(room.id, made_here(b"l"), acked_through=0)])
        assert await store.rooms() == [RoomRow(room.id, "a", EPOCH, first)]
        # Another generation starts lower, and 0 is a place like any other.
        await store.append([Batch(room.id, position=Position(b"h" * 16, 0), epoch=b"f" * 16)])
        assert await store.rooms() == [RoomRow(room.id, "a", b"f" * 16, Position(b"h" * 16, 0))]

    in_store(path, scenario)


def test_a_position_is_not_stored_without_the_updates_that_it_covers(path: Path) -> None:
    async def scenario(store: Documents) -> None:
        room = await store.create("a")
        rows: list[tuple[bool, bytes]] = [(False, b"good"), (False, None)]  # type: ignore[list-item]
        with pytest.raises(sqlite3.IntegrityError):
            await store.append([Batch(room.id, rows, position=Position(GENERATION, 9))])
        assert await store.rooms() == [room]
        assert (await store.load(room.id)).updates == []

    in_store(path, scenario)


def test_an_ack_is_cumulative_and_never_taken_back(path: Path) -> None:
    async def unacked(store: Documents, room: int) -> list[bytes]:
        return [data for _, data in (await store.load(room)).unacked]

    async def scenario(store: Documents) -> None:
        room, other = (await store.create("a")).id, (await store.create("b")).id
        [ids, others] = await store.append(
            [Batch(room, made_here(b"1", b"2", b"3")), Batch(other, made_here(b"4"))]
        )
        await store.append([Batch(room, acked_through=ids[1])])
        assert await unacked(store, room) == [b"3"]
        await store.append([Batch(room, acked_through=ids[0])])
        assert await unacked(store, room) == [b"3"]
        await store.append([Batch(room, acked_through=others[0])])
        assert await unacked(store, room) == []
        assert await unacked(store, other) == [b"4"]

    in_store(path, scenario)


def test_an_ack_from_the_future_does_not_ack_what_is_made_later(path: Path) -> None:
    async def scenario(store: Documents) -> None:
        room = (await store.create("a")).id
        await store.append([Batch(room, acked_through=10**9)])
        await store.append([Batch(room, made_here(b"1"), acked_through=10**9)])
        [ids] = await store.append([Batch(room, made_here(b"2"))])
        assert (await store.load(room)).unacked[-1] == (ids[0], b"2")
        assert len((await store.load(room)).unacked) == 2

    in_store(path, scenario)


def test_compaction_keeps_what_is_not_acked_and_what_came_later(path: Path) -> None:
    async def scenario(store: Documents) -> None:
        room = (await store.create("a")).id
        [ids] = await store.append(
            [Batch(room, [(True, b"acked"), (False, b"remote"), (True, b"unacked")])]
        )
        await store.append([Batch(room, [(False, b"later")], acked_through=ids[0])])
        later = await store.last_row(room)
        await store.compact(room, b"snapshot", ids[1])
        expected = Stored(b"snapshot", [b"later"], [(ids[1], b"unacked")], later, 8, 5)
        assert await store.load(room) == expected
        assert await store.sizes(room) == Sizes(8, 5, 1)
        # Acked after it was compacted: it is neither sent again nor applied again.
        await store.append([Batch(room, acked_through=ids[1])])
        assert await store.load(room) == Stored(b"snapshot", [b"later"], [], later, 8, 5)
        await store.compact(room, b"snapshot 2", later)
        assert await store.load(room) == Stored(b"snapshot 2", [], [], later, 10, 0)

    in_store(path, scenario)


def test_unacked_rows_that_outweigh_the_snapshot_are_unacked_as_the_snapshot(path: Path) -> None:
    async def main() -> None:
        async with documents(path) as (_, store):
            room = (await store.create("a")).id
            rows = [(True, b"first" * 9), (False, b"remote"), (True, b"second" * 9)]
            [ids] = await store.append([Batch(room, rows)])
            await store.compact(room, b"snapshot", await store.last_row(room))
            assert (await store.load(room)).unacked == [(ids[1], b"snapshot")]
            assert (await store.sizes(room)).tail_rows == 0

            [[later]] = await store.append([Batch(room, [(True, b"later")])])
            await store.append([Batch(room, acked_through=ids[0])])
            unacked = (await store.load(room)).unacked
            assert unacked == [(ids[1], b"snapshot"), (later, b"later")]

            await store.compact(room, b"snapshot and later", later)
            unacked = (await store.load(room)).unacked
            assert unacked == [(ids[1], b"snapshot and later"), (later, b"later")]

            await store.append([Batch(room, acked_through=ids[1])])
            assert (await store.load(room)).unacked == [(later, b"later")]

    asyncio.run(main())


def test_a_row_after_a_compaction_that_left_none_is_not_taken_for_covered(path: Path) -> None:
    """Without AUTOINCREMENT its id would be 1 again."""

    async def scenario(store: Documents) -> None:
        room = (await store.create("a")).id
        await store.append([Batch(room, [(False, b"r")] * 50)])
        await store.compact(room, b"s", await store.last_row(room))
        assert await store.last_row(room) == 50
        await store.append([Batch(room, [(False, b"new")])])
        assert (await store.load(room)).updates == [b"new"]

    in_store(path, scenario)


def test_an_older_snapshot_never_replaces_a_newer_one(path: Path) -> None:
    async def scenario(store: Documents) -> None:
        room = (await store.create("a")).id
        await store.append([Batch(room, [(False, b"r")] * 10)])
        await store.compact(room, b"newer", 8)
        await store.compact(room, b"older", 5)
        assert (await store.load(room)).snapshot == b"newer"
        with pytest.raises(ValueError, match="row id 11"):
            await store.compact(room, b"from the future", 11)
        assert (await store.load(room)).snapshot == b"newer"

    in_store(path, scenario)


def test_compaction_makes_the_file_smaller(path: Path) -> None:
    async def scenario(store: Documents) -> None:
        room = (await store.create("a")).id
        for _ in range(20):
            await store.append([Batch(room, [(False, b"r" * 5000)] * 20)])
        await store.compact(room, b"s" * 1000, await store.last_row(room))
        assert path.stat().st_size < 200_000  # of 2 MB; the empty tables take 100 kB
        assert path.with_name("notes.db-wal").stat().st_size == 0

    in_store(path, scenario)


def test_a_forgotten_room_takes_nothing_and_stops_nobody(path: Path) -> None:
    async def scenario(store: Documents) -> None:
        gone, kept = (await store.create("gone")).id, (await store.create("kept")).id
        await store.append([Batch(gone, made_here(b"x")), Batch(kept, made_here(b"y"))])
        await store.compact(gone, b"s", await store.last_row(gone))
        await store.forget(gone)
        await store.forget(gone)
        [nothing, ids] = await store.append(
            [
                Batch(gone, made_here(b"late"), position=Position(GENERATION, 1), acked_through=1),
                Batch(kept, made_here(b"z")),
            ]
        )
        assert nothing == []
        assert len(ids) == 1
        await store.compact(gone, b"s", 1)
        assert await store.load(gone) == Stored(None, [], [], 0, 0, 0)
        again = await store.create("gone")
        assert again.id not in (gone, kept)
        assert (await store.load(again.id)).updates == []
        assert (await store.load(kept)).updates == [b"y", b"z"]

    in_store(path, scenario)


def test_all_of_it_works_in_memory() -> None:
    async def scenario(store: Documents) -> None:
        room = (await store.create("a")).id
        await store.append([Batch(room, [(False, b"r"), (True, b"l")])])
        await store.compact(room, b"s", await store.last_row(room))
        assert await store.load(room) == Stored(b"s", [], [(2, b"l")], 2, 1, 0)

    in_store(":memory:", scenario)


def test_a_row_that_cannot_be_ours_is_damage(path: Path) -> None:
    async def main() -> None:
        async with documents(path) as (database, store):
            await store.create("a")
            damage = "UPDATE rooms SET name = CAST(x'ff' AS TEXT)"
            await database.write(lambda connection: connection.execute(damage))
            with pytest.raises(StoreCorrupt):
                await store.rooms()

    asyncio.run(main())


def test_loading_a_room_and_deleting_what_is_covered_use_the_index(path: Path) -> None:
    seen: list[str] = []

    def factory(name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(name)
        connection.set_trace_callback(seen.append)
        return connection

    async def plan(database: Database, statement: str) -> str:
        rows = await database.read(
            lambda c: c.execute("EXPLAIN QUERY PLAN " + statement).fetchall()
        )
        return " ".join(row[-1] for row in rows)

    async def main() -> None:
        async with documents(path, factory=factory) as (database, store):
            room = (await store.create("a")).id
            seen.clear()
            await store.load(room)
            await store.last_row(room)
            await store.sizes(room)
            await store.compact(room, b"s", 0)
            queries = [sql for sql in seen if "updates" in sql and "sqlite_sequence" not in sql]
            assert len(queries) == 5
            for sql in queries:
                assert "USING INDEX updates_by_room" in (await plan(database, sql)).replace(
                    "COVERING ", ""
                )

    asyncio.run(main())


def test_what_was_not_sent_is_counted_room_by_room_and_a_folded_snapshot_counts_as_one(
    path: Path,
) -> None:
    async def scenario(store: Documents) -> None:
        rooms = [await store.create(name) for name in ("quiet", "busy", "folded", "theirs")]
        quiet, busy, folded, theirs = (room.id for room in rooms)
        [ids] = await store.append([Batch(quiet, made_here(b"1"))])
        await store.append([Batch(quiet, acked_through=ids[0])])
        [ids] = await store.append([Batch(busy, made_here(b"1", b"2", b"3"))])
        await store.append([Batch(busy, acked_through=ids[0])])
        [ids] = await store.append([Batch(folded, made_here(b"x" * 50, b"y" * 50))])
        await store.compact(folded, b"small", ids[-1])
        await store.append([Batch(theirs, [(False, b"r")])])
        assert await store.unsent() == {"busy": 2, "folded": 1}
        await store.append([Batch(folded, made_here(b"z"))])
        assert await store.unsent() == {"busy": 2, "folded": 2}
        await store.append([Batch(folded, acked_through=ids[-1])])
        assert await store.unsent() == {"busy": 2, "folded": 1}

    in_store(path, scenario)


def test_a_room_is_found_by_its_name_and_none_is_made(path: Path) -> None:
    async def scenario(store: Documents) -> None:
        assert await store.find("notes") is None
        room = await store.create("notes")
        assert await store.find("notes") == room
        assert await store.rooms() == [room]

    in_store(path, scenario)
