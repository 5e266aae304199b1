"""The rules of a lane, asked of a model that remembers everything."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import collab_server.chat
import collab_server.lane_reader
import collab_server.lanes
import collab_server.log.chat_port
from collab import limits
from collab.protocol.messages import OutcomeCode, SlotOutcome
from collab_server.lanes import DUE, NEW_LANE, Lane, TooEarly, judge, record
from tests.test_layout import IMPURE, imports, roots

CODES = [code for code in OutcomeCode if code not in ("busy", "rate_limited", "forgotten")]


def message(number: int) -> bytes:
    return number.to_bytes(16, "big")


def lane_at(last: int) -> Lane:
    lane = NEW_LANE
    for slot in range(1, last + 1):
        lane = record(lane, SlotOutcome(slot, message(slot), OutcomeCode.ACCEPTED, slot))
    return lane


@dataclass
class Model:
    """A lane that forgets nothing but what it may."""

    held: list[SlotOutcome] = field(default_factory=list)

    def judge(self, slot: int, message_id: bytes) -> object:
        if slot > len(self.held) + 1:
            return TooEarly(len(self.held) + 1)
        if slot == len(self.held) + 1:
            return DUE
        if slot <= len(self.held) - limits.LANE_WINDOW:
            return SlotOutcome(slot, message_id, OutcomeCode.FORGOTTEN, 0)
        return self.held[slot - 1]


@given(
    st.lists(
        st.tuples(st.integers(-40, 4), st.binary(min_size=16, max_size=16), st.sampled_from(CODES)),
        max_size=120,
    )
)
def test_a_lane_answers_as_one_that_remembers_every_slot(
    asked: list[tuple[int, bytes, str]],
) -> None:
    lane, model = NEW_LANE, Model()
    for beyond, message_id, code in asked:
        slot = max(1, lane.last + beyond)
        judged = judge(lane, slot, message_id)
        assert judged == model.judge(slot, message_id)
        if judged is DUE:
            outcome = SlotOutcome(slot, message_id, code, 7 if code == "accepted" else 0)
            lane = record(lane, outcome)
            model.held.append(outcome)
        assert len(lane.outcomes) == min(lane.last, limits.LANE_WINDOW)


def test_a_slot_keeps_its_outcome_whatever_is_asked_of_it_later() -> None:
    lane = record(NEW_LANE, SlotOutcome(1, message(1), OutcomeCode.SKIPPED, 0))
    assert judge(lane, 1, message(99)) == SlotOutcome(1, message(1), OutcomeCode.SKIPPED, 0)


def test_the_oldest_slot_that_is_remembered_is_the_sixteenth_before_the_next() -> None:
    lane = lane_at(20)
    assert judge(lane, 5, message(77)) == SlotOutcome(5, message(5), OutcomeCode.ACCEPTED, 5)
    assert judge(lane, 4, message(77)) == SlotOutcome(4, message(77), OutcomeCode.FORGOTTEN, 0)


def test_outcomes_that_were_lost_are_forgotten_and_not_taken_anew() -> None:
    lane = Lane(5, ())
    assert judge(lane, 5, message(5)) == SlotOutcome(5, message(5), OutcomeCode.FORGOTTEN, 0)
    assert judge(lane, 6, message(6)) is DUE


@pytest.mark.parametrize("slot", [1, 3])
def test_only_the_slot_that_is_due_is_recorded(slot: int) -> None:
    with pytest.raises(AssertionError):
        record(lane_at(1), SlotOutcome(slot, message(1), OutcomeCode.ACCEPTED, 2))


@pytest.mark.parametrize("code", [OutcomeCode.BUSY, OutcomeCode.RATE_LIMITED])
def test_a_refusal_for_now_is_never_recorded(code: str) -> None:
    with pytest.raises(AssertionError):
        record(NEW_LANE, SlotOutcome(1, message(1), code, 0))


@pytest.mark.parametrize(
    "module",
    [
        collab_server.lanes,
        collab_server.lane_reader,
        collab_server.chat,
        collab_server.log.chat_port,
    ],
)
def test_the_rules_of_the_chat_do_no_io(module: object) -> None:
    path = inspect.getsourcefile(module)  # type: ignore[arg-type]
    assert path is not None

    assert not roots(imports(Path(path))) & IMPURE
