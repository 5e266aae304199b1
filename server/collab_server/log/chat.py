"""Messages and marks of the log in SQLite: what waits for the next commit, and what is read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from collab import limits
from collab.errors import Closed
from collab.protocol.members import MemberRow
from collab.protocol.messages import LoggedMessage, Receipt
from collab.protocol.verdicts import GivenVerdict
from collab.storage.database import Connection, Database
from collab_server.lanes import LaneKey
from collab_server.log import member_changes, message_reads, messages, verdicts
from collab_server.log.chat_port import (
    MARKS_WAIT_S,
    UNKNOWN,
    Awaited,
    AwaitedCallback,
    ChatState,
    MemberChange,
    MembersCallback,
    MessagesCallback,
    Page,
    Submission,
    VerdictsCallback,
    VerdictToGive,
)
from collab_server.log.messages import Judged

__all__ = ["ChatBatch", "Retention", "SqliteChatLog", "size_of"]

_K = TypeVar("_K")

_ENTRY_BYTES: Final = 512  # of what is queued, besides its texts


@dataclass(frozen=True, slots=True)
class ChatBatch:
    """What one commit takes of it."""

    submissions: list[Submission]
    changes: list[MemberChange]
    verdicts: list[VerdictToGive]
    marks: dict[tuple[int, str], tuple[int, int]]
    now_s: float

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.entries or self.marks)

    @property
    def entries(self) -> int:
        """How many things were queued; marks do not count."""
        return len(self.submissions) + len(self.changes) + len(self.verdicts)

    @property
    def size(self) -> int:
        """Bytes of what was queued; marks do not count."""
        submitted = sum(size_of(submission) for submission in self.submissions)
        return submitted + _ENTRY_BYTES * (len(self.changes) + len(self.verdicts))

    def write(self, connection: Connection) -> Judged:
        """Write it. Writing it again changes nothing."""
        messages.save_marks(connection, self.marks)
        return messages.judge_all(
            connection, self.submissions, self.now_s, self.changes, self.verdicts
        )


@dataclass(frozen=True, slots=True)
class Retention:
    """Messages that are to be deleted."""

    room_id: int
    newer_than_ms: int
    at_most: int
    done: asyncio.Future[int]

    def write(self, connection: Connection) -> tuple[int, bool]:
        """Delete some; the lowest seq that stays, and whether that is all."""
        return messages.retain(connection, self.room_id, self.newer_than_ms, self.at_most)


def size_of(submission: Submission) -> int:
    """How many bytes wait with a submission. Raises ``ValueError`` for what is no UTF-8."""
    offered = submission.offered
    if offered is None:
        return _ENTRY_BYTES
    return _ENTRY_BYTES + len(offered.body.encode()) + len(offered.meta)


class SqliteChatLog:
    """``ChatLog`` of a log in SQLite, whose commit loop takes and announces what is queued here.

    ``queued`` is told the bytes of each thing that must not wait; ``wake`` begins a commit.
    """

    def __init__(
        self,
        database: Database,
        *,
        queued: Callable[[int], None],
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._queued = queued
        self._wake = wake
        self._clock = clock
        self._submissions: list[Submission] = []
        self._changes: list[MemberChange] = []
        self._verdicts: list[VerdictToGive] = []
        self._marks: dict[tuple[int, str], tuple[int, int]] = {}
        self._marks_due: asyncio.TimerHandle | None = None
        self._retentions: deque[Retention] = deque()
        self._callbacks: list[MessagesCallback] = []
        self._members_callbacks: list[MembersCallback] = []
        self._verdicts_callbacks: list[VerdictsCallback] = []
        self._awaited_callbacks: list[AwaitedCallback] = []
        self._closed = False

    # --- writing ----------------------------------------------------------------------------

    def submit(self, submission: Submission) -> None:
        self._check_open()
        size = size_of(submission)
        self._submissions.append(submission)
        self._queued(size)

    def mark(self, room_id: int, user: str, *, delivered_upto: int, read_upto: int) -> None:
        self._check_open()
        if len(self._marks) >= limits.MAX_QUEUED_MARKS and (room_id, user) not in self._marks:
            return  # its device says it again; meanwhile the disk takes nothing
        _merge(self._marks, (room_id, user), (delivered_upto, read_upto))
        if self._marks_due is None:
            loop = asyncio.get_running_loop()
            self._marks_due = loop.call_later(MARKS_WAIT_S, self._wake)

    def on_messages(self, callback: MessagesCallback) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def change_member(self, change: MemberChange) -> None:
        self._check_open()
        self._changes.append(change)
        self._queued(_ENTRY_BYTES)

    def on_members(self, callback: MembersCallback) -> Callable[[], None]:
        self._members_callbacks.append(callback)
        return lambda: self._members_callbacks.remove(callback)

    def give_verdict(self, verdict: VerdictToGive) -> None:
        self._check_open()
        self._verdicts.append(verdict)
        self._queued(_ENTRY_BYTES)

    def on_verdicts(self, callback: VerdictsCallback) -> Callable[[], None]:
        self._verdicts_callbacks.append(callback)
        return lambda: self._verdicts_callbacks.remove(callback)

    def on_awaited(self, callback: AwaitedCallback) -> Callable[[], None]:
        self._awaited_callbacks.append(callback)
        return lambda: self._awaited_callbacks.remove(callback)

    async def retain(self, room_id: int, *, newer_than_ms: int, at_most: int) -> int:
        self._check_open()
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._retentions.append(Retention(room_id, newer_than_ms, at_most, done))
        self._wake()
        return await done

    # --- for the commit loop ------------------------------------------------------------------

    def take(self) -> ChatBatch:
        """All that is queued. Announce it once it is durable, or put it back."""
        batch = ChatBatch(
            self._submissions, self._take_changes(), self._verdicts, self._marks, self._clock()
        )
        self._submissions, self._verdicts, self._marks = [], [], {}
        if self._marks_due is not None:
            self._marks_due.cancel()
            self._marks_due = None
        return batch

    def _take_changes(self) -> list[MemberChange]:
        """Changes for one commit: of one user in one room only the first.

        If nobody saw how a commit ended its changes are judged again. A first one that changed
        nothing would then undo the second one of the same user.
        """
        taken: dict[tuple[int, str], MemberChange] = {}
        later: list[MemberChange] = []
        for change in self._changes:
            if taken.setdefault((change.room_id, change.user), change) is not change:
                later.append(change)
        self._changes = later
        if later:
            self._wake()
        return list(taken.values())

    def put_back(self, batch: ChatBatch) -> None:
        """The commit of ``batch`` failed, or nobody saw how it ended."""
        self._submissions = [*batch.submissions, *self._submissions]
        self._changes = [*batch.changes, *self._changes]
        self._verdicts = [*batch.verdicts, *self._verdicts]
        marks = dict(batch.marks)
        for key, mark in self._marks.items():
            _merge(marks, key, mark)
        self._marks = marks

    def announce(self, batch: ChatBatch, judged: Judged) -> None:
        """``batch`` is durable: tell its writers, then the readers."""
        for submission, decision in zip(batch.submissions, judged.decisions, strict=True):
            submission.decided(decision)
        for change, became in zip(batch.changes, judged.changes, strict=True):
            change.decided(became)
        for room_id, (head, added) in judged.rooms.items():
            for callback in tuple(self._callbacks):
                callback(room_id, head, added)
        for room_id, (low, high) in judged.awaited.items():
            for on_awaited in tuple(self._awaited_callbacks):
                on_awaited(room_id, low, high)
        for room_id, members in judged.members.items():
            for on_members in tuple(self._members_callbacks):
                on_members(room_id, members)
        for room_id, standing in judged.verdicts.items():
            for on_verdicts in tuple(self._verdicts_callbacks):
                on_verdicts(room_id, standing)
        for verdict in batch.verdicts:
            verdict.decided()

    @property
    def next_retention(self) -> Retention | None:
        """The retention whose turn it is."""
        return self._retentions[0] if self._retentions else None

    def retention_moved(self, oldest: int, *, over: bool) -> None:
        """A transaction of ``next_retention`` is durable; the next one has its turn."""
        retention = self._retentions.popleft()
        if not over:
            self._retentions.append(retention)
        elif not retention.done.done():
            retention.done.set_result(oldest)

    def retention_failed(self, error: Exception) -> None:
        """``next_retention`` is given up."""
        done = self._retentions.popleft().done
        if not done.done():
            done.set_exception(error)

    def close(self) -> None:
        """Take nothing more. What is queued may still be taken."""
        self._closed = True
        if self._marks_due is not None:
            self._marks_due.cancel()

    def abandon(self) -> None:
        """The log ends: whoever waits for what is still queued is told that nobody knows."""
        submissions, self._submissions = self._submissions, []
        for submission in submissions:
            submission.decided(UNKNOWN)
        changes, self._changes = self._changes, []
        for change in changes:
            change.decided(UNKNOWN)
        given, self._verdicts = self._verdicts, []
        for verdict in given:
            verdict.decided()
        while self._retentions:
            self.retention_failed(Closed("the log was closed before old messages were deleted"))

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the log was closed; what was acknowledged is on disk")

    # --- reading -------------------------------------------------------------------------------

    async def enter(
        self, room_id: int, lane: LaneKey, *, generation: bytes, seq: int, read_upto: int
    ) -> ChatState:
        def read(connection: Connection) -> ChatState:
            return message_reads.enter(
                connection, room_id, lane, generation=generation, seq=seq, read_upto=read_upto
            )

        return await self._database.read(read)

    async def after(self, room_id: int, seq: int) -> Page:
        return await self._database.read(
            lambda connection: message_reads.page(connection, room_id, seq)
        )

    async def page(self, room_id: int, after: int, before: int, *, newest: bool) -> Page:
        return await self._database.read(
            lambda connection: message_reads.page(connection, room_id, after, before, newest=newest)
        )

    async def find(self, room_id: int, message_id: bytes) -> LoggedMessage | None:
        return await self._database.read(
            lambda connection: message_reads.find(connection, room_id, message_id)
        )

    async def members(self, room_id: int) -> list[MemberRow]:
        return await self._database.read(
            lambda connection: member_changes.members(connection, room_id)
        )

    async def role(self, room: str, user: str) -> str:
        return await self._database.read(
            lambda connection: member_changes.role_in_room(connection, room, user)
        )

    async def verdicts(self, room_id: int, ids: Sequence[bytes]) -> list[GivenVerdict]:
        return await self._database.read(
            lambda connection: verdicts.verdicts(connection, room_id, ids)
        )

    async def awaited(self, after: tuple[int, int], limit: int) -> list[Awaited]:
        return await self._database.read(
            lambda connection: verdicts.awaited(connection, after, limit)
        )

    async def room_name(self, room_id: int) -> str | None:
        return await self._database.read(lambda connection: verdicts.room_name(connection, room_id))

    async def receipts(self, room_id: int, limit: int) -> list[Receipt]:
        stored = await self._database.read(
            lambda connection: message_reads.receipts(connection, room_id, limit)
        )
        marks = {receipt.user: (receipt.delivered_upto, receipt.read_upto) for receipt in stored}
        for (marked_room, user), mark in self._marks.items():
            if marked_room == room_id:
                _merge(marks, user, mark)
        return [Receipt(user, *mark) for user, mark in marks.items()]


def _merge(marks: dict[_K, tuple[int, int]], key: _K, mark: tuple[int, int]) -> None:
    delivered, read = marks.get(key, (0, 0))
    marks[key] = (max(delivered, mark[0]), max(read, mark[1]))
