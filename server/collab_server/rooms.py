"""Which rooms are loaded: load, wake readers, compact, evict, delete."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from collab import limits
from collab.errors import BadUpdate, Closed, LocalError, StoreCorrupt
from collab.protocol.update import Walk, merge, walk
from collab_server.audience import Audience
from collab_server.chat import Chat
from collab_server.loading import EMPTY_UPDATE, coverage_of, last_offset, room_of
from collab_server.log.port import Log, RoomDeleted
from collab_server.presence import Presence
from collab_server.replicas import Contents, ReplicaFailed, Replicas
from collab_server.room import Reader, Room
from collab_server.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def walk_anywhere(update: bytes) -> Walk:
    """Walk ``update``; a large one in a thread, so that the loop goes on."""
    if len(update) <= limits.WALK_ON_LOOP_BYTES:
        return walk(update)
    return await asyncio.to_thread(walk, update)


@dataclass(eq=False)
class Loaded:
    """A room in memory, with what belongs to it while it is."""

    room: Room
    chat: Chat = field(init=False)
    audience: Audience = field(init=False)
    presence: Presence = field(default_factory=Presence)
    users: int = 0  # connections that hold it
    compacting: asyncio.Task[None] | None = None
    eviction: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.chat = Chat(self.room.channel)
        self.audience = Audience(self.room.channel)


class Rooms:
    """The loaded rooms of one relay. Belongs to the event loop's thread."""

    def __init__(self, log: Log, replicas: Replicas, settings: Settings) -> None:
        self._log = log
        self._replicas = replicas
        self._settings = settings
        self._loaded: dict[str, Loaded] = {}
        self._by_id: dict[int, Loaded] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._deleting: dict[str, asyncio.Task[None]] = {}
        self._awaited: Counter[str] = Counter()  # who waits in hold(), by name
        self._moved: set[Room] = set()
        self._channels = 0
        self._tasks: set[asyncio.Task[object]] = set()
        self._stop_listening: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._loaded)

    async def __aenter__(self) -> Rooms:
        self._stop_listening = self._log.on_commit(self._committed)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._stop_listening is not None
        self._stop_listening()
        for loaded in self._loaded.values():
            if loaded.eviction:
                loaded.eviction.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _own(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _only(
        self,
        tasks: dict[str, asyncio.Task[None]],
        name: str,
        work: Callable[[], Coroutine[Any, Any, None]],
    ) -> asyncio.Task[None]:
        """The one task of its kind for ``name``; begun, if there is none."""

        def over(task: asyncio.Task[None]) -> None:
            del tasks[name]
            if not task.cancelled():
                task.exception()  # those who waited for it may all have given up

        task = tasks.get(name)
        if task is None:
            task = tasks[name] = self._own(asyncio.create_task(work()))
            task.add_done_callback(over)
        return task

    # Holding a room

    async def hold(self, name: str, *, epoch: bytes | None) -> Loaded:
        """The room of this name, loaded; a new one gets ``epoch``. Give it back with release.

        Waits while the room is being deleted. Raises :class:`RoomDeleted` if ``epoch`` is that of
        a deleted room of this name, whether or not there is another one by now; ``StoreCorrupt`` if
        the log of this room is damaged; ``Closed`` if the relay is stopped meanwhile.
        """
        while True:
            deletion, loaded = self._deleting.get(name), self._loaded.get(name)
            if deletion is not None:
                await asyncio.wait([deletion])
            elif loaded is None:
                await self._wait_for(name, epoch)
            elif epoch is None or epoch == loaded.room.epoch:
                return self._take(loaded)
            elif await self._log.is_deleted(name, epoch):
                raise RoomDeleted(name, epoch)
            elif self._loaded.get(name) is loaded and name not in self._deleting:
                return self._take(loaded)

    def _take(self, loaded: Loaded) -> Loaded:
        loaded.users += 1
        if loaded.eviction:
            loaded.eviction.cancel()
            loaded.eviction = None
        return loaded

    async def _wait_for(self, name: str, epoch: bytes | None) -> None:
        """Return when the room was loaded, by whomever; raise what it failed of."""
        loading = self._only(self._loading, name, lambda: self._load(name, epoch or os.urandom(16)))
        # A joiner that gives up must not take the room from the others that wait for it.
        self._awaited[name] += 1
        try:
            await asyncio.wait([loading])
        finally:
            self._awaited[name] -= 1
            if not self._awaited[name]:
                del self._awaited[name]
        if loading.cancelled():
            raise Closed(
                "The relay was stopped before the room was loaded; nothing was done in it."
            )
        failure = loading.exception()
        if isinstance(failure, RoomDeleted) and failure.epoch != epoch:
            return  # it was loaded for somebody who offered that epoch; it is not for us
        if failure is not None:
            raise failure

    def loaded(self, room_id: int) -> Loaded | None:
        """The room of this id, if it is in memory."""
        return self._by_id.get(room_id)

    def named(self, name: str) -> Loaded | None:
        """The room of this name, if it is in memory: if anybody is in it, it is."""
        return self._loaded.get(name)

    def release(self, loaded: Loaded) -> None:
        """Give a held room back."""
        loaded.users -= 1
        if not loaded.users and self._by_id.get(loaded.room.id) is loaded:
            self._evict_later(loaded)

    async def _load(self, name: str, epoch: bytes) -> None:
        row = await self._log.open_room(name, epoch=epoch)
        stored = await self._log.load(row.id)
        try:
            coverage = await asyncio.to_thread(coverage_of, stored)
        except BadUpdate as error:  # no peer's fault by now
            raise StoreCorrupt(
                f"An update in the log of room {name!r} is damaged ({error}). The log was left as "
                f"it is and nobody gets this room; the others are served. Put back a backup."
            ) from error
        self._channels += 1
        room = room_of(row, stored, coverage, channel=self._channels)
        loaded = self._loaded[name] = self._by_id[row.id] = Loaded(room)
        self._evict_later(loaded)  # whoever asked for it may have given up

    def _evict_later(self, loaded: Loaded) -> None:
        loop = asyncio.get_running_loop()
        loaded.eviction = loop.call_later(self._settings.room_idle_s, self._evict, loaded)

    def _evict(self, loaded: Loaded) -> None:
        room = loaded.room
        if loaded.users:
            return
        busy = loaded.compacting is not None or self._awaited[room.name]
        if busy or room.head > self._log.committed:
            self._evict_later(loaded)
            return
        self._forget(room)

    def _forget(self, room: Room) -> None:
        del self._loaded[room.name], self._by_id[room.id]
        self._replicas.drop(room.id)

    # Deleting a room

    async def delete(self, name: str, *, now_ms: int) -> None:
        """Delete the room of this name. Who is in it is told when that is durable.

        From the call on nobody gets it. It is deleted whole or not at all, and cancelling this does
        not stop it. Raises :class:`LocalError` if there is no such room.
        """
        deletion = self._only(self._deleting, name, lambda: self._delete(name, now_ms))
        await asyncio.wait([deletion])
        if deletion.cancelled():
            raise Closed(
                "The relay was stopped before it was known whether the room is deleted. It is "
                "deleted whole or not at all; ask again when the relay runs."
            )
        deletion.result()

    async def _delete(self, name: str, now_ms: int) -> None:
        loading = self._loading.get(name)
        if loading is not None:
            await asyncio.wait([loading])
        loaded = self._loaded.get(name)
        if loaded is None:
            row = await self._log.find_room(name)
            if row is None:
                raise LocalError(
                    f"There is no room {name!r} at this relay. Nothing was deleted. Look at its "
                    f"name; a room exists from the first time that somebody joins it."
                )
            await self._log.delete_room(row.id, now_ms=now_ms)
            return
        room = self._take(loaded).room
        room.seal()
        if loaded.compacting is not None:
            loaded.compacting.cancel()
        await self._log.delete_room(room.id, now_ms=now_ms)
        self._forget(room)
        for reader in list(room.readers):
            reader.on_deleted()

    # The log moves

    async def appended(self, loaded: Loaded, offset: int, data: bytes) -> None:
        """``data`` is in the room at ``offset``: commit, show and feed it. Waits at the bound."""
        room = loaded.room
        self._log.append(room.id, offset, data)
        self._replicas.feed(room.id, offset, data)
        if not self._moved:
            asyncio.get_running_loop().call_soon(self._wake_readers)
        self._moved.add(room)
        enough = max(self._settings.compact_from_bytes, room.snapshot_bytes)
        if room.log_bytes > enough and loaded.compacting is None:
            loaded.compacting = self._own(asyncio.create_task(self._compact(loaded)))
        await self._log.wait_for_room()

    def next_offset(self) -> int:
        """The next offset of the log; append under it in the same turn of the loop."""
        return self._log.next_offset()

    def _wake_readers(self) -> None:
        moved, self._moved = self._moved, set()
        for room in moved:
            for reader in room.readers:
                if room.is_behind(reader):
                    reader.wake()

    def _committed(self, committed: int, room_ids: frozenset[int]) -> None:
        for room_id in room_ids:
            loaded = self._by_id.get(room_id)
            if loaded is None:
                continue
            loaded.room.trim(committed)
            for reader in loaded.room.readers:
                if reader.acks:
                    reader.wake()

    # Questions that memory cannot answer

    async def read_behind(self, room: Room, reader: Reader) -> bytes | None:
        """The next frame for a reader behind the tail; None: it needs a difference."""
        after = reader.position
        rows = await self._log.read(room.id, after, limits.MAX_RUN_BYTES)
        if after < room.base:
            return None
        if not rows:
            return None
        try:
            walked = [(data, await walk_anywhere(data)) for _, data in rows]
        except BadUpdate as error:
            logger.warning("room %d has a damaged update in its log: %s", room.id, error)
            return None  # a snapshot may stand for it; if none does, the worker says so
        reader.position = rows[-1][0]
        return reader.dialect(room.channel, reader.position, merge(walked))

    async def difference(self, room: Room, state_vector: bytes) -> tuple[int, bytes]:
        """An offset, and an update with all up to it, and no more, that ``state_vector`` lacks.

        Who got more than its offset says would, after a crash of this relay, keep that to himself:
        it is beyond a place that is good.
        """
        if not room.head or room.coverage.state_vector() == b"\0":
            return room.head, EMPTY_UPDATE
        timeout = self._settings.difference_timeout_s
        return await self._replicas.difference(room.id, state_vector, timeout=timeout)

    async def reload(self, room_id: int) -> Contents:
        """All of a room, for a worker that does not have it.

        Complete at the moment when it returns, not committed part included.
        """
        loaded = self._by_id.get(room_id)
        if loaded is None:  # who asked has left, and the room was evicted meanwhile
            raise ReplicaFailed("the room is not loaded any more", dropped=False)
        room = loaded.room
        room.pins += 1
        try:
            stored = await self._log.load(room_id)
        except KeyError:
            raise ReplicaFailed("the room was deleted", dropped=False) from None
        finally:
            room.pins -= 1
        updates = [data for _, data in stored.updates] + room.tail_after(last_offset(stored))
        return Contents(stored.snapshot, updates, room.head)

    async def _compact(self, loaded: Loaded) -> None:
        room = loaded.room
        try:
            log_bytes = room.log_bytes
            offset, snapshot, coverage = await self._replicas.snapshot(room.id)
            # From here on a place before the base gets a difference: the rows are as good as gone.
            keep_after = min(offset, room.slowest)
            room.base = max(room.base, keep_after)
            await self._log.compact(
                room.id, snapshot, offset, keep_after=keep_after, coverage=coverage
            )
            room.snapshot_bytes = len(snapshot)
            room.log_bytes -= log_bytes
        except asyncio.CancelledError:
            raise
        except Exception:
            # The log is whole without it; the next append beyond the bound tries again.
            logger.exception("a room could not be compacted; its log stays as it is")
            room.log_bytes = 0
        finally:
            loaded.compacting = None
