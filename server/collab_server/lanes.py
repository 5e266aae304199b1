"""The rules of a lane: what a slot becomes, and what is remembered of it.

A lane is the ordered stream of messages from one device file to one room. Its slots are numbered
from 1, and each is decided once, in order. No I/O and no clock: the log asks these functions inside
the transaction that writes the message (``log.messages``), so they are the only arbiter.

Numbered rules:

1. The slot that is due, ``last + 1``, is judged anew; whatever comes of it, for good, consumes it.
2. A slot at or below ``last`` is answered with what it holds, whatever is asked of it now.
3. Of slots beyond the ``LANE_WINDOW`` newest only that they are consumed is known: ``forgotten``,
   under the id that was asked.
4. A slot beyond the one that is due changes nothing.
5. A lane takes the same memory for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from collab import limits
from collab.protocol.messages import OutcomeCode, SlotOutcome, is_transient

__all__ = ["DUE", "NEW_LANE", "Due", "Lane", "LaneKey", "TooEarly", "judge", "record"]


@dataclass(frozen=True, slots=True)
class LaneKey:
    """Whose lane it is: a user, an installation, and the name of its file's history."""

    sub: str
    device: bytes
    epoch: bytes


@dataclass(frozen=True, slots=True)
class Lane:
    """The last slot that is consumed, and the outcomes of the newest ones, oldest first."""

    last: int
    outcomes: tuple[SlotOutcome, ...]


class Due(Enum):
    """This slot's turn has come: judge what is asked of it."""

    DUE = auto()


@dataclass(frozen=True, slots=True)
class TooEarly:
    """This slot's turn has not come; slot ``expected`` is due."""

    expected: int


DUE: Final = Due.DUE
NEW_LANE: Final = Lane(0, ())


def judge(lane: Lane, slot: int, message_id: bytes) -> Due | SlotOutcome | TooEarly:
    """What is to be said of ``slot``, in which ``message_id`` came."""
    assert slot > 0
    if slot == lane.last + 1:
        return DUE
    if slot > lane.last:
        return TooEarly(lane.last + 1)
    if slot > lane.last - len(lane.outcomes):
        return lane.outcomes[slot - lane.last - 1]
    return SlotOutcome(slot, message_id, OutcomeCode.FORGOTTEN, 0)


def record(lane: Lane, outcome: SlotOutcome) -> Lane:
    """The lane once ``outcome`` is the one of the slot that was due."""
    assert outcome.lane_seq == lane.last + 1
    assert not is_transient(outcome.code)
    return Lane(outcome.lane_seq, (*lane.outcomes, outcome)[-limits.LANE_WINDOW :])
