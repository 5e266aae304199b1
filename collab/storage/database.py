"""One SQLite file, one writer thread, whole transactions. The only module that imports aiosqlite.

Invariants
1. What ``write`` returned for is on the disk: WAL, ``synchronous=FULL``, ``fullfsync`` on macOS.
2. A transaction is whole or absent. It is a plain function that the writer thread runs from BEGIN
   to COMMIT in one go, so cancelling whoever awaits it can neither tear it nor leave a lock behind:
   once asked for it runs to its end, and what it committed stays.
3. Transactions and reads run in the order in which they were asked for. A read sees every write
   that was asked for before it, also one whose caller has gone.
4. After an error of the disk the database stays usable; what failed can be tried again.
5. A file that was found damaged is not written to again.
6. One ``Database`` owns a file (see ``lock``).

The lock that serialises transactions is the queue of aiosqlite's thread. Running a whole function
there costs one thread round trip (some 70 microseconds), not one per statement.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import aiosqlite

from collab.errors import Closed, StoreCorrupt
from collab.storage.faults import explain, no_memory
from collab.storage.opening import (
    MEMORY,
    WAIT_FOR_OTHERS,
    Factory,
    Migration,
    Opened,
    open_store,
)

__all__ = ["Connection", "Database", "Factory", "Migration"]

T = TypeVar("T")

Connection = sqlite3.Connection
"""What a transaction function gets. It must not be kept, nor used in another thread."""

_ROWS_PER_FETCH: Final = 64  # aiosqlite asks for it; nothing here iterates through aiosqlite


class Database:
    """An open SQLite file. Made by ``open``; usable from one event loop; closed by ``close``."""

    def __init__(self, worker: _Worker, opened: Opened, *, path: str, what: str) -> None:
        self.path: Final = path
        self._worker = worker
        self._opened = opened
        self._what = what
        self._damage: str | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        application_id: int,
        migrations: Sequence[Migration],
        factory: Factory | None = None,
        what: str = "store",
    ) -> Database:
        """Open the file at ``path`` (or ``":memory:"``); make it if need be; bring it up to date.

        ``application_id`` is a signed 32-bit number that marks the file as this program's;
        ``migrations[n]`` leads from version n to n + 1; ``what`` names the file in messages.
        ``factory`` stands in for ``sqlite3.connect`` and runs in the writer thread.

        Raises ``StoreLocked``, ``StoreCorrupt``, ``Unsupported`` (the file is unchanged in these),
        ``DiskFull``, or ``LocalError`` for a folder that is missing or cannot be written.
        """

        def run() -> Opened:
            return open_store(
                path,
                application_id=application_id,
                migrations=migrations,
                factory=factory,
                what=what,
            )

        async def start() -> Database:
            worker = _Worker(run)
            await worker
            opened = worker.opened
            if isinstance(opened, BaseException):
                await worker.close()
                raise opened
            place = opened.lock.path if opened.lock is not None else MEMORY
            return cls(worker, opened, path=place, what=what)

        opening = asyncio.create_task(start())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # It cannot be stopped half way. When this returns the file is free again, however often
            # we are cancelled meanwhile.
            closing = asyncio.create_task(_close_when_open(opening))
            while not closing.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(closing)
            raise

    async def write(self, transact: Callable[[Connection], T]) -> T:
        """Run ``transact`` between BEGIN IMMEDIATE and COMMIT, and return its result.

        It runs whole in the writer thread: it must be quick, touch nothing of the event loop's, and
        neither begin nor end a transaction. What it raises undoes everything and is raised here. If
        the caller is cancelled, the transaction still runs to its end.

        Raises ``DiskFull`` (may be tried again), ``StoreCorrupt``, ``StoreLocked`` (some other tool
        holds SQLite's lock), ``LocalError`` (no memory, or no permission), ``Closed``. Faults of
        the program, such as a broken constraint, stay ``sqlite3`` errors.
        """

        def whole(connection: Connection) -> T:
            self._refuse_if_damaged()
            _roll_back(connection)  # left open only if an earlier ROLLBACK failed as well
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = transact(connection)
                _commit(connection)
            except BaseException:
                _roll_back(connection)
                raise
            return result

        return await self._run(whole)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run ``query`` in the writer thread, on one consistent state, and return its result.

        Raises as ``write`` does; a query that writes is an error, and is undone.
        """

        def whole(connection: Connection) -> T:
            _roll_back(connection)
            before = connection.total_changes
            connection.execute("BEGIN")
            try:
                result = query(connection)
                if connection.total_changes != before:
                    raise RuntimeError("a query wrote to the database; use write()")
            finally:
                _roll_back(connection)
            return result

        return await self._run(whole)

    async def shrink(self) -> None:
        """Give free pages back to the file system, and empty the WAL. Raises as ``write`` does."""

        def give_back(connection: Connection) -> None:
            self._refuse_if_damaged()
            _roll_back(connection)
            # Each step frees one page, and only executescript() steps to the end: this pragma has
            # no columns, so execute() takes it for done after the first.
            connection.executescript("PRAGMA incremental_vacuum")
            # Whoever reads the file meanwhile, a backup say, keeps the WAL from being emptied. That
            # is no reason for our writers to wait.
            connection.execute("PRAGMA busy_timeout = 0").fetchall()
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                connection.execute(WAIT_FOR_OTHERS).fetchall()

        await self._run(give_back)

    async def close(self) -> None:
        """Finish what was asked for, empty the WAL, let go of the file. Again: does nothing."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        def finish() -> None:
            # In the writer thread, so that the lock outlives the connection even if this task is
            # cancelled with its loop. Closing the last connection empties and removes the WAL; what
            # a full disk keeps it from doing, the next opening does.
            try:
                with contextlib.suppress(sqlite3.Error):
                    self._opened.connection.close()
            finally:
                if self._opened.lock is not None:
                    self._opened.lock.release()

        try:
            await self._worker.run(finish)
        finally:
            await self._worker.close()

    def _refuse_if_damaged(self) -> None:
        if self._damage is not None:
            raise StoreCorrupt(self._damage)

    async def _run(self, whole: Callable[[Connection], T]) -> T:
        if self._closing is not None:
            raise Closed(
                f"The {self._what} at {self.path} was closed. What was saved is on the disk; open"
                " it again."
            )

        def guarded() -> T:
            try:
                return whole(self._opened.connection)
            except sqlite3.Error as error:
                explained = explain(error, what=self._what, path=self.path)
                if explained is None:
                    raise
                if isinstance(explained, StoreCorrupt):
                    self._damage = str(explained)
                raise explained from error
            except MemoryError as error:  # so Python calls SQLITE_NOMEM, too
                raise no_memory(what=self._what, path=self.path) from error
            except StopIteration as error:
                raise RuntimeError("a transaction function raised StopIteration") from error

        return await self._worker.run(guarded)


async def _close_when_open(opening: asyncio.Task[Database]) -> None:
    with contextlib.suppress(Exception):  # nobody is left to be told
        await (await opening).close()


def _commit(connection: Connection) -> None:
    if not connection.in_transaction:
        raise RuntimeError("a transaction function ended its own transaction")
    connection.execute("COMMIT")


def _roll_back(connection: Connection) -> None:
    # SQLite has often rolled back by itself after an error of the disk. If it has not, and cannot,
    # the next transaction tries again before it begins.
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


class _Worker(aiosqlite.Connection):
    """aiosqlite's thread and queue, given whole functions.

    aiosqlite's public methods cost a round trip each. ``_execute``, which all of them are made of,
    takes any function; that and ``_thread`` are what this subclass leans on, and tests pin it.
    """

    def __init__(self, opening: Callable[[], Opened]) -> None:
        self.opened: Opened | BaseException = RuntimeError("not opened yet")

        def connector() -> sqlite3.Connection:
            # An error is handed over, not raised: aiosqlite would stop its thread without waiting
            # for it, and the thread would then speak to a loop that may be closed.
            try:
                self.opened = opening()
            except BaseException as error:  # noqa: BLE001 (raised again by ``Database.open``)
                self.opened = error
                return sqlite3.connect(MEMORY)
            return self.opened.connection

        super().__init__(connector, _ROWS_PER_FETCH)
        # A program that ends without close() must end. To the file that is a crash, which it bears.
        self._thread.daemon = True

    async def run(self, function: Callable[[], T]) -> T:
        execute: Any = self._execute  # untyped in aiosqlite
        result: T = await execute(function)
        return result
