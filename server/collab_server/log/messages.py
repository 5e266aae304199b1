"""What the log's transactions do with messages, lanes and marks.

Plain functions over an SQLite connection, run whole by the writer thread (and by the simulation, on
a file in memory). Rules in ``chat_port``.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from collab import limits
from collab.errors import BadFrame
from collab.protocol.members import MemberRow
from collab.protocol.messages import (
    Kind,
    LoggedMessage,
    OutcomeCode,
    SlotOutcome,
    Verdict,
    pack_outcomes,
    unpack_outcomes,
)
from collab.protocol.verdicts import GivenVerdict
from collab_server.lanes import DUE, NEW_LANE, Lane, LaneKey, judge, record
from collab_server.log import member_changes, schema, verdicts
from collab_server.log.chat_port import (
    NO_SUCH_ROOM,
    ChangeDecision,
    Decision,
    MemberChange,
    Offered,
    Submission,
    VerdictToGive,
)

__all__ = ["RETAINED_AT_ONCE", "Judged", "Marks", "judge_all", "load_lane", "retain", "save_marks"]

RETAINED_AT_ONCE: Final = 5_000  # rows that one transaction of retention deletes: some 20 ms

_Known = tuple[int, str, str, bytes, bytes | None, int]
"""seq, sender, body, meta, digest of what was sent, verdict"""

Marks = Mapping[tuple[int, str], tuple[int, int]]
"""(room id, user) to (delivered_upto, read_upto)."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of submissions, in their order, and what it added to each room's log.

    So of changes of members. ``members`` and ``verdicts`` are what stands now, by room; ``awaited``
    the lowest and highest seq of what asks for a verdict.
    """

    decisions: Sequence[Decision]
    rooms: Mapping[int, tuple[int, Sequence[LoggedMessage]]]  # id: head, messages up to it
    changes: Sequence[ChangeDecision] = ()
    members: Mapping[int, Sequence[MemberRow]] = field(default_factory=dict)
    verdicts: Mapping[int, Sequence[tuple[int, GivenVerdict]]] = field(default_factory=dict)
    awaited: Mapping[int, tuple[int, int]] = field(default_factory=dict)


def judge_all(
    connection: sqlite3.Connection,
    submissions: Sequence[Submission],
    now_s: float,
    changes: Sequence[MemberChange] = (),
    given: Sequence[VerdictToGive] = (),
) -> Judged:
    """Judge ``submissions`` in their order, then changes of members, and write what comes of it.

    ``now_s`` is on the clock of their ``expires_at_s``. Of submissions that were judged before by a
    transaction whose end nobody saw the same comes out, and nothing is written again.
    """
    if not (submissions or changes or given):
        return Judged((), {})
    arbiter = _Arbiter(connection, now_s)
    decisions = [arbiter.decide(submission) for submission in submissions]
    changed = [arbiter.change(change) for change in changes]
    rooms = arbiter.finish()
    return Judged(
        decisions,
        rooms,
        changed,
        member_changes.standing(connection, changes),
        verdicts.give(connection, given),
        arbiter.awaited,
    )


class _Arbiter:
    """Lanes and heads of one transaction: read at first need, written once, at its end."""

    def __init__(self, connection: sqlite3.Connection, now_s: float) -> None:
        self._connection = connection
        self._now_s = now_s
        self._heads: dict[int, int | None] = {}  # None: there is no such room
        self._added: dict[int, list[LoggedMessage]] = {}
        self._lanes: dict[tuple[int, LaneKey], Lane] = {}
        self._used: dict[tuple[int, LaneKey], int] = {}  # those that have moved, and when
        self._begun: set[tuple[int, LaneKey]] = set()  # those that had no row
        self.awaited: dict[int, tuple[int, int]] = {}

    def decide(self, submission: Submission) -> Decision:
        if self._head(submission.room_id) is None:
            return NO_SUCH_ROOM
        if submission.lane is None:
            return self._outcome(submission)
        key = (submission.room_id, submission.lane)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = load_lane(self._connection, *key)
            if lane is NEW_LANE:
                self._begun.add(key)
        decision = judge(lane, submission.slot, submission.message_id)
        if decision is not DUE:
            return decision
        outcome = self._outcome(submission)
        self._lanes[key] = record(lane, outcome)
        self._used[key] = submission.came_at
        return outcome

    def change(self, change: MemberChange) -> ChangeDecision:
        """Give a user another role, and tell of it in the room's log."""
        if self._head(change.room_id) is None:
            return NO_SUCH_ROOM
        decision, told = member_changes.change(connection=self._connection, change=change)
        if told is not None:
            body, meta = told
            offered = Offered(change.by, body, meta, change.came_at)
            added = self._append(
                change.room_id, change.message_id, offered, change.came_at, kind=Kind.SYSTEM
            )
            assert added is not None  # its id is fresh
        return decision

    def finish(self) -> dict[int, tuple[int, Sequence[LoggedMessage]]]:
        for (room_id, key), used_at in self._used.items():
            _save_lane(self._connection, room_id, key, self._lanes[room_id, key], used_at)
        for room_id, sub in {(room_id, key.sub) for room_id, key in self._begun}:
            self._connection.execute(
                schema.FORGET_LANES,
                {"room_id": room_id, "sub": sub, "kept": limits.MAX_LANES_PER_USER},
            )
        heads = {room_id: head for room_id, head in self._heads.items() if head is not None}
        self._connection.executemany(
            schema.MOVE_CHAT_HEAD, [(room_id, heads[room_id]) for room_id in self._added]
        )
        return {room_id: (head, self._added.get(room_id, ())) for room_id, head in heads.items()}

    def _head(self, room_id: int) -> int | None:
        if room_id not in self._heads:
            row = self._connection.execute(schema.CHAT_HEAD, (room_id,)).fetchone()
            self._heads[room_id] = None if row is None else row[0]
        return self._heads[room_id]

    def _outcome(self, submission: Submission) -> SlotOutcome:
        """What a slot becomes whose turn has come.

        What the log has already comes before all else: whoever is told that his message is not in
        it believes that nobody saw it.
        """
        offered = submission.offered
        if offered is None:
            code, seq = self._skip(submission)
        elif offered.refused is None and not self._is_expired(offered):
            code, seq = self._add(submission, offered)
        else:
            code, seq = self._known(submission, offered)
        if seq and offered is not None and offered.confirm:
            low, high = self.awaited.get(submission.room_id, (seq, seq))
            self.awaited[submission.room_id] = (min(low, seq), max(high, seq))
        return SlotOutcome(submission.slot, submission.message_id, code, seq)

    def _skip(self, submission: Submission) -> tuple[str, int]:
        stored = self._stored(submission)
        if stored is not None and submission.lane is not None and stored[1] == submission.lane.sub:
            return OutcomeCode.ACCEPTED, stored[0]
        return OutcomeCode.SKIPPED, 0

    def _add(self, submission: Submission, offered: Offered) -> tuple[str, int]:
        lane = None if submission.lane is None else _name_of(submission.lane)
        seq = self._append(
            submission.room_id, submission.message_id, offered, submission.came_at, lane=lane
        )
        if seq is None:
            return self._known(submission, offered)
        return OutcomeCode.ACCEPTED, seq

    def _append(
        self,
        room_id: int,
        message_id: bytes,
        offered: Offered,
        came_at: int,
        *,
        kind: Kind = Kind.MESSAGE,
        lane: bytes | None = None,
    ) -> int | None:
        """Put a message at the end of a room's log; its seq, or None if the id is known there."""
        head = self._heads[room_id]
        assert head is not None
        message = LoggedMessage(
            seq=head + 1,
            id=message_id,
            sender=offered.sender,
            body=offered.body,
            meta=offered.meta,
            sent_at=offered.sent_at,
            accepted_at=came_at,
            kind=kind,
            verdict=Verdict.AWAITED if offered.confirm else Verdict.NOT_ASKED,
        )
        if not _insert(
            self._connection, room_id, message, offered.as_sent, lane if offered.confirm else None
        ):
            return None
        self._heads[room_id] = message.seq
        self._added.setdefault(room_id, []).append(message)
        return message.seq

    def _known(self, submission: Submission, offered: Offered) -> tuple[str, int]:
        """What becomes of a message that does not go into the log, or is there already."""
        stored = self._stored(submission)
        if stored is not None and _is_same(stored, offered):
            return OutcomeCode.ACCEPTED, stored[0]
        if offered.refused is not None:
            return offered.refused, 0
        return (OutcomeCode.EXPIRED if stored is None else OutcomeCode.CONFLICT), 0

    def _stored(self, submission: Submission) -> _Known | None:
        row: _Known | None = self._connection.execute(
            schema.STORED_MESSAGE, (submission.room_id, submission.message_id)
        ).fetchone()
        return row

    def _is_expired(self, offered: Offered) -> bool:
        return offered.expires_at_s is not None and offered.expires_at_s <= self._now_s


def _insert(
    connection: sqlite3.Connection,
    room_id: int,
    message: LoggedMessage,
    as_sent: tuple[str, bytes] | None,
    lane: bytes | None,
) -> bool:
    """Add a message; False if the room has one of its id."""
    added = connection.execute(
        schema.ADD_MESSAGE,
        {
            "room_id": room_id,
            "seq": message.seq,
            "id": message.id,
            "sender": message.sender,
            "body": message.body,
            "meta": message.meta,
            "sent_at": message.sent_at,
            "accepted_at": message.accepted_at,
            "kind": int(message.kind),
            "verdict": int(message.verdict),
            "as_sent": None if as_sent is None else _digest(*as_sent),
            "lane": lane,
        },
    )
    return added.rowcount == 1


def _is_same(stored: _Known, offered: Offered) -> bool:
    """Whether the stored message is what is offered, as it was sent or as it is kept."""
    _, sender, body, meta, as_sent, verdict = stored
    if sender != offered.sender or (verdict != Verdict.NOT_ASKED) != offered.confirm:
        return False
    sent = offered.as_sent or (offered.body, offered.meta)
    if (body, meta) in (sent, (offered.body, offered.meta)):
        return True
    return as_sent is not None and as_sent == _digest(*sent)


def _digest(body: str, meta: bytes) -> bytes:
    encoded = body.encode()
    content = len(encoded).to_bytes(8, "big") + encoded + meta
    return hashlib.blake2b(content, digest_size=16).digest()


def _name_of(lane: LaneKey) -> bytes:
    """A short name of a lane."""
    content = lane.epoch + len(lane.device).to_bytes(8, "big") + lane.device + lane.sub.encode()
    return hashlib.blake2b(content, digest_size=16).digest()


def load_lane(connection: sqlite3.Connection, room_id: int, key: LaneKey) -> Lane:
    """A lane as it is stored; a new one if nothing of it is.

    Outcomes that cannot be read are forgotten: its device begins another lane, and nobody else
    waits for that.
    """
    row = connection.execute(schema.LANE, (room_id, key.sub, key.device, key.epoch)).fetchone()
    if row is None:
        return NEW_LANE
    try:
        return Lane(row[0], tuple(unpack_outcomes(row[1])))
    except BadFrame:
        return Lane(row[0], ())


def _save_lane(
    connection: sqlite3.Connection, room_id: int, key: LaneKey, lane: Lane, used_at: int
) -> None:
    outcomes = pack_outcomes(lane.outcomes)
    connection.execute(
        schema.SAVE_LANE,
        (room_id, key.sub, key.device, key.epoch, lane.last, used_at, outcomes),
    )


def save_marks(connection: sqlite3.Connection, marks: Marks) -> None:
    """Merge marks into what is stored; those of rooms that are gone are dropped."""
    if not marks:
        return
    connection.executemany(
        schema.SAVE_MARK,
        [
            {"room_id": room_id, "sub": sub, "delivered_upto": delivered, "read_upto": read}
            for (room_id, sub), (delivered, read) in marks.items()
        ],
    )


def retain(
    connection: sqlite3.Connection, room_id: int, newer_than_ms: int, at_most: int
) -> tuple[int, bool]:
    """Delete some of a room's oldest messages; the lowest seq that stays, and whether that is all.

    Messages from the first one on that was accepted at ``newer_than_ms`` or later stay, unless
    there are more than ``at_most``.
    """
    row = connection.execute(schema.CHAT_HEAD, (room_id,)).fetchone()
    if row is None:
        return 1, True
    head: int = row[0]
    newer = connection.execute(schema.FIRST_NEWER, (room_id, newer_than_ms)).fetchone()
    before = max(head + 1 if newer is None else newer[0], head - at_most + 1)
    deleted = connection.execute(
        schema.DELETE_OLDEST, {"room_id": room_id, "before": before, "most": RETAINED_AT_ONCE}
    )
    (oldest,) = connection.execute(schema.OLDEST_MESSAGE, (room_id,)).fetchone()
    return (head + 1 if oldest is None else oldest), deleted.rowcount < RETAINED_AT_ONCE
