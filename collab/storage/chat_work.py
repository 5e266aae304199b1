"""What the changes of a room's chat have in common: one transaction, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field

from collab.protocol import chat_changes as cc
from collab.protocol.gaps import Gaps, lose
from collab.protocol.members import MemberRow
from collab.protocol.message_state import MessageState, advance
from collab.protocol.messages import Receipt
from collab.storage.chat_rows import ChatRow, gaps, set_chat, set_gaps, unread
from collab.storage.database import Connection
from collab.storage.message_rows import MessageRow, seqs_here, update

__all__ = ["ChatWork", "Stored"]


@dataclass(slots=True)
class Stored:
    """What a change came to.

    ``gaps``, ``unread``, ``receipts`` and ``members`` are None if they are as before.
    ``slots`` and ``waiting``: what of ours is bound, or queued, by this change. ``logged``: ids of
    what was sent from here and is found in the log. ``merged``: rows that are no more, and which
    row has their message. ``lost``: what is lost since this change. ``awaited``: ids of messages
    about whose verdict the relay is to be asked; ``decided``: those that got one. ``reoffered``,
    ``replaced``: how many messages.
    """

    added: list[MessageRow] = field(default_factory=list)
    changed: list[MessageRow] = field(default_factory=list)
    slots: list[cc.Bound] = field(default_factory=list)
    waiting: list[cc.Waiting] = field(default_factory=list)
    logged: list[bytes] = field(default_factory=list)
    merged: dict[int, MessageRow] = field(default_factory=dict)
    gaps: Gaps | None = None
    lost: Gaps = ()
    unread: int | None = None
    receipts: list[Receipt] | None = None
    members: list[MemberRow] | None = None
    awaited: list[bytes] = field(default_factory=list)
    decided: list[MessageRow] = field(default_factory=list)
    reoffered: int = 0
    replaced: int = 0


class ChatWork:
    """One change of one room in one transaction, and in ``stored`` what it came to."""

    def __init__(self, connection: Connection, room_id: int, row: ChatRow, stored: Stored) -> None:
        self.connection = connection
        self.room_id = room_id
        self.chat = row
        self.stored = stored

    def _change(self, row: MessageRow, state: MessageState, **columns: object) -> None:
        self.stored.changed.append(
            update(self.connection, row.row, state=advance(row.state, state), **columns)
        )

    # Mark, gaps, unread

    def _set_mark(self, generation: bytes, seq: int) -> None:
        set_chat(self.connection, self.room_id, generation=generation, seq=seq)

    def _gaps(self) -> Gaps:
        if self.stored.gaps is not None:
            return self.stored.gaps
        return gaps(self.connection, self.room_id)

    def _set_gaps(self, new: Gaps) -> None:
        if new != self._gaps():
            self.stored.gaps = new
            set_gaps(self.connection, self.room_id, new)

    def _lose(self, oldest: int) -> None:
        missing = [gap for gap in self._gaps() if not gap.lost and gap.low < oldest]
        if missing:
            here = seqs_here(self.connection, self.room_id, missing[0].low, oldest - 1)
            left, self.stored.lost = lose(self._gaps(), oldest, here=here)
            self._set_gaps(left)

    def _count(self) -> None:
        self.stored.unread = unread(self.connection, self.room_id)
