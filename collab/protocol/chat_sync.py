"""One room's chat on a device, and how it comes level with the relay's log of messages.

The shell (``collab.room_chat``) tells this machine what happened, stores what it decides, and
tells it what came of that; it asks ``next_frame`` whenever the socket takes more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.chat_changes import (
    Bind,
    Bound,
    Change,
    Fill,
    GiveUp,
    NewLane,
    NewUser,
    Place,
    Receive,
    Replace,
    TakeMembers,
    TakeReceipts,
    TakeVerdicts,
    Waiting,
)
from collab.protocol.inquiries import Inquiries
from collab.protocol.log_reader import LogReader
from collab.protocol.marks import Marks
from collab.protocol.members import unpack_members
from collab.protocol.membership import Membership
from collab.protocol.messages import unpack_outcomes, unpack_receipts
from collab.protocol.outbox import Outbox
from collab.protocol.verdicts import unpack_verdicts

__all__ = ["ChatFrame", "ChatSync", "Moment", "Phase"]

_RENEWAL_WAIT_MS: Final = 100  # before the second lane of one joining; it doubles

ChatFrame = (
    frames.Entered
    | frames.Outcome
    | frames.Expected
    | frames.Messages
    | frames.Page
    | frames.Receipts
    | frames.Changed
    | frames.Members
    | frames.Verdicts
)


@dataclass(frozen=True, slots=True)
class Moment:
    """What the machine cannot know by itself. ``now``: the device's running time, in ms.

    ``chance`` is uniform in [0, 1), ``fresh_epoch`` 16 random bytes of this moment alone.
    """

    now: int
    chance: float
    fresh_epoch: bytes


class Phase(Enum):
    """Where a room's chat is on its connection."""

    DETACHED = auto()  # no connection, or not joined on it
    JOINED = auto()  # ENTER is to be sent
    ENTERING = auto()  # ENTER was sent
    OPEN = auto()  # ENTERED came
    RENEWING = auto()  # a new lane is on its way to the disk; then ENTER again


class ChatSync:
    """The state machine of one room's chat.

    Invariants (those of :class:`Outbox`, :class:`LogReader` and :class:`Marks` besides):

    1. Nothing goes up before JOINED, and nothing but ENTER before ENTERED.
    2. ENTER names a lane that is on this disk.
    3. A frame that is refused with :class:`BadFrame` has changed nothing.
    4. Slots are resolved before anything else of ENTERED, and before the next message is bound.
    5. What is stored late of a history that was given up counts for nothing in the next one.
    6. What one user wrote never goes up on the connection of another.
    """

    def __init__(
        self,
        *,
        lane_epoch: bytes,
        bound: int,
        waiting: Iterable[Waiting],
        slots: Iterable[Bound],
        generation: bytes,
        seq: int,
        read_upto: int,
        user: str = "",
    ) -> None:
        """``user`` is whom the relay took this device for the last time; "" if nobody knows."""
        self.outbox = Outbox(lane_epoch=lane_epoch, bound=bound, waiting=waiting, slots=slots)
        self.reader = LogReader(generation=generation, seq=seq)
        self.marks = Marks(delivered_upto=seq, read_upto=read_upto)
        self.membership = Membership()
        self.inquiries = Inquiries()
        self.phase = Phase.DETACHED
        self._channel = -1
        self._entered_at = 0  # the mark of the last ENTER
        self._user = user
        self._renewals = 0  # lanes begun on this joining
        self._enter_from = 0  # no ENTER before this running time
        self._replacing = 0  # histories that are on their way to the disk

    # What the shell asks

    @property
    def is_open(self) -> bool:
        """Whether messages can go up now."""
        return self.phase is Phase.OPEN

    @property
    def is_caught_up(self) -> bool:
        """Whether all that the log held when the chat was entered is stored here."""
        return self.is_open and self.reader.is_caught_up and not self._replacing

    @property
    def is_level(self) -> bool:
        """Whether, besides, every message of ours is decided."""
        return self.is_caught_up and not self.outbox.pending

    @property
    def is_told(self) -> bool:
        """Whether the relay knows how far this device has received and its user has read."""
        return self.is_open and not self._replacing and self.marks.deadline() is None

    # What happens to the room

    def joined(self, channel: int, generation: bytes) -> None:
        """The room is open on ``channel`` of a connection."""
        self.detach()
        self.phase = Phase.JOINED
        self._channel = channel
        self._renewals = self._enter_from = 0
        self.reader.joined(generation)

    def detach(self) -> None:
        """The connection is gone, or the room is left or joined again."""
        self.phase = Phase.DETACHED
        self.outbox.detach()
        self.reader.detach()
        self.membership.detach()
        self.inquiries.detach()

    def receive(self, frame: ChatFrame, moment: Moment) -> list[Change]:
        """A frame came from the relay. Raises :class:`BadFrame`.

        While the room is joined again, what was on its way from before is dropped: it comes anew.
        """
        if self.phase is Phase.DETACHED:
            return []
        changes: list[Change] = []
        match frame:
            case frames.Entered():
                changes += self._entered(frame, moment)
            case frames.Outcome() if self.is_open:
                changes += self.outbox.outcome(frame, moment.now, moment.chance, moment.fresh_epoch)
            case frames.Expected() if self.is_open:
                changes += self.outbox.expected(frame.lane_seq, moment.now, moment.fresh_epoch)
            case frames.Outcome() | frames.Expected():
                pass  # of a lane that ENTERED has told of, or will
            case frames.Messages():
                received = self.reader.messages(frame)
                changes += [received] if received is not None else []
            case frames.Page():
                filled = self.reader.page(frame)
                changes += [filled] if filled is not None else []
            case frames.Receipts():
                changes.append(self._receipts(frame))
            case frames.Members():
                self._check_entered(frame)
                changes.append(TakeMembers(unpack_members(frame.data), frame.whole))
            case frames.Changed():
                self._check_entered(frame)
                answered = self.membership.answer(frame)
                changes += [answered] if answered is not None else []
            case frames.Verdicts():
                self._check_entered(frame)
                verdicts = unpack_verdicts(frame.data)
                self.inquiries.decided(verdict.message_id for verdict in verdicts)
                changes.append(TakeVerdicts(verdicts))
        if any(isinstance(change, NewLane | NewUser) for change in changes):
            self._renew(moment.now)
        return changes + self.decide(moment.now)

    def stored(
        self,
        change: Change,
        *,
        now: int,
        slots: Iterable[Bound] = (),
        waiting: Iterable[Waiting] = (),
        logged: Iterable[bytes] = (),
        awaited: Iterable[bytes] = (),
    ) -> list[Change]:
        """``change`` is on this disk.

        ``slots`` and ``waiting`` are what some of them ask for, or what of ours was accepted and is
        not in the log; ``logged`` are ids of ours that it found there, ``awaited`` of messages
        about whose verdict the relay is to be asked.
        """
        if isinstance(change, Place | Replace | Receive | Fill):
            self.outbox.are_off_log(slots)
        if isinstance(change, Place | Receive | Fill):
            self.outbox.queued_again(waiting)
        self.outbox.logged(logged)
        if self.reader.is_placed:  # else all of them are asked about when it is
            self.inquiries.ask(awaited)
        match change:
            case Bind():
                self.outbox.is_bound(change, slots)
            case NewLane():
                self.outbox.was_read(waiting)
            case NewUser():
                self.outbox.was_read(waiting)
                self.marks.another_reads()  # also what was stored as read before this
            case Replace(place):
                self.outbox.was_read(waiting)
                self._replacing -= 1
                self.reader.restart(place.after)
                self.marks.restart(place.after, place.read_upto)
            case Place(after=upto, head=head) if not self._replacing:
                self.reader.is_stored(upto)
                self.marks.delivered(upto)
                self.marks.cut(head)
            case Receive(upto=upto) if not self._replacing:
                self.reader.is_stored(upto)
                self.marks.delivered(upto)
            case GiveUp():
                self.outbox.given_up(change.id, change.state)
            case _:
                pass
        return self.decide(now)

    def decide(self, now: int) -> list[Change]:
        """What is to be done now: after every event, and when ``deadline`` has come."""
        if self.phase is Phase.RENEWING and not self.outbox.is_reading:
            self.phase = Phase.JOINED
        expired = self.outbox.expire(now)
        return expired + (self.outbox.bind() if self.is_open else [])

    # What goes up

    def next_enter(self, now: int) -> frames.Enter | None:
        """ENTER, if it is due."""
        if self.phase is not Phase.JOINED or self.outbox.is_reading or now < self._enter_from:
            return None
        self.phase = Phase.ENTERING
        self._entered_at = self.reader.seq
        return frames.Enter(
            channel=self._channel,
            lane_epoch=self.outbox.lane_epoch,
            lane_seq=self.outbox.bound,
            generation=self.reader.generation,
            seq=self.reader.seq,
        )

    def next_frame(self, now: int) -> frames.Frame | None:
        """The next frame of this room's chat: the outbox first, then history and marks."""
        if not self.is_open:
            return self.next_enter(now)
        return (
            self.outbox.next_frame(self._channel, now)
            or self.membership.next_frame(self._channel)
            or self.inquiries.next_frame(self._channel)
            or self.reader.next_frame(self._channel)
            or self._next_mark(now)
        )

    def deadline(self, now: int) -> int | None:
        """The running time, after ``now``, at which there is something to be done again."""
        times = [self.outbox.deadline(now)]
        if self.is_open:
            times.append(None if self._replacing else self.marks.deadline())
        elif self.phase is Phase.JOINED:
            times.append(self._enter_from)
        return min((time for time in times if time is not None and time > now), default=None)

    # How it decides

    def _entered(self, frame: frames.Entered, moment: Moment) -> list[Change]:
        if self.phase is not Phase.ENTERING:
            raise BadFrame("an ENTERED that nobody asked for")
        self.reader.check(frame, self._entered_at)
        changes: list[Change]
        if self._user and frame.user != self._user:
            self.outbox.begin_lane(moment.fresh_epoch)
            self.marks.restart(self.marks.delivered_upto, 0)
            changes = [NewUser(frame.user, moment.fresh_epoch)]
        else:
            changes = self.outbox.entered(
                frame.lane_seq, unpack_outcomes(frame.outcomes), moment.fresh_epoch
            )
        self.phase = Phase.OPEN
        self._user = frame.user
        placed = self.reader.entered(frame, moment.now - limits.REOFFER_MS)
        self.marks.entered(frame.read_upto)
        if isinstance(placed, Replace):
            self._replacing += 1
            self.outbox.reads_again()
        else:
            self.marks.read(frame.read_upto)
            self.marks.cut(frame.head)
        return [*changes, placed]

    def _next_mark(self, now: int) -> frames.Mark | None:
        return None if self._replacing else self.marks.next_frame(self._channel, now)

    def _check_entered(self, frame: frames.Frame) -> None:
        if not self.reader.is_placed:
            raise BadFrame(f"{type(frame).__name__} before ENTERED")

    def _receipts(self, frame: frames.Receipts) -> TakeReceipts:
        if not self.reader.is_placed:
            raise BadFrame("receipts before ENTERED")
        receipts = unpack_receipts(frame.data)
        mine = max((one.read_upto for one in receipts if one.user == self._user), default=0)
        self.marks.heard(mine)
        return TakeReceipts([one for one in receipts if one.user != self._user], mine)

    def _renew(self, now: int) -> None:
        """Enter again once the new lane is on the disk; not at the pace of a relay gone mad."""
        if self._renewals:
            self._enter_from = now + _RENEWAL_WAIT_MS * 2 ** min(self._renewals, 10)
        self._renewals += 1
        self.phase = Phase.RENEWING
        self.membership.detach()
