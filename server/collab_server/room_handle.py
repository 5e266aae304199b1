"""A room in the hands of the program that the relay runs in."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from collab_server.rooms import Rooms


class RoomHandle:
    """One room of a relay, by its name; whether there is such a room is asked at each call.

    Made by :meth:`collab_server.app.Relay.room`. Belongs to the event loop that the relay runs in.
    """

    def __init__(self, name: str, rooms: Callable[[], Rooms]) -> None:
        self.name: Final = name
        self._rooms = rooms

    async def delete(self) -> None:
        """Delete the room; nobody can undo that. Durable when this returns.

        All of its updates go, and it stays known that they did: a device that had joined the room
        is told so, now or whenever it comes back, and keeps its own copy without sending it. Who
        joins without such a copy makes a new room of the same name. A stock Yjs provider cannot
        know the one from the other: one that connects again offers what it still has.

        While the disk takes nothing this waits. Cancelling it does not stop the deletion. Raises
        :class:`collab.LocalError`, and has deleted nothing, if there is no such room or the relay
        does not run; :class:`collab.Closed` if the relay is stopped before the outcome is known.
        """
        await self._rooms().delete(self.name, now_ms=time.time_ns() // 1_000_000)
