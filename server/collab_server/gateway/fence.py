"""One live connection per user and device: a newer one ends the older."""

from __future__ import annotations

from typing import Protocol

from collab.protocol.frames import Close


class Closable(Protocol):
    """What a fence can end."""

    def close(self, code: int, reason: str) -> None:
        """Ask the connection to end."""


class Fence:
    """A half-open socket would double what its device does; a higher connection number ends it.

    A connection with a lower number never ends a higher one.
    """

    def __init__(self) -> None:
        self._holders: dict[tuple[str, bytes], tuple[int, Closable]] = {}

    def enter(self, key: tuple[str, bytes], number: int, connection: Closable) -> None:
        """Let ``connection`` in, or end it, or the one that was there."""
        held = self._holders.get(key)
        if held is not None:
            if number <= held[0]:
                connection.close(Close.FENCED, "this device has a newer connection")
                return
            held[1].close(Close.FENCED, "this device has a newer connection")
        self._holders[key] = (number, connection)

    def leave(self, key: tuple[str, bytes], connection: Closable) -> None:
        """``connection`` is over."""
        held = self._holders.get(key)
        if held is not None and held[1] is connection:
            del self._holders[key]
