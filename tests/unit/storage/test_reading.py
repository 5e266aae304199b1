"""A store file is looked into without its lock and without a trace, in whatever state it is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import collab
from collab.errors import LocalError, StoreCorrupt, Unsupported
from collab.storage.opening import open_store
from collab.storage.schema import APPLICATION_ID, migrations
from collab.storage.survey import Survey, survey

VERSIONS = migrations(bytes(range(16)))
STATUS = [sys.executable, "-c", "from collab.cli import main; main()", "status"]


def trace(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All that could show that somebody was there."""
    return {
        path.name: (path.stat().st_mtime_ns, (path.is_file() and path.read_bytes()) or b"")
        for path in folder.iterdir()
    } | {".": (folder.stat().st_mtime_ns, b"")}


def looked(path: Path) -> Survey:
    """A survey that left no trace."""
    before = trace(path.parent)
    found = survey(path)
    assert trace(path.parent) == before
    return found


def made(path: Path, version: int = len(VERSIONS)) -> Path:
    """An empty store of this format."""
    opened = open_store(
        path, application_id=APPLICATION_ID, migrations=VERSIONS[:version], factory=None, what="x"
    )
    opened.connection.close()
    assert opened.lock is not None
    opened.lock.release()
    return path


async def fill(client: collab.Client) -> None:
    room = await client.room("design")
    room.text("body").insert(0, "hello")
    await room.wait_saved()
    for body in ("one", "two", "three"):
        message = await room.chat.send(body)
    await room.chat.cancel(message)


def filled(path: Path) -> Path:
    async def main() -> None:
        async with collab.open(path) as client:
            await fill(client)

    asyncio.run(main())
    return path


def check_filled(found: Survey) -> None:
    assert found.rooms is not None
    (room,) = found.rooms
    assert (room.name, room.pending_updates, room.was_joined) == ("design", 1, False)
    assert room.document_bytes > 5
    assert (room.generation, room.offset) == (None, None)
    assert room.chat is not None
    assert (room.chat.queued, room.chat.sending, room.chat.stalled) == (2, 0, 0)
    assert (room.chat.here, room.chat.unread, room.chat.user) == (0, 0, "")


def test_what_a_closed_file_holds(tmp_path: Path) -> None:
    found = looked(filled(tmp_path / "store.db"))
    assert (found.owner, found.version) == (None, found.newest_version)
    assert found.device_id is not None
    check_filled(found)


def test_what_a_crash_left_in_the_wal_is_seen_and_left_there(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()

    async def main() -> None:
        async with collab.open(there / "store.db") as client:
            await fill(client)
            for path in there.iterdir():  # as the disk is when the power goes
                if not path.name.endswith(("-shm", ".lock")):
                    shutil.copy2(path, here)

    asyncio.run(main())
    assert {path.name for path in here.iterdir()} == {"store.db", "store.db-wal"}
    check_filled(looked(here / "store.db"))


def test_a_file_that_another_process_has_open_is_seen_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        async with collab.open(path) as client:
            await fill(client)
            before = path.stat().st_mtime_ns, path.stat().st_size
            printed = await asyncio.to_thread(
                subprocess.check_output, [*STATUS, "--json", str(path)]
            )
            assert (path.stat().st_mtime_ns, path.stat().st_size) == before
            found = json.loads(printed)
            assert found["owner"] == f"process {os.getpid()} has it open"
            (room,) = found["rooms"]
            assert (room["name"], room["chat"]["queued"]) == ("design", 2)
            # And whoever has it open goes on.
            await (await client.room("design")).chat.send("four")

    asyncio.run(main())
    found = survey(path).rooms
    assert found is not None
    assert found[0].chat is not None
    assert found[0].chat.queued == 3


def test_a_lock_file_that_a_crash_left_is_nobodys(tmp_path: Path) -> None:
    path = filled(tmp_path / "store.db")
    (tmp_path / "store.db.lock").write_text("1")  # a process that certainly runs
    assert looked(path).owner is None


@pytest.mark.parametrize("version", range(len(VERSIONS)))
def test_a_file_of_an_older_format_is_read_as_far_as_it_goes_and_not_migrated(
    tmp_path: Path, version: int
) -> None:
    path = made(tmp_path / "store.db", version)
    if version:
        with contextlib.closing(sqlite3.connect(path)) as file:
            file.execute("INSERT INTO rooms (name) VALUES ('design')")
            file.execute("INSERT INTO updates (room_id, local, data) VALUES (1, 1, x'0000')")
            file.commit()
    found = looked(path)
    assert (found.version, found.newest_version) == (version, len(VERSIONS))
    if not version:
        assert found.rooms is None
        return
    assert found.rooms is not None
    assert [(room.name, room.pending_updates) for room in found.rooms] == [("design", 1)]
    assert (found.rooms[0].chat is None) == (version < 2)


def refused(path: Path, kind: type[LocalError]) -> str:
    before = trace(path.parent)
    with pytest.raises(kind) as caught:
        survey(path)
    assert type(caught.value) is kind
    assert trace(path.parent) == before
    return str(caught.value)


def test_what_is_not_there_or_not_a_file_is_named_and_not_made(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "none.db", LocalError)
    (tmp_path / "folder").mkdir()
    assert "is a folder" in refused(tmp_path / "folder", LocalError)


def test_foreign_and_damaged_files_are_named(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no database " * 50)
    assert "not an SQLite file" in refused(text, StoreCorrupt)
    foreign = tmp_path / "foreign.db"
    with contextlib.closing(sqlite3.connect(foreign)) as file:
        file.execute("CREATE TABLE t (x)")
    assert "another program made it" in refused(foreign, StoreCorrupt)
    cut = filled(tmp_path / "cut.db")
    cut.write_bytes(cut.read_bytes()[:-5000])
    assert "cut off" in refused(cut, StoreCorrupt)
    hurt = filled(tmp_path / "hurt.db")
    data = bytearray(hurt.read_bytes())
    data[4096:8192] = b"\xaa" * 4096
    hurt.write_bytes(data)
    refused(hurt, StoreCorrupt)


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    path = made(tmp_path / "store.db")
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 99")
    assert "newer version" in refused(path, Unsupported)
