"""Which rooms are loaded, and what compaction and eviction leave of them."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import collab
from collab.protocol.update import Coverage
from collab_server.app import Relay
from collab_server.log.port import StoredRoom
from collab_server.replicas import ReplicaFailed
from collab_server.rooms import Rooms
from collab_server.serving import served
from collab_server.settings import Settings
from tests.unit.protocol.updates import text, update
from tests.unit.server.house import house, reader_of, run
from tests.unit.server.test_log_sqlite import EPOCH

HI = update((1, 0, [text("hi")]))
MORE = update((1, 2, [text("!", left=(1, 1))]))


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[str, Rooms]]:
    relay = Relay(settings)
    async with served(relay, settings) as url:
        assert relay._shared is not None
        yield url, relay._shared.rooms


def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "relay", open=True, port=0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def log_of(config: Settings) -> tuple[int, int]:
    """Rows of updates, and snapshots, in the relay's log."""
    log = sqlite3.connect(f"file:{config.log_path}?mode=ro", uri=True)
    try:
        (updates,) = log.execute("SELECT count(*) FROM updates").fetchone()
        (snapshots,) = log.execute("SELECT count(*) FROM snapshots").fetchone()
        return updates, snapshots
    finally:
        log.close()


def test_a_room_is_loaded_by_its_first_reader_and_evicted_when_idle(tmp_path: Path) -> None:
    async def main() -> None:
        config = replace(settings(tmp_path), room_idle_s=0.0)
        async with running(config) as (url, rooms):
            assert len(rooms) == 0
            async with collab.open(":memory:", relay=url) as client:
                room = await client.room("a")
                room.text("body").insert(0, "kept")
                await room.wait_synced(timeout=30)
                assert len(rooms) == 1
            await until(lambda: len(rooms) == 0)
            async with collab.open(":memory:", relay=url) as client:
                room = await client.room("a")
                await room.wait_synced(timeout=30)
                assert str(room.text("body")) == "kept"

    asyncio.run(main())


def test_a_log_that_outweighs_its_snapshot_is_compacted_and_stays_whole(tmp_path: Path) -> None:
    async def main() -> None:
        config = replace(settings(tmp_path), compact_from_bytes=2_000)
        async with running(config) as (url, _):
            async with collab.open(tmp_path / "writer.db", relay=url) as writer:
                room = await writer.room("a")
                for number in range(200):
                    room.text("body").insert(0, f"{number:04} ")
                    if number % 5 == 0:
                        await room.wait_synced(timeout=30)
                await room.wait_synced(timeout=30)
                expected = str(room.text("body"))
                await until(lambda: log_of(config)[1] == 1)
                updates, _ = log_of(config)
                assert updates < 40
            async with collab.open(":memory:", relay=url) as reader:
                copy = await reader.room("a")
                await copy.wait_synced(timeout=30)
                assert str(copy.text("body")) == expected
        async with (
            running(config) as (url, _),
            collab.open(":memory:", relay=url) as reader,
        ):
            copy = await reader.room("a")
            await copy.wait_synced(timeout=30)
            assert str(copy.text("body")) == expected

    asyncio.run(main())


def test_a_device_whose_place_was_compacted_away_still_gets_everything(tmp_path: Path) -> None:
    async def main() -> None:
        config = replace(settings(tmp_path), compact_from_bytes=2_000, room_idle_s=0.0)
        async with running(config) as (url, rooms):
            async with collab.open(tmp_path / "away.db", relay=url) as away:
                room = await away.room("a")
                room.text("body").insert(0, "before. ")
                await room.wait_synced(timeout=30)
            async with collab.open(tmp_path / "writer.db", relay=url) as writer:
                room = await writer.room("a")
                await room.wait_synced(timeout=30)
                for number in range(200):
                    room.text("body").insert(0, f"{number:04} ")
                    if number % 5 == 0:
                        await room.wait_synced(timeout=30)
                room.text("body").delete(0, 5)
                await room.wait_synced(timeout=30)
                expected = str(room.text("body"))
            await until(lambda: len(rooms) == 0 and log_of(config)[1] == 1)
            async with collab.open(tmp_path / "away.db", relay=url) as away:
                room = await away.room("a")
                room.text("body").insert(len(room.text("body")), "after.")
                await room.wait_synced(timeout=30)
                assert str(room.text("body")) == expected + "after."

    asyncio.run(main())


def test_the_worker_may_die_at_any_moment_and_rooms_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        config = settings(tmp_path)
        relay = Relay(config)
        async with served(relay, config) as url:
            assert relay._shared is not None
            replicas = relay._shared.rooms._replicas
            async with collab.open(":memory:", relay=url) as writer:
                room = await writer.room("a")
                room.text("body").insert(0, "one ")
                await room.wait_synced(timeout=30)
                for number in range(3):
                    pid = replicas.worker_pid
                    if pid is not None:
                        os.kill(pid, signal.SIGKILL)
                    room.text("body").insert(0, f"{number} ")
                    await room.wait_synced(timeout=30)
                    async with collab.open(":memory:", relay=url) as reader:
                        copy = await reader.room("a")
                        await copy.wait_synced(timeout=30)
                        assert str(copy.text("body")) == str(room.text("body"))

    asyncio.run(main())


def test_a_question_about_a_room_that_was_evicted_meanwhile_ends_as_a_failed_replica(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with house(tmp_path, worker=True, room_idle_s=0.0) as at:
            loaded = await at.rooms.hold("a", epoch=EPOCH)
            await at.write(loaded, reader_of(loaded, []), HI)
            at.rooms.release(loaded)
            await until(lambda: len(at.rooms) == 0)
            with pytest.raises(ReplicaFailed) as failed:
                await at.rooms.difference(loaded.room, b"\0")
            assert not failed.value.dropped  # the log is sound: the next who joins is served
            again = await at.rooms.hold("a", epoch=EPOCH)
            _, whole = await at.rooms.difference(again.room, b"\0")
            assert Coverage.from_update(whole).clocks == {1: 2}

    run(main())


def test_a_difference_of_a_replica_that_was_loaded_for_it_claims_all_that_it_holds(
    tmp_path: Path,
) -> None:
    """What it held beyond its offset, a device would keep to itself if the relay died then."""

    async def main() -> None:
        async with house(tmp_path, worker=True) as at:
            loaded = await at.rooms.hold("a", epoch=EPOCH)
            reader = reader_of(loaded, [])
            await at.write(loaded, reader, HI)
            await at.durable()
            reading, go_on = asyncio.Event(), asyncio.Event()
            load = at.log.load

            async def late(room_id: int) -> StoredRoom:
                stored = await load(room_id)
                reading.set()
                await go_on.wait()
                return stored

            at.log.load = late  # type: ignore[method-assign]
            asking = asyncio.create_task(at.rooms.difference(loaded.room, b"\0"))
            await reading.wait()
            before = loaded.room.head
            await at.write(loaded, reader, MORE)
            assert loaded.room.head > before
            go_on.set()
            offset, held = await asking
            assert (offset, Coverage.from_update(held).clocks) == (loaded.room.head, {1: 3})

    run(main())


def test_whoever_waits_for_a_room_hears_that_the_relay_was_stopped(tmp_path: Path) -> None:
    """Not that he was cancelled himself: a task that ends so is taken for one that may."""

    async def main() -> None:
        async with house(tmp_path) as there:
            there.disk.full = True
            waiting = asyncio.create_task(there.rooms.hold("new", epoch=None))
            await until(lambda: there.log.failing is not None)
        with pytest.raises(collab.Closed):
            await waiting

    run(main())


def test_a_damaged_row_that_a_reader_is_behind_is_asked_of_the_replica(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as there:
            loaded = await there.rooms.hold("notes", epoch=None)
            reader = reader_of(loaded, [])
            offset = there.log.next_offset()
            there.log.append(loaded.room.id, offset, b"damaged")
            await until(lambda: there.log.committed >= offset)
            assert await there.rooms.read_behind(loaded.room, reader) is None
            there.rooms.release(loaded)

    run(main())
