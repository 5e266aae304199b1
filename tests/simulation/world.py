"""Time, chance and the trace of one history: a heap of timed events and one seed.

Nothing in a simulation asks a clock or a source of randomness but these, so a seed is the whole
history. What a process scheduled dies with it: its events carry its ``Life``.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from typing import Final

Act = Callable[[], object]

MAX_EVENTS: Final = 200_000  # of one history: beyond it something goes round in circles


class Violation(AssertionError):
    """A promise was broken."""


class Life:
    """One run of a process, from its start to its crash or end."""

    __slots__ = ("alive",)

    def __init__(self) -> None:
        self.alive = True

    def end(self) -> None:
        """Nothing that was scheduled for this life happens any more."""
        self.alive = False


class World:
    """One history's heap of events. ``now`` is in seconds."""

    def __init__(self, seed: int, *, show: Callable[[str], object] | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.now = 0.0
        self.events = 0
        self.happened: Counter[str] = Counter()  # what this history exercised
        self._show = show
        self._heap: list[tuple[float, int, Life | None, Act]] = []
        self._scheduled = 0

    def after(self, delay: float, act: Act, life: Life | None = None) -> None:
        """Do ``act`` in ``delay`` seconds, if ``life`` still goes on then.

        Acts of one moment happen in the order in which they were scheduled.
        """
        self._scheduled += 1
        heapq.heappush(self._heap, (self.now + delay, self._scheduled, life, act))

    def run(self, until: float) -> None:
        """Let everything happen that is due by ``until``."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            moment, _, life, act = heapq.heappop(heap)
            if life is not None and not life.alive:
                continue
            self.now = moment
            self.events += 1
            if self.events > MAX_EVENTS:
                raise Violation("the history never comes to rest")
            act()
        self.now = until

    def end(self) -> None:
        """Forget what is still scheduled, so that nothing keeps this history in memory."""
        self._heap.clear()

    def note(self, text: str, *about: object) -> None:
        """A line of the trace, %-formatted; costs nothing when nobody reads it."""
        if self._show is not None:
            self._show(f"{self.now:9.3f}  {text % about if about else text}")

    def count(self, what: str) -> None:
        """Note that this history did ``what``."""
        self.happened[what] += 1

    def chance(self, probability: float) -> bool:
        """True that often."""
        return self.rng.random() < probability
