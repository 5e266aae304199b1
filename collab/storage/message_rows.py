"""One message as it is stored: what its columns mean, and how it is found.

The messages of a room are ordered by (``place``, ``tie``):

- what is in the relay's log stands at (seq, 0);
- what waits to be sent, or is stalled, at the ``TAIL``, by its position in the order of sending;
- what ended here (rejected, expired, cancelled) after the message that it was written after;
- what a relay with another history does not have, or not there, at (its former seq, below 0).
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from collab.protocol.chat_changes import Bound, Waiting
from collab.protocol.message_state import MessageState
from collab.protocol.messages import Verdict
from collab.storage.database import Connection

__all__ = [
    "SENT_HERE",
    "TAIL",
    "MessageRow",
    "at_seq",
    "awaited",
    "by_row",
    "digest",
    "own",
    "select",
    "seqs_here",
    "slots",
    "update",
    "waiting",
    "with_id",
]  # fmt: skip

TAIL: Final = 1 << 62
SENT_HERE: Final = "WHERE room_id = ? AND position IS NOT NULL AND"

_COLUMNS: Final = (
    "id, message_id, place, tie, seq, state, mine, replaced, sender, body, meta, sent_at,"
    " accepted_at, kind, verdict, code, reason, position, slot, written_after, ttl_ms, offered,"
    " as_sent, verdict_reason"
)
_AT_SEQ: Final = "WHERE room_id = ? AND place = ? AND tie = 0"
_WITH_ID: Final = "WHERE room_id = ? AND message_id = ?"
_OWN: Final = "WHERE room_id = ? AND message_id = ? AND position IS NOT NULL"
_SEQS: Final = """
    SELECT place FROM messages WHERE room_id = ? AND place BETWEEN ? AND ? AND tie = 0
"""
_AWAITED: Final = """
    SELECT message_id FROM messages
    WHERE room_id = ? AND verdict = 1 AND tie = 0 AND seq IS NOT NULL ORDER BY place DESC LIMIT ?
"""
_WAITING: Final = """
    SELECT message_id, position, expires_ms, offered FROM messages
    WHERE room_id = ? AND (state = 'queued' OR slot IS NOT NULL) AND slot IS NULL
    ORDER BY position
"""
_SLOTS: Final = """
    SELECT slot, message_id, body, meta, sent_at, expires_ms, refusals, giving_up, state, verdict
    FROM messages WHERE room_id = ? AND slot >= ? ORDER BY slot
"""


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A stored message. ``sent_at`` and ``accepted_at`` are milliseconds since 1970.

    ``mine``: this user wrote it; ``position``: it was sent from this file. ``written_after`` is
    the mark at that time. ``ttl_ms`` is what it was sent with. ``as_sent`` is a digest of what was
    sent, if the relay keeps another body or meta. ``verdict`` is awaited from its writing on, if it
    asks for one; a refusal is stored with its ``verdict_reason``.
    """

    row: int
    id: bytes
    place: int
    tie: int
    seq: int | None
    state: MessageState
    mine: bool
    replaced: bool
    sender: str
    body: str
    meta: bytes
    sent_at: int
    accepted_at: int | None
    kind: int
    verdict: int
    code: str
    reason: str
    position: int | None
    slot: int | None
    written_after: int
    ttl_ms: int | None
    offered: bool
    as_sent: bytes | None
    verdict_reason: str

    def was_sent_as(self, body: str, meta: bytes) -> bool:
        """Whether this is what its writer sent, or what the relay made of it."""
        return (self.body, self.meta) == (body, meta) or self.as_sent == digest(body, meta)

    @property
    def is_in_log(self) -> bool:
        """Whether it has a number in the relay's log."""
        return self.seq is not None and not self.replaced


def _row(values: tuple[Any, ...]) -> MessageRow:
    *first, state, mine, replaced = values[:8]
    *others, after, ttl_ms, offered, as_sent, reason = values[8:]
    typed = (MessageState(state), bool(mine), bool(replaced))
    rest = (after or 0, ttl_ms, bool(offered), as_sent, reason)
    return MessageRow(*(*first, *typed, *others, *rest))


def digest(body: str, meta: bytes) -> bytes:
    """A name of what a message says."""
    encoded = body.encode()
    content = len(encoded).to_bytes(8, "big") + encoded + meta
    return hashlib.blake2b(content, digest_size=16).digest()


def select(connection: Connection, rest: str, values: Iterable[object]) -> list[MessageRow]:
    """The messages that the ``rest`` of a SELECT chooses."""
    statement = f"SELECT {_COLUMNS} FROM messages {rest}"  # noqa: S608 (our own constants)
    return [_row(row) for row in connection.execute(statement, tuple(values))]


def by_row(connection: Connection, rows: Iterable[int]) -> list[MessageRow]:
    """The messages of these row ids, as they are now."""
    return [found for row in rows for found in select(connection, "WHERE id = ?", (row,))]


def at_seq(connection: Connection, room_id: int, seq: int) -> MessageRow | None:
    """The message of the log with this number."""
    return next(iter(select(connection, _AT_SEQ, (room_id, seq))), None)


def with_id(connection: Connection, room_id: int, message_id: bytes) -> list[MessageRow]:
    """All messages of this id; there are two if somebody else took an id of ours."""
    return select(connection, _WITH_ID, (room_id, message_id))


def own(connection: Connection, room_id: int, message_id: bytes) -> MessageRow | None:
    """The message of this id that was sent from this file."""
    return next(iter(select(connection, _OWN, (room_id, message_id))), None)


def awaited(connection: Connection, room_id: int, limit: int) -> list[bytes]:
    """Ids of the newest messages of the log whose verdict is not known here."""
    return [message_id for (message_id,) in connection.execute(_AWAITED, (room_id, limit))]


def seqs_here(connection: Connection, room_id: int, low: int, high: int) -> list[int]:
    """The numbers from ``low`` to ``high`` whose messages are here."""
    return [seq for (seq,) in connection.execute(_SEQS, (room_id, low, high))]


def update(connection: Connection, row: int, **columns: object) -> MessageRow:
    """Set columns of a message; returns it as it is then."""
    names = ", ".join(f"{name} = ?" for name in columns)
    statement = f"UPDATE messages SET {names} WHERE id = ? RETURNING {_COLUMNS}"  # noqa: S608
    (updated,) = connection.execute(statement, (*columns.values(), row)).fetchall()
    return _row(updated)


def waiting(connection: Connection, room_id: int) -> list[Waiting]:
    """What is queued and not bound, in the order of sending."""
    return [
        Waiting(message_id, position, expires_at, bool(offered))
        for message_id, position, expires_at, offered in connection.execute(_WAITING, (room_id,))
    ]


def slots(connection: Connection, room_id: int, *, first: int = 0) -> list[Bound]:
    """What is bound and undecided, from slot ``first`` on."""
    return [_bound(row) for row in connection.execute(_SLOTS, (room_id, first))]


def _bound(row: sqlite3.Row | tuple[Any, ...]) -> Bound:
    slot, message_id, body, meta, sent_at, expires_at, refusals, giving_up, state, verdict = row
    return Bound(
        lane_seq=slot,
        id=message_id,
        body=body,
        meta=meta,
        sent_at=sent_at,
        expires_at=expires_at,
        refusals=refusals,
        giving_up=None if giving_up is None else MessageState(giving_up),
        logged=state != MessageState.SENDING,
        confirm=verdict != Verdict.NOT_ASKED,
    )
