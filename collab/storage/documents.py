"""The updates, snapshots and positions of a device's rooms.

Invariants
1. The updates that ``append`` returned for survive SIGKILL and power loss (see ``database``).
2. Remote updates and the position that covers them are one transaction, and so is all of a batch:
   a position on the disk never covers an update that is not.
3. Updates are kept as they came, byte for byte, and read in the order in which they came. An update
   may depend on any before it, local or remote, and out of that order it would be applied wrongly.
4. What was made here and is not acked stays marked so, until ``forget``: as its row, or, where such
   rows outweigh the snapshot that contains them, as the snapshot, which is sent in their place.
5. What was acked stays acked, and a snapshot is never replaced by an older one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from collab.errors import DiskFull, StoreCorrupt
from collab.protocol.position import Position
from collab.storage import chat_rows
from collab.storage.database import Connection, Database
from collab.storage.faults import corrupt

__all__ = [
    "FORGET",
    "STAGED",
    "Batch",
    "Documents",
    "Position",
    "RoomRow",
    "Sizes",
    "Stored",
    "give_space_back",
]

STAGED: Final = "\x01"
"""How the name of a room begins that ``copies`` fills; no program may give such a name."""

_ROOMS: Final = """
    SELECT id, name, epoch, generation, "offset" FROM rooms
    WHERE substr(name, 1, 1) <> ? ORDER BY id
"""
_ROOM: Final = 'SELECT id, name, epoch, generation, "offset" FROM rooms WHERE name = ?'
_UNSENT: Final = """
    SELECT name, waiting FROM (
        SELECT id, name, (folded_through > acked_through) + (
            SELECT count(*) FROM updates
            WHERE room_id = rooms.id AND local
              AND updates.id > max(acked_through, folded_through)
        ) AS waiting
        FROM rooms WHERE substr(name, 1, 1) <> ?)
    WHERE waiting ORDER BY id
"""
_ADD_ROOM: Final = "INSERT INTO rooms (name) VALUES (?) ON CONFLICT (name) DO NOTHING"
_IS_ROOM: Final = "SELECT 1 FROM rooms WHERE id = ?"
_SET_ROOM: Final = """
    UPDATE rooms SET
        epoch = coalesce(?, epoch),
        generation = coalesce(?, generation),
        "offset" = coalesce(?, "offset")
    WHERE id = ?
"""
# Never lower than it was, and never a row that was not given out yet: it would not be sent.
_ACK: Final = """
    UPDATE rooms SET acked_through = max(
        acked_through, min(?, (SELECT coalesce(max(seq), 0) FROM sqlite_sequence
                               WHERE name = 'updates')))
    WHERE id = ?
"""
FORGET: Final = (
    *chat_rows.FORGET,
    "DELETE FROM updates WHERE room_id = ?",
    "DELETE FROM snapshots WHERE room_id = ?",
    "DELETE FROM rooms WHERE id = ?",
)
"""Delete one room with all that is stored of it."""

_ACKED: Final = "SELECT acked_through, folded_through FROM rooms WHERE id = ?"
_UNACKED: Final = """
    SELECT max(id), coalesce(sum(length(data)), 0) FROM updates
    WHERE room_id = ? AND id <= ? AND local AND id > ?
"""
_FOLD: Final = "UPDATE rooms SET folded_through = ? WHERE id = ?"
_SNAPSHOT: Final = "SELECT through_row, data FROM snapshots WHERE room_id = ?"
_THROUGH: Final = "SELECT through_row FROM snapshots WHERE room_id = ?"
_SET_SNAPSHOT: Final = """
    INSERT INTO snapshots (room_id, through_row, data) VALUES (?, ?, ?)
    ON CONFLICT (room_id) DO UPDATE SET through_row = excluded.through_row, data = excluded.data
"""
_ADD_UPDATE: Final = "INSERT INTO updates (room_id, local, data) VALUES (?, ?, ?)"
_UPDATES: Final = "SELECT id, local, data FROM updates WHERE room_id = ? AND id > ? ORDER BY id"
_COVERED: Final = "DELETE FROM updates WHERE room_id = ? AND id <= ? AND (NOT local OR id <= ?)"
_LAST_ROW: Final = "SELECT max(id) FROM updates WHERE room_id = ?"
_LAST_ID: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'updates'"
_SIZES: Final = """
    SELECT coalesce((SELECT length(data) FROM snapshots WHERE room_id = :room), 0),
           coalesce(sum(length(data)), 0), count(*)
    FROM updates
    WHERE room_id = :room
      AND id > coalesce((SELECT through_row FROM snapshots WHERE room_id = :room), 0)
"""


@dataclass(frozen=True, slots=True)
class RoomRow:
    """A room as it is stored. ``epoch`` and ``position`` are None until the relay has told them."""

    id: int
    name: str
    epoch: bytes | None
    position: Position | None


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of a room's document.

    ``updates`` follow the snapshot, in order of arrival. ``unacked`` are all updates made here that
    the relay has not acked, with their row ids, also those that the snapshot contains.
    ``last_row`` is the highest row that snapshot and updates cover together. Sizes are bytes.
    """

    snapshot: bytes | None
    updates: list[bytes]
    unacked: list[tuple[int, bytes]]
    last_row: int
    snapshot_bytes: int
    tail_bytes: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of a room is in its snapshot and how much in the updates after it."""

    snapshot_bytes: int
    tail_bytes: int
    tail_rows: int


@dataclass(slots=True)
class Batch:
    """What is to be stored for one room, all or nothing.

    ``rows`` are (made here, update) in order of arrival. ``position`` covers the remote ones among
    them. ``acked_through`` acks every update made here with a row id up to it. None: unchanged.
    """

    room_id: int
    rows: list[tuple[bool, bytes]] = field(default_factory=list)
    position: Position | None = None
    acked_through: int | None = None
    epoch: bytes | None = None


class Documents:
    """The rooms of one ``Database``. All methods raise what ``Database.write`` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rooms(self) -> list[RoomRow]:
        """All rooms that a program made, oldest first."""
        rows = await self._database.read(
            lambda connection: connection.execute(_ROOMS, (STAGED,)).fetchall()
        )
        return [self._room(row) for row in rows]

    async def unsent(self) -> dict[str, int]:
        """The rooms that have updates the relay has not acked, oldest first, and how many."""
        rows = await self._database.read(
            lambda connection: connection.execute(_UNSENT, (STAGED,)).fetchall()
        )
        return dict(rows)

    async def find(self, name: str) -> RoomRow | None:
        """The room of this name, or None."""
        row = await self._database.read(
            lambda connection: connection.execute(_ROOM, (name,)).fetchone()
        )
        return None if row is None else self._room(row)

    async def create(self, name: str) -> RoomRow:
        """The room of this name, made if there is none."""

        def get_or_add(connection: Connection) -> tuple[object, ...]:
            connection.execute(_ADD_ROOM, (name,))
            row: tuple[object, ...] = connection.execute(_ROOM, (name,)).fetchone()
            return row

        return self._room(await self._database.write(get_or_add))

    async def load(self, room_id: int) -> Stored:
        """Snapshot and tail of a room; empty if there is no such room."""

        def select(
            connection: Connection,
        ) -> tuple[int, bytes | None, int, int, list[tuple[int, int, bytes]]]:
            through, snapshot = connection.execute(_SNAPSHOT, (room_id,)).fetchone() or (0, None)
            acked, folded = connection.execute(_ACKED, (room_id,)).fetchone() or (0, 0)
            start = min(through, acked)
            return (
                through,
                snapshot,
                acked,
                folded,
                connection.execute(_UPDATES, (room_id, start)).fetchall(),
            )

        through, snapshot, acked, folded, rows = await self._database.read(select)
        if not isinstance(snapshot, bytes | None):
            raise self._damaged("a snapshot")
        if not all(isinstance(data, bytes) for _, _, data in rows):
            raise self._damaged("an update")
        updates = [data for row, _, data in rows if row > through]
        unacked = [(row, data) for row, local, data in rows if local and row > acked]
        if folded > acked and snapshot is not None:
            unacked.insert(0, (folded, snapshot))
        return Stored(
            snapshot=snapshot,
            updates=updates,
            unacked=unacked,
            last_row=max(through, rows[-1][0] if rows else 0),
            snapshot_bytes=len(snapshot or b""),
            tail_bytes=sum(map(len, updates)),
        )

    async def append(self, batches: Sequence[Batch]) -> list[list[int]]:
        """Store all batches in one transaction; return the row ids of each one's local updates.

        A batch for a room that was forgotten meanwhile stores nothing and gives no ids: one such
        room must not keep the others from being saved.
        """

        def insert(connection: Connection) -> list[list[int]]:
            return [_append(connection, batch) for batch in batches]

        return await self._database.write(insert)

    async def compact(self, room_id: int, snapshot: bytes, through_row: int) -> None:
        """Replace what ``snapshot`` contains by it, in one transaction; then give the space back.

        ``through_row``: the snapshot contains *every* update of the room with a row id up to it.
        Take the number first (``last_row``, ``Stored.last_row``, an id from ``append``) and the
        snapshot after it, of a document that has all of these. Updates not acked are kept, unless
        they outweigh the snapshot: then it is remembered that the snapshot is what is not acked.

        Does nothing for a room that was forgotten or whose snapshot reaches further already.
        Raises ``ValueError`` for a row that was never given out.
        """

        def replace(connection: Connection) -> bool:
            room = connection.execute(_ACKED, (room_id,)).fetchone()
            (through,) = connection.execute(_THROUGH, (room_id,)).fetchone() or (0,)
            if room is None or through > through_row:
                return False
            (last,) = connection.execute(_LAST_ID).fetchone() or (0,)
            if through_row > last:
                raise ValueError(f"no update has the row id {through_row} yet; the last is {last}")
            connection.execute(_SET_SNAPSHOT, (room_id, through_row, snapshot))
            acked = room[0]
            unacked = connection.execute(_UNACKED, (room_id, through_row, acked)).fetchone()
            if unacked[1] > len(snapshot):
                acked = unacked[0]
                connection.execute(_FOLD, (acked, room_id))
            connection.execute(_COVERED, (room_id, through_row, acked))
            return True

        if await self._database.write(replace):
            await give_space_back(self._database)

    async def forget(self, room_id: int) -> None:
        """Delete a room with all that is stored of it, updates that were never sent included."""

        def delete(connection: Connection) -> None:
            for statement in FORGET:
                connection.execute(statement, (room_id,))

        await self._database.write(delete)
        await give_space_back(self._database)

    async def last_row(self, room_id: int) -> int:
        """The highest row id that the room's snapshot and updates cover; 0 if it has neither."""

        def select(connection: Connection) -> int:
            (through,) = connection.execute(_THROUGH, (room_id,)).fetchone() or (0,)
            (last,) = connection.execute(_LAST_ROW, (room_id,)).fetchone()
            return max(through, last or 0)

        return await self._database.read(select)

    async def sizes(self, room_id: int) -> Sizes:
        """What decides whether a compaction is worth it, without reading any update."""
        row = await self._database.read(
            lambda connection: connection.execute(_SIZES, {"room": room_id}).fetchone()
        )
        return Sizes(*row)

    def _room(self, row: tuple[object, ...]) -> RoomRow:
        number, name, epoch, generation, offset = row
        position = None
        if isinstance(generation, bytes) and isinstance(offset, int):
            position = Position(generation, offset)
        if (
            not isinstance(number, int)
            or not isinstance(name, str)
            or not isinstance(epoch, bytes | None)
            or (position is None and (generation, offset) != (None, None))
        ):
            raise self._damaged("a room")
        return RoomRow(number, name, epoch, position)

    def _damaged(self, thing: str) -> StoreCorrupt:
        return corrupt(f"{thing} is damaged", what="store", path=self._database.path)


async def give_space_back(database: Database) -> None:
    """Give free pages back to the file system, if the disk lets us."""
    # What had to be on the disk is. On a full one the pages stay, free, for what comes next.
    with contextlib.suppress(DiskFull):
        await database.shrink()


def _append(connection: Connection, batch: Batch) -> list[int]:
    room_id, position = batch.room_id, batch.position
    if connection.execute(_IS_ROOM, (room_id,)).fetchone() is None:
        return []
    if position is not None or batch.epoch is not None:
        place = (None, None) if position is None else (position.generation, position.offset)
        connection.execute(_SET_ROOM, (batch.epoch, *place, room_id))
    if batch.acked_through is not None:
        connection.execute(_ACK, (batch.acked_through, room_id))
    ids = []
    for local, data in batch.rows:
        row = connection.execute(_ADD_UPDATE, (room_id, local, data)).lastrowid
        if local and row is not None:
            ids.append(row)
    return ids
