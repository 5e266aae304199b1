"""A relay goes away from under five hundred devices at once: how their attempts come, in virtual
time, with the machine that real devices run."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest

from collab.protocol.backoff import HOUR_S
from collab.protocol.connection_state import Answer, ConnectionMachine, Meaning, State, Timers

DEVICES = 500
AWAY_S = 45.0
LIVE_S = 120.0


class Storm:
    """All devices on one heap of moments; the relay is away from 0 to ``away_s``."""

    def __init__(self, seed: int, devices: int, away_s: float) -> None:
        self.rng = random.Random(seed)
        self.away_s = away_s
        self.trip_s = 0.02
        self.machines = [ConnectionMachine(Timers()) for _ in range(devices)]
        self.attempts: list[tuple[float, int]] = []
        self.back: dict[int, float] = {}
        self._heap: list[tuple[float, int, int]] = []
        self._count = 0

    def later(self, now: float, who: int) -> None:
        self._count += 1
        heapq.heappush(self._heap, (now, self._count, who))

    def begin(self) -> None:
        """All are live, and then the relay dies at the moment 0."""
        for who, machine in enumerate(self.machines):
            machine.due(-LIVE_S, 0.0)
            machine.welcomed(machine.turn, -LIVE_S)
            machine.caught_up(-LIVE_S)
            machine.lost(machine.turn, Meaning.TRANSIENT, "cut", 0.0, self.rng.random())
            self._schedule(who)

    def _schedule(self, who: int) -> None:
        deadline = self.machines[who].next_deadline()
        assert deadline is not None
        self.later(deadline, who)

    def run(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            now, _, who = heapq.heappop(self._heap)
            machine, chance = self.machines[who], self.rng.random()
            state = machine.state
            if state is State.OFFLINE:
                machine.due(now, chance)
                if machine.next_attempt is None:
                    self.attempts.append((now, who))
                    self.later(now + self.trip_s, who)
                else:
                    self._schedule(who)
            elif state is State.CONNECTING and now < self.away_s:
                machine.lost(machine.turn, Meaning.TRANSIENT, "refused", now, chance)
                self.later(now + self.trip_s, who)
            elif state is State.CONNECTING:
                machine.welcomed(machine.turn, now)
                machine.caught_up(now)
                self.back[who] = now
            elif state is State.PROBING:
                answer = Answer.NOTHING if now < self.away_s else Answer.RELAY
                machine.probed(machine.turn, answer, "refused", now, chance)
                self._schedule(who)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_attempts_are_spread_and_all_come_back(seed: int) -> None:
    storm = Storm(seed, DEVICES, AWAY_S)
    storm.begin()
    storm.run(AWAY_S + 200)
    per_tenth = Counter(int(now * 10) for now, _ in storm.attempts)
    print(f"seed {seed}: {[per_tenth[n] for n in range(0, 600, 10)]}")
    # The first attempts fill the first second evenly: about 50 in each tenth of it.
    first = {who: now for now, who in reversed(storm.attempts)}
    in_tenths = Counter(int(now * 10) for now in first.values())
    assert set(in_tenths) == set(range(10))
    assert max(in_tenths.values()) < 2 * DEVICES / 10
    # Never more at once than that, and ever fewer: after 20 s below a tenth of it.
    assert max(per_tenth.values()) < 0.25 * DEVICES
    assert max(per_tenth[n] for n in range(200, 450)) < 0.05 * DEVICES
    # When the relay is there again, they do not come back at one moment either.
    returns = Counter(int(now * 10) for now in storm.back.values())
    assert max(returns.values()) < 0.05 * DEVICES
    assert len(storm.back) == DEVICES
    assert max(storm.back.values()) < AWAY_S + 61
    assert {machine.state for machine in storm.machines} == {State.LIVE}


def test_no_device_goes_above_its_budget_in_a_storm_that_lasts() -> None:
    storm = Storm(4, devices=20, away_s=3 * HOUR_S)
    storm.begin()
    storm.run(3 * HOUR_S)
    for who in range(20):
        mine = [now for now, one in storm.attempts if one == who]
        assert len(mine) > 180  # they go on trying
        for start in mine:
            assert sum(1 for other in mine if start <= other < start + HOUR_S) <= 120
