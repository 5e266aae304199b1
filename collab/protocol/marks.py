"""How far a device has received and its user has read, as told to the relay."""

from __future__ import annotations

from collab import limits
from collab.protocol import frames

__all__ = ["Marks"]


class Marks:
    """Two registers of one room; they only rise, except in another history.

    Invariants:

    1. What is told is on this disk.
    2. A MARK goes up at most every ``MARK_EVERY_MS``, and only with news.
    """

    def __init__(self, *, delivered_upto: int, read_upto: int) -> None:
        self.delivered_upto = delivered_upto
        self.read_upto = read_upto
        self._told = (0, 0)
        self._next_at = 0

    def entered(self, read_upto: int) -> None:
        """The relay knows this much of what the user has read, and nothing of this device."""
        self._told = (0, read_upto)

    def heard(self, read_upto: int) -> None:
        """The user has read so far on another device, and the relay knows it."""
        self.read(read_upto)
        self._told = (self._told[0], max(self._told[1], read_upto))

    def cut(self, head: int) -> None:
        """The log ends here; what was beyond was in another."""
        self.delivered_upto = min(self.delivered_upto, head)
        self.read_upto = min(self.read_upto, head)

    def restart(self, delivered_upto: int, read_upto: int) -> None:
        """Numbers of another history."""
        self.delivered_upto, self.read_upto = delivered_upto, read_upto

    def another_reads(self) -> None:
        """What was read here is the user's before: only what the relay says of this one stands."""
        self.read_upto = self._told[1]

    def delivered(self, upto: int) -> None:
        """The device has received so far."""
        self.delivered_upto = max(self.delivered_upto, upto)

    def read(self, upto: int) -> None:
        """The user has read so far, here or elsewhere."""
        self.read_upto = max(self.read_upto, upto)

    def next_frame(self, channel: int, now: int) -> frames.Mark | None:
        """The MARK that is due, or None."""
        if not self._has_news() or now < self._next_at:
            return None
        self._told = (self.delivered_upto, self.read_upto)
        self._next_at = now + limits.MARK_EVERY_MS
        return frames.Mark(channel, self.delivered_upto, self.read_upto)

    def deadline(self) -> int | None:
        """When ``next_frame`` has something, or None."""
        return self._next_at if self._has_news() else None

    def _has_news(self) -> bool:
        return self.delivered_upto > self._told[0] or self.read_upto > self._told[1]
