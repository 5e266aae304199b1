"""What is read from the log's messages. Plain functions over an SQLite connection."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Final

from collab import limits
from collab.protocol.messages import LoggedMessage, Receipt, packed_size
from collab_server.lanes import LaneKey
from collab_server.log import schema
from collab_server.log.chat_port import ChatState, Page
from collab_server.log.messages import load_lane

__all__ = ["enter", "find", "is_good", "page", "receipts"]

_MAX_SEQ: Final = 2**63 - 1


def page(
    connection: sqlite3.Connection,
    room_id: int,
    after: int,
    before: int = _MAX_SEQ,
    *,
    newest: bool = False,
) -> Page:
    """As many messages with ``after`` < seq < ``before`` as one frame holds, from one end."""
    statement = schema.NEWEST_BETWEEN if newest else schema.OLDEST_BETWEEN
    arguments = (room_id, after, before, limits.PAGE_MESSAGES)
    messages: list[LoggedMessage] = []
    size = 0
    with contextlib.closing(connection.execute(statement, arguments)) as rows:
        for row in rows:
            message = LoggedMessage(*row)
            size += packed_size(message)
            if messages and size > limits.MAX_RUN_BYTES:
                break
            messages.append(message)
    if newest:
        messages.reverse()
    return Page(messages, _oldest(connection, room_id))


def find(connection: sqlite3.Connection, room_id: int, message_id: bytes) -> LoggedMessage | None:
    """The message of this id."""
    row = connection.execute(schema.FIND_MESSAGE, (room_id, message_id)).fetchone()
    return None if row is None else LoggedMessage(*row)


def receipts(connection: sqlite3.Connection, room_id: int, limit: int) -> list[Receipt]:
    """The marks of a room's users, those that are furthest on first."""
    return [Receipt(*row) for row in connection.execute(schema.MARKS, (room_id, limit))]


def is_good(
    connection: sqlite3.Connection, room_id: int, generation: bytes, seq: int, head: int
) -> bool:
    """Whether (``generation``, ``seq``) is a place in this room's history."""
    if seq == 0:
        return True
    row = connection.execute(
        schema.WRITTEN_IN, {"room_id": room_id, "seq": seq, "generation": generation}
    ).fetchone()
    if row is None or seq > head:
        return False
    number, written_in = row
    return written_in is None or written_in <= number


def enter(
    connection: sqlite3.Connection,
    room_id: int,
    lane: LaneKey,
    *,
    generation: bytes,
    seq: int,
    read_upto: int,
) -> ChatState:
    """How a lane and its user's chat stand; ``read_upto``: what is known of it besides."""
    row = connection.execute(schema.CHAT_HEAD, (room_id,)).fetchone()
    head = 0 if row is None else row[0]
    stored = connection.execute(schema.READ_UPTO, (room_id, lane.sub)).fetchone()
    read_upto = max(read_upto, 0 if stored is None else stored[0])
    (unread,) = connection.execute(
        schema.UNREAD,
        {
            "room_id": room_id,
            "sub": lane.sub,
            "read_upto": read_upto,
            "most": limits.MAX_UNREAD_COUNTED,
            "scanned": limits.MAX_UNREAD_SCANNED,
        },
    ).fetchone()
    return ChatState(
        lane=load_lane(connection, room_id, lane),
        good=is_good(connection, room_id, generation, seq, head),
        head=head,
        oldest=_oldest(connection, room_id),
        read_upto=read_upto,
        unread=unread,
    )


def _oldest(connection: sqlite3.Connection, room_id: int) -> int:
    """The lowest seq that is retained; that of the next message if none is."""
    (oldest,) = connection.execute(schema.OLDEST_MESSAGE, (room_id,)).fetchone()
    if oldest is not None:
        return int(oldest)
    row = connection.execute(schema.CHAT_HEAD, (room_id,)).fetchone()
    return 1 if row is None else int(row[0]) + 1
