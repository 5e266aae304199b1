"""Who hears what is said in a room now: broadcasts, encoded once, to bounded queues. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from collab import limits
from collab.protocol import frames
from collab.protocol.codec import encode
from collab.protocol.waiting_casts import WaitingCasts
from collab_server.token_bucket import TokenBucket

__all__ = ["Audience", "CastAllowance", "Listener"]


@dataclass(eq=False, slots=True)
class Listener:
    """One connection in one room. ``waiting`` is the connection's, for all of its rooms."""

    waiting: WaitingCasts
    wake: Callable[[], None]


class Audience:
    """Everybody who hears the broadcasts of one room. It keeps none of them."""

    def __init__(self, channel: int) -> None:
        self._channel: Final = channel
        self._listeners: set[Listener] = set()

    def __len__(self) -> int:
        return len(self._listeners)

    def join(self, listener: Listener) -> None:
        """Hear everything from now on."""
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """Hear nothing more; what waits of this room is forgotten."""
        self._listeners.discard(listener)
        listener.waiting.forget(self._channel)

    def tell(self, payload: bytes, sender: str, *, but: Listener | None = None) -> None:
        """Put a broadcast into the queue of everybody except ``but``."""
        if len(self._listeners) == (but in self._listeners):
            return
        frame = encode(frames.Broadcast(self._channel, sender, payload))
        for listener in self._listeners:
            if listener is not but:
                listener.waiting.put(self._channel, frame)
                listener.wake()


class CastAllowance:
    """How much one connection may broadcast, in number and in bytes. ``now`` is in seconds."""

    def __init__(self, *, now: float) -> None:
        self._casts = TokenBucket(limits.CASTS_PER_S, limits.CAST_BURST, now=now)
        self._bytes = TokenBucket(limits.CAST_BYTES_PER_S, limits.CAST_BYTES_BURST, now=now)

    def admits(self, size: int, now: float) -> bool:
        """Whether a broadcast of ``size`` bytes goes on; one that does not costs nothing."""
        if not (self._casts.has(1, now) and self._bytes.has(size, now)):
            return False
        self._casts.take(1)
        self._bytes.take(size)
        return True
