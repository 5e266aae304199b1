"""What the relay asks of a log about messages, lanes and marks (``Log.chat``).

Numbered rules; every log keeps them, and ``tests/unit/server/test_log_chat.py`` asks each one.

1. What is submitted is judged in the transaction that writes it, one after the other, in the order
   in which it was submitted. Nobody else decides.
2. The row of the message, the row of its lane and the room's head commit together, and with all
   else that was queued: one transaction for all rooms. Nothing is told before it, and then the
   outcomes of a commit before its messages.
3. The seqs of a room rise by one, from 1, and are never given twice in one history.
4. A slot is decided once. If nobody saw how a commit ended, what was in it is judged again, and
   comes out as it did.
5. An id is in a room's log once, as long as its message is retained. The same sender with the same
   body and meta (those that were sent, or those that are kept), who asks for a verdict if that one
   did, is told its seq, whatever has become of the rights or the time to live since; anybody else
   is told ``conflict``.
6. A commit that fails drops nothing and changes no order. What is queued counts for
   ``wait_for_room``.
7. A message names the generation that wrote it. (generation, seq) is a place in a room's history if
   the generation is known, the seq is not beyond the head, and its message, if it is retained, was
   written in that generation or before.
8. Retention deletes the oldest messages of a room, without a hole. The head stays.
9. Marks merge by max and never fall. They wait for the next commit, ``MARKS_WAIT_S`` at most, and
   a crash may take them: a device says its marks again.
10. A user has at most ``MAX_LANES_PER_USER`` lanes in a room. The one that was used least recently
    is forgotten: its device begins another, and rule 5 still holds.
11. A change of a member and the system message that tells of it commit together, after the
    submissions of that commit. A change that changes nothing adds no message.
12. A message that asks for a verdict awaits it from its own commit on. The first verdict that is
    committed stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final, Protocol

from collab.protocol.members import MemberRow
from collab.protocol.messages import LoggedMessage, Receipt, SlotOutcome
from collab.protocol.verdicts import GivenVerdict
from collab_server.lanes import Lane, LaneKey, TooEarly

__all__ = [
    "MARKS_WAIT_S",
    "NO_SUCH_ROOM",
    "UNKNOWN",
    "Awaited",
    "AwaitedCallback",
    "ChangeCode",
    "ChangeDecision",
    "ChatLog",
    "ChatState",
    "Decision",
    "MemberChange",
    "MembersCallback",
    "MessagesCallback",
    "Offered",
    "Page",
    "Submission",
    "Unjudged",
    "VerdictToGive",
    "VerdictsCallback",
]

MARKS_WAIT_S: Final = 1.0  # devices speak of their marks once a second


class Unjudged(Enum):
    """Why a submission came out as nothing."""

    NO_SUCH_ROOM = auto()  # it was deleted
    UNKNOWN = auto()  # the log was closed; whether it is in there, the next start knows


NO_SUCH_ROOM: Final = Unjudged.NO_SUCH_ROOM
UNKNOWN: Final = Unjudged.UNKNOWN

Decision = SlotOutcome | TooEarly | Unjudged
"""What became of a submission. A slot outcome is durable, and never a transient one."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A message that wants to be in the log. ``sent_at``: milliseconds since 1970.

    ``as_sent`` are the body and meta of the device, where the application changed them.
    ``expires_at_s`` is on the clock that the log was given; None: it may wait for ever.
    ``refused`` is the code of a permanent refusal that was decided before. ``confirm``: it asks for
    the application's verdict.
    """

    sender: str
    body: str
    meta: bytes
    sent_at: int
    as_sent: tuple[str, bytes] | None = None
    expires_at_s: float | None = None
    refused: str | None = None
    confirm: bool = False


@dataclass(frozen=True, slots=True)
class Submission:
    """One slot of a lane that is to be decided, or a message of the relay's own program.

    Without a ``lane`` (then ``slot`` is 0) only its id protects a message from being doubled.
    Without ``offered`` the slot is given up. ``came_at``: milliseconds since 1970.
    """

    room_id: int
    lane: LaneKey | None
    slot: int
    message_id: bytes
    came_at: int
    offered: Offered | None
    decided: Callable[[Decision], None]
    """Called once, on the event loop, after the commit. It must not raise."""


class ChangeCode(StrEnum):
    """What became of a change of a member."""

    DONE = "done"
    FORBIDDEN = "forbidden"
    INVALID = "invalid"  # no role or no name
    LIMIT = "limit"  # the room has as many members as it may


ChangeDecision = ChangeCode | Unjudged
"""What became of a change. A code is durable."""


@dataclass(frozen=True, slots=True)
class MemberChange:
    """A user is to have this role in a room; ``GONE``: none.

    ``message_id`` is that of the system message, if one comes of it, and ``came_at`` its time: ms
    since 1970. ``admins_only``: ``by`` has to be a member who is an admin when this is judged.
    """

    room_id: int
    user: str
    role: str
    by: str
    message_id: bytes
    came_at: int
    admins_only: bool
    decided: Callable[[ChangeDecision], None]
    """Called once, on the event loop, after the commit. It must not raise."""


@dataclass(frozen=True, slots=True)
class VerdictToGive:
    """A verdict on a message that may still await one."""

    room_id: int
    given: GivenVerdict
    decided: Callable[[], None]
    """Called once, on the event loop, after the commit, or when the log is closed."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """The place of a message that awaits a verdict, and the lane in which it came."""

    room_id: int
    seq: int
    message_id: bytes
    lane: bytes


@dataclass(frozen=True, slots=True)
class ChatState:
    """What a device is told when it enters. ``good``: its place is one of this history."""

    lane: Lane
    good: bool
    head: int
    oldest: int  # head + 1 if nothing is retained
    read_upto: int
    unread: int


@dataclass(frozen=True, slots=True)
class Page:
    """A run of messages, every seq of it. ``oldest``: the lowest seq that is retained."""

    messages: Sequence[LoggedMessage]
    oldest: int


MessagesCallback = Callable[[int, int, Sequence[LoggedMessage]], None]
"""Called with (room id, its head, the messages that a commit added): the newest ones up to the
head, without a hole. None of them, if nobody saw how the commit ended that added them.
"""

MembersCallback = Callable[[int, Sequence[MemberRow]], None]
"""Called with (room id, users and what they are now), after the commit that decided it."""

AwaitedCallback = Callable[[int, int, int], None]
"""Called with (room id, low, high) after a commit that took in messages which ask for a verdict, or
met them again: their seqs are from low to high."""

VerdictsCallback = Callable[[int, Sequence[tuple[int, GivenVerdict]]], None]
"""Called with (room id, seqs and the verdicts that stand), after the commit of a verdict."""


class ChatLog(Protocol):
    """The part of a log that speaks of messages. Belongs to the thread of one event loop."""

    def submit(self, submission: Submission) -> None:
        """Queue something to be judged by the next commit. Raises ``Closed`` after closing."""

    def mark(self, room_id: int, user: str, *, delivered_upto: int, read_upto: int) -> None:
        """Queue how far a user has received and read; both are at most the room's head."""

    def on_messages(self, callback: MessagesCallback) -> Callable[[], None]:
        """Call ``callback`` after each commit for each room whose log it may have moved.

        Returns how to stop that. A callback must not raise.
        """

    def change_member(self, change: MemberChange) -> None:
        """Queue a change. Of one user in one room a commit takes one; later ones go in the next."""

    def on_members(self, callback: MembersCallback) -> Callable[[], None]:
        """Call ``callback`` after each commit with changes; returns how to stop that."""

    def give_verdict(self, verdict: VerdictToGive) -> None:
        """Queue a verdict."""

    def on_verdicts(self, callback: VerdictsCallback) -> Callable[[], None]:
        """Call ``callback`` after each commit with verdicts; returns how to stop that."""

    def on_awaited(self, callback: AwaitedCallback) -> Callable[[], None]:
        """Call ``callback`` for what asks for a verdict; returns how to stop that."""

    async def members(self, room_id: int) -> list[MemberRow]:
        """The members of a room, by name."""

    async def role(self, room: str, user: str) -> str:
        """The role of a user in the room of this name; ``GONE`` without one, or without a room."""

    async def verdicts(self, room_id: int, ids: Sequence[bytes]) -> list[GivenVerdict]:
        """The verdicts on those of these messages that have one."""

    async def awaited(self, after: tuple[int, int], limit: int) -> list[Awaited]:
        """Messages of all rooms that await a verdict, beyond a (room id, seq), in that order."""

    async def room_name(self, room_id: int) -> str | None:
        """The name of a room; None if it was deleted."""

    async def enter(
        self, room_id: int, lane: LaneKey, *, generation: bytes, seq: int, read_upto: int
    ) -> ChatState:
        """How a lane and its user's chat stand.

        ``read_upto`` is what may be known of this user beyond what is durable. A room that has no
        messages has a state too.
        """

    async def after(self, room_id: int, seq: int) -> Page:
        """The oldest messages beyond ``seq``, as many as one frame holds."""

    async def page(self, room_id: int, after: int, before: int, *, newest: bool) -> Page:
        """Messages with ``after`` < seq < ``before``, as many as one frame holds, from one end."""

    async def find(self, room_id: int, message_id: bytes) -> LoggedMessage | None:
        """The message of this id."""

    async def receipts(self, room_id: int, limit: int) -> list[Receipt]:
        """The marks of a room's users, those that are furthest on first."""

    async def retain(self, room_id: int, *, newer_than_ms: int, at_most: int) -> int:
        """Delete a room's messages that were accepted before ``newer_than_ms``, and the oldest of
        more than ``at_most``: a prefix, up to the first one that stays.

        Returns the lowest seq that is retained. In transactions of their own, after commits, each
        of a bounded size. Raises what the disk raised, and then tries nothing again. Needs
        ``run()``; raises ``Closed`` if the log is closed before it is done.
        """
