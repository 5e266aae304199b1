"""Messages, outcomes and receipts as they travel in a field of a frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import IntEnum, StrEnum
from itertools import pairwise
from operator import attrgetter
from typing import Final

from collab import limits
from collab.errors import BadFrame
from collab.protocol.codec import (
    is_body,
    is_id,
    is_int,
    is_meta,
    is_user,
    pack_rows,
    unpack_rows,
)

__all__ = [
    "Kind",
    "LoggedMessage",
    "OutcomeCode",
    "Receipt",
    "SlotOutcome",
    "Verdict",
    "is_transient",
    "pack_messages",
    "pack_outcomes",
    "pack_receipts",
    "packed_size",
    "unpack_messages",
    "unpack_outcomes",
    "unpack_receipts",
]


class Kind(IntEnum):
    """Who wrote a message: somebody, or the relay about the room."""

    MESSAGE = 0
    SYSTEM = 1


class Verdict(IntEnum):
    """What the application at the relay said of a message that asked for its word."""

    NOT_ASKED = 0
    AWAITED = 1
    CONFIRMED = 2
    REFUSED = 3


class OutcomeCode(StrEnum):
    """What became of a slot. An application may refuse with a code of its own."""

    ACCEPTED = "accepted"
    SKIPPED = "skipped"
    TOO_LARGE = "too_large"
    FORBIDDEN = "forbidden"
    INVALID = "invalid"
    CONFLICT = "conflict"  # the room has this id already, with other bytes
    EXPIRED = "expired"
    FORGOTTEN = "forgotten"  # consumed so long ago that the relay knows no more
    BUSY = "busy"
    RATE_LIMITED = "rate_limited"


def is_transient(code: str) -> bool:
    """Whether the slot is still free: the same message may be sent in it again."""
    return code in (OutcomeCode.BUSY, OutcomeCode.RATE_LIMITED)


@dataclass(frozen=True, slots=True)
class LoggedMessage:
    """A message as the relay's log has it. Times are milliseconds since 1970.

    ``sender`` is a user's ``sub``; ``meta`` a packed map, or empty; ``kind`` and ``verdict`` are
    numbers of :class:`Kind` and :class:`Verdict`, or of a later version.
    """

    seq: int
    id: bytes
    sender: str
    body: str
    meta: bytes
    sent_at: int
    accepted_at: int
    kind: int
    verdict: int


@dataclass(frozen=True, slots=True)
class SlotOutcome:
    """What a consumed slot of a lane holds; ``seq`` is 0 unless it was accepted."""

    lane_seq: int
    message_id: bytes
    code: str
    seq: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """How far a user has received and read a room."""

    user: str
    delivered_upto: int
    read_upto: int


def _is_seq(value: object) -> bool:
    return is_int(value) and value != 0


def _is_code(value: object) -> bool:
    return type(value) is str and len(value.encode()) <= limits.MAX_CODE_BYTES


_MESSAGE: Final = (
    _is_seq, is_id, is_user, is_body, is_meta, is_int, is_int, is_int, is_int,
)  # fmt: skip
_OUTCOME: Final = (_is_seq, is_id, _is_code, is_int)
_RECEIPT: Final = (is_user, is_int, is_int)

# ``astuple`` copies what it is given, deeply: 20 times the cost.
_message_row = attrgetter(*(field.name for field in fields(LoggedMessage)))
_outcome_row = attrgetter(*(field.name for field in fields(SlotOutcome)))
_receipt_row = attrgetter(*(field.name for field in fields(Receipt)))


_ROW_BYTES: Final = 96  # of a packed row, besides its texts


def packed_size(row: LoggedMessage | Receipt) -> int:
    """How many bytes a row takes in a frame, at most."""
    match row:
        case LoggedMessage():
            return len(row.body.encode()) + len(row.meta) + len(row.sender.encode()) + _ROW_BYTES
        case Receipt():
            return len(row.user.encode()) + _ROW_BYTES


def pack_messages(messages: Iterable[LoggedMessage]) -> bytes:
    """Messages as the ``data`` of MESSAGES and PAGE."""
    return pack_rows(map(_message_row, messages))


def unpack_messages(data: bytes) -> list[LoggedMessage]:
    """The messages in ``data``, with rising seqs. Raises :class:`collab.BadFrame`."""
    messages = [LoggedMessage(*row) for row in unpack_rows(data, _MESSAGE, limits.PAGE_MESSAGES)]
    if any(later.seq <= earlier.seq for earlier, later in pairwise(messages)):
        raise BadFrame("messages whose numbers do not rise")
    return messages


def pack_outcomes(outcomes: Iterable[SlotOutcome]) -> bytes:
    """Outcomes as a field of ENTERED."""
    return pack_rows(map(_outcome_row, outcomes))


def unpack_outcomes(data: bytes) -> list[SlotOutcome]:
    """The outcomes in ``data``. Raises :class:`collab.BadFrame`."""
    return [SlotOutcome(*row) for row in unpack_rows(data, _OUTCOME, limits.LANE_WINDOW)]


def pack_receipts(receipts: Iterable[Receipt]) -> bytes:
    """Receipts as the ``data`` of RECEIPTS."""
    return pack_rows(map(_receipt_row, receipts))


def unpack_receipts(data: bytes) -> list[Receipt]:
    """The receipts in ``data``. Raises :class:`collab.BadFrame`."""
    return [Receipt(*row) for row in unpack_rows(data, _RECEIPT, limits.MAX_RECEIPTS)]
