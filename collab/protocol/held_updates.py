"""Updates that came too early, until what they need has come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from collab import limits
from collab.protocol.update import Coverage, Fit, Walk

__all__ = ["HeldUpdates"]


class HeldUpdates:
    """At most ``MAX_HELD_UPDATES`` of ``MAX_HELD_BYTES`` in all; more are dropped.

    A difference that is on its way contains them all, dropped or not.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[bytes, Walk]] = deque()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def hold(self, update: bytes, walked: Walk) -> None:
        """Keep an update, if there is room."""
        if (
            len(self._waiting) < limits.MAX_HELD_UPDATES
            and self._bytes + len(update) <= limits.MAX_HELD_BYTES
        ):
            self._waiting.append((update, walked))
            self._bytes += len(update)

    def release(self, coverage: Coverage) -> Iterator[tuple[bytes, Walk, Fit]]:
        """Those that fit by now, until none does. Add each to ``coverage`` before the next."""
        progress = True
        while progress and self._waiting:
            progress = False
            for _ in range(len(self._waiting)):
                update, walked = self._waiting.popleft()
                fit = coverage.fit(walked)
                if fit is Fit.EARLY:
                    self._waiting.append((update, walked))
                    continue
                self._bytes -= len(update)
                progress = True
                if fit is not Fit.NOTHING:
                    yield update, walked, fit

    def clear(self) -> None:
        """Drop them."""
        self._waiting.clear()
        self._bytes = 0
