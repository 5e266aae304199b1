"""Broadcasts that wait for a socket: a bounded queue in which the newest are worth most."""

from __future__ import annotations

from collections import deque

from collab import limits

__all__ = ["WaitingCasts"]


class WaitingCasts:
    """What one socket has still to be sent of broadcasts, at either end.

    A broadcast that is late is worth less than the one after it. So when a socket is slow the
    oldest go, whatever room they are of, and whoever puts one in never waits.

    1. At most ``MAX_WAITING_CASTS`` wait, and at most ``MAX_WAITING_CAST_BYTES`` of them.
    2. Those of one channel come out in the order in which they went in.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self.dropped = 0  # ever

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def size(self) -> int:
        """Bytes of all that wait."""
        return self._bytes

    def put(self, channel: int, frame: bytes) -> None:
        """Add an encoded frame at the end."""
        self._waiting.append((channel, frame))
        self._bytes += len(frame)
        while (
            len(self._waiting) > limits.MAX_WAITING_CASTS
            or self._bytes > limits.MAX_WAITING_CAST_BYTES
        ):
            self._bytes -= len(self._waiting.popleft()[1])
            self.dropped += 1

    def next(self) -> bytes | None:
        """The oldest, which is taken out; None if there is none."""
        if not self._waiting:
            return None
        frame = self._waiting.popleft()[1]
        self._bytes -= len(frame)
        return frame

    def forget(self, channel: int) -> None:
        """The channel is closed: nothing of it is sent any more."""
        if any(number == channel for number, _ in self._waiting):
            self._waiting = deque(each for each in self._waiting if each[0] != channel)
            self._bytes = sum(len(frame) for _, frame in self._waiting)
