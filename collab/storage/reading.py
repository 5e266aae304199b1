"""Look into a store file without its lock, and without leaving a trace.

Invariants
1. Nothing is written: not to the file, not to what belongs to it, not beside it.
2. What is read is one committed state, also while a program has the file open and writes.

While somebody owns the file it is read through SQLite, whose WAL lets readers see one state. When
nobody does, a clean file is read as it stands; one that a crash left with a WAL or a journal is
copied first, and SQLite puts the copy in order: doing that in place would be to write. If the file
changed while it was looked at, that is done again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from collab.errors import CollabError, LocalError, StoreLocked, Unsupported
from collab.storage.faults import explain
from collab.storage.inspection import Expected, Migration, examine, has, inspect
from collab.storage.lock import FileLock

__all__ = ["read_store"]

T = TypeVar("T")

_TRIES: Final = 5
_COMPANIONS: Final = ("-wal", "-journal")


def read_store(
    path: str | os.PathLike[str],
    look: Callable[[sqlite3.Connection], T],
    *,
    application_id: int,
    migrations: Sequence[Migration],
    what: str = "store",
) -> tuple[T, str | None]:
    """What ``look`` finds in the file at ``path``, and who owns it (a clause; None: nobody).

    For a process that does not have the file open itself. Raises :class:`LocalError` if there is
    no such file or it cannot be read, ``StoreCorrupt`` if it is damaged or not ours, and
    :class:`Unsupported` if a newer version wrote it.
    """
    real = os.path.realpath(os.fspath(path))
    if not os.path.isfile(real):
        kind = "is a folder" if os.path.isdir(real) else "does not exist"
        raise LocalError(f"{real} {kind}, so there is no {what} to look into. Nothing was made.")
    expected = Expected(real, what, application_id, migrations)
    for tries_left in range(_TRIES, 0, -1):
        before, owner = _marks(real), FileLock.owner(real)
        try:
            found = _look(expected, look, owned=owner is not None)
        except (CollabError, sqlite3.Error, UnicodeDecodeError, OSError) as error:
            if (
                tries_left > 1
                and not isinstance(error, Unsupported)
                and _moved(real, before, owner)
            ):
                continue
            raise _explained(expected, error) from error
        if owner is not None or not _moved(real, before, owner):
            return found, owner
    raise StoreLocked(f"The {what} at {real} is opened and closed all the time. Try again.")


def _look(expected: Expected, look: Callable[[sqlite3.Connection], T], *, owned: bool) -> T:
    path = expected.path
    if owned:
        with _connected(path, "mode=ro") as connection:
            connection.execute("BEGIN")  # one state, however many statements
            examine(expected, connection)
            return look(connection)
    if not any(has(path, suffix) for suffix in _COMPANIONS):
        inspect(expected)
        with _connected(path, "mode=ro&immutable=1") as connection:
            return look(connection)
    with tempfile.TemporaryDirectory(prefix="collab-status-") as folder:
        copy = os.path.join(folder, "store")
        for suffix in ("", *_COMPANIONS):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(path + suffix, copy + suffix)
        with _connected(copy, "mode=rw") as connection:
            examine(expected, connection)
            return look(connection)


@contextmanager
def _connected(path: str, mode: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"{Path(path).as_uri()}?{mode}", uri=True, isolation_level=None)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        yield connection
    finally:
        connection.close()


def _marks(path: str) -> list[tuple[int, int] | None]:
    """What changes when somebody writes to the file or to what belongs to it."""
    marks: list[tuple[int, int] | None] = []
    for suffix in ("", *_COMPANIONS):
        try:
            status = os.stat(path + suffix)
            marks.append((status.st_mtime_ns, status.st_size))
        except FileNotFoundError:
            marks.append(None)
    return marks


def _moved(path: str, before: list[tuple[int, int] | None], owner: str | None) -> bool:
    return _marks(path) != before or FileLock.owner(path) != owner


def _explained(expected: Expected, error: Exception) -> Exception:
    if isinstance(error, CollabError):
        return error
    if isinstance(error, OSError):
        return LocalError(
            f"The {expected.what} at {expected.path} cannot be read ({error}). Nothing was changed."
        )
    explained = None
    if isinstance(error, sqlite3.Error):
        explained = explain(error, what=expected.what, path=expected.path)
    return explained or expected.refuse(str(error))
