"""Whether the relay at the other end still answers: PING, PONG, and how long silence may last."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_PONG_S", "Liveness"]

MAX_PONG_S: Final = 120.0  # bytes on their way excuse a late PONG, but not for ever


class Liveness:
    """One connection's proof of life. ``deadline`` is when :meth:`due` is to be called.

    A PONG comes from the relay's application, not from a TCP stack or a box on the way. While it
    is awaited, bytes that arrive show that the line is thin and not dead: PING and PONG may wait
    behind large frames. ``proven``: it lived at this time, as it answered what was asked then.
    """

    def __init__(self, ping_s: float, silence_s: float, now: float) -> None:
        self._ping_s = ping_s
        self._silence_s = silence_s
        self._number = 0
        self._asked: float | None = None  # when a PING went out that has no PONG
        self._again = False  # ask once more when it is answered
        self.proven = now
        self.deadline = now + ping_s

    def due(self, now: float) -> int | None:
        """The deadline has passed: the number of the PING to send, or None: nobody is there."""
        if self._asked is not None:
            return None
        self._asked = now
        self._number += 1
        self.deadline = now + self._silence_s
        return self._number

    def heard(self, now: float) -> None:
        """Bytes came."""
        if self._asked is not None:
            self.deadline = min(now + self._silence_s, self._asked + MAX_PONG_S)

    def ponged(self, number: int, now: float) -> None:
        """PONG came."""
        if self._asked is not None and number == self._number:
            self.proven = self._asked
            self._asked = None
            self.deadline = now if self._again else now + self._ping_s
            self._again = False

    def make_sure(self, now: float) -> None:
        """There is a reason to ask now, or again after what is asked already."""
        if self._asked is None:
            self.deadline = now
        else:
            self._again = True
