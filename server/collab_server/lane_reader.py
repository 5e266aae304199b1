"""One connection's side of a lane: what came on it, and what is to be dropped.

What is decided is decided in the log (``lanes``). This is what the connection must know between a
frame's arrival and that decision. No I/O and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from collab.protocol import frames
from collab.protocol.messages import SlotOutcome, is_transient
from collab_server.lanes import TooEarly

__all__ = ["Arrival", "LaneReader"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A SEND or SKIP that goes to the log. ``is_due``: its slot was not decided before."""

    slot: int
    message_id: bytes
    is_due: bool
    rewinds: int  # how often the lane had been rewound when it came


class LaneReader:
    """The slots that one connection sent, in the order in which they came.

    Invariants:

    1. ``due`` is the lowest slot that neither the log nor this connection has taken in. Frames go
       to the log in the order in which they came.
    2. The lane is rewound when a slot comes before its turn, or is refused for now: the device is
       told once, and what is beyond the slot that is due is dropped until that slot comes.
    3. What was on its way when the lane was rewound is dropped too; it says nothing to the device.
    """

    def __init__(self, channel: int, last: int) -> None:
        self._channel: Final = channel
        self.due = last + 1
        self._dropping = False
        self._rewinds = 0

    def arrive(self, slot: int, message_id: bytes) -> Arrival | frames.Expected | None:
        """A slot came: take it to the log, or answer; None: it is dropped."""
        if slot > self.due:
            if self._dropping:
                return None
            self._rewind(self.due)
            return frames.Expected(self._channel, self.due)
        is_due = slot == self.due
        if is_due:
            self._dropping = False
            self.due += 1
        return Arrival(slot, message_id, is_due, self._rewinds)

    def is_dropped(self, arrival: Arrival) -> bool:
        """Whether the lane was rewound below something that still waits to go to the log."""
        return arrival.rewinds != self._rewinds and arrival.slot >= self.due

    def decided(
        self, arrival: Arrival, decision: SlotOutcome | TooEarly, reason: str = ""
    ) -> frames.Outcome | frames.Expected | None:
        """The log has decided, durably. What the device is told of it."""
        if isinstance(decision, TooEarly):
            if arrival.rewinds != self._rewinds:
                return None
            self._rewind(decision.expected)
            return frames.Expected(self._channel, decision.expected)
        return frames.Outcome(
            self._channel, decision.lane_seq, decision.message_id, decision.code, decision.seq,
            0, reason,
        )  # fmt: skip

    def refused_for_now(
        self, arrival: Arrival, code: str, retry_after_ms: int, reason: str
    ) -> frames.Outcome:
        """The slot is not taken to the log: the device sends it again, and all that follow it."""
        assert is_transient(code)
        self._rewind(arrival.slot)
        return frames.Outcome(
            self._channel, arrival.slot, arrival.message_id, code, 0, retry_after_ms, reason
        )

    def _rewind(self, due: int) -> None:
        self.due = due
        self._dropping = True
        self._rewinds += 1
