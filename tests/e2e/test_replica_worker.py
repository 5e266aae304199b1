"""The relay's engine lives in another process: that one may be late, die, or never come back."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import collab
from collab.protocol import frames
from collab_server.app import Relay
from collab_server.log.port import Log
from collab_server.replicas import Contents
from tests.e2e.authors import text_of
from tests.e2e.support import QUICK, join, reads, run, running, scripted_client, soon, until


def parts_of(relay: Relay) -> tuple[Log, object, object]:
    shared = relay._shared
    assert shared is not None
    return shared.log, shared.rooms, shared.rooms._replicas


def test_a_worker_that_is_killed_delays_differences_and_loses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            collab.open(":memory:", relay=url, settings=QUICK) as writer,
        ):
            shared = relay._shared
            assert shared is not None
            replicas = shared.rooms._replicas
            room = await writer.room("notes")
            expected = ""
            for number in range(3):
                pid = replicas.worker_pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                room.text("body").insert(0, f"{number} ")
                expected = f"{number} " + expected
                await room.wait_synced(20)  # needs no engine
                async with collab.open(":memory:", relay=url, settings=QUICK) as fresh:
                    await reads(await fresh.room("notes"), expected)
                await until(lambda pid=pid: replicas.worker_pid not in (None, pid))  # type: ignore[misc]

    run(main())


def test_a_key_that_ends_the_relay_does_not_reach_the_worker(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (_, relay):
            shared = relay._shared
            assert shared is not None
            pid = shared.rooms._replicas.worker_pid
            assert pid is not None
            assert os.getpgid(pid) == pid  # a terminal's Ctrl-C goes to the relay's group

    run(main())


def test_a_quarantined_room_is_told_so_and_the_others_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            collab.open(":memory:", relay=url, settings=QUICK) as writer,
            collab.open(":memory:", relay=url, settings=QUICK) as late,
        ):
            sick, well = await writer.room("sick"), await writer.room("well")
            for room in (sick, well):
                room.text("body").insert(0, "x")
                await room.wait_synced(20)
            shared = relay._shared
            assert shared is not None
            replicas = shared.rooms._replicas
            replicas._deaths[shared.rooms._loaded["sick"].room.id] = 2
            refused, fine = await late.room("sick"), await late.room("well")
            await reads(fine, "x")
            await until(lambda: isinstance(refused.status.error, collab.Rejected))
            assert isinstance(refused.status.error, collab.Rejected)
            assert refused.status.error.code == frames.Code.QUARANTINED
            assert refused.status.error.retryable
            refused.text("body").insert(0, "kept")
            await refused.wait_saved()
            sick.text("body").insert(1, "y")  # who is in it needs no engine
            await sick.wait_synced(20)
            replicas._deaths.clear()  # an operator had a look
            await refused.wait_synced(20)
            await until(lambda: str(sick.text("body")) == str(refused.text("body")))
            assert refused.status.error is None

    run(main())


def test_a_difference_holds_nothing_beyond_its_offset(tmp_path: Path) -> None:
    """Were the relay killed then, who got more would have it under a place that is good."""

    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            collab.open(":memory:", relay=url, settings=QUICK) as writer,
        ):
            shared = relay._shared
            assert shared is not None
            rooms, log = shared.rooms, shared.log
            room = await writer.room("notes")
            room.text("body").insert(0, "known")
            await room.wait_synced(20)
            loaded = rooms._loaded["notes"].room
            rooms._replicas.drop(loaded.id)
            reloading, go_on = asyncio.Event(), asyncio.Event()
            original = rooms._replicas._reload

            async def late(room_id: int) -> Contents:
                reloading.set()
                await go_on.wait()
                return await original(room_id)

            rooms._replicas._reload = late
            async with scripted_client(url) as reader:
                await reader.send(join("notes"))
                await soon(reloading.wait())
                before = loaded.head
                room.text("body").insert(5, " and new")
                await until(lambda: loaded.head > before)
                go_on.set()
                difference = await reader.expect(frames.Difference)
                known = {before: "known", loaded.head: "known and new"}
                assert text_of(difference.update) == known[difference.offset]
            assert log.failing is None

    run(main())


def test_a_snapshot_holds_nothing_beyond_its_offset(tmp_path: Path) -> None:
    """What only the snapshot holds is in no run of the log: readers would never be sent it."""

    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            collab.open(":memory:", relay=url, settings=QUICK) as writer,
        ):
            shared = relay._shared
            assert shared is not None
            rooms, log = shared.rooms, shared.log
            room = await writer.room("notes")
            room.text("body").insert(0, "known")
            await room.wait_synced(20)
            loaded = rooms._loaded["notes"]
            rooms._replicas.drop(loaded.room.id)
            reloading, go_on = asyncio.Event(), asyncio.Event()
            original = rooms._replicas._reload

            async def late(room_id: int) -> Contents:
                reloading.set()
                await go_on.wait()
                return await original(room_id)

            rooms._replicas._reload = late
            compacting = asyncio.create_task(rooms._compact(loaded))
            await soon(reloading.wait())
            before = loaded.room.head
            room.text("body").insert(5, " and new")
            await until(lambda: loaded.room.head > before)
            go_on.set()
            await soon(compacting)
            stored = await log.load(loaded.room.id)
            assert stored.snapshot is not None
            known = {before: "known", loaded.room.head: "known and new"}
            assert text_of(stored.snapshot) == known[stored.snapshot_offset]

    run(main())
