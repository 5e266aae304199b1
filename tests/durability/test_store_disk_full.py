"""A full disk: said at once, nothing half stored, and over as soon as there is room again."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collab.errors import DiskFull
from collab.storage.documents import Batch
from tests.durability.test_store_sigkill import ROOT
from tests.unit.storage.files import documents


def fill(path: Path, limit: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.durability.store_writer", "fill", str(path), str(limit)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def check(seen: dict[str, Any]) -> None:
    assert len(seen["errors"]) == 3
    assert all("was not saved" in error and "Free space" in error for error in seen["errors"])
    assert seen["saved"]
    assert seen["while_full"] == seen["saved"]
    assert seen["after"] == [*seen["saved"], "after"]
    assert seen["verdict"] == "ok"


def test_at_a_file_size_limit_the_store_refuses_and_recovers(tmp_path: Path) -> None:
    """SQLITE_IOERR_WRITE, from EFBIG; Python ignores SIGXFSZ, or the process would be gone."""
    check(fill(tmp_path / "notes.db", 256 * 1024))


def test_on_a_full_disk_the_store_refuses_and_recovers(small_disk: Path) -> None:
    """SQLITE_FULL, from ENOSPC."""
    check(fill(small_disk / "notes.db", 0))


def test_opening_on_a_full_disk_says_so_and_works_when_there_is_room(small_disk: Path) -> None:
    async def main(path: Path) -> None:
        async with documents(path) as (_, store):
            await store.create("room")

    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    outcomes = set()
    for spare in range(0, free, 8192):
        ballast.write_bytes(bytes(free - spare))
        try:
            asyncio.run(main(small_disk / "notes.db"))
        except DiskFull:
            outcomes.add("full")
        else:
            outcomes.add("made")
            break
        finally:
            ballast.unlink()
    assert outcomes == {"full", "made"}
    asyncio.run(main(small_disk / "notes.db"))


def test_compaction_on_a_full_disk_keeps_what_there_was(small_disk: Path) -> None:
    """Making space needs space first, for the WAL. Without it nothing may be lost."""

    async def main() -> None:
        async with documents(small_disk / "notes.db") as (database, store):
            room = (await store.create("room")).id
            rows = [(False, b"r%d " % n + b" " * 900) for n in range(100)]
            await store.append([Batch(room, rows)])
            await database.shrink()
            before = await store.load(room)
            ballast = small_disk / "ballast"
            free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
            ballast.write_bytes(bytes(free))
            with pytest.raises(DiskFull):
                await store.compact(room, b"s" * 50_000, before.last_row)
            assert await store.load(room) == before
            ballast.unlink()
            await store.compact(room, b"s" * 50_000, before.last_row)
            assert (await store.load(room)).snapshot == b"s" * 50_000

    asyncio.run(main())
