"""What an error of SQLite means for the user. The only place where its codes are read.

An error that is neither the disk's nor the file's (a broken constraint, a typing error in SQL) is
the program's, and stays what it is.
"""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

from collab.errors import DiskFull, LocalError, StoreCorrupt, StoreLocked

__all__ = ["OUT_OF_SPACE", "corrupt", "explain", "no_memory", "no_room"]

OUT_OF_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# What a full disk, a quota, a file size limit and a failing disk look like from inside SQLite. All
# of them leave what was committed intact, and may succeed when tried again.
_NOT_TAKEN: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMMAP,
    }
)
_DAMAGED: Final = frozenset({sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS})
_PRIMARY: Final = 0xFF  # the low byte of an extended code is the code that it refines


def explain(error: sqlite3.Error, *, what: str, path: str) -> LocalError | None:
    """Our error for one of SQLite's, or None if the fault is the program's own."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # The sqlite3 module's own: text whose bytes are not UTF-8 was never written by us.
        if str(error).startswith("Could not decode to UTF-8"):
            return corrupt(str(error), what=what, path=path)
        return None
    if code in _NOT_TAKEN:
        return no_room(str(error), what=what, path=path)
    primary = code & _PRIMARY
    if code in _DAMAGED or primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return corrupt(str(error), what=what, path=path)
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreLocked(
            f"Another program holds a lock on the {what} at {path} ({error}). This change was not"
            " saved; what was saved before is intact. Close that program and try again."
        )
    if primary in (
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOLFS,
    ):
        return LocalError(
            f"The {what} at {path} cannot be used ({error}). What was saved before was not"
            " changed. Look at the disk, the folder and the permissions, then open it again."
        )
    return None


def corrupt(why: str, *, what: str, path: str) -> StoreCorrupt:
    """The error for a file that is damaged or not ours; ``why`` is a clause without a full stop."""
    return StoreCorrupt(
        f"{path} is not a sound {what}: {why}. It was left as it is. Keep a copy of it and of the"
        " files beside it that start with its name, then restore a backup or use another file."
    )


def no_room(why: str, *, what: str, path: str) -> DiskFull:
    """The error for a disk that did not take a change; ``why`` is a clause without a full stop."""
    return DiskFull(
        f"The disk did not take a change to the {what} at {path}: {why}. It is full, over a quota"
        " or failing. What was saved before is intact; this change was not saved. Free space and"
        " try again."
    )


def no_memory(*, what: str, path: str) -> LocalError:
    """The error for a transaction that there was no memory for: as with a full disk, try again."""
    return LocalError(
        f"There was not enough memory for a change to the {what} at {path}. What was saved before"
        " is intact; this change was not saved. Close something and try again."
    )
