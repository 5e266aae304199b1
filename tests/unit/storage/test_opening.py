"""A file is ours, whole and current, or it is refused and not touched."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from collab.errors import LocalError, StoreCorrupt, StoreLocked, Unsupported
from collab.storage.database import Database
from tests.unit.storage.files import TOY, TOY_ID, add_note, bodies, folder, toy

NOISE = random.Random(1).randbytes(8192)


def pragma(path: Path, name: str) -> object:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        connection.close()


async def make(path: Path, versions: int = len(TOY)) -> None:
    async with toy(path, TOY[:versions]) as database:
        await database.write(add_note("hello"))


def refused(path: Path, error: type[LocalError]) -> str:
    """Open, expect ``error``, and see that nothing in the folder changed. Returns the message."""
    before = folder(path.parent)

    async def main() -> None:
        async with toy(path):
            pass

    with pytest.raises(error) as caught:
        asyncio.run(main())
    assert type(caught.value) is error
    assert folder(path.parent) == before
    return str(caught.value)


def test_a_new_file_carries_our_mark_and_is_the_only_thing_left_after_closing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.db"
    asyncio.run(make(path))
    assert list(folder(tmp_path)) == ["a.db"]
    assert pragma(path, "application_id") == TOY_ID
    assert pragma(path, "user_version") == len(TOY)
    assert pragma(path, "auto_vacuum") == 2
    assert pragma(path, "journal_mode") == "wal"


def test_every_connection_is_set_to_survive_power_loss(tmp_path: Path) -> None:
    async def main() -> None:
        async with toy(tmp_path / "a.db") as database:

            def settings(connection: sqlite3.Connection) -> dict[str, object]:
                names = ("journal_mode", "synchronous", "fullfsync", "checkpoint_fullfsync")
                return {n: connection.execute(f"PRAGMA {n}").fetchone()[0] for n in names}

            assert await database.read(settings) == {
                "journal_mode": "wal",
                "synchronous": 2,
                "fullfsync": 1,
                "checkpoint_fullfsync": 1,
            }

    asyncio.run(main())


@pytest.mark.parametrize(
    "content",
    [b"x", b"\x89PNG\r\n" + bytes(2000), b"SQLite format 3\0", NOISE, bytes(4096)],
    ids=["byte", "picture", "magic", "noise", "zeros"],
)
def test_a_file_that_is_not_sqlite_is_refused_untouched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(content)
    assert str(path) in refused(path, StoreCorrupt)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_another_programs_sqlite_file_is_refused_untouched(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)")
    connection.close()
    assert "another program made it" in refused(path, StoreCorrupt)


def test_another_programs_unfinished_wal_is_not_played_in(tmp_path: Path) -> None:
    """Opening it through SQLite, and closing it again, would checkpoint it."""
    path = tmp_path / "a.db"
    program = (
        "import sqlite3, sys, os; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA journal_mode = WAL'); c.execute('CREATE TABLE t (x)'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert (tmp_path / "a.db-wal").stat().st_size > 0
    refused(path, StoreCorrupt)


def test_a_file_of_a_newer_version_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def newer() -> None:
        async with toy(path, (*TOY, ("CREATE TABLE future (x)",))):
            pass

    asyncio.run(newer())
    assert "newer version" in refused(path, Unsupported)


def test_a_newer_version_that_crashed_is_refused_with_its_wal_untouched(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    asyncio.run(make(path))
    program = (
        "import sqlite3, sys, os; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA user_version = 9'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    before = {name: data for name, data in folder(tmp_path).items() if not name.endswith("-shm")}
    with pytest.raises(Unsupported):
        asyncio.run(make(path))
    after = {name: data for name, data in folder(tmp_path).items() if not name.endswith("-shm")}
    assert before == after  # the -shm is an index of the WAL, which any reader writes


def test_a_truncated_file_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    asyncio.run(make(path))
    path.write_bytes(path.read_bytes()[:-4096])
    refused(path, StoreCorrupt)


def test_a_missing_table_is_found_when_opening(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    asyncio.run(make(path))
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE tags")
    connection.close()
    assert "tags" in refused(path, StoreCorrupt)


def test_what_others_added_to_a_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    asyncio.run(make(path))
    connection = sqlite3.connect(path)
    connection.execute("CREATE INDEX mine ON notes (body)")
    connection.close()
    asyncio.run(make(path))


def test_a_wal_without_its_file_is_not_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    (tmp_path / "a.db-wal").write_bytes(b"the last commits of a file that was moved")
    assert "a.db-wal" in refused(path, StoreCorrupt)
    path.touch()
    refused(path, StoreCorrupt)


def test_an_empty_file_is_new_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch(mode=0o600)
    asyncio.run(make(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert pragma(path, "user_version") == len(TOY)


def test_a_draft_that_a_crash_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    (tmp_path / "a.db-creating").write_bytes(b"half a file")
    asyncio.run(make(path))
    assert list(folder(tmp_path)) == ["a.db"]


@pytest.mark.parametrize("place", ["absent/a.db", "file/a.db", "."])
def test_a_place_where_no_file_can_be_is_a_plain_local_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")

    async def main() -> None:
        async with toy(tmp_path / place):
            pass

    with pytest.raises(LocalError) as caught:
        asyncio.run(main())
    assert type(caught.value) is LocalError
    assert list(folder(tmp_path)) == ["file"]


NOBODY = 65534


@contextmanager
def not_as_root() -> Iterator[Path]:
    """A folder, and in the block the rights of somebody whom file modes bind."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        if is_root:
            os.chown(name, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            if is_root:
                os.seteuid(0)


def test_a_file_that_may_not_be_written_is_a_plain_local_error() -> None:
    with not_as_root() as place:
        path = place / "a.db"
        asyncio.run(make(path))
        path.chmod(0o400)
        assert "may not be written" in refused(path, LocalError)


@pytest.mark.parametrize("name", ["日本 語.db", "a?mode=ro#x%20.db", "🗒️.db", "file:a.db"])
def test_the_name_of_a_file_may_be_anything(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    asyncio.run(make(path))
    asyncio.run(make(path))
    assert list(folder(tmp_path)) == [name]


@pytest.mark.parametrize("version", range(len(TOY)))
def test_every_earlier_version_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        async with toy(path, TOY[:version]) as database:
            if version:
                await database.write(add_note("old"))
        async with toy(path) as database:
            assert await database.read(bodies) == (["old"] if version else [])
            await database.write(lambda c: c.execute("INSERT INTO tags VALUES (1, 'x')"))

    asyncio.run(main())
    assert pragma(path, "user_version") == len(TOY)


def test_a_migration_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    broken = (*TOY[:1], ("CREATE TABLE half (x)", "CREATE TABLE notes (x)"))

    async def main() -> None:
        async with toy(path, TOY[:1]) as database:
            await database.write(add_note("kept"))
        with pytest.raises(StoreCorrupt):
            async with toy(path, broken):
                pass
        async with toy(path) as database:
            assert await database.read(bodies) == ["kept"]

    asyncio.run(main())


def test_a_file_that_is_open_is_refused_and_free_again_after_closing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        async with toy(path) as database:
            with pytest.raises(StoreLocked):
                await Database.open(path, application_id=TOY_ID, migrations=TOY)
            await database.write(add_note("undisturbed"))
        async with toy(path) as database:
            assert await database.read(bodies) == ["undisturbed"]

    asyncio.run(main())


def test_a_refused_file_is_not_left_locked(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"not SQLite")
    refused(path, StoreCorrupt)
    path.unlink()
    asyncio.run(make(path))


def test_memory_needs_no_lock_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        async with toy(":memory:") as one, toy(":memory:") as other:
            await one.write(add_note("mine"))
            assert await one.read(bodies) == ["mine"]
            assert await other.read(bodies) == []
            await one.shrink()

    asyncio.run(main())
    assert folder(tmp_path) == {}


def test_with_a_factory_the_same_files_are_refused(tmp_path: Path) -> None:
    """An encrypted file cannot be read as bytes: its own SQLite is asked."""

    def reopen(path: Path, error: type[LocalError] | None) -> None:
        before = path.read_bytes()

        async def main() -> None:
            async with toy(path, factory=sqlite3.connect) as database:
                await database.read(bodies)

        if error is None:
            asyncio.run(main())
            return
        with pytest.raises(error):
            asyncio.run(main())
        assert path.read_bytes() == before

    good, foreign, noise = tmp_path / "good", tmp_path / "foreign", tmp_path / "noise"
    asyncio.run(make(good))
    reopen(good, None)
    sqlite3.connect(foreign).execute("CREATE TABLE t (x)").connection.close()
    reopen(foreign, StoreCorrupt)
    noise.write_bytes(NOISE)
    reopen(noise, StoreCorrupt)
