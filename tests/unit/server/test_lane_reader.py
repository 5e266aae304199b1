"""What a connection says of a lane between a frame and its decision."""

from __future__ import annotations

import random

from collab.protocol import frames
from collab.protocol.messages import OutcomeCode, SlotOutcome
from collab_server.lane_reader import Arrival, LaneReader
from collab_server.lanes import NEW_LANE, Due, TooEarly, judge, record

CHANNEL = 3


def message(number: int) -> bytes:
    return number.to_bytes(16, "big")


def arrive(lane: LaneReader, slot: int) -> Arrival:
    arrival = lane.arrive(slot, message(slot))
    assert isinstance(arrival, Arrival)
    return arrival


def accepted(slot: int) -> SlotOutcome:
    return SlotOutcome(slot, message(slot), OutcomeCode.ACCEPTED, slot + 100)


def test_an_outcome_is_told_with_the_slot_and_the_id_that_it_holds() -> None:
    lane = LaneReader(CHANNEL, 4)
    told = lane.decided(arrive(lane, 5), SlotOutcome(5, message(9), "skipped", 0))
    assert told == frames.Outcome(CHANNEL, 5, message(9), "skipped", 0, 0, "")


def test_a_slot_before_its_turn_is_answered_once_and_what_follows_is_dropped() -> None:
    lane = LaneReader(CHANNEL, 4)
    assert lane.arrive(7, message(7)) == frames.Expected(CHANNEL, 5)
    assert lane.arrive(8, message(8)) is None
    assert lane.arrive(6, message(6)) is None
    assert arrive(lane, 5).is_due
    assert arrive(lane, 6).is_due
    assert lane.arrive(8, message(8)) == frames.Expected(CHANNEL, 7)


def test_decided_slots_go_to_the_log_while_the_lane_drops() -> None:
    lane = LaneReader(CHANNEL, 4)
    lane.arrive(7, message(7))
    again = arrive(lane, 3)
    assert not again.is_due
    assert lane.decided(again, accepted(3)) is not None
    assert lane.arrive(7, message(7)) is None


def test_a_refusal_for_now_makes_the_slot_due_again_and_drops_what_was_behind_it() -> None:
    lane = LaneReader(CHANNEL, 0)
    first, second = arrive(lane, 1), arrive(lane, 2)
    told = lane.refused_for_now(first, OutcomeCode.BUSY, 500, "later")
    assert told == frames.Outcome(CHANNEL, 1, message(1), "busy", 0, 500, "later")
    assert lane.is_dropped(second)
    assert lane.arrive(3, message(3)) is None
    retried = arrive(lane, 1)
    assert retried.is_due
    assert not lane.is_dropped(retried)
    assert lane.is_dropped(second)  # the one that came before; it comes again
    assert not lane.is_dropped(arrive(lane, 2))


def test_what_the_log_finds_too_early_is_told_once() -> None:
    lane = LaneReader(CHANNEL, 6)
    arrivals = [arrive(lane, slot) for slot in (7, 8, 9)]
    told = [lane.decided(arrival, TooEarly(5)) for arrival in arrivals]
    assert told == [frames.Expected(CHANNEL, 5), None, None]
    assert arrive(lane, 5).is_due


class Device:
    """A device that keeps the protocol: in order, and again from where it is told."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.next = 1
        self.decided: dict[int, SlotOutcome] = {}

    def hear(self, frame: frames.Frame) -> None:
        match frame:
            case frames.Expected(_, slot):
                self.next = min(self.next, slot)
            case frames.Outcome(_, slot, message_id, code, seq):
                if code == OutcomeCode.BUSY:
                    self.next = min(self.next, slot)
                else:
                    outcome = SlotOutcome(slot, message_id, code, seq)
                    assert self.decided.setdefault(slot, outcome) == outcome


def play(seed: int) -> tuple[Device, set[str]]:
    """A device and a relay, with faults for 300 turns and without for 700; what happened."""
    dice = random.Random(seed)
    seen: set[str] = set()
    device, lane, log = Device(12), LaneReader(CHANNEL, 0), NEW_LANE
    to_relay: list[int] = []
    waiting: list[Arrival] = []
    to_device: list[frames.Frame] = []
    for turn in range(1_000):
        faulty = turn < 300
        steps = {dice.choice(["send", "arrive", "ask", "tell"])} if faulty else {"all"}
        if steps & {"send", "all"} and device.next <= device.bound:
            if faulty and dice.random() < 0.3:
                to_relay.append(dice.randint(1, device.bound))  # out of its turn
            else:
                to_relay.append(device.next)
                device.next += 1
        if steps & {"arrive", "all"} and to_relay:
            slot = to_relay.pop(0)
            arrival = lane.arrive(slot, message(slot))
            if isinstance(arrival, frames.Expected):
                seen.add("expected")
                to_device.append(arrival)
            elif arrival is None:
                seen.add("dropped on arrival")
            else:
                waiting.append(arrival)
        if steps & {"ask", "all"} and waiting:
            arrival = waiting.pop(0)
            if lane.is_dropped(arrival):
                seen.add("dropped later")
                continue
            if faulty and arrival.is_due and dice.random() < 0.3:
                seen.add("refused")
                to_device.append(lane.refused_for_now(arrival, OutcomeCode.BUSY, 0, ""))
                continue
            decision = judge(log, arrival.slot, arrival.message_id)
            if isinstance(decision, Due):
                decision = accepted(arrival.slot)
                log = record(log, decision)
            else:
                seen.add("repeated")
            told = lane.decided(arrival, decision)
            if told is not None:
                to_device.append(told)
        if steps & {"tell", "all"} and to_device:
            device.hear(to_device.pop(0))
    return device, seen


def test_a_lane_comes_to_its_end_whatever_is_refused_repeated_and_too_early() -> None:
    seen: set[str] = set()
    for seed in range(300):
        device, happened = play(seed)
        seen |= happened
        whole = {slot: accepted(slot) for slot in range(1, device.bound + 1)}
        assert device.decided == whole, f"seed {seed}"
    assert seen == {"expected", "dropped on arrival", "dropped later", "refused", "repeated"}
