"""What a store file holds, for people and programs that only look: see ``reading`` for how."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from dataclasses import dataclass
from typing import Final

from collab.protocol.gaps import Gap
from collab.storage import chat_rows
from collab.storage.documents import STAGED
from collab.storage.reading import read_store
from collab.storage.schema import APPLICATION_ID, DEVICE_ID_BYTES, migrations

__all__ = ["ChatSurvey", "RoomSurvey", "Survey", "survey"]

_WITH_CHAT: Final = 2  # the format from which on there are messages

_META: Final = "SELECT value FROM meta WHERE key = ?"
_ROOMS: Final = """
    SELECT id, name, epoch, generation, "offset",
           coalesce((SELECT length(data) FROM snapshots WHERE room_id = rooms.id), 0),
           coalesce((SELECT sum(length(data)) FROM updates WHERE room_id = rooms.id AND id >
                coalesce((SELECT through_row FROM snapshots WHERE room_id = rooms.id), 0)), 0),
           (SELECT count(*) FROM updates
            WHERE room_id = rooms.id AND local AND id > rooms.acked_through),
           folded_through > acked_through
    FROM rooms WHERE substr(name, 1, 1) <> ? ORDER BY id
"""
_HERE: Final = "SELECT count(*) FROM messages WHERE room_id = ? AND tie = 0 AND seq IS NOT NULL"
_OUTBOX: Final = """
    SELECT CASE WHEN state IN ('queued', 'stalled') THEN state ELSE 'sending' END, count(*)
    FROM messages
    WHERE room_id = ? AND (state IN ('queued', 'stalled') OR slot IS NOT NULL) GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class ChatSurvey:
    """A room's messages. ``user``: as whom the relay knows this device here; "" if never entered.

    ``seq`` is the place up to which every message is here or in a gap.
    """

    here: int
    queued: int
    sending: int
    stalled: int
    unread: int
    gaps: tuple[Gap, ...]
    seq: int
    read_upto: int
    user: str


@dataclass(frozen=True, slots=True)
class RoomSurvey:
    """A room. ``pending_updates`` were made here and are not at the relay; a run of keystrokes may
    be one, and so may all that a snapshot stands for.

    ``was_joined``: a relay has told the room's epoch. ``generation`` and ``offset`` are the stored
    place in its log; None while the next joining is to exchange differences.
    """

    name: str
    document_bytes: int
    pending_updates: int
    was_joined: bool
    generation: bytes | None
    offset: int | None
    chat: ChatSurvey | None


@dataclass(frozen=True, slots=True)
class Survey:
    """A whole file. ``version`` of ``newest_version``: its format; ``rooms`` is None where that has
    none yet. ``owner`` is a clause about who has it open; None: nobody."""

    path: str
    version: int
    newest_version: int
    owner: str | None
    device_id: bytes | None
    connection_number: int | None
    rooms: tuple[RoomSurvey, ...] | None


def survey(path: str | os.PathLike[str]) -> Survey:
    """Look into the store at ``path``; see :func:`collab.storage.reading.read_store` for errors."""
    known = migrations(bytes(DEVICE_ID_BYTES))

    def look(connection: sqlite3.Connection) -> Survey:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not version:
            return Survey("", 0, len(known), None, None, None, None)
        device_id, connection_number = (
            next((row[0] for row in connection.execute(_META, (key,))), None)
            for key in ("device_id", "connection_number")
        )
        rooms = tuple(
            _room(connection, row, with_chat=version >= _WITH_CHAT)
            for row in connection.execute(_ROOMS, (STAGED,)).fetchall()
        )
        return Survey("", version, len(known), None, device_id, connection_number, rooms)

    found, owner = read_store(path, look, application_id=APPLICATION_ID, migrations=known)
    return Survey(
        os.path.realpath(path), found.version, found.newest_version, owner, found.device_id,
        found.connection_number, found.rooms,
    )  # fmt: skip


def _room(connection: sqlite3.Connection, row: sqlite3.Row, *, with_chat: bool) -> RoomSurvey:
    room_id, name, epoch, generation, offset, snapshot, tail, pending, is_folded = row
    return RoomSurvey(
        name=name,
        document_bytes=snapshot + tail,
        pending_updates=pending + is_folded,
        was_joined=epoch is not None,
        generation=generation,
        offset=offset,
        chat=_chat(connection, room_id) if with_chat else None,
    )


def _chat(connection: sqlite3.Connection, room_id: int) -> ChatSurvey:
    row = chat_rows.chat(connection, room_id)
    (here,) = connection.execute(_HERE, (room_id,)).fetchone()
    outbox = Counter(dict(connection.execute(_OUTBOX, (room_id,)).fetchall()))
    return ChatSurvey(
        here=here,
        queued=outbox["queued"],
        sending=outbox["sending"],
        stalled=outbox["stalled"],
        unread=chat_rows.unread(connection, room_id),
        gaps=chat_rows.gaps(connection, room_id),
        seq=row.seq if row else 0,
        read_upto=row.read_upto if row else 0,
        user=row.user if row else "",
    )
