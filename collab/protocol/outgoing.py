"""What goes out on one socket, and in which order.

1. Control frames go first, in the order they were given.
2. Then each source has its turn, one frame each: no room waits behind all of another.
3. What is longer than a frame goes in parts, one a turn; its source is not asked for more until
   the last one is out, so the order within a room holds.
4. No more payloads are on their way in parts than the peer puts together at once; others wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator

from collab import limits
from collab.protocol.codec import parts

Source = Callable[[], bytes | None]


class _Cut:
    """A payload on its way in parts; ``left``: its bytes that are not out yet."""

    __slots__ = ("left", "pieces", "total")

    def __init__(self, total: int, pieces: Iterator[bytes]) -> None:
        self.total = self.left = total
        self.pieces = pieces


class Outgoing:
    """The queue of one socket. The shell calls :meth:`next` whenever the socket takes more."""

    def __init__(self) -> None:
        self._control: deque[bytes] = deque()
        self._sources: dict[Hashable, Source] = {}
        self._turns: deque[Hashable] = deque()
        self._cut: dict[Hashable, _Cut] = {}
        self._uncut: dict[Hashable, bytes] = {}  # too many others are on their way in parts
        self._streams = 0

    def __len__(self) -> int:
        """How many control frames wait."""
        return len(self._control)

    def send(self, encoded: bytes) -> None:
        """Queue a control frame; it must be short enough for one frame."""
        assert len(encoded) <= limits.MAX_FRAME_BYTES
        self._control.append(encoded)

    def attach(self, key: Hashable, source: Source) -> None:
        """Give ``source`` a turn from now on: it returns its next frame, or None."""
        if key not in self._turns:
            self._turns.append(key)
        self._sources[key] = source

    def detach(self, key: Hashable) -> None:
        """Take the turn away; parts that are on their way are finished first."""
        self._sources.pop(key, None)

    def next(self) -> bytes | None:
        """The next frame's bytes, or None when there is nothing to send now."""
        if self._control:
            return self._control.popleft()
        for _ in range(len(self._turns)):
            key = self._turns[0]
            self._turns.rotate(-1)
            frame = self._turn(key)
            if frame is not None:
                return frame
        return None

    def _turn(self, key: Hashable) -> bytes | None:
        if key in self._cut:
            return self._piece(key)
        frame = self._uncut.pop(key, None)
        if frame is None:
            source = self._sources.get(key)
            if source is None:
                self._turns.remove(key)
                return None
            frame = source()
        if frame is None or len(frame) <= limits.MAX_FRAME_BYTES:
            return frame
        if not self._may_cut(len(frame)):
            self._uncut[key] = frame
            return None
        self._streams += 1
        self._cut[key] = _Cut(len(frame), parts(frame, self._streams))
        return self._piece(key)

    def _piece(self, key: Hashable) -> bytes:
        """The next part; with the last one there is room for another payload."""
        cut = self._cut[key]
        cut.left -= limits.PART_BYTES
        if cut.left <= 0:
            del self._cut[key]
        return next(cut.pieces)

    def _may_cut(self, size: int) -> bool:
        promised = sum(cut.total for cut in self._cut.values())
        fits = promised + size <= limits.MAX_OPEN_PART_BYTES
        return fits and len(self._cut) < limits.MAX_OPEN_PARTS
