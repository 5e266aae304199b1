"""Verdicts, and questions about them, as they travel in a field of a frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from collab import limits
from collab.protocol.codec import is_id, is_reason, pack_rows, unpack_rows
from collab.protocol.messages import Verdict

__all__ = [
    "DECIDED",
    "GivenVerdict",
    "pack_inquiry",
    "pack_verdicts",
    "unpack_inquiry",
    "unpack_verdicts",
]

DECIDED: Final = (Verdict.CONFIRMED, Verdict.REFUSED)


@dataclass(frozen=True, slots=True)
class GivenVerdict:
    """What the application said of a message; ``verdict`` is one of ``DECIDED``."""

    message_id: bytes
    verdict: int
    reason: str


def _is_decided(value: object) -> bool:
    return type(value) is int and value in DECIDED


_VERDICT: Final = (is_id, _is_decided, is_reason)
_ID: Final = (is_id,)


def pack_verdicts(verdicts: Iterable[GivenVerdict]) -> bytes:
    """Verdicts as the ``data`` of VERDICTS."""
    return pack_rows((one.message_id, one.verdict, one.reason) for one in verdicts)


def unpack_verdicts(data: bytes) -> Sequence[GivenVerdict]:
    """The verdicts in ``data``. Raises :class:`collab.BadFrame`."""
    return [GivenVerdict(*row) for row in unpack_rows(data, _VERDICT, limits.PAGE_MESSAGES)]


def pack_inquiry(ids: Iterable[bytes]) -> bytes:
    """Ids of messages as the ``data`` of INQUIRE."""
    return pack_rows((message_id,) for message_id in ids)


def unpack_inquiry(data: bytes) -> Sequence[bytes]:
    """The ids in ``data``. Raises :class:`collab.BadFrame`."""
    return [row[0] for row in unpack_rows(data, _ID, limits.PAGE_MESSAGES)]
