"""How long to wait before the next attempt: full jitter, with a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["HOUR_S", "Backoff", "BackoffSettings"]

HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    """Seconds, except ``attempts_per_hour``, which is at least 2. Else ValueError."""

    base_s: float = 1.0
    cap_s: float = 60.0
    attempts_per_hour: int = 120

    def __post_init__(self) -> None:
        if self.attempts_per_hour < 2:
            raise ValueError("a budget of less than 2 attempts an hour never lets the second begin")


class Backoff:
    """The wait before an attempt is random in ``[0, min(cap, base · 2^failures)]``.

    Full jitter spreads clients that lost one relay at one moment. The budget keeps a client that
    fails in some new way from hammering: at most ``attempts_per_hour`` starts in any hour. Half of
    it may be used at once; the other half comes back evenly. So who has used it up on a network
    that flaps waits for one attempt's share (a minute, by default), not for the rest of the hour.
    """

    def __init__(self, settings: BackoffSettings | None = None) -> None:
        self._settings = settings or BackoffSettings()
        self._failures = 0
        self._at_once = self._settings.attempts_per_hour // 2
        self._per_second = (self._settings.attempts_per_hour - self._at_once) / HOUR_S
        self._left = float(self._at_once)  # of the budget, at the moment ``_counted``
        self._counted: float | None = None

    def reset(self) -> None:
        """A success, a hint or a user's act: the next wait is short again. The budget stays."""
        self._failures = 0

    def started(self, now: float) -> None:
        """An attempt starts at ``now``."""
        self._left = self._budget(now) - 1.0
        self._counted = now

    def blocked_for(self, now: float) -> float:
        """Seconds until the budget has an attempt; 0 if it has one."""
        missing = 1.0 - self._budget(now)
        # What rounding leaves of a share that has just come back is no reason to wait.
        return missing / self._per_second if missing > 1e-9 else 0.0

    def wait(self, now: float, chance: float) -> float:
        """Seconds to wait after a failure; ``chance`` is uniform in [0, 1)."""
        settings = self._settings
        ceiling = min(settings.cap_s, settings.base_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return max(ceiling * chance, self.blocked_for(now))

    def _budget(self, now: float) -> float:
        """How many attempts may begin at ``now``."""
        if self._counted is None:
            return self._left
        back = max(0.0, now - self._counted) * self._per_second
        return min(float(self._at_once), self._left + back)
