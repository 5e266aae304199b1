"""What the application at the relay says of messages that ask for its verdict.

1. The function is called after the message is in the log, outside of every transaction. What it
   answers is committed; then the readers of the room are told.
2. It is called at least once: a crash between its answer and the commit makes it see the message
   again, and so does a failure. The message's id is the key: who has done what it asks for answers
   the same again. It is never called for one message twice at a time.
3. The first call for a message comes after the first call for the one before it in its lane has
   ended. It has ``Settings.confirm_timeout_s``. If it takes longer, or fails, it is called again
   later, ever later up to ``Settings.confirm_retry_cap_s``, and those behind it go on.
4. The first verdict that is committed stays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from collab import limits
from collab.protocol.messages import Verdict

__all__ = ["Confirm", "ConfirmRequest", "OnConfirm", "Refuse", "VerdictRuling", "verdict_of"]


@dataclass(frozen=True, slots=True)
class ConfirmRequest:
    """A message that awaits a verdict, as it is in the log. Times: milliseconds since 1970.

    ``seq`` is its number in the room, ``sent_at`` by the device's clock, ``accepted_at`` by the
    relay's.
    """

    room: str
    id: UUID
    seq: int
    sender: str
    body: str
    meta: Mapping[str, object]
    sent_at: int
    accepted_at: int


@dataclass(frozen=True, slots=True)
class Confirm:
    """It is done, or will be: nobody has to ask again."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """It is not done and will not be. ``reason`` is a sentence for people; a long one is cut."""

    reason: str = ""

    def __post_init__(self) -> None:
        self.reason.encode()  # half of a surrogate pair is no text


VerdictRuling = Confirm | Refuse

OnConfirm = Callable[[ConfirmRequest], Awaitable[VerdictRuling]]
"""What the application says of a message; see the rules of this module."""


def verdict_of(ruling: object) -> tuple[Verdict, str]:
    """A ruling as it is logged. Raises ``TypeError`` for what is none."""
    match ruling:
        case Confirm():
            return Verdict.CONFIRMED, ""
        case Refuse(reason):
            cut = reason.encode()[: limits.MAX_REASON_BYTES].decode(errors="ignore")
            return Verdict.REFUSED, cut
        case _:
            raise TypeError(f"on_confirm answered {type(ruling).__name__}, which is no verdict")
