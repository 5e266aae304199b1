"""How much somebody may do in a time: a steady rate, and a burst after a pause."""

from __future__ import annotations

__all__ = ["TokenBucket"]


class TokenBucket:
    """Holds up to ``burst`` tokens and gains ``per_s`` a second. Full at ``now``, in seconds.

    Time is an argument; one that goes back adds nothing.
    """

    def __init__(self, per_s: float, burst: float, *, now: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def has(self, count: float, now: float) -> bool:
        """Whether ``count`` tokens can be taken."""
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
            self._at = now
        return self._tokens >= count

    def take(self, count: float) -> None:
        """Take ``count`` tokens that it has."""
        assert self._tokens >= count
        self._tokens -= count
