"""A disk: transactions one after the other, each taking time, all or nothing.

What a transaction did is on the disk from one moment on; its program hears of it a little later,
or never, if it dies in between. ``state`` is what survives. The two kinds of state are in
``device_file`` and ``relay_log``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from tests.simulation.world import Life, World

S = TypeVar("S")
T = TypeVar("T")

SLOWEST_S = 2.0  # a disk that stalls for longer is one that is broken


class Disk(Generic[S]):
    """One file's disk, and the thread that speaks to it."""

    def __init__(self, world: World, state: S, latency: float) -> None:
        self._world = world
        self._latency = latency
        self._free_at = 0.0
        self.state = state
        self.full = False
        self.slowness = 1.0

    def write(
        self,
        life: Life,
        work: Callable[[S], T],
        done: Callable[[T], object],
        failed: Callable[[], object],
    ) -> None:
        """Run a transaction. ``failed`` is called if the disk is full: then nothing changed."""
        self._queue(life, work, done, failed)

    def read(self, life: Life, work: Callable[[S], T], done: Callable[[T], object]) -> None:
        """Ask the disk, behind what was asked of it before."""
        self._queue(life, work, done, None)

    def _queue(
        self,
        life: Life,
        work: Callable[[S], T],
        done: Callable[[T], object],
        failed: Callable[[], object] | None,
    ) -> None:
        world = self._world
        latency = self._latency * self.slowness * world.rng.choice((0.2, 1.0, 1.0, 3.0))
        if failed is None:
            latency *= 0.2
        latency = min(latency, SLOWEST_S)
        start = max(world.now, self._free_at)
        self._free_at = start + latency
        lag = latency if world.chance(0.2) else 0.0

        def act() -> None:
            if failed is not None and self.full:
                world.count("full disk")
                failed()
                return
            result = work(self.state)
            if lag:
                world.after(lag, lambda: done(result), life)
            else:
                done(result)

        world.after(self._free_at - world.now, act, life)

    def restart(self) -> None:
        """Its program is gone, with what it had asked for."""
        self._free_at = self._world.now
