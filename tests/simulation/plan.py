"""What one seed's history is made of: how many, how fast, and which faults how often.

Each seed has its own weather (swarm testing): a fault that is frequent in one history is absent
in the next, because what all faults together hide, one alone may show.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from collab.protocol.backoff import BackoffSettings
from tests.simulation.chat_plan import ChatPlan, make_chat_plan

FAULTS: Final = (
    "cut",  # a connection is lost; what was on its way arrives up to some point, or not
    "half_open",  # the device knows that it is lost, the relay for long does not
    "partition",  # one direction of one device's traffic, or both, stand still
    "flap",  # a device's next connections are lost soon after they were made
    "portal",  # somebody else answers for the relay
    "sleep",  # a device's program is suspended, and resumes, or has a moment now and then
    "hint",  # the system tells a device something of the network, true or not
    "away",  # a device has no network; people work, its program may be closed or killed
    "kill",  # a device's program dies and is started again
    "crash",  # the relay dies and is started again
    "worker",  # the relay's replica worker dies
    "full",  # a disk takes nothing for a while
    "stall",  # a disk is slow for a while
    "restore",  # the relay's log is put back to an older copy
    "empty",  # the relay's log is begun again
    "delete",  # the room is deleted at the relay; whoever comes without it makes a new one
    "stranger",  # another relay has a room of the same name
    "clone",  # a device's file is copied, and both are used
    "put_back",  # a device's file is replaced by an older copy
    "clock",  # a device's wall clock jumps
    "swap",  # the relay sends an update before one that it builds on
)


@dataclass(slots=True)
class Plan:
    """Times are seconds; ``faults`` are how many of each kind."""

    devices: int
    rooms: int
    operations: int
    span: float
    gap: float  # between two edits of a burst
    burst: int
    latency: float  # the network's, typical
    commit: float  # a disk's, typical
    slow_disk: float  # how many times slower some disks are
    window: int  # frames that a socket takes before its sender must wait
    tail_updates: int  # uncommitted entries at which writers wait
    room_idle: float
    relay_compacts_from: int
    device_compacts_from: int
    worker_delay: float
    storms: int  # moments around which most of the faults come together; 0: none
    storm: float  # how long one lasts
    kinds: dict[str, float]  # weights of the kinds of edits
    faults: dict[str, int] = field(default_factory=dict)
    chat: ChatPlan | None = None
    backoff: BackoffSettings = field(
        default_factory=lambda: BackoffSettings(base_s=0.3, cap_s=5.0, attempts_per_hour=100_000)
    )

    @property
    def names(self) -> list[str]:
        """The rooms' names."""
        return [f"room {number}" for number in range(self.rooms)]


def make_plan(rng: random.Random, *, chats: bool) -> Plan:
    """Draw a plan; without ``chats`` documents alone."""
    operations = rng.choice([30, 30, 40, 40, 60, 60, 100, 200])
    burst = rng.choice([1, 4, 12])
    plan = Plan(
        devices=rng.choice([2, 2, 2, 3, 3, 4, 5]),
        rooms=rng.choice([1, 1, 1, 2]),
        operations=operations,
        span=0.0,
        gap=rng.choice([0.002, 0.02, 0.2]),
        burst=burst,
        latency=rng.choice([0.002, 0.02, 0.2]),
        commit=rng.choice([0.001, 0.02, 0.3]),
        slow_disk=rng.choice([1, 1, 10]),
        window=rng.choice([2, 8, 64]),
        tail_updates=rng.choice([5, 1000, 1000]),
        room_idle=rng.choice([0.05, 0.5, 60.0]),
        relay_compacts_from=rng.choice([60, 300, 10**9]),
        device_compacts_from=rng.choice([40, 200, 10**9]),
        worker_delay=rng.choice([0.001, 0.05, 0.5]),
        storms=rng.choice([0, 1, 2]),
        storm=rng.choice([0.3, 2.0]),
        kinds={
            "type": rng.choice([1, 4]),
            "delete": rng.choice([0.3, 2]),
            "map": rng.choice([0, 1]),
            "array": rng.choice([0, 1]),
            "together": rng.choice([0, 0.5]),
            "undo": rng.choice([0, 0.5]),
        },
    )
    plan.span = rng.choice([2.0, 8.0, 25.0])
    on = rng.choice([0.15, 0.3, 0.5])
    for fault in FAULTS:
        if rng.random() < on:
            plan.faults[fault] = rng.choice([1, 2, 4, 8])
    for rare, most in (("stranger", 1), ("empty", 1), ("delete", 2)):
        if rare in plan.faults:  # they end most of what came before them
            plan.faults[rare] = min(most, plan.faults[rare])
    if "clone" in plan.faults:
        # Two of one name whose clocks differ: one of them would never get in beside the other.
        plan.faults["clone"] = 1
        plan.faults.pop("clock", None)
    if chats:
        plan.chat = make_chat_plan(rng, copies=not {"clone", "put_back"}.isdisjoint(plan.faults))
        plan.operations = round(plan.operations * rng.choice([0.1, 0.2, 0.5]))
    return plan
