"""Where a message is between its writer and its readers, and which ways lead from there.

    queued ──► sending ──► accepted ──► delivered ──► read
      │          │  ▲
      │          │  └─ (back to queued: a new lane, under the same id)
      │          ├────► rejected · expired · cancelled
      │          └────► stalled ──► queued, by a retry
      └─► expired · cancelled · stalled

1. What may be at the relay is never called expired, cancelled or rejected by anybody but the
   relay: that is the recorded outcome of the slot.
2. The log has the last word. A message that ended here and is found in the log (a copy of this
   file sent it) is accepted.
3. Only another history at the relay takes a message back from accepted: it is offered again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from collab.errors import WrongState

__all__ = ["EDGES", "ENDED", "PATH", "MessageState", "MessageVerdict", "advance"]


class MessageState(StrEnum):
    """The state of a message on its sender's device; what others wrote is ``accepted``."""

    QUEUED = "queued"  # on this disk
    SENDING = "sending"  # bound to a slot; the relay may have it
    ACCEPTED = "accepted"  # in the relay's log
    DELIVERED = "delivered"  # on a device of at least one other member
    READ = "read"  # by at least one other member
    REJECTED = "rejected"  # the relay refused it for good
    EXPIRED = "expired"  # its time was over before the relay took it
    CANCELLED = "cancelled"
    STALLED = "stalled"  # refused too often, or another user's; it can be retried


class MessageVerdict(StrEnum):
    """How a message stands with the application at the relay, from "accepted" on."""

    CONFIRMING = "confirming"  # its word is awaited: nothing is done yet
    CONFIRMED = "confirmed"
    REFUSED = "refused"


_S = MessageState

EDGES: Final[Mapping[MessageState, frozenset[MessageState]]] = {
    _S.QUEUED: frozenset({_S.SENDING, _S.EXPIRED, _S.CANCELLED, _S.STALLED, _S.ACCEPTED}),
    _S.SENDING: frozenset(
        {_S.ACCEPTED, _S.REJECTED, _S.EXPIRED, _S.CANCELLED, _S.STALLED, _S.QUEUED}
    ),
    _S.ACCEPTED: frozenset({_S.DELIVERED, _S.READ, _S.QUEUED}),
    _S.DELIVERED: frozenset({_S.READ, _S.QUEUED}),
    _S.READ: frozenset({_S.QUEUED}),
    _S.REJECTED: frozenset({_S.ACCEPTED}),
    _S.EXPIRED: frozenset({_S.ACCEPTED}),
    _S.CANCELLED: frozenset({_S.ACCEPTED}),
    _S.STALLED: frozenset({_S.QUEUED, _S.CANCELLED, _S.ACCEPTED}),
}
"""The legal edges; there are no others."""

PATH: Final = (_S.QUEUED, _S.SENDING, _S.ACCEPTED, _S.DELIVERED, _S.READ)
"""The way of a message to which nothing happens."""

ENDED: Final = frozenset({_S.REJECTED, _S.EXPIRED, _S.CANCELLED})
"""States in which a message has no place in the log and waits for nobody."""


def advance(old: MessageState, new: MessageState) -> MessageState:
    """``new``, if a message may go there from ``old``. Raises :class:`collab.WrongState`."""
    if new not in EDGES[old]:
        raise WrongState(
            f"A message that is {old} cannot become {new}. It was left as it is, with its body."
        )
    return new
