"""What a room's chat machine decided: each names what must be stored in one transaction.

The shell stores them in the order in which they were decided, and tells the machine what came of
each (:meth:`collab.protocol.chat_sync.ChatSync.stored`). Nothing is shown before that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from collab.protocol.members import MemberRow
from collab.protocol.message_state import MessageState
from collab.protocol.messages import LoggedMessage, Receipt
from collab.protocol.verdicts import GivenVerdict

__all__ = [
    "Answered",
    "Bind",
    "Bound",
    "Change",
    "CountRefusal",
    "Decide",
    "Expire",
    "Fill",
    "GiveUp",
    "NewLane",
    "NewUser",
    "Place",
    "Receive",
    "Replace",
    "TakeMembers",
    "TakeReceipts",
    "TakeVerdicts",
    "Waiting",
]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that is queued and not bound to a slot. Times are the device's running time.

    ``position`` is its place in the order of sending. ``offered``: it was bound before, in
    another lane, and the relay may have it.
    """

    id: bytes
    position: int
    expires_at: int | None
    offered: bool


@dataclass(frozen=True, slots=True)
class Bound:
    """A message that is bound to a slot, on this disk.

    ``giving_up`` is what it shall be once the relay has skipped the slot. ``logged``: it was seen
    in the log before its outcome was. ``confirm``: it asks for a verdict.
    """

    lane_seq: int
    id: bytes
    body: str
    meta: bytes
    sent_at: int
    expires_at: int | None
    refusals: int
    giving_up: MessageState | None
    logged: bool
    confirm: bool = False


@dataclass(frozen=True, slots=True)
class Bind:
    """Bind queued messages to slots from ``first_slot`` on. Comes back with the ``Bound`` ones."""

    lane_epoch: bytes
    first_slot: int
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Decide:
    """A message is decided, and its slot with it. ``seq`` is 0 unless it was accepted.

    ``state`` of a message that is in the log already is ``accepted``, whatever its slot says.
    """

    id: bytes
    state: MessageState
    seq: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class CountRefusal:
    """A message was refused for now, so many times by now."""

    id: bytes
    refusals: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A bound message shall be ``state`` once its slot is skipped."""

    id: bytes
    state: MessageState


@dataclass(frozen=True, slots=True)
class Expire:
    """The time of these is over, and the relay never saw them."""

    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class NewLane:
    """Begin a lane; what is bound and undecided is queued again, under the old ids.

    ``rolled_back``: because this file is not the only one with its lane. Comes back with all that
    is ``Waiting``.
    """

    lane_epoch: bytes
    rolled_back: bool


@dataclass(frozen=True, slots=True)
class NewUser:
    """The relay knows this device as somebody else now. Begin a lane, as ``NewLane`` does.

    What the user before wrote and the relay has not decided is ``stalled``: it must not go out
    under another name. What is ``mine``, read and unread is seen anew.
    """

    user: str
    lane_epoch: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """The relay says how its history stands: our mark is a place in it.

    A mark below ``after`` moves there, and leaves a gap. ``oldest``: what is below is lost.
    """

    user: str
    generation: bytes
    after: int
    head: int
    oldest: int
    read_upto: int
    unread: int


@dataclass(frozen=True, slots=True)
class Replace:
    """The relay has another history: our mark means nothing in it.

    All but what is above the head keeps its number, and is fetched again. Own messages that were
    accepted after ``since`` (running time) are queued again. Comes back with all ``Waiting``.
    """

    place: Place
    since: int


@dataclass(frozen=True, slots=True)
class Receive:
    """Messages above the mark, which moves to (``generation``, ``upto``)."""

    messages: Sequence[LoggedMessage]
    generation: bytes
    upto: int


@dataclass(frozen=True, slots=True)
class Fill:
    """All messages from ``low`` to ``high`` that the relay has; what is below ``oldest`` is lost.

    ``request`` is the number of the FETCH.
    """

    request: int
    messages: Sequence[LoggedMessage]
    low: int
    high: int
    oldest: int


@dataclass(frozen=True, slots=True)
class TakeReceipts:
    """How far others are; merged by max. ``read_upto``: what this user read on another device."""

    receipts: Sequence[Receipt]
    read_upto: int


@dataclass(frozen=True, slots=True)
class TakeMembers:
    """What users are in the room now; ``whole``: nobody else is a member."""

    rows: Sequence[MemberRow]
    whole: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """The relay's answer to a change of a member. Stores nothing: it comes after what it is about.

    ``request`` is the number of the CHANGE.
    """

    request: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class TakeVerdicts:
    """What the application at the relay said of messages."""

    verdicts: Sequence[GivenVerdict]


Change = (
    Bind
    | Decide
    | CountRefusal
    | GiveUp
    | Expire
    | NewLane
    | NewUser
    | Place
    | Replace
    | Receive
    | Fill
    | TakeReceipts
    | TakeMembers
    | Answered
    | TakeVerdicts
)
