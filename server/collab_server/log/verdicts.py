"""What the log's transactions do with verdicts, and reads of them. Rules in ``chat_port``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from collab.protocol.verdicts import GivenVerdict
from collab_server.log import schema
from collab_server.log.chat_port import Awaited, VerdictToGive

__all__ = ["awaited", "give", "room_name", "verdicts"]


def give(
    connection: sqlite3.Connection, given: Iterable[VerdictToGive]
) -> dict[int, Sequence[tuple[int, GivenVerdict]]]:
    """Write verdicts, each if it is the first one; those that stand now, by room, with seqs."""
    found: dict[int, list[tuple[int, GivenVerdict]]] = {}
    for one in given:
        new = one.given
        connection.execute(
            schema.GIVE_VERDICT, (new.verdict, new.reason, one.room_id, new.message_id)
        )
        standing = _verdict(connection, one.room_id, new.message_id)
        if standing is not None:
            found.setdefault(one.room_id, []).append(standing)
    return dict(found)


def _verdict(
    connection: sqlite3.Connection, room_id: int, message_id: bytes
) -> tuple[int, GivenVerdict] | None:
    row = connection.execute(schema.VERDICT, (room_id, message_id)).fetchone()
    return None if row is None else (row[0], GivenVerdict(message_id, row[1], row[2]))


def verdicts(
    connection: sqlite3.Connection, room_id: int, ids: Iterable[bytes]
) -> list[GivenVerdict]:
    """The verdicts on those of these messages that have one."""
    found = (_verdict(connection, room_id, message_id) for message_id in dict.fromkeys(ids))
    return [standing[1] for standing in found if standing is not None]


def awaited(connection: sqlite3.Connection, after: tuple[int, int], limit: int) -> list[Awaited]:
    """Messages that await a verdict, beyond a (room id, seq)."""
    rows = connection.execute(schema.AWAITED, (*after, limit))
    return [Awaited(room_id, seq, id_, lane or b"") for room_id, seq, id_, lane in rows]


def room_name(connection: sqlite3.Connection, room_id: int) -> str | None:
    """The name of a room."""
    row = connection.execute(schema.ROOM_NAME, (room_id,)).fetchone()
    return None if row is None else str(row[0])
