"""The chat of one room: what each reader gets next. No I/O, no clock.

The shell (``chats``, ``gateway.chat``) tells it what was committed, reads the log where memory does
not reach, and sends what ``next_messages`` and ``next_receipts`` return.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

from collab import limits
from collab.protocol import frames
from collab.protocol.codec import encode
from collab.protocol.members import GONE, MemberRow, pack_members
from collab.protocol.messages import (
    LoggedMessage,
    Receipt,
    pack_messages,
    pack_outcomes,
    pack_receipts,
    packed_size,
)
from collab.protocol.verdicts import GivenVerdict, pack_verdicts
from collab_server.log.chat_port import ChatState, Page

__all__ = ["BEHIND", "OVERTAKEN", "Chat", "ChatReader", "Unserved", "catch_up_from"]


class Unserved(Enum):
    """Why a reader does not get its next messages from memory."""

    BEHIND = auto()  # the log itself must be read
    OVERTAKEN = auto()  # what comes next for it was deleted; it must enter again


BEHIND: Final = Unserved.BEHIND
OVERTAKEN: Final = Unserved.OVERTAKEN


@dataclass(eq=False, slots=True)
class ChatReader:
    """A connection's place in the room's messages, and what it has yet to be told besides."""

    user: str
    wake: Callable[[], None]  # called when there is something for it
    seq: int = 0
    due: dict[str, None] = field(default_factory=dict)  # users whose marks
    due_members: dict[str, None] | None = None  # users who are, or were, members; None: all
    due_verdicts: dict[bytes, tuple[int, GivenVerdict]] = field(default_factory=dict)
    is_overrun: bool = False  # too many verdicts fell meanwhile: it must enter again


def catch_up_from(state: ChatState, seq: int, granted: int) -> int:
    """The place from which a device is sent messages that was at ``seq``.

    ``granted``: how many missed messages its connection was sent already, or will be.
    """
    oldest_place = state.oldest - 1
    place = max(seq if state.good else 0, oldest_place)
    missed = state.head - place
    if missed <= limits.CATCH_UP_PER_ROOM and granted + missed <= limits.CATCH_UP_IN_ALL:
        return place
    return max(state.head - limits.NEWEST_IN_LIMITED, place)


class Chat:
    """One room's messages, as far as they are in memory, its readers and their marks.

    Invariants:

    1. Nothing is in here that is not durable.
    2. The tail is every message above ``head - len(tail)``; readers below it read the log.
    3. A reader's seq never passes a message that was not sent to it, and it is sent none twice.
    4. Marks never fall, and are never beyond the head.
    5. A reader that is slow costs its place, a name for each user whose marks or role it was not
       told, and ``MAX_DUE_VERDICTS`` verdicts.
    6. A verdict goes to a reader after the message that it is about.
    """

    def __init__(self, channel: int) -> None:
        self.channel: Final = channel
        self.head = 0  # 0, too, before anybody has entered
        self.readers: set[ChatReader] = set()
        self.is_loaded = False  # whether the marks that are stored are in here
        self.since_retention = 0  # messages that were added
        self._tail: list[LoggedMessage] = []
        self._tail_bytes = 0
        self._runs: dict[tuple[int, int], bytes] = {}
        self._marks: dict[str, Receipt] = {}
        self.members: dict[str, str] = {}  # once it is loaded
        self.member_moves = 0  # how often some of them were told of

    # Readers

    def load(self, receipts: Iterable[Receipt], members: Iterable[MemberRow] = ()) -> None:
        """Marks and members that are stored."""
        self.is_loaded = True
        self.members = dict(members)
        for receipt in receipts:
            self._merge(receipt)

    def read_upto(self, user: str) -> int:
        """How far a user has read, as far as that is known here."""
        known = self._marks.get(user)
        return 0 if known is None else known.read_upto

    def enter(self, reader: ChatReader, state: ChatState, seq: int, granted: int) -> frames.Entered:
        """Put a reader that was at ``seq`` where it is to go on; it is told where that is."""
        assert self.is_loaded
        self._move(state.head, ())
        reader.seq = catch_up_from(state, seq, granted)
        # Its user may have read on, on another device, since the state was read.
        has_read = self.read_upto(reader.user) > state.read_upto
        reader.due = {user: None for user in self._marks if user != reader.user or has_read}
        reader.due_members = None
        reader.due_verdicts.clear()
        reader.is_overrun = False
        self.readers.add(reader)
        return frames.Entered(
            channel=self.channel,
            lane_seq=state.lane.last,
            outcomes=pack_outcomes(state.lane.outcomes),
            good=state.good,
            after=reader.seq,
            head=state.head,
            oldest=state.oldest,
            read_upto=state.read_upto,
            unread=state.unread,
            user=reader.user,
        )

    def leave(self, reader: ChatReader) -> None:
        """Forget ``reader``."""
        self.readers.discard(reader)

    # The log moves

    def committed(self, head: int, added: Sequence[LoggedMessage]) -> None:
        """The log has come to ``head``; ``added`` are its newest messages, or none are known."""
        self.since_retention += len(added)
        self._move(head, added)
        self._trim()

    def _move(self, head: int, added: Sequence[LoggedMessage]) -> None:
        if head <= self.head:
            return  # known from a reader that entered meanwhile
        if not added or added[0].seq != self.head + 1:
            self._tail.clear()
            self._tail_bytes = 0
        assert not added or added[-1].seq == head
        self._tail.extend(added)
        self._tail_bytes += sum(map(packed_size, added))
        self.head = head

    def _trim(self) -> None:
        """Drop what every reader was sent, and the oldest of what is too much."""
        tail = self._tail
        base = self.head - len(tail)
        slowest = min((reader.seq for reader in self.readers), default=self.head)
        count = min(max(0, slowest - base), len(tail))
        size = self._tail_bytes - sum(map(packed_size, tail[:count]))
        while count < len(tail) and (
            size > limits.MAX_TAIL_MESSAGE_BYTES or len(tail) - count > limits.MAX_TAIL_MESSAGES
        ):
            size -= packed_size(tail[count])
            count += 1
        if count:
            del tail[:count]
            self._tail_bytes = size
            self._runs.clear()

    # Reading

    def is_behind(self, reader: ChatReader) -> bool:
        """Whether there are messages that ``reader`` was not sent."""
        return reader.seq < self.head

    def is_below_tail(self, reader: ChatReader) -> bool:
        """Whether the log must be read for what ``reader`` is sent next."""
        return reader.seq < self.head - len(self._tail)

    def next_messages(self, reader: ChatReader) -> bytes | Unserved | None:
        """The next frame from the log for ``reader``; moves its place. None: it is at the head."""
        if not self.is_behind(reader):
            return None
        if self.is_below_tail(reader):
            return BEHIND
        first = reader.seq - (self.head - len(self._tail))
        last, size = first, 0
        while last < len(self._tail) and last - first < limits.PAGE_MESSAGES:
            size += packed_size(self._tail[last])
            if size > limits.MAX_RUN_BYTES and last > first:
                break
            last += 1
        key = (reader.seq, self._tail[last - 1].seq)
        frame = self._runs.get(key)
        if frame is None:
            if len(self._runs) >= 16:
                self._runs.clear()
            frame = self._runs[key] = self._messages(self._tail[first:last])
        reader.seq = key[1]
        return frame

    def messages_of(self, reader: ChatReader, page: Page) -> bytes | Unserved | None:
        """The next frame for ``reader``, of what was read from the log beyond its place."""
        if not page.messages:
            return OVERTAKEN if self.is_behind(reader) else None
        if page.messages[0].seq != reader.seq + 1:
            return OVERTAKEN
        # What was read is durable, also where its commit has not been told here yet.
        self._move(page.messages[-1].seq, ())
        reader.seq = page.messages[-1].seq
        return self._messages(page.messages)

    def _messages(self, run: Sequence[LoggedMessage]) -> bytes:
        data = pack_messages(run)
        return encode(frames.Messages(self.channel, run[0].seq - 1, run[-1].seq, data))

    def page_of(self, asked: frames.Fetch, page: Page) -> bytes:
        """The answer to FETCH, of what was read from the log for it."""
        run = page.messages
        after, upto = (run[0].seq - 1, run[-1].seq) if run else (asked.after, asked.after)
        data = pack_messages(run)
        return encode(frames.Page(self.channel, asked.request, after, upto, page.oldest, data))

    # Members

    def members_changed(self, rows: Iterable[MemberRow]) -> None:
        """These users are now members with these roles, or none. Durable."""
        self.member_moves += 1
        if not self.is_loaded:
            return
        for user, role in rows:
            if self.members.get(user, GONE) == role:
                continue
            if role == GONE:
                del self.members[user]
            else:
                self.members[user] = role
            for reader in self.readers:
                if reader.due_members is not None:
                    reader.due_members[user] = None
                    if len(reader.due_members) > limits.MAX_MEMBERS:
                        reader.due_members = None
                reader.wake()

    def next_members(self, reader: ChatReader) -> bytes | None:
        """The members that ``reader`` was not told of, or all of them."""
        if reader not in self.readers:
            return None  # it has not entered
        whole = reader.due_members is None
        users = self.members if reader.due_members is None else reader.due_members
        if not users and not whole:
            return None
        rows = [(user, self.members.get(user, GONE)) for user in users]
        reader.due_members = {}
        return encode(frames.Members(self.channel, whole, pack_members(rows)))

    # Verdicts

    def verdicts_given(self, given: Iterable[tuple[int, GivenVerdict]]) -> None:
        """These verdicts stand now, on messages of these seqs. Durable."""
        base = self.head - len(self._tail)
        for seq, verdict in given:
            if base < seq <= self.head:  # the head is 0 before anybody has entered
                told = self._tail[seq - base - 1]
                self._tail[seq - base - 1] = replace(told, verdict=verdict.verdict)
                self._runs.clear()
            for reader in self.readers:
                if len(reader.due_verdicts) >= limits.MAX_DUE_VERDICTS:
                    reader.is_overrun = True
                else:
                    reader.due_verdicts[verdict.message_id] = (seq, verdict)
                reader.wake()

    def next_verdicts(self, reader: ChatReader) -> bytes | None:
        """The next verdicts on what ``reader`` was sent, as many as one frame may have."""
        page = [verdict for seq, verdict in reader.due_verdicts.values() if seq <= reader.seq][
            : limits.PAGE_MESSAGES
        ]
        if not page:
            return None
        for verdict in page:
            del reader.due_verdicts[verdict.message_id]
        return self.verdicts_of(page)

    def verdicts_of(self, verdicts: Iterable[GivenVerdict]) -> bytes:
        """A frame of these verdicts."""
        return encode(frames.Verdicts(self.channel, pack_verdicts(verdicts)))

    # Marks

    def mark(self, reader: ChatReader, delivered_upto: int, read_upto: int) -> Receipt | None:
        """What to store of a reader's marks; None if nothing of it is new. Others are due it."""
        said = Receipt(reader.user, min(delivered_upto, self.head), min(read_upto, self.head))
        if not self._merge(said):
            return None
        if reader.user in self._marks:
            for other in self.readers:
                if other is not reader:
                    other.due[reader.user] = None
                    other.wake()
        return said

    def _merge(self, said: Receipt) -> bool:
        known = self._marks.get(said.user)
        if known is None:
            if len(self._marks) < limits.MAX_MARKED_USERS:
                self._marks[said.user] = said
            return True
        delivered = max(known.delivered_upto, said.delivered_upto)
        read = max(known.read_upto, said.read_upto)
        if (delivered, read) == (known.delivered_upto, known.read_upto):
            return False
        self._marks[said.user] = Receipt(said.user, delivered, read)
        return True

    def next_receipts(self, reader: ChatReader) -> bytes | None:
        """The next marks that ``reader`` is due, as many as one frame holds."""
        page: list[Receipt] = []
        size = 0
        for user in reader.due:
            receipt = self._marks[user]
            size += packed_size(receipt)
            if page and (size > limits.MAX_RUN_BYTES or len(page) == limits.MAX_RECEIPTS):
                break
            page.append(receipt)
        if not page:
            return None
        for receipt in page:
            del reader.due[receipt.user]
        return encode(frames.Receipts(self.channel, pack_receipts(page)))
