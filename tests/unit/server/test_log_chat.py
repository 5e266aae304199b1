"""What every log promises of messages (``log/chat_port.py``), asked of the one in SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from collab import limits
from collab.errors import Closed
from collab.protocol.messages import LoggedMessage, OutcomeCode, Receipt, SlotOutcome
from collab.storage.database import Connection, Database
from collab_server.lanes import NEW_LANE, LaneKey, TooEarly
from collab_server.log import chat_port, messages, port, schema, transactions
from collab_server.log.chat_port import (
    NO_SUCH_ROOM,
    UNKNOWN,
    ChatState,
    Decision,
    Offered,
    Submission,
)
from collab_server.log.sqlite import SqliteLog
from tests.unit.server.test_log_sqlite import Disk, durable, generation, put, running

EPOCH = b"e" * 16
ANA = LaneKey("ana", b"a" * 16, b"1" * 16)
BEN = LaneKey("ben", b"b" * 16, b"1" * 16)
NOWHERE = bytes(16)

OK, SKIPPED = OutcomeCode.ACCEPTED, OutcomeCode.SKIPPED


def _execute(connection: Connection, statement: str) -> None:
    connection.execute(statement)


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Chat:
    """One room's messages in a log, as the tests speak to it."""

    log: SqliteLog
    room_id: int
    decided: list[Decision] = field(default_factory=list)
    announced: list[tuple[int, Sequence[LoggedMessage]]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # in which order

    def __post_init__(self) -> None:
        self.log.chat.on_messages(self._on_messages)

    def _on_messages(self, room_id: int, head: int, added: Sequence[LoggedMessage]) -> None:
        if room_id == self.room_id:
            self.announced.append((head, list(added)))
            self.told.append("messages")

    def _decided(self, decision: Decision) -> None:
        self.decided.append(decision)
        self.told.append("outcome")

    def submit(
        self,
        slot: int,
        *,
        number: int | None = None,
        lane: LaneKey | None = ANA,
        body: str | None = None,
        came_at: int = 5,
        skip: bool = False,
        **offered: Any,
    ) -> None:
        """Submit a message whose id and body are made of its slot, or of another number."""
        number = slot if number is None else number
        sender = offered.pop("sender", lane.sub if lane is not None else "relay")
        message = Offered(sender, f"m{number}" if body is None else body, b"", 4)
        self.log.chat.submit(
            Submission(
                room_id=self.room_id,
                lane=lane,
                slot=slot,
                message_id=id_of(number),
                came_at=came_at,
                offered=None if skip else replace(message, **offered),
                decided=self._decided,
            )
        )

    async def outcomes(self, count: int) -> list[Decision]:
        """The decisions so far, once there are ``count``."""
        async with asyncio.timeout(10):
            while len(self.decided) < count:
                await asyncio.sleep(0.001)
        return self.decided

    async def say(self, slot: int, **how: Any) -> Decision:
        """Submit, and what became of it."""
        before = len(self.decided)
        self.submit(slot, **how)
        return (await self.outcomes(before + 1))[before]

    async def fill(self, count: int, *, lane: LaneKey = ANA, **how: Any) -> None:
        """``count`` messages, from slot 1 of a new lane."""
        before = len(self.decided)
        for slot in range(1, count + 1):
            self.submit(slot, lane=lane, **how)
        await self.outcomes(before + count)

    async def state(
        self, lane: LaneKey = ANA, place: tuple[bytes, int] = (NOWHERE, 0), read_upto: int = 0
    ) -> ChatState:
        return await self.log.chat.enter(
            self.room_id, lane, generation=place[0], seq=place[1], read_upto=read_upto
        )

    async def bodies(self) -> list[str]:
        """What the log holds, all of it, asked for page by page; its seqs are checked."""
        found: list[LoggedMessage] = []
        while page := (await self.log.chat.after(self.room_id, len(found))).messages:
            found += page
        assert [message.seq for message in found] == list(range(1, len(found) + 1))
        return [message.body for message in found]


def accepted(slot: int, seq: int, *, number: int | None = None) -> SlotOutcome:
    return SlotOutcome(slot, id_of(slot if number is None else number), OK, seq)


def refused(slot: int, code: str, *, number: int | None = None) -> SlotOutcome:
    return SlotOutcome(slot, id_of(slot if number is None else number), code, 0)


Work = Callable[[Chat], Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


async def open_log(
    path: Path, number: int = 1, *, disk: Disk | None = None, clock: Clock | None = None
) -> SqliteLog:
    return await SqliteLog.open(
        path,
        generation=generation(number),
        relay_id=bytes(16),
        now_ms=0,
        factory=disk,
        retry_pauses_s=(0.005,),
        clock=clock or Clock(),
    )


def with_chat(
    path: Path,
    work: Work,
    number: int = 1,
    *,
    disk: Disk | None = None,
    clock: Clock | None = None,
) -> None:
    """Run ``work`` on the chat of one room in a log that runs."""

    async def main() -> None:
        async with running(await open_log(path, number, disk=disk, clock=clock)) as log:
            assert isinstance(log, SqliteLog)
            room = await log.open_room("a", epoch=EPOCH)
            await work(Chat(log, room.id))

    asyncio.run(main())


def rows(path: Path, query: str) -> list[Any]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


# --- lanes and outcomes ---


def test_messages_of_a_lane_get_rising_seqs_in_their_order(path: Path) -> None:
    async def work(chat: Chat) -> None:
        for slot in range(1, 201):
            chat.submit(slot)
        outcomes = await chat.outcomes(200)
        assert outcomes == [accepted(slot, slot) for slot in range(1, 201)]
        assert await chat.bodies() == [f"m{slot}" for slot in range(1, 201)]

    with_chat(path, work)


def test_lanes_do_not_wait_for_each_other_and_share_one_row_of_seqs(path: Path) -> None:
    async def work(chat: Chat) -> None:
        for slot in range(1, 51):
            chat.submit(slot, lane=ANA)
            chat.submit(slot, lane=BEN, number=1000 + slot)
        await chat.outcomes(100)
        seqs = [outcome.seq for outcome in chat.decided if isinstance(outcome, SlotOutcome)]
        assert seqs == list(range(1, 101))

    with_chat(path, work)


def test_a_message_is_in_the_log_as_it_came(path: Path) -> None:
    async def work(chat: Chat) -> None:
        await chat.say(1, body="你好 \0 there 📊", meta=b"\x81\xa1a\x01", came_at=77)
        expected = LoggedMessage(
            1, id_of(1), "ana", "你好 \0 there 📊", b"\x81\xa1a\x01", 4, 77, 0, 0
        )
        assert await chat.log.chat.find(chat.room_id, id_of(1)) == expected
        assert (await chat.log.chat.after(chat.room_id, 0)).messages == [expected]
        assert chat.announced == [(1, [expected])]
        assert await chat.log.chat.find(chat.room_id, id_of(2)) is None

    with_chat(path, work)


def test_a_slot_that_is_decided_is_answered_with_what_it_holds(path: Path) -> None:
    async def work(chat: Chat) -> None:
        first = await chat.say(1)
        assert await chat.say(1) == first
        assert await chat.say(1, number=9, body="another") == first
        assert await chat.say(1, skip=True) == first
        assert await chat.bodies() == ["m1"]

    with_chat(path, work)


def test_a_slot_before_its_turn_changes_nothing(path: Path) -> None:
    async def work(chat: Chat) -> None:
        assert await chat.say(3) == TooEarly(1)
        await chat.say(1)
        assert await chat.say(3) == TooEarly(2)
        assert await chat.bodies() == ["m1"]
        assert (await chat.state()).lane.last == 1

    with_chat(path, work)


@pytest.mark.parametrize("code", ["forbidden", "invalid", "too_large", "shop.closed"])
def test_a_permanent_refusal_consumes_its_slot_and_is_remembered(path: Path, code: str) -> None:
    async def work(chat: Chat) -> None:
        assert await chat.say(1, refused=code) == refused(1, code)
        assert await chat.say(1) == refused(1, code)
        assert await chat.say(2) == accepted(2, 1)
        assert (await chat.state()).lane.outcomes == (refused(1, code), accepted(2, 1))

    with_chat(path, work)


def test_a_skipped_slot_adds_nothing_and_takes_no_seq(path: Path) -> None:
    async def work(chat: Chat) -> None:
        assert await chat.say(1, skip=True) == refused(1, SKIPPED)
        assert await chat.say(2) == accepted(2, 1)
        assert await chat.say(1) == refused(1, SKIPPED)

    with_chat(path, work)


def test_a_lane_remembers_its_last_sixteen_slots_over_restarts(path: Path) -> None:
    async def first(chat: Chat) -> None:
        await chat.fill(40)

    async def second(chat: Chat) -> None:
        state = await chat.state()
        assert state.lane.last == 40
        assert [outcome.lane_seq for outcome in state.lane.outcomes] == list(range(25, 41))
        assert await chat.say(25) == accepted(25, 25)
        assert await chat.say(24) == refused(24, OutcomeCode.FORGOTTEN)
        assert await chat.say(41) == accepted(41, 41)

    with_chat(path, first)
    with_chat(path, second, 2)


def test_a_lane_takes_one_row_however_much_it_carries(path: Path) -> None:
    async def work(chat: Chat) -> None:
        await chat.fill(500)

    with_chat(path, work)
    assert len(rows(path, "SELECT * FROM lanes")) == 1


def test_a_lane_whose_outcomes_are_damaged_forgets_them_and_goes_on(path: Path) -> None:
    async def first(chat: Chat) -> None:
        await chat.fill(3)

    async def second(chat: Chat) -> None:
        assert await chat.say(3) == refused(3, OutcomeCode.FORGOTTEN)
        assert await chat.say(4) == accepted(4, 4)

    with_chat(path, first)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE lanes SET outcomes = x'c1'")
    connection.close()
    with_chat(path, second, 2)


def test_the_lane_that_a_user_used_least_recently_is_forgotten_at_the_bound(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_LANES_PER_USER", 3)
    lanes = [LaneKey("ana", b"a", bytes([n]) * 16) for n in range(5)]

    async def work(chat: Chat) -> None:
        for at, number in enumerate([0, 1, 2, 0]):
            slot = 2 if at == 3 else 1
            await chat.say(slot, lane=lanes[number], number=at, came_at=at)
        await chat.say(1, lane=BEN, number=50, came_at=0)  # somebody else's lanes are their own
        await chat.say(1, lane=lanes[3], number=60, came_at=9)
        lasts = [(await chat.state(lane)).lane.last for lane in lanes]
        assert lasts == [2, 0, 1, 1, 0]
        assert (await chat.state(BEN)).lane.last == 1
        # Its device begins another, and what was accepted is not doubled.
        assert await chat.say(1, lane=lanes[4], number=1) == accepted(1, 2, number=1)

    with_chat(path, work)


# --- ids ---


def test_an_id_that_the_log_has_is_accepted_again_without_a_new_message(path: Path) -> None:
    async def work(chat: Chat) -> None:
        other = LaneKey("ana", b"other device", b"2" * 16)
        assert await chat.say(1, body="same") == accepted(1, 1)
        assert await chat.say(1, lane=other, body="same") == accepted(1, 1)
        assert await chat.say(2, lane=other, number=5) == accepted(2, 2, number=5)
        assert await chat.bodies() == ["same", "m5"]

    with_chat(path, work)


@pytest.mark.parametrize("what", ["body", "meta", "sender"])
def test_an_id_with_other_content_is_a_conflict(path: Path, what: str) -> None:
    async def work(chat: Chat) -> None:
        assert await chat.say(1, meta=b"\x80") == accepted(1, 1)
        other = {"body": "else", "meta": b"\x80"} if what == "body" else {"body": "m1"}
        sender = "eve" if what == "sender" else "ana"
        outcome = await chat.say(
            2, number=1, sender=sender, **{"meta": b"\x80" if what == "sender" else b""} | other
        )
        assert outcome == refused(2, OutcomeCode.CONFLICT, number=1)
        assert await chat.bodies() == ["m1"]

    with_chat(path, work)


def test_what_the_log_has_is_accepted_although_the_rights_or_the_time_are_gone(path: Path) -> None:
    async def work(chat: Chat) -> None:
        await chat.say(1)
        known = {"number": 1, "body": "m1"}
        assert await chat.say(2, refused="forbidden", **known) == accepted(2, 1, number=1)
        assert await chat.say(3, expires_at_s=0.0, **known) == accepted(3, 1, number=1)
        assert await chat.say(4, number=1, skip=True) == accepted(4, 1, number=1)

    with_chat(path, work)


def test_the_id_of_somebody_else_is_skipped_and_not_revealed(path: Path) -> None:
    async def work(chat: Chat) -> None:
        await chat.say(1)
        assert await chat.say(1, lane=BEN, skip=True) == refused(1, SKIPPED)
        assert await chat.say(2, lane=BEN, number=1, refused="forbidden") == refused(
            2, "forbidden", number=1
        )

    with_chat(path, work)


def test_a_message_that_the_application_rewrote_is_known_by_what_was_sent_and_what_is_kept(
    path: Path,
) -> None:
    async def work(chat: Chat) -> None:
        sent = ("bad word", b"")
        assert await chat.say(1, body="***", meta=b"\x80", as_sent=sent) == accepted(1, 1)
        again = {"number": 1, "lane": BEN, "sender": "ana"}
        assert await chat.say(1, body="bad word", **again) == accepted(1, 1)
        assert await chat.say(2, body="***", meta=b"\x80", **again) == accepted(2, 1, number=1)
        # The application says something else of it this time.
        outcome = await chat.say(3, body="###", as_sent=sent, **again)
        assert outcome == accepted(3, 1, number=1)
        assert await chat.say(4, body="###", **again) == refused(4, "conflict", number=1)
        assert await chat.bodies() == ["***"]

    with_chat(path, work)


def test_a_message_of_the_relays_own_program_is_once_in_the_log_by_its_id(path: Path) -> None:
    async def work(chat: Chat) -> None:
        assert await chat.say(0, number=7, lane=None) == accepted(0, 1, number=7)
        assert await chat.say(0, number=7, lane=None) == accepted(0, 1, number=7)
        assert await chat.say(0, number=7, lane=None, body="x") == refused(0, "conflict", number=7)
        assert await chat.bodies() == ["m7"]

    with_chat(path, work)
    assert rows(path, "SELECT * FROM lanes") == []


def test_a_message_for_a_room_that_is_gone_is_not_judged(path: Path) -> None:
    async def work(chat: Chat) -> None:
        chat.room_id += 1
        assert await chat.say(1) is NO_SUCH_ROOM
        chat.log.chat.mark(chat.room_id, "ana", delivered_upto=1, read_upto=1)

    with_chat(path, work)
    for table in ("messages", "lanes", "chats", "marks"):
        assert rows(path, f"SELECT * FROM {table}") == []


# --- expiry ---


def test_a_message_whose_time_is_over_when_it_comes_expires_and_consumes_its_slot(
    path: Path,
) -> None:
    clock = Clock()

    async def work(chat: Chat) -> None:
        assert await chat.say(1, expires_at_s=clock.now) == refused(1, "expired")
        assert await chat.say(2, expires_at_s=clock.now + 0.001) == accepted(2, 1)
        assert await chat.say(3, expires_at_s=None) == accepted(3, 2)
        assert await chat.say(1) == refused(1, "expired")

    with_chat(path, work, clock=clock)


def test_a_message_expires_while_the_disk_takes_nothing(path: Path) -> None:
    clock, disk = Clock(), Disk()

    async def work(chat: Chat) -> None:
        disk.full = True
        chat.submit(1, expires_at_s=clock.now + 5)
        chat.submit(2, expires_at_s=clock.now + 500)
        while chat.log.failing is None:
            await asyncio.sleep(0.005)
        clock.now += 60
        disk.full = False
        assert await chat.outcomes(2) == [refused(1, "expired"), accepted(2, 1)]

    with_chat(path, work, disk=disk, clock=clock)


# --- commits ---


def test_nothing_is_told_before_the_commit_and_then_outcomes_first(path: Path) -> None:
    disk = Disk()

    async def work(chat: Chat) -> None:
        disk.may_commit.clear()
        disk.committing.clear()
        chat.submit(1)
        chat.submit(2)
        await asyncio.to_thread(disk.committing.wait, 5)
        await asyncio.sleep(0.02)
        assert chat.told == []
        disk.may_commit.set()
        await chat.outcomes(2)
        assert chat.told == ["outcome", "outcome", "messages"]
        assert [head for head, _ in chat.announced] == [2]

    with_chat(path, work, disk=disk)


def test_updates_and_messages_of_all_rooms_are_one_transaction(path: Path) -> None:
    disk = Disk()

    async def work(chat: Chat) -> None:
        other = Chat(chat.log, (await chat.log.open_room("b", epoch=EPOCH)).id)
        disk.may_commit.clear()
        disk.committing.clear()
        put(chat.log, chat.room_id, b"first")
        await asyncio.to_thread(disk.committing.wait, 5)
        before = disk.transactions
        for slot in range(1, 101):
            chat.submit(slot)
            other.submit(slot)
            last = put(chat.log, chat.room_id, b"x")
        disk.may_commit.set()
        await other.outcomes(100)
        await durable(chat.log, last)
        assert disk.transactions == before + 2
        assert chat.decided == other.decided == [accepted(n, n) for n in range(1, 101)]

    with_chat(path, work, disk=disk)


def test_a_full_disk_delays_outcomes_and_changes_neither_order_nor_seqs(path: Path) -> None:
    disk = Disk()

    async def work(chat: Chat) -> None:
        await chat.say(1)
        disk.full = True
        for slot in range(2, 30):
            chat.submit(slot)
            await asyncio.sleep(0.001)
        assert chat.log.failing is not None
        assert len(chat.decided) == 1
        assert await chat.bodies() == ["m1"]
        disk.full = False
        assert await chat.outcomes(29) == [accepted(n, n) for n in range(1, 30)]
        assert await chat.bodies() == [f"m{n}" for n in range(1, 30)]
        assert [m.seq for _, added in chat.announced for m in added] == list(range(1, 30))

    with_chat(path, work, disk=disk)


def test_what_came_during_a_commit_that_failed_stays_behind_it(path: Path) -> None:
    disk = Disk()

    async def work(chat: Chat) -> None:
        disk.may_commit.clear()
        disk.committing.clear()
        chat.submit(1)
        await asyncio.to_thread(disk.committing.wait, 5)
        chat.submit(2)
        disk.full = True
        disk.may_commit.set()
        async with asyncio.timeout(5):
            while chat.log.failing is None:
                await asyncio.sleep(0.001)
        disk.full = False
        assert await chat.outcomes(2) == [accepted(1, 1), accepted(2, 2)]

    with_chat(path, work, disk=disk)


def test_a_commit_that_nobody_saw_end_is_judged_again_and_comes_out_the_same(path: Path) -> None:
    disk = Disk()

    async def main() -> None:
        log = await open_log(path, disk=disk)
        commits = asyncio.create_task(log.run())
        chat = Chat(log, (await log.open_room("a", epoch=EPOCH)).id)
        disk.may_commit.clear()
        disk.committing.clear()
        chat.submit(1)
        chat.submit(0, number=50, lane=None)
        chat.submit(2, refused="forbidden")
        chat.submit(3, expires_at_s=2000.0)
        chat.submit(5)
        log.chat.mark(chat.room_id, "ana", delivered_upto=1, read_upto=1)
        await asyncio.to_thread(disk.committing.wait, 5)
        commits.cancel()
        with suppress(asyncio.CancelledError):
            await commits
        assert chat.decided == []
        chat.submit(4)
        disk.may_commit.set()
        commits = asyncio.create_task(log.run())
        await chat.outcomes(6)
        assert chat.decided == [
            accepted(1, 1),
            accepted(0, 2, number=50),
            refused(2, "forbidden"),
            accepted(3, 3),
            TooEarly(4),
            accepted(4, 4),
        ]
        # Those of the commit that nobody saw are in the log all the same: its head says so.
        assert chat.announced[-1][0] == 4
        assert [message.seq for message in chat.announced[-1][1]] == [4]
        assert await chat.bodies() == ["m1", "m50", "m3", "m4"]
        await log.close()
        await commits

    asyncio.run(main())


def test_a_commit_that_was_not_seen_and_not_expired_then_is_not_expired_later(path: Path) -> None:
    disk, clock = Disk(), Clock()

    async def main() -> None:
        log = await open_log(path, disk=disk, clock=clock)
        commits = asyncio.create_task(log.run())
        chat = Chat(log, (await log.open_room("a", epoch=EPOCH)).id)
        disk.may_commit.clear()
        disk.committing.clear()
        chat.submit(1, expires_at_s=clock.now + 1)
        await asyncio.to_thread(disk.committing.wait, 5)
        commits.cancel()
        with suppress(asyncio.CancelledError):
            await commits
        clock.now += 100
        disk.may_commit.set()
        await log.close()
        assert chat.decided == [accepted(1, 1)]

    asyncio.run(main())


def test_closing_commits_what_is_queued_and_says_what_became_of_it(path: Path) -> None:
    async def main() -> None:
        log = await open_log(path)
        async with running(log):
            chat = Chat(log, (await log.open_room("a", epoch=EPOCH)).id)
            chat.submit(1)
            log.chat.mark(chat.room_id, "ana", delivered_upto=1, read_upto=1)
        assert chat.decided == [accepted(1, 1)]
        with pytest.raises(Closed):
            chat.submit(2)
        with pytest.raises(Closed):
            log.chat.mark(chat.room_id, "ana", delivered_upto=1, read_upto=1)
        with pytest.raises(Closed):
            await log.chat.retain(chat.room_id, newer_than_ms=0, at_most=1)

    asyncio.run(main())
    assert rows(path, "SELECT sub, delivered_upto, read_upto FROM marks") == [("ana", 1, 1)]


def test_closing_with_a_full_disk_says_that_nobody_knows(path: Path) -> None:
    disk = Disk()

    async def main() -> None:
        log = await open_log(path, disk=disk)
        commits = asyncio.create_task(log.run())
        chat = Chat(log, (await log.open_room("a", epoch=EPOCH)).id)
        retaining = asyncio.create_task(log.chat.retain(chat.room_id, newer_than_ms=0, at_most=1))
        await asyncio.sleep(0)
        disk.full = True
        chat.submit(1)
        with pytest.raises(Exception, match="full"):
            await log.close()
        await commits
        assert chat.decided == [UNKNOWN]
        with pytest.raises(Closed):
            await retaining

    asyncio.run(main())


def test_messages_that_wait_count_for_the_bound(path: Path) -> None:
    disk = Disk()

    async def work(chat: Chat) -> None:
        disk.may_commit.clear()
        body = "x" * limits.MAX_BODY_BYTES
        for slot in range(1, port.MAX_UNCOMMITTED_BYTES // limits.MAX_BODY_BYTES + 2):
            chat.submit(slot, body=body)
        waiting = asyncio.create_task(chat.log.wait_for_room())
        await asyncio.sleep(0.03)
        assert not waiting.done()
        assert chat.log.uncommitted_bytes > port.MAX_UNCOMMITTED_BYTES
        disk.may_commit.set()
        await asyncio.wait_for(waiting, 10)
        await chat.outcomes(slot)
        assert chat.log.uncommitted_bytes == 0

    with_chat(path, work, disk=disk)


def test_many_small_things_that_wait_reach_the_bound_too(path: Path) -> None:
    async def main() -> None:
        log = await open_log(path)
        chat = Chat(log, 1)
        for slot in range(1, port.MAX_UNCOMMITTED_ENTRIES + 2):
            chat.submit(slot, skip=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(log.wait_for_room(), 0.01)
        await log.close()
        await asyncio.wait_for(log.wait_for_room(), 1)

    asyncio.run(main())


def test_a_body_that_is_no_utf8_is_refused_before_it_waits(path: Path) -> None:
    async def work(chat: Chat) -> None:
        with pytest.raises(UnicodeEncodeError):
            chat.submit(1, body="\ud800")
        assert await chat.say(1) == accepted(1, 1)

    with_chat(path, work)


# --- places ---


def test_a_place_is_good_if_its_message_was_written_in_its_generation_or_before(
    path: Path,
) -> None:
    lane = LaneKey("ana", b"a", b"9" * 16)

    async def write(chat: Chat) -> None:
        head = (await chat.state()).head
        for slot in range(1, 6):
            await chat.say(slot, lane=lane, number=head + slot)

    async def good(chat: Chat, number: int, seq: int) -> bool:
        return (await chat.state(place=(generation(number), seq))).good

    with_chat(path, write, 1)  # seqs 1 to 5
    lane = LaneKey("ana", b"a", b"8" * 16)
    with_chat(path, write, 2)  # 6 to 10

    async def ask(chat: Chat) -> None:
        assert await good(chat, 1, 5)
        assert not await good(chat, 1, 6)  # given again since, or by a backup
        assert await good(chat, 2, 6)
        assert await good(chat, 2, 3)  # it was read in a later run than it was written in
        assert await good(chat, 3, 10)
        assert not await good(chat, 3, 11)
        assert not await good(chat, 9, 1)
        assert await good(chat, 9, 0)  # nothing is a place in every history
        assert (await chat.state()).good
        await chat.log.chat.retain(chat.room_id, newer_than_ms=0, at_most=2)
        assert await good(chat, 1, 5)  # not retained: nothing contradicts it
        assert not await good(chat, 9, 5)
        assert not await good(chat, 2, 11)

    with_chat(path, ask, 3)


def test_a_place_of_the_life_after_a_backup_is_not_good_in_the_one_that_was_put_back(
    path: Path, tmp_path: Path
) -> None:
    async def begin(chat: Chat) -> None:
        await chat.fill(5)

    async def go_on(chat: Chat) -> None:
        for slot in range(6, 11):
            await chat.say(slot)

    async def ask(chat: Chat) -> None:
        assert not (await chat.state(place=(generation(2), 10))).good
        assert not (await chat.state(place=(generation(1), 6))).good
        assert (await chat.state(place=(generation(1), 5))).good
        assert (await chat.state()).head == 5
        assert (await chat.state()).lane.last == 5

    with_chat(path, begin, 1)
    backup = tmp_path / "backup.db"
    backup.write_bytes(path.read_bytes())
    with_chat(path, go_on, 2)
    with_chat(backup, ask, 3)


# --- reading ---


def test_a_room_without_messages_has_a_state_too(path: Path) -> None:
    async def work(chat: Chat) -> None:
        assert await chat.state() == ChatState(NEW_LANE, True, 0, 1, 0, 0)
        assert (await chat.log.chat.after(chat.room_id, 0)).messages == []
        page = await chat.log.chat.page(chat.room_id, 0, 100, newest=True)
        assert (page.messages, page.oldest) == ([], 1)

    with_chat(path, work)


@pytest.mark.parametrize("newest", [False, True])
def test_pages_touch_the_end_that_was_asked_for(path: Path, newest: bool) -> None:
    async def work(chat: Chat) -> None:
        await chat.fill(350)

        async def seqs(after: int, before: int) -> list[int]:
            page = await chat.log.chat.page(chat.room_id, after, before, newest=newest)
            assert page.oldest == 1
            return [message.seq for message in page.messages]

        assert await seqs(10, 20) == list(range(11, 20))
        first, last = (250, 349) if newest else (11, 110)
        assert await seqs(10, 350) == list(range(first, last + 1))
        assert await seqs(340, 10**15) == list(range(341, 351))
        assert await seqs(20, 21) == await seqs(21, 20) == await seqs(350, 2**63 - 1) == []

    with_chat(path, work)


@pytest.mark.parametrize("newest", [False, True])
def test_a_page_has_the_bytes_of_a_frame_at_most_and_one_message_at_least(
    path: Path, newest: bool
) -> None:
    async def work(chat: Chat) -> None:
        for slot in range(1, 21):
            chat.submit(slot, body="é" * (limits.MAX_BODY_BYTES // 2))
        await chat.outcomes(20)
        page = await chat.log.chat.page(chat.room_id, 0, 100, newest=newest)
        size = sum(len(message.body.encode()) for message in page.messages)
        assert limits.MAX_RUN_BYTES - limits.MAX_BODY_BYTES - 2000 < size <= limits.MAX_RUN_BYTES
        seqs = [message.seq for message in page.messages]
        assert seqs == (list(range(16, 21)) if newest else list(range(1, 6)))

    with_chat(path, work)


def test_unread_are_messages_of_others_beyond_what_was_read(path: Path) -> None:
    async def work(chat: Chat) -> None:
        await chat.fill(10, lane=ANA)
        for slot in range(1, 6):
            await chat.say(slot, lane=BEN, number=100 + slot)
        assert (await chat.state(ANA)).unread == 5
        assert (await chat.state(BEN)).unread == 10
        assert (await chat.state(ANA, read_upto=12)).unread == 3
        assert (await chat.state(BEN, read_upto=12)).read_upto == 12
        chat.log.chat.mark(chat.room_id, "ben", delivered_upto=10, read_upto=4)
        await asyncio.sleep(0)
        await chat.say(6, lane=BEN, number=200)  # the mark is in its commit
        assert ((await chat.state(BEN)).read_upto, (await chat.state(BEN)).unread) == (4, 6)

    with_chat(path, work)


def test_unread_is_counted_up_to_a_bound(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_UNREAD_COUNTED", 7)
    monkeypatch.setattr(limits, "MAX_UNREAD_SCANNED", 20)

    async def work(chat: Chat) -> None:
        await chat.fill(10)
        assert (await chat.state(BEN)).unread == 7
        for slot in range(1, 19):
            chat.submit(slot, lane=BEN, number=100 + slot)
        await chat.outcomes(28)
        assert (await chat.state(BEN)).unread == 2  # of the newest twenty

    with_chat(path, work)


# --- marks ---


def test_marks_merge_by_max_and_never_fall(path: Path) -> None:
    async def work(chat: Chat) -> None:
        mark = chat.log.chat.mark
        await chat.fill(3)
        mark(chat.room_id, "ana", delivered_upto=5, read_upto=1)
        mark(chat.room_id, "ana", delivered_upto=2, read_upto=3)
        mark(chat.room_id, "ben", delivered_upto=1, read_upto=0)
        mark(chat.room_id + 1, "cat", delivered_upto=1, read_upto=0)
        waiting = await chat.log.chat.receipts(chat.room_id, 10)
        assert waiting == [Receipt("ana", 5, 3), Receipt("ben", 1, 0)]
        await chat.say(4)
        mark(chat.room_id, "ana", delivered_upto=4, read_upto=4)
        await chat.say(5)
        assert await chat.log.chat.receipts(chat.room_id, 10) == [
            Receipt("ana", 5, 4),
            Receipt("ben", 1, 0),
        ]
        assert await chat.log.chat.receipts(chat.room_id, 1) == [Receipt("ana", 5, 4)]

    with_chat(path, work)


def test_marks_wait_for_the_next_commit_but_not_for_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collab_server.log.chat.MARKS_WAIT_S", 0.05)
    assert chat_port.MARKS_WAIT_S == 1.0
    disk = Disk()

    async def work(chat: Chat) -> None:
        await chat.fill(1)
        before = disk.transactions
        for upto in range(1, 50):
            chat.log.chat.mark(chat.room_id, "ana", delivered_upto=upto, read_upto=0)
            await asyncio.sleep(0)
        assert disk.transactions == before
        async with asyncio.timeout(5):
            while disk.transactions == before:
                await asyncio.sleep(0.005)
        assert disk.transactions == before + 1
        assert await chat.log.chat.receipts(chat.room_id, 10) == [Receipt("ana", 49, 0)]

    with_chat(path, work, disk=disk)


def test_marks_that_a_full_disk_did_not_take_are_kept_and_bounded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_QUEUED_MARKS", 3)
    disk = Disk()

    async def work(chat: Chat) -> None:
        disk.full = True
        mark = chat.log.chat.mark
        mark(chat.room_id, "ana", delivered_upto=1, read_upto=1)
        chat.submit(1)
        await asyncio.sleep(0.03)
        assert chat.log.failing is not None
        for user in ("ben", "cat", "dan"):
            mark(chat.room_id, user, delivered_upto=1, read_upto=1)
        mark(chat.room_id, "ana", delivered_upto=2, read_upto=0)
        disk.full = False
        await chat.outcomes(1)
        await chat.say(2)
        assert set(await chat.log.chat.receipts(chat.room_id, 10)) == {
            Receipt("ana", 2, 1),
            Receipt("ben", 1, 1),
            Receipt("cat", 1, 1),
        }

    with_chat(path, work, disk=disk)


# --- retention ---


def test_retention_deletes_the_oldest_of_too_many_and_keeps_the_head(path: Path) -> None:
    async def work(chat: Chat) -> None:
        await chat.fill(30)
        assert await chat.log.chat.retain(chat.room_id, newer_than_ms=0, at_most=10) == 21
        state = await chat.state()
        assert (state.head, state.oldest, state.unread) == (30, 21, 0)
        page = await chat.log.chat.after(chat.room_id, 5)
        assert [message.seq for message in page.messages] == list(range(21, 31))
        assert page.oldest == 21
        assert await chat.say(31) == accepted(31, 31)

    with_chat(path, work)


def test_retention_deletes_what_is_too_old_up_to_the_first_that_is_not(path: Path) -> None:
    async def work(chat: Chat) -> None:
        for slot, came_at in enumerate([10, 20, 30, 15, 40], start=1):  # a clock that was put back
            await chat.say(slot, came_at=came_at)
        assert await chat.log.chat.retain(chat.room_id, newer_than_ms=25, at_most=100) == 3
        page = await chat.log.chat.after(chat.room_id, 0)
        assert [message.seq for message in page.messages] == [3, 4, 5]
        assert await chat.log.chat.retain(chat.room_id, newer_than_ms=99, at_most=100) == 6
        state = await chat.state()
        assert (state.head, state.oldest) == (5, 6)
        assert await chat.say(6, came_at=100) == accepted(6, 6)
        assert (await chat.state()).oldest == 6

    with_chat(path, work)


def test_a_room_that_ran_empty_goes_on_counting_after_a_restart(path: Path) -> None:
    async def first(chat: Chat) -> None:
        await chat.fill(5)
        assert await chat.log.chat.retain(chat.room_id, newer_than_ms=99, at_most=100) == 6

    async def second(chat: Chat) -> None:
        assert await chat.say(6) == accepted(6, 6)

    with_chat(path, first)
    with_chat(path, second, 2)


def test_much_is_deleted_in_several_transactions_between_which_others_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "RETAINED_AT_ONCE", 10)
    disk = Disk()

    async def work(chat: Chat) -> None:
        await chat.fill(95)
        before = disk.transactions
        retaining = asyncio.create_task(
            chat.log.chat.retain(chat.room_id, newer_than_ms=0, at_most=5)
        )
        await asyncio.sleep(0)
        assert await chat.say(96) == accepted(96, 96)
        assert not retaining.done()
        assert await retaining == 92
        assert disk.transactions >= before + 10

    with_chat(path, work, disk=disk)


def test_retention_that_the_disk_refuses_is_given_up_and_messages_go_on(path: Path) -> None:
    disk = Disk()

    async def work(chat: Chat) -> None:
        await chat.fill(5)
        disk.may_commit.clear()
        retaining = asyncio.create_task(
            chat.log.chat.retain(chat.room_id, newer_than_ms=0, at_most=1)
        )
        disk.committing.clear()
        await asyncio.to_thread(disk.committing.wait, 5)
        disk.full = True
        disk.may_commit.set()
        with pytest.raises(Exception, match="full"):
            await retaining
        disk.full = False
        assert (await chat.state()).oldest == 1
        assert await chat.say(6) == accepted(6, 6)

    with_chat(path, work, disk=disk)


def test_retention_of_an_unknown_room_does_nothing(path: Path) -> None:
    async def work(chat: Chat) -> None:
        assert await chat.log.chat.retain(999, newer_than_ms=0, at_most=1) == 1

    with_chat(path, work)


def test_an_id_may_be_used_again_once_its_message_is_not_retained(path: Path) -> None:
    async def work(chat: Chat) -> None:
        await chat.fill(2)
        await chat.log.chat.retain(chat.room_id, newer_than_ms=0, at_most=1)
        assert await chat.say(3, number=1) == accepted(3, 3, number=1)
        assert await chat.say(4, number=2) == accepted(4, 2, number=2)

    with_chat(path, work)


# --- the file ---


def test_a_log_of_the_first_version_gets_a_chat(path: Path) -> None:
    async def first() -> None:
        database = await Database.open(
            path, application_id=schema.APPLICATION_ID, migrations=schema.MIGRATIONS[:1]
        )
        await database.write(lambda c: transactions.start(c, generation(1), bytes(16), 0))
        for statement in (
            "INSERT INTO rooms (name, epoch) VALUES ('a', zeroblob(16))",
            "INSERT INTO updates VALUES (1, 1, CAST('kept' AS BLOB))",
        ):
            await database.write(partial(_execute, statement=statement))
        await database.close()

    asyncio.run(first())

    async def second(chat: Chat) -> None:
        assert await chat.say(1) == accepted(1, 1)
        assert (await chat.log.load(chat.room_id)).updates == [(1, b"kept")]

    with_chat(path, second, 2)


def test_all_that_a_chat_has_is_named_for_who_deletes_its_room(path: Path) -> None:
    async def work(chat: Chat) -> None:
        await chat.fill(3)
        chat.log.chat.mark(chat.room_id, "ana", delivered_upto=1, read_upto=1)
        await chat.say(4)

    with_chat(path, work)
    with sqlite3.connect(path) as connection:
        for statement in schema.DELETE_CHAT:
            connection.execute(statement, (1,))
    connection.close()
    for table in ("messages", "lanes", "chats", "marks"):
        assert rows(path, f"SELECT * FROM {table}") == []
