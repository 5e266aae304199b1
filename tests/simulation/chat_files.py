"""The chat in a file: the real tables, in a SQLite database in memory.

A transaction of the simulation happens at one moment, so what is in such a database is what is
committed; a copy of it is a backup, or a clone. Pages are small, for a file is mostly empty tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeVar

from collab.storage import schema as device_schema
from collab.storage.chat_rows import make_chat
from collab.storage.documents import FORGET
from collab_server.log import schema as log_schema

__all__ = [
    "add_generation", "copy_of", "drop_room", "forget_room", "new_device_file", "new_log",
    "new_room", "put_room", "transact",
]  # fmt: skip

T = TypeVar("T")


def _connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)


@cache
def _empty(of: str) -> bytes:
    """A database that has the tables and nothing in them."""
    migrations: Sequence[Sequence[str]] = (
        device_schema.migrations(bytes(16)) if of == "device" else log_schema.MIGRATIONS
    )
    connection = _connect()
    connection.execute("PRAGMA page_size = 512")
    for migration in migrations:
        for statement in migration:
            connection.execute(statement)
    return connection.serialize()


def _of(content: bytes) -> sqlite3.Connection:
    connection = _connect()
    connection.deserialize(content)
    return connection


def new_device_file() -> sqlite3.Connection:
    """The chats of a device that has no room."""
    return _of(_empty("device"))


def new_log() -> sqlite3.Connection:
    """The chats of a relay that has no room."""
    return _of(_empty("log"))


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
