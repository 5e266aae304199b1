"""Whatever the store said is saved is there after SIGKILL, at whatever moment it came."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from collab.storage.documents import Position, Stored
from collab.storage.schema import migrations
from collab_server.log import schema
from tests.durability.store_writer import contents
from tests.unit.storage.files import documents

SEED = 20260
KILLS = 10
STORE_VERSIONS = migrations(bytes(16))
ROOT = Path(__file__).parents[2]


def run_and_kill(program: str, path: Path, rng: random.Random) -> list[list[str]]:
    """Start a writer, kill it some time after its first words, return the words of all lines."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.durability.store_writer", program, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        lines = [first, *process.stdout.read().splitlines(keepends=True)]
    assert process.returncode == -signal.SIGKILL
    return [line.split() for line in lines if line.endswith("\n")]  # the last may be cut off


def recover(path: Path) -> tuple[Stored, Position | None]:
    async def main() -> tuple[Stored, Position | None]:
        async with documents(path) as (database, store):
            verdict = await database.read(lambda c: c.execute("PRAGMA integrity_check").fetchall())
            assert verdict == [("ok",)]
            [room] = await store.rooms()
            return await store.load(room.id), room.position

    return asyncio.run(main())


def test_what_was_saved_survives_sigkill_and_a_position_has_its_updates(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    path = tmp_path / "notes.db"
    saved: set[bytes] = set()
    for kill in range(KILLS):
        lines = run_and_kill("append", path, rng)
        assert lines, f"kill {kill} of seed {SEED}"
        saved.update(line[2].encode() for line in lines)
        stored, position = recover(path)
        found = contents(stored)
        assert saved <= set(found), f"kill {kill} of seed {SEED}"
        assert len(found) == len(set(found)), f"kill {kill} of seed {SEED}"
        # Each transaction is whole: two remote updates, one local between, and their position.
        remote = [data for data in found if data.startswith(b"remote")]
        assert remote == [b"remote-%d" % (n + 1) for n in range(len(remote))]
        assert position is not None
        assert position.offset == len(remote)
        assert len(found) == len(remote) * 3 // 2
        rows = {data.strip(): row for row, data in stored.unacked}
        assert all(rows[line[2].encode()] == int(line[1]) for line in lines)


def test_a_compaction_that_is_killed_loses_no_update_and_no_debt_to_the_relay(
    tmp_path: Path,
) -> None:
    rng = random.Random(SEED)
    path = tmp_path / "notes.db"
    saved: dict[bytes, int] = {}
    told = {"acking": 0, "acked": 0}
    for kill in range(KILLS):
        for row, name in run_and_kill("compact", path, rng):
            if row in told:
                told[row] = int(name)
            else:
                saved[name.encode()] = int(row)
        stored, _ = recover(path)
        found = contents(stored)
        assert found == [b"local-%d" % number for number in range(len(found))], f"kill {kill}"
        assert set(saved) <= set(found), f"kill {kill} of seed {SEED}"
        debt = {name for _, data in stored.unacked for name in data.split()}
        owed = {name for name, row in saved.items() if row > told["acking"]}
        assert owed <= debt, f"kill {kill} of seed {SEED}"
        acked = told["acked"]
        assert all(row > acked for row, _ in stored.unacked), f"kill {kill} of seed {SEED}"


@pytest.mark.parametrize(
    ("program", "argument", "at_least"),
    [
        ("compact_once", "0", 20),
        ("compact_once", "100000", 20),
        *(("migrate", str(version), 15) for version in (0, 1)),
        *(("upgrade_store", str(version), 20) for version in range(len(STORE_VERSIONS) + 1)),
        *(("upgrade_log", str(version), 20) for version in range(len(schema.MIGRATIONS) + 1)),
    ],
)
def test_killed_at_any_statement_the_file_opens_with_everything(
    quick_path: Path, program: str, argument: str, at_least: int
) -> None:
    command = [sys.executable, "-m", "tests.durability.store_writer", program]
    done = subprocess.run(
        [*command, str(quick_path / "a.db"), argument],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    assert int(done.stdout) > at_least  # that many statements, each with a kill of its own
