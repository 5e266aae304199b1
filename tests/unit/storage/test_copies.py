"""Copies of rooms: whole or absent, also when the process is killed between two statements."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from collab.storage.copies import Copies
from collab.storage.database import Database
from collab.storage.documents import STAGED, Batch, Documents, Position, RoomRow
from tests.unit.storage.files import documents

EPOCH, OTHER = b"e" * 16, b"o" * 16
PLACE = Position(b"g" * 16, 7)


async def filled(store: Documents, name: str) -> RoomRow:
    """A room with a snapshot, an acked, a remote and an unacked row."""
    row = await store.create(name)
    [ids] = await store.append([Batch(row.id, [(True, b"acked"), (False, b"remote")], PLACE)])
    await store.append([Batch(row.id, [(True, b"refused")], acked_through=ids[0], epoch=EPOCH)])
    await store.compact(row.id, b"snapshot", await store.last_row(row.id) - 1)
    return row


# Forks


def test_a_fork_is_one_update_that_is_not_acked_under_an_epoch_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with documents(tmp_path / "a.db") as (database, store):
            await filled(store, "notes")
            row = await Copies(database).fork("kept", OTHER, b"content")
            assert row is not None
            assert row == RoomRow(row.id, "kept", OTHER, None)
            assert (await store.rooms())[1:] == [row]
            stored = await store.load(row.id)
            assert stored.updates == [b"content"]
            assert [data for _, data in stored.unacked] == [b"content"]
            empty = await Copies(database).fork("empty", OTHER, None)
            assert empty is not None
            assert (await store.load(empty.id)).updates == []

    asyncio.run(main())


def test_a_fork_takes_the_place_of_a_room_without_content_and_of_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with documents(tmp_path / "a.db") as (database, store):
            copies = Copies(database)
            kept = await filled(store, "notes")
            only_snapshot = await filled(store, "compacted")
            await store.append([Batch(only_snapshot.id, acked_through=99)])
            await store.compact(
                only_snapshot.id, b"snapshot", await store.last_row(only_snapshot.id)
            )
            before = [await store.load(kept.id), await store.load(only_snapshot.id)]
            assert await copies.fork("notes", OTHER, b"content") is None
            assert await copies.fork("compacted", OTHER, b"content") is None
            assert [await store.load(kept.id), await store.load(only_snapshot.id)] == before
            empty = await store.create("empty")
            await store.append([Batch(empty.id, position=PLACE, epoch=EPOCH)])
            row = await copies.fork("empty", OTHER, b"content")
            assert row is not None
            assert row.id != empty.id
            [found] = [each for each in await store.rooms() if each.name == "empty"]
            assert found == RoomRow(row.id, "empty", OTHER, None)

    asyncio.run(main())


# Staging


def test_a_staged_room_is_never_listed_and_takes_the_place_of_the_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with documents(tmp_path / "a.db") as (database, store):
            copies = Copies(database)
            before = await filled(store, "notes")
            staged = await copies.stage("notes", EPOCH)
            assert staged == RoomRow(staged.id, STAGED + "notes", EPOCH, None)
            await store.append([Batch(staged.id, [(False, b"relay's")], position=PLACE)])
            assert [row.id for row in await store.rooms()] == [before.id]
            await copies.replace(before.id, staged.id, "notes")
            assert await store.rooms() == [RoomRow(staged.id, "notes", EPOCH, PLACE)]
            assert (await store.load(staged.id)).updates == [b"relay's"]
            [late] = await store.append([Batch(before.id, [(True, b"late")])])
            assert late == []  # what the old one still had to save goes nowhere

    asyncio.run(main())


def test_staging_again_begins_from_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with documents(tmp_path / "a.db") as (database, store):
            copies = Copies(database)
            first = await copies.stage("notes", EPOCH)
            await store.append([Batch(first.id, [(False, b"half")])])
            second = await copies.stage("notes", None)
            assert second.id != first.id
            assert second.epoch is None
            assert (await store.load(second.id)).updates == []

    asyncio.run(main())


def test_a_room_is_not_deleted_for_one_that_is_not_staged(tmp_path: Path) -> None:
    async def main() -> None:
        async with documents(tmp_path / "a.db") as (database, store):
            copies = Copies(database)
            notes, other = await filled(store, "notes"), await filled(store, "other")
            staged = await copies.stage("other", EPOCH)
            before = [await store.load(row.id) for row in (notes, other)]
            for wrong in (99, other.id, staged.id):
                with pytest.raises(ValueError, match="nothing was changed"):
                    await copies.replace(notes.id, wrong, "notes")
            assert [await store.load(row.id) for row in (notes, other)] == before
            assert len(await store.rooms()) == 2

    asyncio.run(main())


def test_what_was_left_of_stagings_is_dropped_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with documents(tmp_path / "a.db") as (database, store):
            copies = Copies(database)
            rows = [await filled(store, name) for name in ("notes", "é", " ")]
            before = [await store.load(row.id) for row in rows]
            for name in ("notes", "é"):
                staged = await copies.stage(name, EPOCH)
                await store.append([Batch(staged.id, [(False, b"half")])])
            await copies.drop_staged()
            names = await database.read(
                lambda c: c.execute("SELECT name FROM rooms ORDER BY id").fetchall()
            )
            assert names == [("notes",), ("é",), (" ",)]
            assert [await store.load(row.id) for row in rows] == before
            rooms = await database.read(
                lambda c: c.execute("SELECT DISTINCT room_id FROM updates").fetchall()
            )
            assert {room for (room,) in rooms} <= {row.id for row in rows}

    asyncio.run(main())


def test_a_staged_room_that_is_given_up_is_dropped_and_one_that_took_its_place_is_not(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with documents(tmp_path / "a.db") as (database, store):
            copies = Copies(database)
            notes = await filled(store, "notes")
            staged = await copies.stage("notes", EPOCH)
            await copies.drop(staged.id)
            with pytest.raises(ValueError, match="no staged room"):
                await copies.replace(notes.id, staged.id, "notes")
            staged = await copies.stage("notes", EPOCH)
            await store.append([Batch(staged.id, [(False, b"relay's")], position=PLACE)])
            await copies.replace(notes.id, staged.id, "notes")
            for room_id in (staged.id, notes.id, 99):
                await copies.drop(room_id)
            assert (await store.load(staged.id)).updates == [b"relay's"]

    asyncio.run(main())


# Killed at any statement

Act = Callable[[Database, Documents], Awaitable[object]]


async def states_in_between(tmp_path: Path, prepare: Act, act: Act) -> list[Path]:
    """Copies of the file as a kill before each statement of ``act``, and after it, leaves it."""
    path, copies = tmp_path / "a.db", list[Path]()
    watching = False

    def copy() -> None:
        folder = tmp_path / f"killed-{len(copies)}"
        folder.mkdir()
        for file in tmp_path.glob("a.db*"):
            if file.is_file() and not file.name.endswith("-shm"):
                shutil.copy(file, folder)
        copies.append(folder / "a.db")

    def trace(_statement: str) -> None:
        if watching:
            copy()

    def factory(name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(name)
        connection.set_trace_callback(trace)
        return connection

    async with documents(path, factory=factory) as (database, store):
        await prepare(database, store)
        watching = True
        await act(database, store)
        watching = False
        copy()
    return copies


async def found(path: Path) -> dict[str, list[bytes]]:
    """What a start finds: the updates of every room, after stagings were dropped."""
    async with documents(path) as (database, store):
        await Copies(database).drop_staged()
        return {row.name: (await store.load(row.id)).updates for row in await store.rooms()}


def test_a_fork_that_is_killed_is_whole_or_absent(tmp_path: Path) -> None:
    async def main() -> None:
        async def prepare(_: Database, store: Documents) -> None:
            await filled(store, "notes")
            await store.create("kept")

        async def fork(database: Database, _: Documents) -> None:
            assert await Copies(database).fork("kept", OTHER, b"content")

        seen = [await found(path) for path in await states_in_between(tmp_path, prepare, fork)]
        assert len(seen) > 5
        assert [each["notes"] for each in seen] == [[b"refused"]] * len(seen)
        kept = [each["kept"] for each in seen]
        assert kept[0] == []
        assert kept[-1] == [b"content"]
        assert sorted(kept) == kept
        assert {tuple(each) for each in kept} == {(), (b"content",)}

    asyncio.run(main())


def test_a_replacement_that_is_killed_leaves_one_whole_room_of_the_name(tmp_path: Path) -> None:
    async def main() -> None:
        rooms: list[int] = []

        async def prepare(database: Database, store: Documents) -> None:
            rooms.append((await filled(store, "notes")).id)
            staged = await Copies(database).stage("notes", EPOCH)
            await store.append([Batch(staged.id, [(False, b"relay's")], position=PLACE)])
            rooms.append(staged.id)

        async def replace(database: Database, _: Documents) -> None:
            old, staged = rooms
            await Copies(database).replace(old, staged, "notes")

        seen = [await found(path) for path in await states_in_between(tmp_path, prepare, replace)]
        assert len(seen) > 5
        old, new = {"notes": [b"refused"]}, {"notes": [b"relay's"]}
        assert seen[0] == old
        assert seen[-1] == new
        assert all(each in (old, new) for each in seen)

    asyncio.run(main())
