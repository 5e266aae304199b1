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

__all__ = [
    "CLIENT_CHAT_POINTS",
    "CLIENT_POINTS",
    "POINTS",
    "RELAY_CHAT_POINTS",
    "RELAY_POINTS",
    "Point",
    "arm",
    "die",
]

T = TypeVar("T")

_SNAPSHOT: Final = "INSERT INTO snapshots"
_WRITTEN: Final = "INSERT INTO messages ( room_id, message_id"  # by its program
_BOUND: Final = "UPDATE chats SET bound"
_DECIDED: Final = "UPDATE messages SET sender = ?, slot = ?"
_RECEIVED: Final = "INSERT INTO messages (room_id, message_id"
_JUDGED: Final = "INSERT INTO messages (room_id, seq"
_UPDATE: Final = "INSERT INTO updates"
_CHECKPOINT: Final = "PRAGMA wal_checkpoint"
_COMMIT: Final = "COMMIT"
_CLOSE: Final = "close()"


@dataclass(frozen=True, slots=True)
class Point:
    """Before or after a statement that begins like this, for up to the ``span``-th time.

    ``within``: only in a transaction that has run a statement which begins like that.
    """

    statement: str
    after: bool = False
    within: str = ""
    span: int = 3


_DOCUMENT: Final[dict[str, Point]] = {
    "while opening": Point("", span=60),
    "before a commit": Point(_COMMIT, span=40),
    "in a half written transaction": Point(_UPDATE, after=True, span=40),
    "after a commit that nobody was told of": Point(_COMMIT, after=True, span=40),
    "before a snapshot is written": Point(_SNAPSHOT),
    "after a snapshot, before the rows go": Point(_SNAPSHOT, after=True),
    "before the commit of a compaction": Point(_COMMIT, within=_SNAPSHOT),
    "after the commit of a compaction": Point(_COMMIT, after=True, within=_SNAPSHOT),
    "before space is given back": Point("PRAGMA incremental_vacuum"),
    "before the WAL is emptied": Point(_CHECKPOINT),
    "after the WAL was emptied": Point(_CHECKPOINT, after=True),
    "before the file is closed": Point(_CLOSE, span=2),
}
_CLIENT_CHAT: Final[dict[str, Point]] = {
    "before a message is saved": Point(_COMMIT, within=_WRITTEN, span=40),
    "after a message was saved": Point(_COMMIT, after=True, within=_WRITTEN, span=40),
    "before slots are bound": Point(_COMMIT, within=_BOUND, span=20),
    "after slots were bound": Point(_COMMIT, after=True, within=_BOUND, span=20),
    "before outcomes are stored": Point(_COMMIT, within=_DECIDED, span=20),
    "after outcomes were stored": Point(_COMMIT, after=True, within=_DECIDED, span=20),
    "among received messages": Point(_RECEIVED, after=True, span=40),
    "before received messages are stored": Point(_COMMIT, within=_RECEIVED, span=20),
    "after received messages were stored": Point(_COMMIT, after=True, within=_RECEIVED, span=20),
}
_RELAY_CHAT: Final[dict[str, Point]] = {
    "among messages that are judged": Point(_JUDGED, after=True, span=40),
    "before messages are in the log": Point(_COMMIT, within=_JUDGED, span=20),
    "after messages came into the log": Point(_COMMIT, after=True, within=_JUDGED, span=20),
}
CLIENT_POINTS: Final = tuple(_DOCUMENT)
RELAY_POINTS: Final = tuple(_DOCUMENT)[:8]  # the log gives no space back, and closes on SIGTERM
CLIENT_CHAT_POINTS: Final = tuple(_CLIENT_CHAT)
RELAY_CHAT_POINTS: Final = tuple(_RELAY_CHAT)
POINTS: Final = _DOCUMENT | _CLIENT_CHAT | _RELAY_CHAT


class _Death:
    """The one death of this process."""

    def __init__(self, point: Point, count: int) -> None:
        self._point = point
        self._left = count

    def reach(self, statement: str, *, after: bool, within: bool) -> None:
        point = self._point
        if after is point.after and statement.startswith(point.statement) and within:
            self._left -= 1
            if self._left == 0:
                die()


def die() -> None:
    """SIGKILL to this process, now."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str, count: int) -> None:
    """Die at ``point`` when it is reached for the ``count``-th time."""
    within = POINTS[point].within
    death = _Death(POINTS[point], count)
    connect = sqlite3.connect

    class Mortal(sqlite3.Connection):
        is_within = not within
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
                self.is_within = not within
            if statement == "BEGIN IMMEDIATE":
                self.has_written = True
            death.reach(statement, after=False, within=self.is_within)
            result = run()
            if statement.startswith(within):
                self.is_within = True
            death.reach(statement, after=True, within=self.is_within)
            return result

    def mortal(path: str, **arguments: Any) -> sqlite3.Connection:
        return connect(path, factory=Mortal, **arguments)

    vars(sqlite3)["connect"] = mortal
