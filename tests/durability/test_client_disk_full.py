"""The disk of a client takes no more: it says so, goes on, and loses nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import collab
from tests.e2e.client_process import tokens
from tests.e2e.support import Child, Wire, relay_process, run


def starve_and_check(path: Path, limit: int) -> None:
    async def main() -> None:
        async with Child("tests.e2e.client_process", "starve", path, limit) as child:
            seen = json.loads(await child.line())
            assert await child.ended() == 0
        count = seen.pop("count")
        assert seen == {
            "error": "DiskFull",
            "readable": True,
            "saved_while_full": False,
            "error_after": None,
            "saved_after": True,
            "events": ["DiskFull", "Recovered"],
        }
        async with collab.open(path) as client:
            room = await client.room("notes")
            assert tokens(str(room.text("body"))) == [f"{n:06}" for n in range(count)]

    run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_at_a_file_size_limit_edits_stay_and_are_saved_when_there_is_room(tmp_path: Path) -> None:
    starve_and_check(tmp_path / "notes.db", 256 * 1024)


def test_on_a_full_disk_edits_stay_and_are_saved_when_there_is_room(small_disk: Path) -> None:
    starve_and_check(small_disk / "notes.db", 0)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_connection_that_is_lost_while_the_disk_is_full_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with relay_process(tmp_path / "relay") as (_, url), Wire(url) as wire:
            arguments = ("reconnect_while_full", tmp_path / "notes.db", wire.url)
            async with Child("tests.e2e.client_process", *arguments) as child:
                assert await child.line() == "full"
                await wire.cut()
                assert (await child.line()).startswith("offline")
                assert await child.line() == "synced"

    run(main())
