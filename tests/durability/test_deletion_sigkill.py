"""A relay that deletes rooms is killed at random moments: a room is there whole, or gone whole."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from tests.durability.log_writer import generation, open_log
from tests.durability.room_deleter import BESIDE, NAME, epoch_of

SEED = 20260102
KILLS = 10


def _run_and_kill(path: Path, run: int, alive_s: float) -> tuple[int, int]:
    """The last life whose deletion the killed process had announced, and the head before that."""
    command = [sys.executable, "-m", "tests.durability.room_deleter", str(path), str(run)]
    process = subprocess.Popen([*command, str(SEED + run)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as announced:
        first = announced.readline()
        time.sleep(alive_s)
        process.kill()
        rest = announced.read()
    process.wait()
    life, head = (first + rest).rpartition(b"\n")[0].splitlines()[-1].split()
    return int(life), int(head)


def _tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with contextlib.closing(sqlite3.connect(path)) as log:
        names = ("rooms", "updates", "snapshots", "deleted_rooms")
        return {name: log.execute(f"SELECT * FROM {name}").fetchall() for name in names}


def test_a_room_is_deleted_whole_or_not_at_all_whenever_the_relay_is_killed(
    tmp_path: Path,
) -> None:
    dice = random.Random(SEED)
    path = tmp_path / "log.db"

    async def examine(run: int, life: int, head: int) -> None:
        log = await open_log(str(path), 1000 + run)
        commits = asyncio.create_task(log.run())
        assert all([await log.is_deleted(NAME, epoch_of(run, n)) for n in range(life + 1)])
        assert log.head >= head
        assert log.is_good(generation(run), head)
        room = await log.find_room(NAME)
        if room is not None:
            # A later life; the one whose deletion was not announced may be gone too.
            assert room.epoch in (epoch_of(run, life + 1), epoch_of(run, life + 2))
            assert not await log.is_deleted(NAME, room.epoch)
            stored = await log.load(room.id)
            lines = [data for _, data in stored.updates] + [stored.snapshot or room.epoch]
            assert set(lines) == {room.epoch}
            await log.delete_room(room.id, now_ms=0)  # so that the next run makes its own
        await log.close()
        await commits

    for run in range(KILLS):
        life, head = _run_and_kill(path, run, dice.uniform(0, 0.25))
        tables = _tables(path)
        ids = {row[0]: row[1] for row in tables["rooms"]}
        assert set(ids.values()) <= {NAME, BESIDE}, f"seed {SEED}, run {run}"
        assert {row[1] for row in tables["updates"]} <= set(ids), f"seed {SEED}, run {run}"
        assert {row[0] for row in tables["snapshots"]} <= set(ids), f"seed {SEED}, run {run}"
        gone = [row[0] for row in tables["deleted_rooms"]]
        assert not set(gone) & set(ids)
        assert len(gone) == len(set(gone))
        asyncio.run(examine(run, life, head))
