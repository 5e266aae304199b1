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


FROM_CLIENT: Final = (Hello, Join, Leave, Update, Offer, Awareness, Ping, Part)
FROM_RELAY: Final = (
    Welcome, Joined, Denied, Left, Updates, Difference, Ack, Resync, Refused, Awareness, Pong, Part,
)  # fmt: skip
IN_PARTS: Final = (Join, Joined, Update, Offer, Updates, Difference, Resync)
