"""The log's rules for one room: append, number, ack, and what each reader gets next.

No I/O, no clock, no randomness: the shell (``rooms``, ``gateway``) commits what ``receive``
appended and sends what ``next_run`` and ``next_ack`` return.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.codec import encode
from collab.protocol.frames import Access, Code
from collab.protocol.update import Coverage, Fit, Walk, cut, merge, walk


@dataclass(frozen=True, slots=True)
class Entry:
    """One update of the log's tail."""

    offset: int
    data: bytes
    walked: Walk
    writer: Reader | None


Dialect = Callable[[int, int, bytes], bytes]
"""How a run of the log is written for a reader: channel, offset, update; shared by all who use it.
"""


def in_frames(channel: int, offset: int, update: bytes) -> bytes:
    """A run in the dialect of ``collab.v1``."""
    return encode(frames.Updates(channel, offset, update))


def _nothing() -> None:
    pass


@dataclass(eq=False, slots=True)
class Reader:
    """A connection's place in the room's log, and what it is owed."""

    access: Access
    wake: Callable[[], None]  # called when there is something for it
    dialect: Dialect = in_frames
    on_deleted: Callable[[], None] = _nothing  # called when the room was deleted; it leaves then
    position: int = 0
    waits_for_difference: bool = True  # nothing of the log goes to it before that
    waits_for_offer: bool = True  # its updates are dropped until its difference comes
    number: int = 0  # the last one that it used
    refused: bool = False
    acks: deque[tuple[int, int]] = field(default_factory=deque)  # number, offset to be committed


class Behind(Enum):
    """Why a reader cannot be served from memory."""

    BEHIND = auto()


BEHIND: Final = Behind.BEHIND

TOO_LARGE: Final = f"a document holds at most {limits.MAX_DOCUMENT_BYTES} bytes"


@dataclass(frozen=True, slots=True)
class Appended:
    """The update (or what was new of it) is in the log at ``offset``; commit it."""

    offset: int
    data: bytes


class NotTaken(Enum):
    """Why an update is not appended."""

    EARLY = auto()  # something that it needs is not in the log
    KNOWN = auto()
    TOO_LARGE = auto()
    SEALED = auto()  # the room is being deleted


@dataclass(frozen=True, slots=True)
class Answer:
    """Send this frame to the writer."""

    frame: frames.Frame


class Room:
    """One room's log, as far as it is in memory.

    Invariants:

    1. The log has no gap and no overlap per client id: an update is appended only if it starts
       at the state vector and all that it needs is in the log; what is known is cut off.
    2. An ack is sent only when its offset is committed, and only to a reader whose place is at or
       beyond it: a device whose stored position is good has everything that was acked.
    3. A reader's place never passes an update that was not sent to it, except its own.
    4. Uncommitted updates are always in the tail.
    5. A sealed room takes nothing in and acks nothing.
    """

    def __init__(
        self,
        *,
        room_id: int,
        channel: int,
        name: str,
        epoch: bytes,
        base: int,
        head: int,
        coverage: Coverage,
        snapshot_bytes: int = 0,
        log_bytes: int = 0,
    ) -> None:
        self.id = room_id
        self.channel = channel
        self.name = name
        self.epoch = epoch
        self.base = base  # updates at or before it are only in the snapshot
        self.head = head
        self.coverage = coverage
        self.snapshot_bytes = snapshot_bytes
        self.log_bytes = log_bytes
        self.readers: set[Reader] = set()
        self.pins = 0  # above zero somebody reads log and tail as one: the tail is not trimmed
        self.sealed = False
        self._tail: list[Entry] = []
        self._offsets: list[int] = []
        self._tail_base = head  # every update beyond it is in the tail
        self._tail_bytes = 0
        self._runs: dict[tuple[Dialect, int, int], bytes] = {}

    # Readers

    def join(self, reader: Reader, *, good: bool, offset: int) -> bool:
        """Add ``reader``. True if it can go on from ``offset``; otherwise it gets a difference."""
        good = good and offset >= self.base
        self.readers.add(reader)
        reader.position = offset if good else 0
        reader.waits_for_difference = not good
        reader.waits_for_offer = not good
        reader.number = 0
        reader.refused = False
        reader.acks.clear()
        return good

    def leave(self, reader: Reader) -> None:
        """Forget ``reader``; what it wrote stays."""
        self.readers.discard(reader)
        reader.acks.clear()

    def place(self, reader: Reader, offset: int) -> None:
        """``reader`` is sent a difference that holds everything up to ``offset``."""
        reader.position = offset
        reader.waits_for_difference = False

    def seal(self) -> None:
        """The room is being deleted: who is told of that gets no ack any more."""
        self.sealed = True
        for reader in self.readers:
            reader.acks.clear()

    # Writing

    def receive(
        self,
        reader: Reader,
        frame: frames.Update | frames.Offer,
        walked: Walk,
        next_offset: Callable[[], int],
    ) -> Appended | Answer | None:
        """Take an update in. Raises :class:`BadFrame` or :class:`BadUpdate`."""
        if frame.number != reader.number + 1:
            raise BadFrame(f"update {frame.number} came after {reader.number}")
        reader.number = frame.number
        if reader.refused:
            return None
        if reader.access < Access.WRITE:
            return self._refuse(reader, Code.FORBIDDEN, "this user may read the room, not write it")
        is_offer = isinstance(frame, frames.Offer)
        if reader.waits_for_offer and not is_offer:
            return None  # sent before our RESYNC reached its writer; the offer will contain it
        taken = self.take_in(reader, frame.update, walked, next_offset)
        reader.waits_for_offer = taken is NotTaken.EARLY
        match taken:
            case Appended():
                reader.acks.append((frame.number, taken.offset))
                return taken
            case NotTaken.EARLY:
                return Answer(frames.Resync(self.channel, self.coverage.state_vector()))
            case NotTaken.KNOWN:
                reader.acks.append((frame.number, self.head))
                return None
            case NotTaken.SEALED:
                return None
            case NotTaken.TOO_LARGE:
                return self._refuse(reader, Code.TOO_LARGE, TOO_LARGE)

    def take_in(
        self, writer: Reader, data: bytes, walked: Walk, next_offset: Callable[[], int]
    ) -> Appended | NotTaken:
        """Append what is new of an update, whatever its writer speaks. Raises BadUpdate."""
        if self.sealed:
            return NotTaken.SEALED
        fit = self.coverage.fit(walked)
        if fit is Fit.EARLY:
            return NotTaken.EARLY
        if fit is Fit.NOTHING:
            return NotTaken.KNOWN
        if self.snapshot_bytes + len(data) > limits.MAX_DOCUMENT_BYTES:
            return NotTaken.TOO_LARGE
        if fit is Fit.OVERLAPS:
            data = cut(data, walked, self.coverage)
            walked = walk(data)
        return Appended(self.append(data, walked, next_offset(), writer), data)

    def append(self, data: bytes, walked: Walk, offset: int, writer: Reader | None) -> int:
        """Put an update that fits at the end of the log."""
        assert offset > self.head
        self.coverage.add(walked)
        self._tail.append(Entry(offset, data, walked, writer))
        self._offsets.append(offset)
        self._tail_bytes += len(data)
        self.log_bytes += len(data)
        self.head = offset
        return offset

    def _refuse(self, reader: Reader, code: Code, reason: str) -> Answer:
        reader.refused = True
        return Answer(frames.Refused(self.channel, reader.number, code, reason))

    # Reading

    def is_behind(self, reader: Reader) -> bool:
        """Whether there is something in the log that ``reader`` was not sent."""
        return not reader.waits_for_difference and reader.position < self.head

    def next_run(self, reader: Reader) -> bytes | Behind | None:
        """The next frame from the log for ``reader``; moves its place.

        None when it is at the head; ``BEHIND`` when the log itself must be read.
        """
        if not self.is_behind(reader):
            return None
        if reader.position < self._tail_base:
            return BEHIND
        tail = self._tail
        first = bisect_right(self._offsets, reader.position)
        while first < len(tail) and tail[first].writer is reader:
            first += 1
        if first == len(tail):
            reader.position = self.head
            return None
        last, size = first, 0
        while last < len(tail) and last - first < limits.MAX_RUN_UPDATES:
            size += len(tail[last].data)
            if size > limits.MAX_RUN_BYTES and last > first:
                break
            last += 1
        reader.position = tail[last - 1].offset
        key = (reader.dialect, tail[first].offset, reader.position)
        frame = self._runs.get(key)
        if frame is None:
            if len(self._runs) >= 16:
                self._runs.clear()
            merged = merge([(entry.data, entry.walked) for entry in tail[first:last]])
            frame = reader.dialect(self.channel, reader.position, merged)
            self._runs[key] = frame
        return frame

    def next_ack(self, reader: Reader, committed: int) -> bytes | None:
        """The ack that ``reader`` is owed by now."""
        number = 0
        acks = reader.acks
        while acks and acks[0][1] <= committed and acks[0][1] <= reader.position:
            number = acks.popleft()[0]
        if not number:
            return None
        return encode(frames.Ack(self.channel, number, reader.position))

    # Keeping the tail small

    def trim(self, committed: int) -> None:
        """Drop what every reader was sent, and the oldest of what is too much."""
        if self.pins:
            return
        places = [reader.position for reader in self.readers if not reader.waits_for_difference]
        keep_after = min([committed, *places])
        count = bisect_right(self._offsets, keep_after)
        size = self._tail_bytes
        for entry in self._tail[:count]:
            size -= len(entry.data)
        most = bisect_right(self._offsets, committed)
        while count < most and (
            size > limits.MAX_TAIL_BYTES or len(self._tail) - count > limits.MAX_TAIL_UPDATES
        ):
            size -= len(self._tail[count].data)
            count += 1
        if count:
            self._tail_base = self._offsets[count - 1]
            del self._tail[:count]
            del self._offsets[:count]
            self._tail_bytes = size
            self._runs.clear()

    def tail_after(self, offset: int) -> list[bytes]:
        """The updates in memory beyond ``offset``, oldest first."""
        return [entry.data for entry in self._tail[bisect_right(self._offsets, offset) :]]

    @property
    def slowest(self) -> int:
        """The place of the reader that is furthest behind; the head without readers."""
        places = [reader.position for reader in self.readers if not reader.waits_for_difference]
        return min(places, default=self.head)
