"""When the network goes away, and who is killed: chosen by a seed before anything starts."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

WINDOWS: Final = 3  # offline windows of each client


class Act(Enum):
    """What the orchestrator does to somebody."""

    CUT = auto()  # the client's network goes away
    HEAL = auto()  # and is there again
    KILL = auto()  # SIGKILL to the client, which is started again
    KILL_RELAY = auto()  # SIGKILL to the relay, which is started again


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """``act`` happens to ``client`` once it has made ``edits`` edits."""

    edits: int
    client: str
    act: Act = Act.CUT


def make_plan(seed: int, totals: Mapping[str, int]) -> dict[str, list[Moment]]:
    """Each client's moments in the order of its edits; ``totals`` are the edits it will make.

    Moments are counted in edits, not in seconds: the story is the same on a slow machine.
    """
    chance = random.Random(seed)
    plan: dict[str, list[Moment]] = {}
    for client, total in totals.items():
        part = total / WINDOWS
        plan[client] = [
            moment
            for number in range(WINDOWS)
            for moment in (
                Moment(int(part * (number + chance.uniform(0.1, 0.5))), client, Act.CUT),
                Moment(int(part * (number + chance.uniform(0.6, 0.95))), client, Act.HEAL),
            )
        ]
    for act in (Act.KILL, Act.KILL_RELAY):
        client = chance.choice(sorted(totals))
        plan[client].append(Moment(int(totals[client] * chance.uniform(0.2, 0.85)), client, act))
    for moments in plan.values():
        moments.sort(key=lambda moment: moment.edits)
    return plan
