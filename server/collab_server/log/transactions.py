"""What each transaction of the log does. Plain functions that the writer thread runs whole."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import dataclass

from collab_server.log import schema
from collab_server.log.chat import ChatBatch
from collab_server.log.messages import Judged
from collab_server.log.port import RoomRow, StoredRoom

__all__ = [
    "Batch",
    "Compaction",
    "Deletion",
    "NewRoom",
    "Start",
    "Written",
    "compact",
    "find",
    "is_deleted",
    "load",
    "read",
    "start",
]


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
class Deletion:
    """A room that is to go."""

    room_id: int
    now_ms: int
    done: asyncio.Future[None]


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
class Written:
    """What a commit made: the rows of the batch's rooms (None: deleted), and what it judged."""

    rooms: list[RoomRow | None]
    chat: Judged


@dataclass(frozen=True, slots=True)
class Batch:
    """All that one commit takes: updates, then messages and marks, then deletions, then new rooms.

    A deletion was asked for after the updates and messages of its room, and takes those of this
    batch too. Who opens a room of the same name gets a new one.
    """

    head: int  # of the log when the batch was taken
    updates: list[tuple[int, int, bytes]]  # offset, room_id, data
    deletions: list[Deletion]
    rooms: list[NewRoom]
    chat: ChatBatch
    again: bool  # some of it was in a transaction whose end nobody saw, or that failed

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.updates or self.deletions or self.rooms) and self.chat.is_empty

    @property
    def entries(self) -> int:
        """How many things were queued."""
        documents = len(self.updates) + len(self.deletions) + len(self.rooms)
        return documents + self.chat.entries

    @property
    def size(self) -> int:
        """Bytes of what was queued."""
        updates = sum(len(data) for _, _, data in self.updates)
        return updates + sum(len(room.name) for room in self.rooms) + self.chat.size

    @property
    def written_rooms(self) -> frozenset[int]:
        """Ids of the rooms that have new rows."""
        deleted = {deletion.room_id for deletion in self.deletions}
        return frozenset(room_id for _, room_id, _ in self.updates).difference(deleted)

    def write(self, connection: sqlite3.Connection) -> Written:
        """Write it; a row is None where a room's epoch is a deleted one's.

        Writing it again changes nothing.
        """
        append = schema.APPEND_AGAIN if self.again else schema.APPEND
        connection.executemany(append, self.updates)
        judged = self.chat.write(connection)
        for deletion in self.deletions:
            _delete(connection, deletion, self.head)
        return Written([_create(connection, room) for room in self.rooms], judged)


def _create(connection: sqlite3.Connection, room: NewRoom) -> RoomRow | None:
    connection.execute(schema.CREATE_ROOM, {"name": room.name, "epoch": room.epoch})
    return find(connection, room.name)


def _delete(connection: sqlite3.Connection, deletion: Deletion, head: int) -> None:
    connection.execute(schema.SAVE_HEAD, (head,))
    connection.execute(schema.REMEMBER_DELETED, (deletion.now_ms, deletion.room_id))
    for statement in schema.DELETE_ROOM:
        connection.execute(statement, (deletion.room_id,))


def find(connection: sqlite3.Connection, name: str) -> RoomRow | None:
    """The room of this name."""
    row = connection.execute(schema.FIND_ROOM, (name,)).fetchone()
    return None if row is None else RoomRow(*row)


def is_deleted(connection: sqlite3.Connection, name: str, epoch: bytes) -> bool:
    """Whether a room of this name and epoch was deleted."""
    return connection.execute(schema.IS_DELETED, (name, epoch)).fetchone() is not None


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
    """Write a snapshot and delete what it stands for.

    False if a newer one is stored, or the room was deleted.
    """
    if connection.execute(schema.BASE, (compaction.room_id,)).fetchone() is None:
        return False
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
