"""Open an SQLite file, make it if there is none, bring it up to date. All of it synchronous.

Invariants
1. A file that is foreign, damaged or newer than this program is not written to (see
   ``inspection``).
2. A file appears whole, with our mark in its header, or not at all: it is made under another name.
3. A migration commits together with its number, so one that was killed begins again.

With a ``factory`` (an SQLite that encrypts, say) the file means nothing to us before that SQLite
has opened it, so the same questions are asked through its first connection instead.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from collab.errors import LocalError, Unsupported
from collab.limits import STORE_BUSY_S, WAL_KEPT_BYTES
from collab.storage.faults import OUT_OF_SPACE, explain, no_room
from collab.storage.inspection import (
    MEMORY,
    Expected,
    Migration,
    examine,
    has,
    inspect,
    pragma,
    run,
)
from collab.storage.lock import FileLock

__all__ = ["MEMORY", "WAIT_FOR_OTHERS", "Factory", "Migration", "Opened", "open_store"]

Factory = Callable[[str], sqlite3.Connection]
"""Makes a connection to the SQLite file of this path; called in the thread that will use it."""

_CREATING: Final = "-creating"
_COMPANIONS: Final = ("-wal", "-journal")  # where SQLite keeps what is not in the file yet
_OLDEST_SQLITE: Final = (3, 37, 0)  # STRICT tables

WAIT_FOR_OTHERS: Final = f"PRAGMA busy_timeout = {int(STORE_BUSY_S * 1000)}"
_PRAGMAS: Final = (
    WAIT_FOR_OTHERS,
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # without it macOS answers before the drive has anything
    "PRAGMA checkpoint_fullfsync = ON",
    "PRAGMA temp_store = MEMORY",  # a full disk must not fail a sort
    "PRAGMA cell_size_check = ON",  # notices damaged pages as they are read
    "PRAGMA trusted_schema = OFF",  # the schema of a file from elsewhere calls no functions
    f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}",
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection that is ready to use, and the lock that goes with it (none in memory)."""

    connection: sqlite3.Connection
    lock: FileLock | None


@dataclass(frozen=True, slots=True)
class _Opening(Expected):
    factory: Factory | None

    def connect(self, path: str) -> sqlite3.Connection:
        connection = (self.factory or sqlite3.connect)(path)
        try:
            connection.isolation_level = None  # we say BEGIN and COMMIT; nothing is implied
            run(connection, _PRAGMAS)
        except BaseException:
            connection.close()
            raise
        return connection


def open_store(
    path: str | os.PathLike[str],
    *,
    application_id: int,
    migrations: Sequence[Migration],
    factory: Factory | None,
    what: str,
) -> Opened:
    """Open or make the file at ``path``, bring it up to date, and keep its lock.

    Raises ``StoreLocked``; ``StoreCorrupt`` if it is damaged or not ours, ``Unsupported`` if a
    newer version wrote it (its bytes are unchanged in these three); ``DiskFull``; and plain
    ``LocalError`` for a folder that is missing or cannot be written.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise Unsupported(
            f"SQLite {sqlite3.sqlite_version} is too old. No file was opened. Use a Python that is"
            " built on SQLite 3.37 or newer."
        )
    name = os.fspath(path)
    if name == MEMORY:
        return _open_memory(_Opening(MEMORY, what, application_id, migrations, factory))
    opening = _Opening(os.path.realpath(name), what, application_id, migrations, factory)
    lock = FileLock.acquire(opening.path, what=what)
    try:
        return Opened(_open_file(opening), lock)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        lock.release()
        raise _explained(opening, error) from error
    except OSError as error:
        lock.release()
        if error.errno in OUT_OF_SPACE:
            raise no_room(str(error), what=what, path=opening.path) from error
        raise LocalError(
            f"The {what} at {opening.path} cannot be opened ({error}). Nothing was changed. Look"
            " at the folder and the permissions."
        ) from error
    except BaseException:
        lock.release()
        raise


def _explained(opening: _Opening, error: sqlite3.Error | UnicodeDecodeError) -> LocalError:
    # With nobody's statements but our own under way, what is not the disk's fault is the file's.
    # (A message that quotes a damaged name is not UTF-8, which fails in the sqlite3 module.)
    explained = None
    if isinstance(error, sqlite3.Error):
        explained = explain(error, what=opening.what, path=opening.path)
    return explained or opening.refuse(str(error))


def _open_memory(opening: _Opening) -> Opened:
    connection = opening.connect(MEMORY)
    try:
        _mark(connection, opening.application_id)
        _migrate(connection, opening.migrations)
    except BaseException:
        connection.close()
        raise
    return Opened(connection, None)


def _may_write(path: str) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(path, os.R_OK | os.W_OK, effective_ids=effective)


def _open_file(opening: _Opening) -> sqlite3.Connection:
    path = opening.path
    if not _is_new(opening):
        if not _may_write(path):  # SQLite would open it read-only, and not say so
            raise LocalError(
                f"The {opening.what} at {path} may not be written by this user. Nothing was"
                " changed. Change its permissions, or use another file."
            )
        if opening.factory is None:
            inspect(opening)
    else:
        _create(opening)
    connection = opening.connect(path)
    try:
        if opening.factory is not None or has(path, "-journal"):
            examine(opening, connection)
        _use_wal(opening, connection)
        _migrate(connection, opening.migrations)
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(opening: _Opening, connection: sqlite3.Connection) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise LocalError(
            f"The {opening.what} at {opening.path} is on a file system without shared memory, where"
            " it could not be kept safely. Nothing was changed. Use a local disk."
        )


def _is_new(opening: _Opening) -> bool:
    path = opening.path
    if os.path.isdir(path):
        raise LocalError(
            f"{path} is a folder, so no {opening.what} can be kept there. Nothing was changed."
            " Give the path of a file."
        )
    if has(path, ""):
        return False
    # SQLite would throw them away, or play them into the new file.
    orphans = [path + suffix for suffix in _COMPANIONS if has(path, suffix)]
    if orphans:
        raise opening.refuse(f"it is missing or empty, but what belongs to it is at {orphans[0]}")
    return True


def _create(opening: _Opening) -> None:
    """Make an empty file of ours: version 0, in WAL mode, its name on the disk."""
    path, draft = opening.path, opening.path + _CREATING
    _remove(draft)
    try:
        connection = opening.connect(draft)
        try:
            _mark(connection, opening.application_id)
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        finally:
            connection.close()
        # An empty file that was there keeps its rights.
        with contextlib.suppress(FileNotFoundError):
            os.chmod(draft, os.stat(path).st_mode & 0o7777)
        os.replace(draft, path)
    except BaseException:
        _remove(draft)
        raise
    _sync_folder(os.path.dirname(path))


def _remove(draft: str) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft + suffix)


def _sync_folder(folder: str) -> None:
    if sys.platform == "win32":
        return  # a folder cannot be opened there; NTFS journals its names
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mark(connection: sqlite3.Connection, application_id: int) -> None:
    # Before the first table, or it could only be changed by rewriting the file.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute(f"PRAGMA application_id = {application_id}")


def _migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    for version in range(pragma(connection, "user_version"), len(migrations)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            run(connection, migrations[version])
            connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):  # the first error is the one that matters
                    connection.execute("ROLLBACK")
            raise
