"""What each transaction of the log does. Plain functions that the writer thread runs whole."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import dataclass

from collab_server.log import schema
from collab_server.log.port import RoomRow, StoredRoom

__all__ = ["Batch", "Compaction", "NewRoom", "Start", "compact", "find", "load", "read", "start"]


@dataclass(frozen=True, slots=True)
class Start:
    """What one start of a relay found and made durable."""

    relay_id: bytes
    head: int
    ends: dict[bytes, int]  # of each earlier generation: the start of the next one


@dataclass(frozen=True, slots=True)
class NewRoom:
    """A room that somebody waits for."""

    name: str
    epoch: bytes
    created: asyncio.Future[RoomRow]


@dataclass(frozen=True, slots=True)
class Compaction:
    """A snapshot that waits to be written."""

    room_id: int
    snapshot: bytes
    offset: int
    keep_after: int
    coverage: bytes | None
    done: asyncio.Future[bool]


@dataclass(frozen=True, slots=True)
class Batch:
    """All that one commit takes: rooms first, then updates."""

    head: int  # of the log when the batch was taken
    rooms: list[NewRoom]
    updates: list[tuple[int, int, bytes]]  # offset, room_id, data
    again: bool  # some of it was in a transaction whose end nobody saw, or that failed

    def write(self, connection: sqlite3.Connection) -> list[RoomRow]:
        """Write it; the rows of ``rooms``, new or stored."""
        created = []
        for room in self.rooms:
            connection.execute(schema.CREATE_ROOM, (room.name, room.epoch))
            row = connection.execute(schema.FIND_ROOM, (room.name,)).fetchone()
            created.append(RoomRow(*row))
        append = schema.APPEND_AGAIN if self.again else schema.APPEND
        connection.executemany(append, self.updates)
        return created


def find(connection: sqlite3.Connection, name: str) -> RoomRow | None:
    """The room of this name."""
    row = connection.execute(schema.FIND_ROOM, (name,)).fetchone()
    return None if row is None else RoomRow(*row)


def read(
    connection: sqlite3.Connection, room_id: int, after: int, limit_bytes: int
) -> list[tuple[int, bytes]]:
    """Some updates of a room beyond ``after``."""
    rows: list[tuple[int, bytes]] = []
    size = 0
    with contextlib.closing(connection.execute(schema.READ_AFTER, (room_id, after))) as cursor:
        for offset, data in cursor:
            size += len(data)
            if rows and size > limit_bytes:
                break
            rows.append((offset, data))
    return rows


def start(connection: sqlite3.Connection, generation: bytes, relay_id: bytes, now_ms: int) -> Start:
    """Make one start of a relay durable, and tell what it starts from."""
    connection.execute(schema.CREATE_META, (relay_id,))
    (stored_relay_id,) = connection.execute(schema.RELAY_ID).fetchone()
    (head,) = connection.execute(schema.HEAD).fetchone()
    earlier = connection.execute(schema.GENERATIONS).fetchall()
    connection.execute(schema.ADD_GENERATION, (generation, head, now_ms))
    ids = [id_ for id_, _ in earlier]
    ends = [start for _, start in earlier[1:]] + [head]
    return Start(stored_relay_id, head, dict(zip(ids, ends, strict=False)))


def load(connection: sqlite3.Connection, room_id: int) -> StoredRoom | None:
    """What a replica of the room is made of; None for an unknown id."""
    room = connection.execute(schema.BASE, (room_id,)).fetchone()
    if room is None:
        return None
    snapshot = connection.execute(schema.SNAPSHOT, (room_id,)).fetchone()
    data, offset, coverage = (None, 0, None) if snapshot is None else snapshot
    updates = connection.execute(schema.READ_AFTER, (room_id, offset)).fetchall()
    return StoredRoom(data, offset, coverage, updates, room[0])


def compact(connection: sqlite3.Connection, compaction: Compaction, committed: int) -> bool:
    """Write a snapshot and delete what it stands for; False if a newer one is stored."""
    written = connection.execute(
        schema.WRITE_SNAPSHOT,
        (compaction.room_id, compaction.offset, compaction.snapshot, compaction.coverage),
    )
    if written.rowcount == 0:
        return False
    base = min(compaction.offset, compaction.keep_after)
    connection.execute(schema.SAVE_HEAD, (committed,))
    connection.execute(schema.DELETE_UP_TO, (compaction.room_id, base))
    connection.execute(schema.MOVE_BASE, (base, compaction.room_id))
    return True
