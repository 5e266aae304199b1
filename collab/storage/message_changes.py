"""Carries out what a room's chat machine decided, as part of one transaction.

Invariants
1. A message changes its state only along a legal edge (``protocol/message_state``).
2. A room that was forgotten gets nothing.
"""

from __future__ import annotations

from collab.protocol import chat_changes as cc
from collab.storage.chat_rows import chat
from collab.storage.chat_work import Stored
from collab.storage.database import Connection
from collab.storage.log_changes import LogChanges
from collab.storage.outbox_changes import OutboxChanges

__all__ = ["carry_out"]


def carry_out(connection: Connection, room_id: int, change: cc.Change) -> Stored:
    """Store ``change`` of a room."""
    row = chat(connection, room_id)
    if row is None:
        return Stored()
    stored = Stored()
    outbox = OutboxChanges(connection, room_id, row, stored)
    log = LogChanges(connection, room_id, row, stored)
    match change:
        case cc.Bind():
            outbox.bind(change)
        case cc.Decide():
            outbox.decide(change)
        case cc.CountRefusal():
            outbox.update_own(change.id, refusals=change.refusals)
        case cc.GiveUp():
            outbox.update_own(change.id, giving_up=change.state)
        case cc.Expire():
            outbox.expire(change)
        case cc.NewLane():
            outbox.new_lane(change.lane_epoch)
        case cc.NewUser():
            outbox.new_user(change)
        case cc.Place():
            log.place(change)
        case cc.Replace():
            log.replace(change)
        case cc.Receive():
            log.receive(change)
        case cc.Fill():
            log.fill(change)
        case cc.TakeReceipts():
            log.take_receipts(change)
        case cc.TakeMembers():
            log.take_members(change)
        case cc.TakeVerdicts():
            log.take_verdicts(change)
        case cc.Answered():
            pass
    return stored
