"""Is a file ours, whole, and of a version that we know? Nothing here can write to it.

Invariant: a file that is foreign, damaged or newer than this program is refused before anything
could write to it: by its header, read as plain bytes, then through a read-only connection.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from collab.errors import StoreCorrupt, Unsupported
from collab.limits import ALWAYS_CHECKED_BYTES, UNCLEAN_CHECKED_BYTES
from collab.storage.faults import corrupt

__all__ = ["MEMORY", "Expected", "Migration", "examine", "has", "inspect", "pragma", "run"]

Migration = Sequence[str]
"""The SQL statements that lead from one version of a schema to the next, one statement each."""

MEMORY: Final = ":memory:"
_MAGIC: Final = b"SQLite format 3\0"
_HEADER_BYTES: Final = 100
_FORMATS: Final = (b"\1\1", b"\2\2")  # with a rollback journal, with a WAL

# Which tables with which columns, and which indexes, there are. Not their SQL: SQLite rewrites that
# when it alters a table, and not every version of it in the same way.
_SHAPE: Final = """
    SELECT thing.type, thing.name, thing.tbl_name, coalesce(field.name, '')
    FROM sqlite_schema AS thing LEFT JOIN pragma_table_info(thing.name) AS field
    WHERE thing.name NOT LIKE 'sqlite~_%' ESCAPE '~'
"""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the file at ``path`` should be. ``what`` names it in messages."""

    path: str
    what: str
    application_id: int
    migrations: Sequence[Migration]

    def refuse(self, why: str) -> StoreCorrupt:
        """The error for a file that is not as expected; ``why`` is a clause."""
        return corrupt(why, what=self.what, path=self.path)


def inspect(expected: Expected) -> None:
    """Raise ``StoreCorrupt`` or ``Unsupported`` unless the file is ours, sound and not newer."""
    path = expected.path
    # Plain reading is safe only here, where this process has no SQLite connection to the file:
    # closing any descriptor of it would drop SQLite's POSIX locks.
    with open(path, "rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise expected.refuse("it is not an SQLite file")
    if header[18:20] not in _FORMATS:  # SQLite would mend a half of it, and so write to the file
        raise expected.refuse("its header is damaged")
    _check_mark(expected, int.from_bytes(header[68:72], "big", signed=True))
    _check_version(expected, int.from_bytes(header[60:64], "big", signed=True))
    if not has(path, "-wal") and not _is_complete(header, os.path.getsize(path)):
        raise expected.refuse("it was cut off")
    if has(path, "-journal"):
        return  # only a writer may look behind it; the first connection is asked instead
    # Without a WAL the file is all there is. "immutable" reads just that and leaves no -shm behind.
    mode = "mode=ro" if has(path, "-wal") else "mode=ro&immutable=1"
    reader = sqlite3.connect(f"{Path(path).as_uri()}?{mode}", uri=True, isolation_level=None)
    try:
        examine(expected, reader)
    finally:
        reader.close()


def _is_complete(header: bytes, size: int) -> bool:
    # SQLite reads what is missing of the last page as zeros, which inside a value nobody notices.
    page_size = int.from_bytes(header[16:18], "big")
    page_size = 65_536 if page_size == 1 else page_size
    pages = int.from_bytes(header[28:32], "big")
    return page_size > 0 and size >= pages * page_size


def _pages_are_checked(path: str) -> bool:
    limit = UNCLEAN_CHECKED_BYTES if has(path, "-wal") else ALWAYS_CHECKED_BYTES
    return os.path.getsize(path) <= limit


def examine(expected: Expected, connection: sqlite3.Connection) -> None:
    """Ask the same of an open connection, which need not be able to write."""
    _check_mark(expected, pragma(connection, "application_id"))
    version = pragma(connection, "user_version")
    _check_version(expected, version)
    missing = _expected_shape(expected.migrations[:version]) - _shape(connection)
    if missing:
        kind, name, _, column = min(missing)
        raise expected.refuse(f"its {kind} {name} {column} is missing".replace("  ", " "))
    if _pages_are_checked(expected.path):
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise expected.refuse(f"SQLite finds it damaged ({verdict})")


def _check_mark(expected: Expected, application_id: int) -> None:
    if application_id != expected.application_id:
        raise expected.refuse("another program made it")


def _check_version(expected: Expected, version: int) -> None:
    newest = len(expected.migrations)
    if version > newest:
        raise Unsupported(
            f"The {expected.what} at {expected.path} was written by a newer version of this program"
            f" (format {version}; this one knows {newest}). It was left as it is. Update, or use"
            " another file."
        )
    if version < 0:
        raise expected.refuse(f"its version is {version}")


def _shape(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    return set(connection.execute(_SHAPE))


def _expected_shape(migrations: Sequence[Migration]) -> set[tuple[str, ...]]:
    model = sqlite3.connect(MEMORY, isolation_level=None)
    try:
        for migration in migrations:
            run(model, migration)
        return _shape(model)
    finally:
        model.close()


def has(path: str, suffix: str) -> bool:
    """Whether there is anything in the file of this name."""
    try:
        return os.stat(path + suffix).st_size > 0
    except FileNotFoundError:
        return False


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """The value of a pragma that is a number."""
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def run(connection: sqlite3.Connection, statements: Iterable[str]) -> None:
    """Run statements in order."""
    for statement in statements:
        connection.execute(statement)
