"""Chats broken on purpose: each mutant is a relay or a device that breaks one promise."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from collab.protocol import chat_changes as cc
from collab.protocol import frames
from collab.protocol.chat_changes import Bound, Change, NewLane
from collab.protocol.log_reader import LogReader
from collab.protocol.messages import LoggedMessage, OutcomeCode, Receipt, SlotOutcome
from collab.protocol.outbox import Outbox
from collab.storage import log_changes, message_acts
from collab.storage.chat_work import Stored
from collab.storage.log_changes import LogChanges
from collab.storage.log_messages import LogMessages
from collab.storage.message_changes import carry_out
from collab.storage.message_rows import MessageRow, update
from collab.storage.messages import StoredChat
from collab.storage.outbox_changes import OutboxChanges
from collab_server.log import message_reads, messages
from collab_server.log.chat import ChatBatch
from collab_server.log.messages import Judged
from tests.simulation import device_chat as device_chat_module
from tests.simulation.ledger import SimulatedLedger
from tests.simulation.mutation import Function, mutant
from tests.simulation.relay_chats import RelayChatLog

# The relay


@mutant("the relay keeps no lane", messages, "_save_lane", chats=True)
def _no_lanes(_: Function) -> Function:
    return lambda *_: None


@mutant("the relay takes an id again that its log has", messages, "_insert", chats=True)
def _no_guard(_: Function) -> Function:
    def insert(
        connection: sqlite3.Connection, room_id: int, message: LoggedMessage, *_: object
    ) -> bool:
        connection.execute("DROP INDEX IF EXISTS messages_by_id")
        connection.execute(
            "INSERT INTO messages (room_id, seq, id, sender, body, meta, sent_at, accepted_at,"
            " kind, verdict, generation)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, (SELECT max(number) FROM generations))",
            (
                room_id, message.seq, message.id, message.sender, message.body, message.meta,
                message.sent_at, message.accepted_at,
            ),
        )  # fmt: skip
        return True

    return insert


@mutant("the relay commits a lane without its message", ChatBatch, "write", chats=True)
def _lanes_alone(original: Function) -> Function:
    def write(self: ChatBatch, connection: sqlite3.Connection) -> Judged:
        judged: Judged = original(self, connection)
        for room_id, (_, added) in judged.rooms.items():
            for message in added:
                connection.execute(
                    "DELETE FROM messages WHERE room_id = ? AND seq = ?", (room_id, message.seq)
                )
        return judged

    return write


@mutant("the relay tells outcomes before their commit", RelayChatLog, "take", chats=True)
def _told_early(original: Function) -> Function:
    def take(self: RelayChatLog) -> ChatBatch:
        batch: ChatBatch = original(self)
        connection = self._disk.state.chat
        connection.execute("BEGIN")
        judged = batch.write(connection)
        connection.execute("ROLLBACK")
        self.announce(batch, judged)
        return replace(
            batch,
            submissions=[replace(one, decided=lambda _: None) for one in batch.submissions],
        )

    return take


@mutant("the relay takes a seq of any generation for good", message_reads, "is_good", chats=True)
def _any_generation(_: Function) -> Function:
    return lambda connection, room_id, generation, seq, head: seq <= head


# The device's outbox


@mutant("the device binds a slot again after a restart", device_chat_module, "load", chats=True)
def _slot_rebound(original: Function) -> Function:
    def load(connection: sqlite3.Connection, room_id: int) -> StoredChat:
        stored: StoredChat = original(connection, room_id)
        return replace(stored, bound=max((slot.lane_seq for slot in stored.slots), default=0))

    return load


@mutant("the device takes the watermark for an outcome", Outbox, "entered", chats=True)
def _watermark(original: Function) -> Function:
    def entered(
        self: Outbox, last: int, outcomes: Sequence[SlotOutcome], fresh_epoch: bytes
    ) -> list[Change]:
        seqs = {outcome.lane_seq: outcome.seq or 1 for outcome in outcomes}
        taken = [
            SlotOutcome(number, slot.id, OutcomeCode.ACCEPTED, seqs.get(number, 1))
            for number, slot in self._slots.items()
            if number <= last
        ]
        changes: list[Change] = original(self, last, taken, fresh_epoch)
        return changes

    return entered


@mutant("the device lets a message expire that is in flight", Outbox, "expire", chats=True)
def _expires_in_flight(original: Function) -> Function:
    def expire(self: Outbox, now: int) -> list[Change]:
        changes: list[Change] = original(self, now)
        over = [
            slot for slot in self._slots.values()
            if slot.expires_at is not None and slot.expires_at <= now and slot.giving_up is None
        ]  # fmt: skip
        return [*changes, *(self._decide(slot, OutcomeCode.EXPIRED, 0, "") for slot in over)]

    return expire


@mutant("the device binds the newest message first", Outbox, "bind", chats=True)
def _newest_first(original: Function) -> Function:
    def bind(self: Outbox) -> list[Change]:
        self._waiting = dict(reversed(self._waiting.items()))
        changes: list[Change] = original(self)
        self._waiting = dict(reversed(self._waiting.items()))
        return changes

    return bind


@mutant("the device goes on in its lane although slots are unknown", Outbox, "_renew", chats=True)
def _keeps_its_lane(original: Function) -> Function:
    def renew(self: Outbox, fresh_epoch: bytes, *, rolled_back: bool) -> NewLane:
        epoch = self.lane_epoch
        change: NewLane = original(self, fresh_epoch, rolled_back=rolled_back)
        self.lane_epoch = epoch
        return replace(change, lane_epoch=epoch)

    return renew


@mutant("the device keeps an edit in memory alone", message_acts, "edit", chats=True)
def _unstored_edit(original: Function) -> Function:
    def edit(connection: sqlite3.Connection, row_id: int, body: str, *rest: Any) -> MessageRow:
        connection.execute("SAVEPOINT unstored")
        edited: MessageRow = original(connection, row_id, body, *rest)
        connection.execute("ROLLBACK TO unstored")
        return edited

    return edit


# The device's place in the log


@mutant("the device's mark goes to the highest seq it hears", OutboxChanges, "decide", chats=True)
def _highest_seq(original: Function) -> Function:
    def decide(self: Any, change: cc.Decide) -> None:
        original(self, change)
        if change.seq > self.chat.seq:
            self._set_mark(self.chat.generation, change.seq)

    return decide


@mutant("the device forgets the gap that it is told of", log_changes, "add", chats=True)
def _gap_forgotten(original: Function) -> Function:
    def add(gaps: Any, low: int, high: int, **rest: Any) -> Any:
        return original(gaps, low, high, **rest) if rest.get("lost") else gaps

    return add


@mutant("the device goes on in another history as in its own", LogReader, "entered", chats=True)
def _history_ignored(original: Function) -> Function:
    def entered(self: LogReader, frame: frames.Entered, re_offer_since: int) -> Any:
        return original(self, replace(frame, good=True), re_offer_since)

    return entered


@mutant("the device offers nothing again in another history", LogChanges, "_reoffer", chats=True)
def _offers_nothing(_: Function) -> Function:
    return lambda self, since: set()


@mutant("the device leaves out what lost its number", LogMessages, "_offer_again", chats=True)
def _stays_out(_: Function) -> Function:
    def stay_out(self: LogMessages, row: MessageRow) -> None:
        update(self.connection, row.row, replaced=1, tie=-row.row)

    return stay_out


# What is shown


@mutant("the device shows a message before it is stored", SimulatedLedger, "put", chats=True)
def _shown_early(original: Function) -> Function:
    def put(self: SimulatedLedger, changes: Sequence[Change]) -> None:
        original(self, changes)
        connection = self._disk.state.chat
        for change in changes:
            if isinstance(change, cc.Receive) and not self.closed:
                connection.execute("BEGIN")
                stored: Stored = carry_out(connection, self._room_id, change)
                connection.execute("ROLLBACK")
                self._on_stored(change, stored)

    return put


@mutant("the device lets receipts fall", log_changes, "merge_receipts", chats=True)
def _receipts_fall(_: Function) -> Function:
    def merge(connection: sqlite3.Connection, room_id: int, news: Iterable[Receipt]) -> None:
        for one in news:
            connection.execute(
                "REPLACE INTO receipts (room_id, user, delivered_upto, read_upto)"
                " VALUES (?, ?, ?, ?)",
                (room_id, one.user, one.delivered_upto, one.read_upto),
            )

    return merge


@mutant("the device binds what it sends after it was sent", Outbox, "bind", chats=True)
def _bound_late(original: Function) -> Function:
    def bind(self: Outbox) -> list[Change]:
        waiting = dict(self._waiting)
        changes: list[Change] = original(self)
        for change in changes:
            assert isinstance(change, cc.Bind)
            for number, message_id in enumerate(change.ids, change.first_slot):
                expires_at = waiting[message_id].expires_at
                self._slots[number] = Bound(
                    number, message_id, "", b"", 0, expires_at, 0, None, False
                )
        return changes

    return bind
