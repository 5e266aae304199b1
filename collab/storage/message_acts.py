"""What a program does to messages, as part of one transaction. What raises has stored nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from collab import limits
from collab.errors import Closed, IdConflict, OutboxFull, WrongState
from collab.protocol.chat_changes import Waiting
from collab.protocol.device_clock import Anchor, Reading
from collab.protocol.message_state import MessageState, advance
from collab.protocol.messages import Verdict
from collab.storage.chat_rows import ChatRow, chat, set_chat, unread
from collab.storage.database import Connection
from collab.storage.message_rows import TAIL, MessageRow, by_row, update, with_id

__all__ = ["Draft", "OutboxCaps", "cancel", "clock", "edit", "move_clock", "read", "retry", "write"]

_ADD: Final = """
    INSERT INTO messages (
        room_id, message_id, place, tie, state, mine, sender, body, meta, sent_at, position, size,
        written_after, written_ms, ttl_ms, expires_ms, verdict
    ) VALUES (?, ?, ?, ?, 'queued', 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_OUTBOX: Final = "SELECT messages, bytes FROM outbox"
_NEWEST: Final = """
    SELECT max(seq, coalesce((SELECT max(place) FROM messages
                              WHERE room_id = :room AND place < :tail AND tie = 0), 0))
    FROM chats WHERE room_id = :room
"""
_CLOCK: Final = "SELECT running_ms, boot, up_ms, wall_ms, by_process FROM device_clock"
_MOVE_CLOCK: Final = """
    UPDATE device_clock SET running_ms = ?, boot = ?, up_ms = ?, wall_ms = ?, by_process = ?
"""
_START_CLOCK: Final = """
    INSERT INTO device_clock (one, running_ms, boot, up_ms, wall_ms, by_process)
    VALUES (1, ?, ?, ?, ?, ?)
"""


@dataclass(frozen=True, slots=True)
class OutboxCaps:
    """What may wait to be sent from one device file, in all rooms together."""

    messages: int = limits.MAX_OUTBOX_MESSAGES
    bytes: int = limits.MAX_OUTBOX_BYTES


@dataclass(frozen=True, slots=True)
class Draft:
    """A message as a program gives it. ``ttl_ms`` None: it waits for ever.

    ``confirm``: it asks for a verdict of the application at the relay.
    """

    id: bytes
    body: str
    meta: bytes
    sent_at: int
    ttl_ms: int | None
    confirm: bool = False

    @property
    def size(self) -> int:
        """Bytes that count against the outbox."""
        return len(self.body.encode()) + len(self.meta)


def write(
    connection: Connection, room_id: int, draft: Draft, now: Anchor, caps: OutboxCaps
) -> tuple[MessageRow, Waiting | None]:
    """Queue a message; None if it is here already.

    Raises :class:`IdConflict` if another one has its id, and :class:`OutboxFull`.
    """
    for row in with_id(connection, room_id, draft.id):
        asked = row.verdict != Verdict.NOT_ASKED
        same = row.was_sent_as(draft.body, draft.meta) and asked == draft.confirm
        if row.mine and same:
            return row, None
        raise IdConflict(
            f"Another message of this room has the id {draft.id.hex()}: its body, its meta, its "
            f"author, or whether it asks to be confirmed, is not the same. Nothing was stored. Use "
            f"the id of a message only to send the very same one again."
        )
    _check_room(connection, draft, caps)
    known = _chat(connection, room_id)
    position = known.positions + 1
    set_chat(connection, room_id, positions=position)
    expires_at = None if draft.ttl_ms is None else now.running_ms + draft.ttl_ms
    cursor = connection.execute(
        _ADD,
        (
            room_id, draft.id, TAIL, position, known.user, draft.body, draft.meta, draft.sent_at,
            position, draft.size, known.seq, now.running_ms, draft.ttl_ms, expires_at,
            Verdict.AWAITED if draft.confirm else Verdict.NOT_ASKED,
        ),
    )  # fmt: skip
    _set_clock(connection, now)
    assert cursor.lastrowid is not None
    (row,) = by_row(connection, [cursor.lastrowid])
    return row, Waiting(draft.id, position, expires_at, offered=False)


def edit(connection: Connection, row_id: int, body: str, caps: OutboxCaps) -> MessageRow:
    """Give a message that was never bound another body."""
    (row,) = by_row(connection, [row_id])
    if row.state is not MessageState.QUEUED or row.offered:
        raise WrongState(
            f"This message is {row.state} and the relay may have it, so its body cannot be changed "
            f"any more. It was left as it is. Send another message that corrects it."
        )
    size = len(body.encode()) + len(row.meta)
    _check_room(connection, Draft(row.id, body, row.meta, row.sent_at, None), caps, instead_of=row)
    return update(connection, row_id, body=body, size=size)


def cancel(connection: Connection, row_id: int) -> MessageRow:
    """Give up a message: at once if it waits here, with its slot if it may be at the relay."""
    (row,) = by_row(connection, [row_id])
    if row.state is MessageState.SENDING:
        return update(connection, row_id, giving_up=MessageState.CANCELLED)
    if row.state not in (MessageState.QUEUED, MessageState.STALLED):
        raise WrongState(
            f"This message is {row.state}, so it cannot be cancelled. It was left as it is."
        )
    state = advance(row.state, MessageState.CANCELLED)
    return update(connection, row_id, state=state, place=row.written_after)


def retry(
    connection: Connection, room_id: int, row_id: int, now: Anchor
) -> tuple[MessageRow, Waiting]:
    """Queue a stalled message again, behind all others; its time to live begins anew.

    It is the present user's then, whoever wrote it.
    """
    (row,) = by_row(connection, [row_id])
    if row.state is not MessageState.STALLED:
        raise WrongState(
            f"This message is {row.state}; only one that stalled can be tried again. It was left "
            f"as it is."
        )
    known = _chat(connection, room_id)
    position = known.positions + 1
    set_chat(connection, room_id, positions=position)
    expires_at = None if row.ttl_ms is None else now.running_ms + row.ttl_ms
    _set_clock(connection, now)
    queued = update(
        connection, row_id, state=advance(row.state, MessageState.QUEUED), place=TAIL, tie=position,
        position=position, refusals=0, expires_ms=expires_at, code="", reason="",
        sender=known.user,
    )  # fmt: skip
    return queued, Waiting(row.id, position, expires_at, row.offered)


def read(connection: Connection, room_id: int, upto: int | None) -> tuple[int, int]:
    """The user has read up to this seq, or all that is known. Returns that, and what is unread."""
    known = _chat(connection, room_id)
    (newest,) = connection.execute(_NEWEST, {"room": room_id, "tail": TAIL}).fetchone()
    read_upto = max(known.read_upto, newest if upto is None else min(upto, newest))
    if read_upto > known.read_upto:
        set_chat(connection, room_id, read_upto=read_upto)
    return read_upto, unread(connection, room_id)


def clock(connection: Connection) -> Anchor | None:
    """The stored anchor of the device's running time."""
    values = connection.execute(_CLOCK).fetchone()
    if values is None:
        return None
    running_ms, boot, up_ms, wall_ms, by_process = values
    return Anchor(running_ms, Reading(boot, up_ms, wall_ms, bool(by_process)))


def _set_clock(connection: Connection, anchor: Anchor) -> None:
    """Store the anchor: with every message whose time it measures."""
    if not move_clock(connection, anchor):
        connection.execute(_START_CLOCK, _columns(anchor))


def move_clock(connection: Connection, anchor: Anchor) -> bool:
    """Store the anchor if there is one already; nothing was ever measured else."""
    return connection.execute(_MOVE_CLOCK, _columns(anchor)).rowcount > 0


def _columns(anchor: Anchor) -> tuple[object, ...]:
    reading = anchor.reading
    assert reading is not None
    return (
        anchor.running_ms, reading.boot, reading.up_ms, reading.wall_ms, reading.by_process
    )  # fmt: skip


def _chat(connection: Connection, room_id: int) -> ChatRow:
    row = chat(connection, room_id)
    if row is None:
        raise Closed("This room was forgotten on this device; nothing was stored.")
    return row


def _check_room(
    connection: Connection, draft: Draft, caps: OutboxCaps, instead_of: MessageRow | None = None
) -> None:
    count, size = connection.execute(_OUTBOX).fetchone()
    if instead_of is not None:
        count -= 1
        size -= len(instead_of.body.encode()) + len(instead_of.meta)
    if count + 1 > caps.messages or size + draft.size > caps.bytes:
        raise OutboxFull(
            f"{count} messages with {size} bytes wait on this device to be sent; at most "
            f"{caps.messages} with {caps.bytes} bytes may. This one was not stored; those that "
            f"wait stay queued. Connect to the relay, or cancel some."
        )
