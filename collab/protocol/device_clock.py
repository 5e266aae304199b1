"""A device's own running time, which no wall clock can turn back or hurry.

What remains of a message's ttl is counted on it. Within one boot it is the operating system's
uptime: exact, whether or not the program ran, whatever happened to the wall clock. Only for the
time in which the device was off (or this file was on another device) nothing but the wall clock
can speak; it is believed less ``CLOCK_SLACK_MS``, so that a jump of a day expires nothing, and
never backwards.

1. Running time never goes back.
2. Within one boot it moves exactly with the uptime.
3. Across boots it moves at most as far as the wall clock says, and at least that less the slack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from collab import limits

__all__ = ["BORN", "Anchor", "Reading", "advance"]

_AGREE_MS: Final = 2_000  # two clocks that moved alike since then ran since then


@dataclass(frozen=True, slots=True)
class Reading:
    """What the clocks of a system say at one moment.

    ``boot`` names the boot, the same for every program until the next one. A system that cannot
    say gives random bytes that name the process, and ``by_process`` is true. ``up_ms`` rises
    within a boot, also while the device sleeps where the system knows; ``wall_ms`` is since 1970.
    """

    boot: bytes
    up_ms: int
    wall_ms: int
    by_process: bool = False


@dataclass(frozen=True, slots=True)
class Anchor:
    """A running time and the reading that belongs to it. Stored whole or not at all."""

    running_ms: int
    reading: Reading | None


BORN: Final = Anchor(0, None)
"""Of a file that has no time behind it."""


def advance(anchor: Anchor, now: Reading) -> Anchor:
    """The anchor of ``now``."""
    return Anchor(anchor.running_ms + _elapsed(anchor.reading, now), now)


def _elapsed(then: Reading | None, now: Reading) -> int:
    if then is None:
        return 0
    up, wall = now.up_ms - then.up_ms, now.wall_ms - then.wall_ms
    if now.boot == then.boot and up >= 0:
        return up
    if (now.by_process or then.by_process) and up >= 0 and abs(wall - up) <= _AGREE_MS:
        return up
    return max(0, wall - limits.CLOCK_SLACK_MS)
