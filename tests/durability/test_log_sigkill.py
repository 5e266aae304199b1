"""A relay's log is killed at random moments; what it had announced is there afterwards."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.durability.log_writer import ROOMS, generation, line, lines_of, open_log

SEED = 20260101
KILLS = 10


def _run_and_kill(path: Path, run: int, alive_s: float) -> int:
    """The offset up to which the killed writer had announced that everything is durable."""
    command = [sys.executable, "-m", "tests.durability.log_writer", str(path), str(run)]
    writer = subprocess.Popen([*command, str(SEED + run)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer.stdout as announced:
        first = announced.readline()
        time.sleep(alive_s)
        writer.kill()
        rest = announced.read()
    writer.wait()
    whole = (first + rest).rpartition(b"\n")[0].split()
    return int(whole[-1])


def test_what_was_announced_survives_sigkill_and_nothing_is_doubled(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    path = tmp_path / "log.db"
    survived: dict[str, list[bytes]] = {name: [] for name in ROOMS}

    async def examine(run: int, announced: int, start: int) -> int:
        log = await open_log(str(path), 1000 + run)
        found: set[bytes] = set()
        for name in ROOMS:
            row = await log.find_room(name)
            assert row is not None
            lines = lines_of(await log.load(row.id))
            assert lines[: len(survived[name])] == survived[name], f"seed {SEED}, run {run}"
            assert len(set(lines)) == len(lines)
            survived[name] = lines
            found.update(lines)
        promised = {line(run, offset).strip() for offset in range(start + 1, announced + 1)}
        assert promised <= found, f"seed {SEED}, run {run}"
        assert log.is_good(generation(run), announced)
        assert log.is_good(generation(run), log.head)
        assert not log.is_good(generation(run), log.head + 1)
        head = log.head
        await log.close()
        return head

    head = 0
    for run in range(KILLS):
        announced = _run_and_kill(path, run, dice.uniform(0, 0.25))
        head = asyncio.run(examine(run, announced, head))
    assert head > 100
