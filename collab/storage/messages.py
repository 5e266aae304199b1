"""The messages of a device's rooms: what was written here and what came.

Invariants
1. A message that ``write`` returned for survives SIGKILL and power loss, and is in the outbox until
   the relay has decided it: what was on its way at a crash is found again by ``load``.
2. A message and the mark that covers it are one transaction, and so are an outcome and its slot.
3. All changes of a room go through its ledger (``ledger``), in the order in which they were made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from collab.protocol.chat_changes import Bound, Waiting
from collab.protocol.device_clock import Anchor
from collab.protocol.gaps import Gaps
from collab.protocol.members import MemberRow
from collab.protocol.messages import Receipt
from collab.storage import message_acts
from collab.storage.chat_rows import chat, gaps, make_chat, members, receipts, unread
from collab.storage.database import Connection, Database
from collab.storage.faults import corrupt
from collab.storage.message_rows import TAIL, MessageRow, select, slots, waiting

__all__ = ["BEGINNING", "END", "Messages", "Place", "StoredChat", "between", "load", "reach"]

T = TypeVar("T")

Place = tuple[int, int]
"""Where a message stands in its room; see ``message_rows``."""

BEGINNING: Final[Place] = (0, 0)
END: Final[Place] = (TAIL, TAIL)

_ID_BYTES: Final = 16
_BETWEEN: Final = "WHERE room_id = ? AND (place, tie) > (?, ?) AND (place, tie) < (?, ?)"
_NEWEST: Final = f"{_BETWEEN} ORDER BY place DESC, tie DESC LIMIT ?"
_OLDEST: Final = f"{_BETWEEN} ORDER BY place, tie LIMIT ?"
_UNSENT: Final = """
    SELECT rooms.name, count(*) FROM messages JOIN rooms ON rooms.id = messages.room_id
    WHERE (messages.state = 'queued' OR messages.slot IS NOT NULL)
      AND messages.state IN ('queued', 'sending')
    GROUP BY messages.room_id ORDER BY min(messages.sent_at)
"""
_ANY: Final = "SELECT 1 FROM messages WHERE room_id = ? LIMIT 1"
_PLACES: Final = "SELECT place FROM messages"


@dataclass(frozen=True, slots=True)
class StoredChat:
    """What is stored of a room's chat, without the messages that are decided."""

    lane_epoch: bytes
    bound: int
    waiting: list[Waiting]
    slots: list[Bound]
    generation: bytes
    seq: int
    read_upto: int
    user: str
    gaps: Gaps
    receipts: list[Receipt]
    unread: int
    members: list[MemberRow]
    has_messages: bool


class Messages:
    """The messages of one ``Database``. All methods raise what ``Database.write`` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, room_id: int, fresh_epoch: bytes) -> StoredChat:
        """The chat of a room that exists. One that has none yet begins with this lane."""
        stored = await self._database.read(lambda connection: load(connection, room_id))
        if stored is None:

            def begin(connection: Connection) -> StoredChat | None:
                make_chat(connection, room_id, fresh_epoch)
                return load(connection, room_id)

            stored = await self._database.write(begin)
        assert stored is not None
        if not len(stored.lane_epoch) == len(stored.generation) == _ID_BYTES:
            raise corrupt("the state of a chat is damaged", what="store", path=self._database.path)
        return stored

    async def between(
        self, room_id: int, after: Place, before: Place, limit: int, *, newest: bool
    ) -> list[MessageRow]:
        """At most ``limit`` messages between two places, oldest first, from one of the ends."""
        return await self._database.read(
            lambda connection: between(connection, room_id, after, before, limit, newest=newest)
        )

    async def reach(
        self, room_id: int, after: Place, before: Place, limit: int, *, newest: bool
    ) -> int | None:
        """Where the last of these messages stands; None if there are fewer than ``limit``."""
        return await self._database.read(
            lambda connection: reach(connection, room_id, after, before, limit, newest=newest)
        )

    async def unsent(self) -> dict[str, int]:
        """The rooms with messages that the relay has not decided, oldest first, and how many."""
        rows = await self._database.read(lambda connection: connection.execute(_UNSENT).fetchall())
        return dict(rows)

    async def clock(self) -> Anchor | None:
        """The stored anchor of the device's running time."""
        return await self._database.read(message_acts.clock)

    async def move_clock(self, anchor: Anchor) -> None:
        """Store a newer anchor, if any message was ever timed by one."""
        await self._database.write(lambda connection: message_acts.move_clock(connection, anchor))

    async def write(self, transact: Callable[[Connection], T]) -> T:
        """One transaction; for ledgers alone."""
        return await self._database.write(transact)


def load(connection: Connection, room_id: int) -> StoredChat | None:
    """What is stored of a room's chat; None if it has none."""
    row = chat(connection, room_id)
    if row is None:
        return None
    return StoredChat(
        lane_epoch=row.lane_epoch,
        bound=row.bound,
        waiting=waiting(connection, room_id),
        slots=slots(connection, room_id),
        generation=row.generation,
        seq=row.seq,
        read_upto=row.read_upto,
        user=row.user,
        gaps=gaps(connection, room_id),
        receipts=receipts(connection, room_id),
        unread=unread(connection, room_id),
        members=members(connection, room_id),
        has_messages=connection.execute(_ANY, (room_id,)).fetchone() is not None,
    )


def between(
    connection: Connection, room_id: int, after: Place, before: Place, limit: int, *, newest: bool
) -> list[MessageRow]:
    """At most ``limit`` messages between two places, oldest first, from one of the ends."""
    values = (room_id, *after, *before, limit)
    rows = select(connection, _NEWEST if newest else _OLDEST, values)
    return rows[::-1] if newest else rows


def reach(
    connection: Connection, room_id: int, after: Place, before: Place, limit: int, *, newest: bool
) -> int | None:
    """Where the last of these messages stands; None if there are fewer than ``limit``."""
    statement = f"{_PLACES} {_NEWEST if newest else _OLDEST} OFFSET ?"
    row = connection.execute(statement, (room_id, *after, *before, 1, limit - 1)).fetchone()
    return None if row is None else int(row[0])
