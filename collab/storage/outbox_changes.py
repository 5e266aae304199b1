"""Changes of what is sent from here: slots, outcomes, expiry, and for whom the device speaks."""

from __future__ import annotations

from dataclasses import replace

from collab.protocol import chat_changes as cc
from collab.protocol.message_state import MessageState
from collab.protocol.messages import Verdict
from collab.storage.chat_rows import set_chat
from collab.storage.log_messages import IN_LOG, LogMessages
from collab.storage.message_rows import SENT_HERE, TAIL, own, select, slots, update, waiting

__all__ = ["OutboxChanges"]


class OutboxChanges(LogMessages):
    """One change of a room's outbox. The log may be faster than any of them."""

    def bind(self, change: cc.Bind) -> None:
        for number, message_id in enumerate(change.ids, change.first_slot):
            row = own(self.connection, self.room_id, message_id)
            assert row is not None
            if row.state in IN_LOG:  # the log was faster; the slot is used all the same
                update(self.connection, row.row, slot=number)
            else:
                columns = {"slot": number, "offered": 1, "sender": self.chat.user}
                self._change(row, MessageState.SENDING, **columns)
        set_chat(self.connection, self.room_id, bound=change.first_slot + len(change.ids) - 1)
        self.stored.slots = slots(self.connection, self.room_id, first=change.first_slot)

    def decide(self, change: cc.Decide) -> None:
        row = own(self.connection, self.room_id, change.id)
        if row is None:
            return
        settled = {"slot": None, "giving_up": None}
        if row.state in IN_LOG:  # the log was faster
            update(self.connection, row.row, **settled)
        elif change.state is MessageState.ACCEPTED:
            self._into_log(row, change.seq, sender=self.chat.user, **settled)
            if row.verdict == Verdict.AWAITED and change.seq <= self.chat.seq:
                self.stored.awaited.append(row.id)  # what was said of it before was not for us
        else:
            place = TAIL if change.state is MessageState.STALLED else row.written_after
            self._change(
                row, change.state, place=place, code=change.code, reason=change.reason, **settled
            )

    def update_own(self, message_id: bytes, **columns: object) -> None:
        row = own(self.connection, self.room_id, message_id)
        if row is not None and row.slot is not None:
            update(self.connection, row.row, **columns)

    def expire(self, change: cc.Expire) -> None:
        for message_id in change.ids:
            row = own(self.connection, self.room_id, message_id)
            if row is not None and row.state is MessageState.QUEUED:  # the log may be faster
                self._change(row, MessageState.EXPIRED, place=row.written_after)

    def new_lane(self, lane_epoch: bytes) -> None:
        set_chat(self.connection, self.room_id, lane_epoch=lane_epoch, bound=0)
        settled = {"slot": None, "giving_up": None}
        for slot in slots(self.connection, self.room_id):
            row = own(self.connection, self.room_id, slot.id)
            assert row is not None
            if row.state in IN_LOG:
                update(self.connection, row.row, **settled)
            elif slot.giving_up is MessageState.CANCELLED:
                # Whether the relay took it nobody can say; the log will. It is not sent again.
                self._change(row, MessageState.CANCELLED, place=row.written_after, **settled)
            else:
                self._change(row, MessageState.QUEUED, refusals=0, **settled)
        self.stored.waiting = waiting(self.connection, self.room_id)

    def new_user(self, change: cc.NewUser) -> None:
        """``chats.user`` is "" after the device took another id: then it is the same person."""
        self.new_lane(change.lane_epoch)
        before, self.chat = self.chat.user, replace(self.chat, user=change.user)
        set_chat(self.connection, self.room_id, user=change.user)
        if before not in ("", change.user):
            others = select(
                self.connection,
                f"{SENT_HERE} state = 'queued' AND sender NOT IN ('', ?)",
                (self.room_id, change.user),
            )
            for row in others:
                self._stall_for_another(row)
            self._see_as_another()
        self.stored.waiting = waiting(self.connection, self.room_id)

    def _see_as_another(self) -> None:
        """What is whose, and what was read, is another matter for another user."""
        user = self.chat.user
        self.connection.execute("DELETE FROM receipts WHERE room_id = ?", (self.room_id,))
        self.stored.receipts = []
        set_chat(self.connection, self.room_id, read_upto=0, relay_read=0, relay_unread=0)
        seen_wrong = select(
            self.connection,
            "WHERE room_id = ? AND state IN ('accepted', 'delivered', 'read')"
            " AND (mine <> (sender = ?) OR state <> 'accepted')",
            (self.room_id, user),
        )
        for row in seen_wrong:
            mine = row.sender == user
            self.stored.changed.append(
                update(self.connection, row.row, mine=mine, state=MessageState.ACCEPTED)
            )
        self._count()
