"""The frames of ``collab.v1``: their tags, fields, bounds and directions.

A frame is a msgpack array ``[tag, field, …]`` of fixed length. PROTOCOL.md says what each one
means; this module says what each one looks like. ``codec`` turns them into bytes and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import ClassVar, Final

SUBPROTOCOL: Final = "collab.v1"
VERSION: Final = 1


class Access(IntEnum):
    """What a user may do in a room; each level includes those below it."""

    NONE = 0
    READ = 1
    WRITE = 2
    ADMIN = 3


class Code(StrEnum):
    """Why the relay refused something. Permanent unless :func:`is_transient` says otherwise."""

    FORBIDDEN = "forbidden"  # absent and forbidden rooms answer alike
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    DELETED = "deleted"
    QUARANTINED = "quarantined"
    BUSY = "busy"
    LIMIT = "limit"


def is_transient(code: str) -> bool:
    """Whether the same request can succeed later without a change by the user."""
    return code in (Code.BUSY, Code.QUARANTINED)


class AnswerCode(StrEnum):
    """What became of a call; an application may refuse with codes of its own."""

    DONE = "done"
    UNKNOWN_SERVICE = "unknown_service"
    FORBIDDEN = "forbidden"
    INVALID = "invalid"
    FAILED = "failed"
    TIMEOUT = "timeout"
    BUSY = "busy"


class Close(IntEnum):
    """Close codes: 44xx are permanent, 45xx and 1011–1013 are transient."""

    NORMAL = 1000
    GOING_AWAY = 1001
    INTERNAL = 1011
    RESTART = 1012
    OVERLOADED = 1013
    BAD_FRAME = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    UNSUPPORTED_VERSION = 4406
    FENCED = 4409
    BAD_UPDATE = 4422
    SLOW_HELLO = 4508
    IDLE = 4509


def is_permanent(close_code: int) -> bool:
    """Whether a client must not come back by itself after this close."""
    return 4400 <= close_code < 4500


@dataclass(frozen=True, slots=True)
class Frame:
    """The base of all frames."""

    TAG: ClassVar[int]


@dataclass(frozen=True, slots=True)
class Hello(Frame):
    """Client: the first frame. ``nonce``, ``device``: 16 bytes; ``connection`` rises for ever."""

    TAG: ClassVar[int] = 1
    version: int
    nonce: bytes
    device: bytes
    connection: int
    token: str | None


@dataclass(frozen=True, slots=True)
class Welcome(Frame):
    """Relay: echoes the nonce; names itself and this run of its log (16 bytes each)."""

    TAG: ClassVar[int] = 2
    version: int
    nonce: bytes
    relay: bytes
    generation: bytes


@dataclass(frozen=True, slots=True)
class Join(Frame):
    """Client: open a room. ``generation`` is all zeros without a place in the relay's log."""

    TAG: ClassVar[int] = 3
    request: int
    room: str
    epoch: bytes | None
    generation: bytes
    offset: int
    state_vector: bytes


@dataclass(frozen=True, slots=True)
class Joined(Frame):
    """Relay: the room is open on ``channel``; ``good`` says whether the offset was."""

    TAG: ClassVar[int] = 4
    request: int
    channel: int
    epoch: bytes
    good: bool
    head: int
    state_vector: bytes
    access: int


@dataclass(frozen=True, slots=True)
class Denied(Frame):
    """Relay: the room is not opened."""

    TAG: ClassVar[int] = 5
    request: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Leave(Frame):
    """Client: done with this channel."""

    TAG: ClassVar[int] = 6
    channel: int


@dataclass(frozen=True, slots=True)
class Left(Frame):
    """Relay: this channel is closed (rights withdrawn, room deleted, worker lost)."""

    TAG: ClassVar[int] = 7
    channel: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Update(Frame):
    """Client: one saved update, in causal order; ``number`` rises by one a room and join."""

    TAG: ClassVar[int] = 8
    channel: int
    number: int
    update: bytes


@dataclass(frozen=True, slots=True)
class Offer(Frame):
    """Client: all that the relay's state vector lacks; stands for every number up to its own."""

    TAG: ClassVar[int] = 9
    channel: int
    number: int
    update: bytes


@dataclass(frozen=True, slots=True)
class Updates(Frame):
    """Relay: the log from the reader's place to ``offset``."""

    TAG: ClassVar[int] = 10
    channel: int
    offset: int
    update: bytes


@dataclass(frozen=True, slots=True)
class Difference(Frame):
    """Relay: all that the joining state vector lacked; the reader's place becomes ``offset``."""

    TAG: ClassVar[int] = 11
    channel: int
    offset: int
    update: bytes


@dataclass(frozen=True, slots=True)
class Ack(Frame):
    """Relay: every number up to ``number`` is committed; the reader's place is ``offset``."""

    TAG: ClassVar[int] = 12
    channel: int
    number: int
    offset: int


@dataclass(frozen=True, slots=True)
class Resync(Frame):
    """Relay: an update did not fit; send an Offer against this state vector."""

    TAG: ClassVar[int] = 13
    channel: int
    state_vector: bytes


@dataclass(frozen=True, slots=True)
class Refused(Frame):
    """Relay: ``number`` and all after it are refused for good."""

    TAG: ClassVar[int] = 14
    channel: int
    number: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Awareness(Frame):
    """Both: a y-protocols awareness update."""

    TAG: ClassVar[int] = 15
    channel: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Ping(Frame):
    """Client: answered by the relay's application, not by its TCP stack."""

    TAG: ClassVar[int] = 16
    number: int


@dataclass(frozen=True, slots=True)
class Pong(Frame):
    """Relay: the answer, with the same number."""

    TAG: ClassVar[int] = 17
    number: int


@dataclass(frozen=True, slots=True)
class Part(Frame):
    """Both: a slice of the bytes of a frame that is longer than one frame may be."""

    TAG: ClassVar[int] = 18
    stream: int
    total: int
    data: bytes


# --- chat


@dataclass(frozen=True, slots=True)
class Enter(Frame):
    """Client: begin the room's chat. ``lane_seq`` is the highest slot that this file ever bound."""

    TAG: ClassVar[int] = 19
    channel: int
    lane_epoch: bytes
    lane_seq: int
    generation: bytes
    seq: int


@dataclass(frozen=True, slots=True)
class Entered(Frame):
    """Relay: what became of the lane's slots, from where messages will come, and who one is.

    ``user`` is the name under which the relay knows this connection: ``sender`` of its messages.
    """

    TAG: ClassVar[int] = 20
    channel: int
    lane_seq: int
    outcomes: bytes
    good: bool
    after: int
    head: int
    oldest: int
    read_upto: int
    unread: int
    user: str = ""


@dataclass(frozen=True, slots=True)
class Send(Frame):
    """Client: one message, in the slot that was bound to it. ``ttl_ms`` is what remains of it."""

    TAG: ClassVar[int] = 21
    channel: int
    lane_seq: int
    message_id: bytes
    body: str
    meta: bytes
    sent_at: int
    ttl_ms: int | None
    confirm: bool


@dataclass(frozen=True, slots=True)
class Skip(Frame):
    """Client: give a bound slot up, unless it was consumed already."""

    TAG: ClassVar[int] = 22
    channel: int
    lane_seq: int
    message_id: bytes


@dataclass(frozen=True, slots=True)
class Outcome(Frame):
    """Relay: what became of a slot, and of which message; committed, unless it is transient."""

    TAG: ClassVar[int] = 23
    channel: int
    lane_seq: int
    message_id: bytes
    code: str
    seq: int
    retry_after_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Expected(Frame):
    """Relay: a slot came too early; the lane's frames are dropped until this one comes."""

    TAG: ClassVar[int] = 24
    channel: int
    lane_seq: int


@dataclass(frozen=True, slots=True)
class Messages(Frame):
    """Relay: every message with a seq above ``after``, up to ``upto``."""

    TAG: ClassVar[int] = 25
    channel: int
    after: int
    upto: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Fetch(Frame):
    """Client: messages with ``after`` < seq < ``before``, from the newest end if ``newest``."""

    TAG: ClassVar[int] = 26
    channel: int
    request: int
    after: int
    before: int
    newest: bool


@dataclass(frozen=True, slots=True)
class Page(Frame):
    """Relay: the answer to Fetch, as Messages; ``oldest`` is the lowest seq still retained."""

    TAG: ClassVar[int] = 27
    channel: int
    request: int
    after: int
    upto: int
    oldest: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Mark(Frame):
    """Client: received through, by this device; read through, by this user. Merged by max."""

    TAG: ClassVar[int] = 28
    channel: int
    delivered_upto: int
    read_upto: int


@dataclass(frozen=True, slots=True)
class Receipts(Frame):
    """Relay: the marks of other users."""

    TAG: ClassVar[int] = 29
    channel: int
    data: bytes


# --- broadcasts and calls


@dataclass(frozen=True, slots=True)
class Cast(Frame):
    """Client: tell everybody else who is in the room now. Nothing of it is kept."""

    TAG: ClassVar[int] = 30
    channel: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Call(Frame):
    """Client: ask a service of the application at the relay. ``request`` is used once."""

    TAG: ClassVar[int] = 31
    channel: int
    request: int
    service: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Answer(Frame):
    """Relay: what became of a Call; ``payload`` is the value if ``code`` is "done"."""

    TAG: ClassVar[int] = 32
    channel: int
    request: int
    code: str
    reason: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Broadcast(Frame):
    """Relay: somebody else's Cast, and whose it is."""

    TAG: ClassVar[int] = 38
    channel: int
    sender: str
    payload: bytes


# --- members and verdicts


@dataclass(frozen=True, slots=True)
class Change(Frame):
    """Client: give a user this role in the room; the empty role removes the member."""

    TAG: ClassVar[int] = 33
    channel: int
    request: int
    user: str
    role: str


@dataclass(frozen=True, slots=True)
class Changed(Frame):
    """Relay: what became of a Change; "done" is said after its commit."""

    TAG: ClassVar[int] = 34
    channel: int
    request: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Members(Frame):
    """Relay: who is a member with which role. ``whole``: this begins the list anew."""

    TAG: ClassVar[int] = 35
    channel: int
    whole: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Inquire(Frame):
    """Client: the ids of messages whose verdict it does not know."""

    TAG: ClassVar[int] = 36
    channel: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Verdicts(Frame):
    """Relay: what the application at the relay said of messages; committed."""

    TAG: ClassVar[int] = 37
    channel: int
    data: bytes


FROM_CLIENT: Final = (
    Hello, Join, Leave, Update, Offer, Awareness, Ping, Part,
    Enter, Send, Skip, Fetch, Mark,
    Change, Inquire,
    Cast, Call,
)  # fmt: skip
FROM_RELAY: Final = (
    Welcome, Joined, Denied, Left, Updates, Difference, Ack, Resync, Refused, Awareness, Pong, Part,
    Entered, Outcome, Expected, Messages, Page, Receipts,
    Changed, Members, Verdicts,
    Answer, Broadcast,
)  # fmt: skip
IN_PARTS: Final = (Answer, Join, Joined, Update, Offer, Updates, Difference, Resync)
