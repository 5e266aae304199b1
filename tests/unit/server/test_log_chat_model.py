"""The log's judgement of messages beside a model that keeps everything in lists.

What is run are the transactions themselves, on an SQLite in memory: batches of many rooms, lanes
and ids; batches that are rolled back and tried again, that were committed unseen and are judged
again; retention in between.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from collab import limits
from collab.protocol.messages import LoggedMessage, SlotOutcome
from collab_server.lanes import LaneKey, TooEarly
from collab_server.log import message_reads, messages, schema
from collab_server.log.chat_port import NO_SUCH_ROOM, Decision, Offered, Submission

ROOMS = (1, 2)
USERS = ("ana", "ben")
BODIES = ("one", "two", "three")
CODES = ("forbidden", "invalid", "shop.closed")


@dataclass
class Room:
    """What is in a room's log, and what was."""

    head: int = 0
    messages: list[tuple[LoggedMessage, tuple[str, bytes]]] = field(default_factory=list)
    lanes: dict[LaneKey, list[SlotOutcome]] = field(default_factory=dict)


class Model:
    """The rules of ``chat_port``, slowly."""

    def __init__(self, rooms: dict[int, Room]) -> None:
        self.rooms = rooms

    def decide(self, asked: Submission, now_s: float) -> Decision:
        room = self.rooms.get(asked.room_id)
        if room is None:
            return NO_SUCH_ROOM
        if asked.lane is None:
            return SlotOutcome(0, asked.message_id, *self._become(room, asked, now_s))
        held = room.lanes.setdefault(asked.lane, [])
        if asked.slot > len(held) + 1:
            return TooEarly(len(held) + 1)
        if asked.slot <= len(held) - limits.LANE_WINDOW:
            return SlotOutcome(asked.slot, asked.message_id, "forgotten", 0)
        if asked.slot == len(held) + 1:
            code, seq = self._become(room, asked, now_s)
            held.append(SlotOutcome(asked.slot, asked.message_id, code, seq))
        return held[asked.slot - 1]

    def _become(self, room: Room, asked: Submission, now_s: float) -> tuple[str, int]:
        known = next((row for row in room.messages if row[0].id == asked.message_id), None)
        offered = asked.offered
        if offered is None:
            assert asked.lane is not None
            mine = known is not None and known[0].sender == asked.lane.sub
            return ("accepted", known[0].seq) if known and mine else ("skipped", 0)
        kept = (offered.body, offered.meta)
        sent = offered.as_sent or kept
        if known is not None:
            logged, logged_sent = known
            same = (logged.body, logged.meta) in (sent, kept) or sent == logged_sent
            if same and logged.sender == offered.sender:
                return "accepted", logged.seq
        if offered.refused is not None:
            return offered.refused, 0
        if known is not None:
            return "conflict", 0
        if offered.expires_at_s is not None and offered.expires_at_s <= now_s:
            return "expired", 0
        room.head += 1
        message = LoggedMessage(
            room.head, asked.message_id, offered.sender, *kept, offered.sent_at, asked.came_at, 0, 0
        )
        room.messages.append((message, sent))
        return "accepted", room.head

    def retain(self, room_id: int, newer_than_ms: int, at_most: int) -> int:
        room = self.rooms[room_id]
        before = room.head - at_most + 1
        newer = (m.seq for m, _ in room.messages if m.accepted_at >= newer_than_ms)
        before = max(before, next(newer, room.head + 1))
        room.messages = [row for row in room.messages if row[0].seq >= before]
        return room.messages[0][0].seq if room.messages else room.head + 1


def submissions(dice: random.Random, model: Model, now: int) -> Iterator[Submission]:
    """Some that make sense, and some that do not."""
    for _ in range(dice.randrange(1, 30)):
        room_id = dice.choice((*ROOMS, 99)) if dice.random() < 0.1 else dice.choice(ROOMS)
        key = LaneKey(dice.choice(USERS), b"d", bytes([dice.randrange(2)]) * 16)
        lane = None if dice.random() < 0.1 else key
        room = model.rooms.get(room_id, Room())
        last = len(room.lanes.get(key, ()))
        slot = last + 1 + dice.choice((0, 0, 0, 0, 1, 2, -1, -5, -16, -20))
        meta = dice.choice((b"", b"\x80"))
        offered = Offered(
            sender=key.sub if dice.random() < 0.95 else "eve",
            body=dice.choice(BODIES),
            meta=meta,
            sent_at=now,
            as_sent=(dice.choice(BODIES), meta) if dice.random() < 0.2 else None,
            expires_at_s=float(now + dice.randrange(-3, 4)) if dice.random() < 0.3 else None,
            refused=dice.choice(CODES) if dice.random() < 0.15 else None,
        )
        is_skip = lane is not None and dice.random() < 0.1
        yield Submission(
            room_id=room_id,
            lane=lane,
            slot=0 if lane is None else max(1, slot),
            message_id=dice.randrange(60).to_bytes(16, "big"),
            came_at=now + dice.randrange(-5, 6),
            offered=None if is_skip else offered,
            decided=lambda _: None,
        )


def new_log() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for migration in schema.MIGRATIONS:
        for statement in migration:
            connection.execute(statement)
    connection.execute(
        "INSERT INTO generations (id, start_offset, opened_at) VALUES (?, 0, 0)", (bytes(16),)
    )
    for room_id in ROOMS:
        connection.execute(
            "INSERT INTO rooms (id, name, epoch) VALUES (?, ?, ?)",
            (room_id, str(room_id), bytes(16)),
        )
    return connection


def check(connection: sqlite3.Connection, model: Model) -> None:
    """The file holds what the model holds."""
    for room_id, room in model.rooms.items():
        found: list[LoggedMessage] = []
        while page := message_reads.page(
            connection, room_id, found[-1].seq if found else 0
        ).messages:
            found += page
        assert found == [message for message, _ in room.messages]
        for key, outcomes in room.lanes.items():
            lane = messages.load_lane(connection, room_id, key)
            assert lane.last == len(outcomes)
            assert list(lane.outcomes) == outcomes[-limits.LANE_WINDOW :]
        row = connection.execute(schema.CHAT_HEAD, (room_id,)).fetchone()
        assert row == (room.head,)


def commit(
    log: sqlite3.Connection, model: Model, batch: list[Submission], now_s: float
) -> list[Decision]:
    """One transaction, in the log and in the model."""
    log.execute("BEGIN")
    judged = messages.judge_all(log, batch, now_s)
    log.execute("COMMIT")
    before = {room_id: room.head for room_id, room in model.rooms.items()}
    expected = [model.decide(submission, now_s) for submission in batch]
    assert list(judged.decisions) == expected
    for room_id, (head, added) in judged.rooms.items():
        room = model.rooms[room_id]
        assert head == room.head
        assert list(added) == [m for m, _ in room.messages if m.seq > before[room_id]]
    check(log, model)
    return expected


def play(seed: int, seen: Counter[str]) -> None:
    dice = random.Random(seed)
    model = Model({room_id: Room() for room_id in ROOMS})
    with closing(new_log()) as log:
        for now in range(100, 130):
            batch = list(submissions(dice, model, now))
            fate = dice.choice(("told", "told", "rolled back", "unseen"))
            if fate == "rolled back":
                log.execute("BEGIN")
                messages.judge_all(log, batch, float(now))
                log.execute("ROLLBACK")
                check(log, model)
            decisions = commit(log, model, batch, float(now))
            if fate == "unseen":
                # Judged again, and later: what had expired by then had not when it was decided.
                again = commit(log, model, batch, now + 10.0)
                for submission, first, second in zip(batch, decisions, again, strict=True):
                    if submission.lane is not None and isinstance(first, SlotOutcome):
                        assert second == first or getattr(second, "code", "") == "forgotten"
            seen.update(
                decision.code if isinstance(decision, SlotOutcome) else type(decision).__name__
                for decision in decisions
            )
            if dice.random() < 0.2:
                room_id, at_most = dice.choice(ROOMS), dice.randrange(1, 40)
                newer = now - dice.randrange(5, 60)
                oldest, over = messages.retain(log, room_id, newer, at_most)
                assert (oldest, over) == (model.retain(room_id, newer, at_most), True)
                check(log, model)


def test_the_log_judges_as_the_model_does_whatever_becomes_of_its_commits() -> None:
    seen: Counter[str] = Counter()
    for seed in range(60):
        try:
            play(seed, seen)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
    assert set(seen) == {
        "accepted", "skipped", "conflict", "expired", "forgotten", "TooEarly", "Unjudged", *CODES,
    }  # fmt: skip
