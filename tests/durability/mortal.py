"""SQLite connections that kill their own process at a named point. Not a test.

``arm`` puts them in the place of ``sqlite3.connect`` for the rest of a process's life, so that all
of it is the program that people run, down to the statement at which it dies.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

__all__ = ["CLIENT_POINTS", "POINTS", "RELAY_POINTS", "Point", "arm", "die"]

T = TypeVar("T")

_SNAPSHOT: Final = "INSERT INTO snapshots"
_UPDATE: Final = "INSERT INTO updates"
_CHECKPOINT: Final = "PRAGMA wal_checkpoint"
_COMMIT: Final = "COMMIT"
_CLOSE: Final = "close()"


@dataclass(frozen=True, slots=True)
class Point:
    """Before or after a statement that begins like this, for up to the ``span``-th time.

    ``compacting``: only in a transaction that has written a snapshot.
    """

    statement: str
    after: bool = False
    compacting: bool = False
    span: int = 3


POINTS: Final[dict[str, Point]] = {
    "while opening": Point("", span=60),
    "before a commit": Point(_COMMIT, span=40),
    "in a half written transaction": Point(_UPDATE, after=True, span=40),
    "after a commit that nobody was told of": Point(_COMMIT, after=True, span=40),
    "before a snapshot is written": Point(_SNAPSHOT),
    "after a snapshot, before the rows go": Point(_SNAPSHOT, after=True),
    "before the commit of a compaction": Point(_COMMIT, compacting=True),
    "after the commit of a compaction": Point(_COMMIT, after=True, compacting=True),
    "before space is given back": Point("PRAGMA incremental_vacuum"),
    "before the WAL is emptied": Point(_CHECKPOINT),
    "after the WAL was emptied": Point(_CHECKPOINT, after=True),
    "before the file is closed": Point(_CLOSE, span=2),
}

CLIENT_POINTS: Final = tuple(POINTS)
RELAY_POINTS: Final = tuple(POINTS)[:8]  # the log gives no space back, and closes on SIGTERM


class _Death:
    """The one death of this process."""

    def __init__(self, point: Point, count: int) -> None:
        self._point = point
        self._left = count

    def reach(self, statement: str, *, after: bool, compacting: bool) -> None:
        point = self._point
        if (
            after is point.after
            and statement.startswith(point.statement)
            and (compacting or not point.compacting)
        ):
            self._left -= 1
            if self._left == 0:
                die()


def die() -> None:
    """SIGKILL to this process, now."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str, count: int) -> None:
    """Die at ``point`` when it is reached for the ``count``-th time."""
    death = _Death(POINTS[point], count)
    connect = sqlite3.connect

    class Mortal(sqlite3.Connection):
        compacting = False
        has_written = False

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            return self._run(sql, lambda: sqlite3.Connection.execute(self, sql, *parameters))

        def executemany(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            return self._run(sql, lambda: sqlite3.Connection.executemany(self, sql, *parameters))

        def executescript(self, sql: str) -> sqlite3.Cursor:
            return self._run(sql, lambda: sqlite3.Connection.executescript(self, sql))

        def close(self) -> None:
            name = _CLOSE if self.has_written else "a reader's close()"
            self._run(name, lambda: sqlite3.Connection.close(self))

        def _run(self, sql: str, run: Callable[[], T]) -> T:
            statement = " ".join(sql.split())
            if statement.startswith("BEGIN"):
                self.compacting = False
            if statement == "BEGIN IMMEDIATE":
                self.has_written = True
            death.reach(statement, after=False, compacting=self.compacting)
            result = run()
            if statement.startswith(_SNAPSHOT):
                self.compacting = True
            death.reach(statement, after=True, compacting=self.compacting)
            return result

    def mortal(path: str, **arguments: Any) -> sqlite3.Connection:
        return connect(path, factory=Mortal, **arguments)

    vars(sqlite3)["connect"] = mortal
