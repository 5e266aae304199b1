"""Changes of what is known of the room's log at the relay: its messages, and who has read them."""

from __future__ import annotations

from typing import Final

from collab import limits
from collab.protocol import chat_changes as cc
from collab.protocol.gaps import add, remove
from collab.protocol.message_state import MessageState
from collab.protocol.messages import Verdict
from collab.storage.chat_rows import (
    cut_receipts,
    farthest,
    members,
    merge_receipts,
    receipts,
    set_chat,
    set_members,
)
from collab.storage.log_messages import LogMessages
from collab.storage.message_rows import (
    SENT_HERE,
    TAIL,
    awaited,
    by_row,
    select,
    seqs_here,
    update,
    waiting,
    with_id,
)

__all__ = ["LogChanges"]

_NOT_READ: Final = (
    "WHERE room_id = ? AND mine AND state IN ('accepted', 'delivered') AND seq <= ?"
    " AND NOT replaced"
)
_NOT_DELIVERED: Final = (
    "WHERE room_id = ? AND mine AND state = 'accepted' AND seq <= ? AND NOT replaced"
)


class LogChanges(LogMessages):
    """One change of a room's log, as far as it is here."""

    def receive(self, change: cc.Receive) -> None:
        for message in change.messages:
            self._take(message)
        self._set_mark(change.generation, change.upto)
        self._count()

    def fill(self, change: cc.Fill) -> None:
        for message in change.messages:
            self._take(message)
            if message.verdict == Verdict.AWAITED:
                self.stored.awaited.append(message.id)  # a page may be older than what we were told
        self._set_gaps(remove(self._gaps(), change.low, change.high))
        self._lose(change.oldest)
        self._count()

    # Where the log stands

    def place(self, change: cc.Place) -> None:
        if change.after > self.chat.seq:
            # What is here above the mark is ours, by outcomes alone: they do not say what the log
            # has of it, and may be of a history that is gone. It is asked for all the same.
            self._set_gaps(add(self._gaps(), self.chat.seq + 1, change.after))
            self._set_mark(change.generation, change.after)
        self._offer_beyond(change.head)
        gone = self._leave_beyond(change.head)
        self.stored.replaced = len(gone)
        self.stored.changed += by_row(self.connection, gone)
        if cut_receipts(self.connection, self.room_id, change.head):
            self.stored.receipts = receipts(self.connection, self.room_id)
        self._lose(change.oldest)
        read_upto = min(max(self.chat.read_upto, change.read_upto), change.head)
        self._set_relay(change, read_upto)
        self._ask_for_verdicts()

    def replace(self, change: cc.Replace) -> None:
        place = change.place
        gone = self._leave_beyond(place.head)
        replaced = gone - self._reoffer(change.since)
        self.stored.replaced = len(replaced)
        self.stored.changed += by_row(self.connection, replaced)
        self.connection.execute("DELETE FROM receipts WHERE room_id = ?", (self.room_id,))
        self.stored.receipts = []
        # What is here of the range is shown, and asked for all the same: it may be another now.
        missing = add((), place.oldest, place.after)
        older = seqs_here(self.connection, self.room_id, 1, place.oldest - 1)
        self._set_gaps(add(missing, 1, place.oldest - 1, here=older, lost=True))
        self._doubt_verdicts(place.oldest)
        self._set_mark(place.generation, place.after)
        self._set_relay(place, place.read_upto)
        self._ask_for_verdicts()
        self.stored.waiting = waiting(self.connection, self.room_id)

    def _set_relay(self, place: cc.Place, read_upto: int) -> None:
        if not self.chat.user:
            self._know_own(place.user)
        set_chat(
            self.connection, self.room_id, user=place.user, read_upto=read_upto,
            relay_read=place.read_upto, relay_head=place.head, relay_unread=place.unread,
        )  # fmt: skip
        self._count()

    def _know_own(self, user: str) -> None:
        """What came of this user while nobody knew who it is."""
        unknown = "WHERE room_id = ? AND NOT mine AND sender = ?"
        for row in select(self.connection, unknown, (self.room_id, user)):
            self.stored.changed.append(update(self.connection, row.row, mine=1))

    def _reoffer(self, since: int) -> set[int]:
        """Queue again what the relay had accepted of ours since then; their row ids."""
        accepted = select(
            self.connection,
            f"{SENT_HERE} state IN ('accepted', 'delivered', 'read') AND written_ms >= ?",
            (self.room_id, since),
        )
        for row in accepted:
            self._offer_again(row)
        return {row.row for row in accepted}

    def _offer_beyond(self, head: int) -> None:
        """What was accepted of ours and is beyond the log's end is offered again."""
        beyond = select(
            self.connection,
            f"{SENT_HERE} state IN ('accepted', 'delivered', 'read') AND seq > ? AND NOT replaced",
            (self.room_id, head),
        )
        for row in beyond:
            self._offer_again(row)

    def _leave_beyond(self, head: int) -> set[int]:
        """Keep, and mark, what is beyond the log's end; its row ids."""
        beyond = "WHERE room_id = ? AND place > ? AND place < ? AND tie = 0"
        gone = select(self.connection, beyond, (self.room_id, head, TAIL))
        for row in gone:
            update(self.connection, row.row, replaced=1, tie=-row.row)
        return {row.row for row in gone}

    # Receipts and members

    def take_receipts(self, change: cc.TakeReceipts) -> None:
        merge_receipts(self.connection, self.room_id, change.receipts)
        self.stored.receipts = receipts(self.connection, self.room_id)
        delivered, read = farthest(self.connection, self.room_id)
        self._advance_through(MessageState.READ, _NOT_READ, read)
        self._advance_through(MessageState.DELIVERED, _NOT_DELIVERED, delivered)
        if change.read_upto > self.chat.read_upto:
            set_chat(self.connection, self.room_id, read_upto=change.read_upto)
            self._count()

    def _advance_through(self, state: MessageState, those: str, upto: int) -> None:
        for row in select(self.connection, those, (self.room_id, upto)):
            self._change(row, state)

    def take_members(self, change: cc.TakeMembers) -> None:
        before = members(self.connection, self.room_id)
        set_members(self.connection, self.room_id, change.rows, whole=change.whole)
        now = members(self.connection, self.room_id)
        self.stored.members = now if now != before else None

    # Verdicts

    def take_verdicts(self, change: cc.TakeVerdicts) -> None:
        for given in change.verdicts:
            for row in with_id(self.connection, self.room_id, given.message_id):
                if row.is_in_log and row.verdict == Verdict.AWAITED:
                    columns = {"verdict": given.verdict, "verdict_reason": given.reason}
                    self._was_decided(update(self.connection, row.row, **columns))

    def _doubt_verdicts(self, oldest: int) -> None:
        """In another history a verdict may not have fallen, or be another one: ask anew."""
        doubted = select(
            self.connection,
            "WHERE room_id = ? AND verdict IN (2, 3) AND place >= ? AND place < ? AND tie = 0",
            (self.room_id, oldest, TAIL),
        )
        for row in doubted:
            columns = {"verdict": Verdict.AWAITED, "verdict_reason": ""}
            self.stored.changed.append(update(self.connection, row.row, **columns))

    def _ask_for_verdicts(self) -> None:
        self.stored.awaited += awaited(self.connection, self.room_id, limits.MAX_INQUIRED)
