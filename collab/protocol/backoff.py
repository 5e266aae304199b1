"""How long to wait before the next attempt: full jitter, with a budget."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    """Seconds, except ``attempts_per_hour``."""

    base_s: float = 1.0
    cap_s: float = 60.0
    attempts_per_hour: int = 120


class Backoff:
    """The wait before an attempt is random in ``[0, min(cap, base · 2^failures)]``.

    Full jitter spreads clients that lost one relay at one moment. The budget keeps a client that
    fails in some new way from hammering: at most ``attempts_per_hour`` starts in any hour.
    """

    def __init__(self, settings: BackoffSettings | None = None) -> None:
        self._settings = settings or BackoffSettings()
        self._failures = 0
        self._starts: deque[float] = deque()

    def reset(self) -> None:
        """A success, a hint or a user's act: the next wait is short again. The budget stays."""
        self._failures = 0

    def started(self, now: float) -> None:
        """An attempt starts at ``now``."""
        self._starts.append(now)

    def wait(self, now: float, chance: float) -> float:
        """Seconds to wait after a failure; ``chance`` is uniform in [0, 1)."""
        settings = self._settings
        ceiling = min(settings.cap_s, settings.base_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        pause = ceiling * chance
        while self._starts and self._starts[0] <= now - HOUR_S:
            self._starts.popleft()
        if len(self._starts) >= settings.attempts_per_hour:
            oldest = self._starts[len(self._starts) - settings.attempts_per_hour]
            pause = max(pause, oldest + HOUR_S - now)
        return pause
