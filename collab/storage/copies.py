"""Rooms that are made whole: a copy under another name, and one that takes another's place.

A *staged* room is filled beside the one whose place it is to take. Its name begins with a control
character, which no program's name may have, so it collides with nothing and is never listed.

Invariants
1. A copy appears with all its content, or not at all.
2. A staged room takes the other's place in one transaction: at every moment one whole room has the
   name.
3. What a crash leaves of a staging is gone after ``drop_staged``.
"""

from __future__ import annotations

from typing import Final

from collab.storage import chat_rows
from collab.storage.database import Connection, Database
from collab.storage.documents import FORGET, STAGED, RoomRow, give_space_back

__all__ = ["Copies"]

_FIND: Final = "SELECT id FROM rooms WHERE name = ?"
_HAS_CONTENT: Final = """
    SELECT EXISTS (SELECT 1 FROM updates WHERE room_id = :room)
        OR EXISTS (SELECT 1 FROM snapshots WHERE room_id = :room)
        OR EXISTS (SELECT 1 FROM messages WHERE room_id = :room)
"""
_ADD: Final = "INSERT INTO rooms (name, epoch) VALUES (?, ?)"
_ADD_LOCAL: Final = "INSERT INTO updates (room_id, local, data) VALUES (?, 1, ?)"
_RENAME: Final = "UPDATE rooms SET name = ? WHERE id = ? AND name = ?"
_STAGED: Final = "SELECT id FROM rooms WHERE substr(name, 1, 1) = ?"


class Copies:
    """The copies in one ``Database``. All methods raise what ``Database.write`` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fork(self, name: str, epoch: bytes, content: bytes | None) -> RoomRow | None:
        """Make a room with this epoch whose one update, made here and not acked, is ``content``.

        ``content`` is None for a room without any. A room of this name that has nothing gives way;
        None, and nothing is changed, if it has something.
        """

        def make(connection: Connection) -> int | None:
            for (room,) in connection.execute(_FIND, (name,)).fetchall():
                if connection.execute(_HAS_CONTENT, {"room": room}).fetchone()[0]:
                    return None
                _delete(connection, room)
            room_id = _id_of(connection.execute(_ADD, (name, epoch)).lastrowid)
            if content is not None:
                connection.execute(_ADD_LOCAL, (room_id, content))
            return room_id

        room_id = await self._database.write(make)
        return None if room_id is None else RoomRow(room_id, name, epoch, None)

    async def stage(self, name: str, epoch: bytes | None) -> RoomRow:
        """Make an empty staged room for the room of this name; an earlier one of it is deleted."""
        staged = STAGED + name

        def make(connection: Connection) -> int:
            for (room,) in connection.execute(_FIND, (staged,)).fetchall():
                _delete(connection, room)
            return _id_of(connection.execute(_ADD, (staged, epoch)).lastrowid)

        return RoomRow(await self._database.write(make), staged, epoch, None)

    async def replace(self, room_id: int, staged_id: int, name: str) -> None:
        """Delete a room's document, and give its ``name`` and its chat to the staged one.

        The space is given back by ``shrink``: here that could fail after all was done. Raises
        ``ValueError``, and changes nothing, if there is no such staged room.
        """

        def take_place(connection: Connection) -> None:
            chat_rows.move(connection, room_id, staged_id)
            _delete(connection, room_id)
            if not connection.execute(_RENAME, (name, staged_id, STAGED + name)).rowcount:
                raise ValueError(f"there is no staged room {staged_id}; nothing was changed")

        await self._database.write(take_place)

    async def drop(self, staged_id: int) -> None:
        """Delete this staged room; one that has taken its place by now stays."""

        def delete(connection: Connection) -> None:
            if staged_id in _staged(connection):
                _delete(connection, staged_id)

        await self._database.write(delete)
        await self.shrink()

    async def shrink(self) -> None:
        """Give the space of what was deleted back to the file system."""
        await give_space_back(self._database)

    async def drop_staged(self) -> None:
        """Delete every staged room: nobody is left who fills it."""
        if not await self._database.read(_staged):
            return  # nearly always; and a start that writes nothing works on a full disk

        def drop(connection: Connection) -> None:
            for room in _staged(connection):
                _delete(connection, room)

        await self._database.write(drop)


def _staged(connection: Connection) -> list[int]:
    return [room for (room,) in connection.execute(_STAGED, (STAGED,)).fetchall()]


def _delete(connection: Connection, room_id: int) -> None:
    for statement in FORGET:
        connection.execute(statement, (room_id,))


def _id_of(row: int | None) -> int:
    assert row is not None  # an INSERT of one row has its id
    return row
