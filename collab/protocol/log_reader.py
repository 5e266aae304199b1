"""A device's place in the log of a room's messages, and the pages that it asks for."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.chat_changes import Fill, Place, Receive, Replace
from collab.protocol.messages import LoggedMessage, unpack_messages

__all__ = ["LogReader"]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A range that was asked for: ``low`` to ``high``, from one of its ends."""

    low: int
    high: int
    newest: bool


class LogReader:
    """The mark of one room.

    Invariants:

    1. Every seq from 1 to the mark is a message on this device, or lies in a gap. The mark and
       what it covers are stored in one transaction.
    2. The mark moves only by a run that joins it, without a hole; never to the highest seq seen.
       A hole that the relay announces (ENTERED) becomes a gap.
    3. A mark that is no place in the relay's history is given up, with its number.
    4. A page fills something of what it was asked for, or says that the relay has nothing there.
    """

    def __init__(self, *, generation: bytes, seq: int) -> None:
        self.generation = generation
        self.seq = seq
        self.stored = seq  # the mark as it is on the disk
        self.is_placed = False  # ENTERED came on this joining
        self.began = 0  # the mark when it came
        self.target = 0  # the head that it named
        self._run = b""  # the generation of this connection
        self._requests = 0
        self._asked: dict[int, _Asked] = {}
        self._to_ask: deque[int] = deque()

    @property
    def is_caught_up(self) -> bool:
        """Whether all that the log held when the chat was entered is stored here."""
        return self.is_placed and self.stored >= self.target

    # Entering

    def joined(self, generation: bytes) -> None:
        """The room is open on a connection whose relay runs under this generation."""
        self._run = generation

    def check(self, frame: frames.Entered, asked: int) -> None:
        """Raise :class:`BadFrame` for a history that cannot be; ``asked``: the mark of ENTER."""
        if (
            frame.head > limits.MAX_SEQ
            or not 0 < frame.oldest <= frame.head + 1
            or not (frame.oldest - 1 <= frame.after <= frame.head)
        ):
            raise BadFrame("a history whose ends do not fit")
        if frame.good and frame.after < asked:
            raise BadFrame("messages that this device has would come again")

    def entered(self, frame: frames.Entered, re_offer_since: int) -> Place | Replace:
        """The relay's history, and where it goes on for us."""
        self.target = frame.head
        self.is_placed = True
        place = Place(
            frame.user, self._run, frame.after, frame.head, frame.oldest,
            frame.read_upto, frame.unread,
        )  # fmt: skip
        if not frame.good or frame.after > self.seq:
            self.generation, self.seq = self._run, frame.after
        self.began = self.seq
        return place if frame.good else Replace(place, re_offer_since)

    def detach(self) -> None:
        """The connection is gone, or the room is joined again."""
        self.is_placed = False
        self._asked.clear()
        self._to_ask.clear()

    # What comes

    def messages(self, frame: frames.Messages) -> Receive | None:
        """The log from one place to another."""
        run = _run_of(frame)
        if not self.is_placed:
            raise BadFrame("messages before ENTERED")
        if frame.after > self.seq:
            raise BadFrame(f"messages after {frame.after} for a device that is at {self.seq}")
        if frame.upto <= self.seq:
            return None  # of a place before this one
        fresh = [message for message in run if message.seq > self.seq]
        self.generation, self.seq = self._run, frame.upto
        return Receive(fresh, self._run, frame.upto)

    def is_stored(self, upto: int) -> None:
        """The mark is on the disk."""
        self.stored = max(self.stored, upto)

    def restart(self, seq: int) -> None:
        """The mark in another history is on the disk, in the place of the one before."""
        self.stored = seq

    # Pages

    def ask(self, low: int, high: int, *, newest: bool) -> int:
        """Ask for what is missing from ``low`` to ``high``; the number comes back in ``Fill``."""
        assert 0 < low <= high <= self.seq
        self._requests += 1
        self._asked[self._requests] = _Asked(low, high, newest)
        self._to_ask.append(self._requests)
        return self._requests

    def give_up(self, request: int) -> None:
        """Nobody waits for this page any more."""
        self._asked.pop(request, None)

    def next_frame(self, channel: int) -> frames.Fetch | None:
        """The next FETCH, or None."""
        while self._to_ask:
            request = self._to_ask.popleft()
            asked = self._asked.get(request)
            if asked is not None:
                return frames.Fetch(channel, request, asked.low - 1, asked.high + 1, asked.newest)
        return None

    def page(self, frame: frames.Page) -> Fill | None:
        """The answer to a FETCH."""
        asked = self._asked.get(frame.request)
        if asked is None:
            return None
        run = _run_of(frame)
        if not run:
            if frame.oldest <= asked.high:
                raise BadFrame("a page that does not bring this device on")
            del self._asked[frame.request]
            return Fill(frame.request, (), asked.high + 1, asked.high, frame.oldest)
        start = max(asked.low, frame.oldest)
        touches = frame.upto == asked.high if asked.newest else frame.after == start - 1
        if not touches or frame.after < start - 1 or frame.upto > asked.high:
            raise BadFrame("a page of something else than what was asked for")
        del self._asked[frame.request]
        return Fill(frame.request, run, frame.after + 1, frame.upto, frame.oldest)


def _run_of(frame: frames.Messages | frames.Page) -> Sequence[LoggedMessage]:
    """The messages of a frame: every seq above ``after``, up to ``upto``."""
    run = unpack_messages(frame.data)
    if frame.upto > limits.MAX_SEQ:
        raise BadFrame(f"a message with the number {frame.upto}")
    complete = len(run) == frame.upto - frame.after and (
        not run or (run[0].seq, run[-1].seq) == (frame.after + 1, frame.upto)
    )
    if not complete:
        raise BadFrame(f"{len(run)} messages for the range {frame.after} to {frame.upto}")
    return run
