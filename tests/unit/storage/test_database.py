"""Transactions are whole, in order, and survive cancellation, errors and a full disk."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiosqlite
import pytest

from collab.errors import Closed, DiskFull, LocalError, StoreCorrupt, StoreLocked
from collab.limits import STORE_BUSY_S
from collab.storage import inspection
from collab.storage.database import Connection, Database, Factory
from tests.unit.storage.files import TOY, TOY_ID, add_note, bodies, folder, toy

Scenario = Callable[[Database], Awaitable[None]]


def in_toy(folder: Path, scenario: Scenario, factory: Factory | None = None) -> None:
    async def main() -> None:
        async with toy(folder / "a.db", factory=factory) as database:
            await asyncio.wait_for(scenario(database), 20)

    asyncio.run(main())


def test_aiosqlite_still_has_what_the_worker_leans_on() -> None:
    assert asyncio.iscoroutinefunction(aiosqlite.Connection._execute)
    thread = aiosqlite.Connection(lambda: sqlite3.connect(":memory:"), 1)._thread
    assert isinstance(thread, threading.Thread)


def test_a_write_returns_the_result_and_is_seen_by_the_next_read(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        assert await database.write(add_note("one")) == 1
        assert await database.read(bodies) == ["one"]

    in_toy(tmp_path, scenario)


def test_what_a_transaction_raises_undoes_it_and_comes_out_as_it_is(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        def fails(connection: Connection) -> None:
            add_note("half")(connection)
            raise KeyError("mine")

        def breaks_a_constraint(connection: Connection) -> None:
            add_note("half")(connection)
            connection.execute("INSERT INTO notes (body) VALUES (NULL)")

        with pytest.raises(KeyError):
            await database.write(fails)
        with pytest.raises(sqlite3.IntegrityError):
            await database.write(breaks_a_constraint)
        assert await database.read(bodies) == []

    in_toy(tmp_path, scenario)


def test_a_stray_stop_iteration_does_not_hang_the_caller(tmp_path: Path) -> None:
    """A future refuses it as a result, and whoever awaits it would wait for ever."""

    async def scenario(database: Database) -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await database.write(lambda _: next(iter(())))
        await database.write(add_note("after"))

    in_toy(tmp_path, scenario)


def test_a_transaction_function_cannot_end_its_transaction(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        with pytest.raises(RuntimeError, match="ended its own"):
            await database.write(lambda connection: connection.execute("ROLLBACK"))
        await database.write(add_note("after"))

    in_toy(tmp_path, scenario)


def test_a_read_that_writes_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        with pytest.raises(RuntimeError, match="use write"):
            await database.read(add_note("sneaked in"))
        assert await database.read(bodies) == []

    in_toy(tmp_path, scenario)


class Gate:
    """A transaction that waits in the middle until it is let on."""

    def __init__(self, body: str) -> None:
        self.body = body
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, connection: Connection) -> None:
        add_note(self.body + " begun")(connection)
        self.entered.set()
        assert self.go_on.wait(10)
        add_note(self.body + " done")(connection)


def test_a_cancelled_write_is_whole_and_leaves_no_lock(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        running, queued = Gate("running"), Gate("queued")
        queued.go_on.set()
        first = asyncio.create_task(database.write(running))
        await asyncio.to_thread(running.entered.wait, 10)
        second = asyncio.create_task(database.write(queued))
        await asyncio.sleep(0)
        for task in (first, second):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        running.go_on.set()
        # Both were asked for, so both are there, and this read, asked for later, sees them.
        assert await database.read(bodies) == [
            "running begun",
            "running done",
            "queued begun",
            "queued done",
        ]
        await database.write(add_note("next"))

    in_toy(tmp_path, scenario)


def test_a_write_whose_loop_ends_is_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with toy(tmp_path / "a.db") as database:
            task = asyncio.create_task(database.write(add_note("last words")))
            await asyncio.sleep(0)
            task.cancel()

    asyncio.run(main())

    async def check(database: Database) -> None:
        assert await database.read(bodies) == ["last words"]

    in_toy(tmp_path, check)


def test_cancelling_at_random_moments_never_tears_a_transaction(tmp_path: Path) -> None:
    def pair(number: int) -> Callable[[Connection], None]:
        def transact(connection: Connection) -> None:
            add_note(f"{number}a")(connection)
            add_note(f"{number}b")(connection)

        return transact

    async def scenario(database: Database) -> None:
        for number in range(100):
            task = asyncio.create_task(database.write(pair(number)))
            await asyncio.sleep(number % 10 * 50e-6)
            task.cancel()
            await asyncio.wait([task])
        stored = await database.read(bodies)
        assert stored[0::2] == [body[:-1] + "a" for body in stored[1::2]]
        assert len(stored) > 100

    in_toy(tmp_path, scenario)


def test_a_cancelled_opening_leaves_nothing_open(tmp_path: Path) -> None:
    async def main() -> None:
        for delay_s in (0.0, 0.0002, 0.001):
            task = asyncio.create_task(
                Database.open(tmp_path / "a.db", application_id=TOY_ID, migrations=TOY)
            )
            await asyncio.sleep(delay_s)
            if task.cancel():
                asyncio.get_running_loop().call_soon(task.cancel)
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                await task.result().close()
        async with toy(tmp_path / "a.db") as database:
            await database.write(add_note("free"))

    asyncio.run(main())


def test_closing_waits_for_what_was_asked_for_and_refuses_the_rest(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        gate = Gate("slow")
        writing = asyncio.create_task(database.write(gate))
        await asyncio.to_thread(gate.entered.wait, 10)
        closing = [asyncio.create_task(database.close()) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Closed):
            await database.write(add_note("too late"))
        closing[0].cancel()
        gate.go_on.set()
        await asyncio.gather(*closing[1:])
        await writing
        await database.close()
        with pytest.raises(Closed):
            await database.read(bodies)
        assert sorted(folder(tmp_path)) == ["a.db"]

    in_toy(tmp_path, scenario)


def test_a_program_that_forgets_to_close_still_ends_and_loses_nothing(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from tests.unit.storage.files import TOY, TOY_ID, add_note
from collab.storage.database import Database
async def main():
    global database
    database = await Database.open(sys.argv[1], application_id=TOY_ID, migrations=TOY)
    await database.write(add_note("kept"))
asyncio.run(main())
"""
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.db")],
        check=True,
        timeout=20,
        capture_output=True,
    )

    async def scenario(database: Database) -> None:
        assert await database.read(bodies) == ["kept"]

    in_toy(tmp_path, scenario)


def test_a_full_disk_is_said_undone_and_over_when_there_is_room(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        await database.write(add_note("before"))

        def limit(pages: int) -> Callable[[Connection], object]:
            return lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone()

        await database.read(limit(1))  # SQLite does not go below what the file has
        with pytest.raises(DiskFull) as caught:
            await database.write(lambda c: [add_note("x" * 3000)(c) for _ in range(100)])
        assert str(tmp_path / "a.db") in str(caught.value)
        assert "not saved" in str(caught.value)
        assert await database.read(bodies) == ["before"]
        await database.read(limit(1_000_000))
        await database.write(add_note("after"))
        assert await database.read(bodies) == ["before", "after"]

    in_toy(tmp_path, scenario)


class Stubborn(sqlite3.Connection):
    """Fails COMMIT and ROLLBACK when told to, as a failing disk does."""

    fail: tuple[str, ...] = ()

    def execute(self, sql: str, parameters: object = (), /) -> sqlite3.Cursor:
        if sql in self.fail:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
            raise error
        return super().execute(sql, parameters)  # type: ignore[arg-type]


def test_a_rollback_that_fails_is_made_up_for_by_the_next_transaction(tmp_path: Path) -> None:
    made: list[Stubborn] = []

    def factory(path: str) -> sqlite3.Connection:
        made.append(sqlite3.connect(path, factory=Stubborn))
        return made[-1]

    async def scenario(database: Database) -> None:
        made[-1].fail = ("COMMIT", "ROLLBACK")
        with pytest.raises(DiskFull):
            await database.write(add_note("lost"))
        with pytest.raises(DiskFull):  # noqa: PT012
            made[-1].fail = ("BEGIN IMMEDIATE",)
            await database.write(add_note("lost too"))
        made[-1].fail = ()
        await database.write(add_note("kept"))
        assert await database.read(bodies) == ["kept"]

    in_toy(tmp_path, scenario, factory)


def test_a_transaction_that_there_is_no_memory_for_may_be_tried_again(tmp_path: Path) -> None:
    """Else it would end the task that saves a device's edits, as a fault of the program does."""

    async def scenario(database: Database) -> None:
        def starve(connection: Connection) -> None:
            add_note("lost")(connection)
            raise MemoryError  # as sqlite3 does for SQLITE_NOMEM

        with pytest.raises(LocalError, match="not enough memory"):
            await database.write(starve)
        await database.write(add_note("kept"))
        assert await database.read(bodies) == ["kept"]

    in_toy(tmp_path, scenario)


def test_after_damage_was_found_nothing_is_written_but_reading_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"

    async def fill(database: Database) -> None:
        await database.write(lambda c: [add_note(f"{n:04}" * 500)(c) for n in range(40)])

    in_toy(tmp_path, fill)
    content = bytearray(path.read_bytes())
    content[20 * 4096 : 21 * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    monkeypatch.setattr(inspection, "ALWAYS_CHECKED_BYTES", 0)  # as if it were a large file

    async def scenario(database: Database) -> None:
        with pytest.raises(StoreCorrupt):
            await database.read(bodies)
        with pytest.raises(StoreCorrupt):
            await database.write(add_note("more"))
        with pytest.raises(StoreCorrupt):
            await database.shrink()
        first = await database.read(lambda c: c.execute("SELECT body FROM notes").fetchone())
        assert first == ("0000" * 500,)

    in_toy(tmp_path, scenario)
    assert path.read_bytes() == bytes(content)


def test_a_tool_that_holds_sqlites_lock_is_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(database: Database) -> None:
        other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await database.read(lambda c: c.execute("PRAGMA busy_timeout = 1").fetchone())
        with pytest.raises(StoreLocked, match="Another program"):
            await database.write(add_note("now"))
        assert await database.read(bodies) == []
        other.close()
        await database.write(add_note("then"))

    in_toy(tmp_path, scenario)


def test_shrinking_gives_space_back_to_the_file_system(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        await database.write(lambda c: [add_note("x" * 100_000)(c) for _ in range(20)])
        await database.shrink()
        full = (tmp_path / "a.db").stat().st_size
        await database.write(lambda c: c.execute("DELETE FROM notes"))
        await database.shrink()
        assert full > 2_000_000
        assert (tmp_path / "a.db").stat().st_size < 50_000
        assert (tmp_path / "a.db-wal").stat().st_size == 0

    in_toy(tmp_path, scenario)


def test_shrinking_does_not_wait_for_a_backup_that_reads(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        await database.write(add_note("x"))
        backup = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        backup.execute("BEGIN")
        backup.execute("SELECT count(*) FROM notes").fetchone()
        await database.write(add_note("y"))
        started = time.monotonic()
        await database.shrink()
        assert time.monotonic() - started < 2
        backup.close()
        timeout = await database.read(lambda c: c.execute("PRAGMA busy_timeout").fetchone())
        assert timeout == (int(STORE_BUSY_S * 1000),)

    in_toy(tmp_path, scenario)


def test_a_stalled_disk_does_not_stall_the_event_loop(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        writing = asyncio.create_task(database.write(lambda _: time.sleep(0.2)))
        turns = 0
        while not writing.done():
            await asyncio.sleep(0.005)
            turns += 1
        assert turns > 10

    in_toy(tmp_path, scenario)
