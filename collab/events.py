"""What a room tells those who watch it."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from collab.errors import CollabError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RoomEvent:
    """The base of all events of a room."""


@dataclass(frozen=True, slots=True)
class DocumentChanged(RoomEvent):
    """The document changed; ``local``: by this program, else by somebody else."""

    local: bool


@dataclass(frozen=True, slots=True)
class StatusChanged(RoomEvent):
    """Something of ``room.status`` changed: saved, synced, pending, refused."""


@dataclass(frozen=True, slots=True)
class Failed(RoomEvent):
    """A background commit or the sync of this room failed; ``room.status.error`` has it too."""

    error: CollabError


@dataclass(frozen=True, slots=True)
class Recovered(RoomEvent):
    """The disk takes this room's edits again, and has those that waited."""


@dataclass(frozen=True, slots=True)
class RelayRolledBack(RoomEvent):
    """The relay lacks edits of this room that it once had.

    It was restored from an older backup, lost its log, or crashed before a commit. Nothing is
    missing here. ``offered``: this device gives back all that it has; False while it may only read
    or its updates are refused (``status.refused``). Comes at a joining, and again at the next one
    if that does not get through. Deletions alone that a relay lost are given back in the same way,
    but not noticed: no event tells of them.
    """

    offered: bool


class Subscription:
    """An observer; ``close`` ends it."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close

    def close(self) -> None:
        """No more calls from now on. May be called twice."""
        self._close()


class Observers(Generic[T]):
    """Callbacks, each called on the event loop in a turn of its own.

    One that raises is reported to the loop's exception handler and harms no other.
    """

    def __init__(self) -> None:
        self._callbacks: dict[object, Callable[[T], object]] = {}
        self._on_end: dict[object, Callable[[], object]] = {}

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def add(
        self, callback: Callable[[T], object], *, on_end: Callable[[], object] | None = None
    ) -> Subscription:
        """Call ``callback`` with every event from now on, and ``on_end`` when all are forgotten."""
        key = object()
        self._callbacks[key] = callback
        if on_end is not None:
            self._on_end[key] = on_end

        def close() -> None:
            self._callbacks.pop(key, None)
            self._on_end.pop(key, None)

        return Subscription(close)

    def emit(self, event: T) -> None:
        """Tell everybody, soon."""
        if not self._callbacks:
            return
        loop = asyncio.get_running_loop()
        for key in self._callbacks:
            loop.call_soon(self._call, key, event)

    def _call(self, key: object, event: T) -> None:
        callback = self._callbacks.get(key)
        if callback is not None:
            callback(event)

    def clear(self) -> None:
        """Forget everybody."""
        ends = list(self._on_end.values())
        self._callbacks.clear()
        self._on_end.clear()
        for end in ends:
            end()


class Stream(AsyncIterator[RoomEvent]):
    """Events from its making on, coalesced: of equal ones that nobody took yet, one is kept.

    Never more than a handful wait, so a slow reader costs nothing and holds nobody up. It ends when
    the room is closed.
    """

    def __init__(self, observers: Observers[RoomEvent]) -> None:
        self._waiting: dict[RoomEvent | type[RoomEvent], RoomEvent] = {}
        self._wake = asyncio.Event()
        self._ended = False
        me = weakref.ref(self)  # a stream that nobody reads any more is not kept by the room

        def take(event: RoomEvent | None) -> None:
            stream = me()
            if stream is not None:
                stream._take(event)

        subscription = observers.add(take, on_end=lambda: take(None))
        self._finalizer = weakref.finalize(self, subscription.close)

    def _take(self, event: RoomEvent | None) -> None:
        if event is None:
            self._ended = True
        else:
            self._waiting[type(event) if isinstance(event, Failed) else event] = event
        self._wake.set()

    async def __anext__(self) -> RoomEvent:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._waiting.pop(next(iter(self._waiting)))

    async def aclose(self) -> None:
        """No more events from now on."""
        self._finalizer()
        self._waiting.clear()
        self._take(None)
