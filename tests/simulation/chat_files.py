"""The chat in a file: the real tables, in a SQLite database in memory.

A transaction of the simulation happens at one moment, so what is in such a database is what is
committed; a copy of it is a backup, or a clone. Pages are small, for a file is mostly empty tables.
What a history leaves is emptied for another one: reading the schema and preparing all statements
anew took longer than carrying them out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final, Literal, TypeVar

from collab.storage import schema as device_schema
from collab.storage.chat_rows import make_chat
from collab.storage.documents import FORGET
from collab_server.log import schema as log_schema

__all__ = [
    "add_generation", "copy_of", "drop_room", "forget_room", "new_device_file", "new_log",
    "new_room", "put_away", "put_room", "transact",
]  # fmt: skip

T = TypeVar("T")
Kind = Literal["device", "log"]

_SPARES_KEPT: Final = 8  # of each kind
_spares: dict[Kind, list[sqlite3.Connection]] = {"device": [], "log": []}


def _connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)


@cache
def _empty(kind: Kind) -> bytes:
    """A database that has the tables and nothing in them."""
    migrations: Sequence[Sequence[str]] = (
        device_schema.migrations(bytes(16)) if kind == "device" else log_schema.MIGRATIONS
    )
    connection = _connect()
    connection.execute("PRAGMA page_size = 512")
    for migration in migrations:
        for statement in migration:
            connection.execute(statement)
    return connection.serialize()


@cache
def _emptying(kind: Kind) -> tuple[str, ...]:
    """Statements after which a database has what an empty one has, and no more."""
    empty = _of(_empty(kind))
    tables = [
        name for (name,) in empty.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    ]
    rows = [line for line in empty.iterdump() if line.startswith("INSERT")]
    return (*(f"DELETE FROM {table}" for table in tables), *rows)


def _of(content: bytes) -> sqlite3.Connection:
    connection = _connect()
    connection.deserialize(content)
    return connection


def _new(kind: Kind) -> sqlite3.Connection:
    if not _spares[kind]:
        return _of(_empty(kind))
    connection = _spares[kind].pop()
    for statement in _emptying(kind):
        connection.execute(statement)
    return connection


def put_away(kind: Kind, connection: sqlite3.Connection) -> None:
    """Nobody needs this one any more: it is the next new one, with its statements prepared."""
    if len(_spares[kind]) < _SPARES_KEPT and not connection.in_transaction:
        _spares[kind].append(connection)


def new_device_file() -> sqlite3.Connection:
    """The chats of a device that has no room."""
    return _new("device")


def new_log() -> sqlite3.Connection:
    """The chats of a relay that has no room."""
    return _new("log")


def copy_of(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Another database with the same content."""
    return _of(connection.serialize())


def transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run ``work`` as one transaction."""
    connection.execute("BEGIN")
    try:
        result = work(connection)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return result


# A device's


def new_room(connection: sqlite3.Connection, number: int, name: str, lane_epoch: bytes) -> None:
    """A room with an empty chat, and a lane of this name."""
    connection.execute("INSERT INTO rooms (id, name) VALUES (?, ?)", (number, name))
    make_chat(connection, number, lane_epoch)


def forget_room(connection: sqlite3.Connection, number: int) -> None:
    """Delete a room."""
    for statement in FORGET:
        connection.execute(statement, (number,))


# A relay's


def add_generation(connection: sqlite3.Connection, generation: bytes) -> None:
    """A run of the relay begins."""
    connection.execute(log_schema.ADD_GENERATION, (generation, 0, 0))


def put_room(connection: sqlite3.Connection, number: int, name: str, epoch: bytes) -> None:
    """A room that has no messages."""
    connection.execute(
        "INSERT INTO rooms (id, name, epoch) VALUES (?, ?, ?)", (number, name, epoch)
    )


def drop_room(connection: sqlite3.Connection, number: int) -> None:
    """Delete a room, with its messages, lanes and marks."""
    for statement in log_schema.DELETE_ROOM:
        connection.execute(statement, (number,))
