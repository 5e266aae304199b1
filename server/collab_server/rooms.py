"""Which rooms are loaded: load, wake readers, compact, evict."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from collab import limits
from collab.errors import BadUpdate
from collab.protocol.update import Coverage, Walk, merge, walk
from collab_server.log.port import Log, StoredRoom
from collab_server.presence import Presence
from collab_server.replicas import ReplicaFailed, Replicas
from collab_server.room import Reader, Room
from collab_server.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

EMPTY_UPDATE: Final = b"\0\0"


async def walk_anywhere(update: bytes) -> Walk:
    """Walk ``update``; a large one in a thread, so that the loop goes on."""
    if len(update) <= limits.WALK_ON_LOOP_BYTES:
        return walk(update)
    return await asyncio.to_thread(walk, update)


@dataclass(eq=False)
class Loaded:
    """A room in memory, with what belongs to it while it is."""

    room: Room
    presence: Presence = field(default_factory=Presence)
    users: int = 0  # connections that hold it
    reloads: int = 0  # how often it was read for the worker
    compacting: asyncio.Task[None] | None = None
    eviction: asyncio.TimerHandle | None = None


class Rooms:
    """The loaded rooms of one relay. Belongs to the event loop's thread."""

    def __init__(self, log: Log, replicas: Replicas, settings: Settings) -> None:
        self._log = log
        self._replicas = replicas
        self._settings = settings
        self._loaded: dict[str, Loaded] = {}
        self._by_id: dict[int, Loaded] = {}
        self._loading: dict[str, asyncio.Task[Loaded]] = {}
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

    # Holding a room

    async def hold(self, name: str, *, epoch: bytes | None) -> Loaded:
        """The room of this name, loaded; a new one gets ``epoch``. Give it back with release."""
        while True:
            loaded = self._loaded.get(name)
            if loaded is not None:
                loaded.users += 1
                if loaded.eviction:
                    loaded.eviction.cancel()
                    loaded.eviction = None
                return loaded
            task = self._loading.get(name)
            if task is None:
                task = self._own(asyncio.create_task(self._load(name, epoch or os.urandom(16))))
                self._loading[name] = task
                task.add_done_callback(lambda _: self._loading.pop(name, None))
            # A joiner that gives up must not take the room from the others that wait for it.
            self._awaited[name] += 1
            try:
                await asyncio.wait([task])
            finally:
                self._awaited[name] -= 1
                if not self._awaited[name]:
                    del self._awaited[name]
            failure = None if task.cancelled() else task.exception()
            if failure is not None:
                raise failure
            if task.cancelled():
                raise asyncio.CancelledError
            if name not in self._loaded:
                continue

    def release(self, loaded: Loaded) -> None:
        """Give a held room back."""
        loaded.users -= 1
        if not loaded.users:
            self._evict_later(loaded)

    async def _load(self, name: str, epoch: bytes) -> Loaded:
        row = await self._log.open_room(name, epoch=epoch)
        stored = await self._log.load(row.id)
        coverage = await asyncio.to_thread(coverage_of, stored)
        self._channels += 1
        room = Room(
            room_id=row.id,
            channel=self._channels,
            name=name,
            epoch=row.epoch,
            base=stored.base,
            head=max([stored.snapshot_offset, *(offset for offset, _ in stored.updates)]),
            coverage=coverage,
            snapshot_bytes=len(stored.snapshot or b""),
            log_bytes=sum(len(data) for _, data in stored.updates),
        )
        loaded = self._loaded[name] = self._by_id[row.id] = Loaded(room)
        self._evict_later(loaded)  # whoever asked for it may have given up
        return loaded

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
        del self._loaded[room.name], self._by_id[room.id]
        self._replicas.drop(room.id)

    # The log moves

    async def appended(self, loaded: Loaded, offset: int, data: bytes) -> None:
        """``data`` is in the room at ``offset``: commit, show and feed it. Waits at the bound."""
        room = loaded.room
        self._log.append(room.id, offset, data)
        self._replicas.feed(room.id, data)
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
        walked = [(data, await walk_anywhere(data)) for _, data in rows]
        reader.position = rows[-1][0]
        return reader.dialect(room.channel, reader.position, merge(walked))

    async def difference(self, room: Room, state_vector: bytes) -> tuple[int, bytes]:
        """An offset, and an update with all up to it, and no more, that ``state_vector`` lacks."""
        if not room.head or room.coverage.state_vector() == b"\0":
            return room.head, EMPTY_UPDATE
        timeout = self._settings.difference_timeout_s
        offset, update, _ = await self._ask(
            room, lambda: self._replicas.difference(room.id, state_vector, timeout=timeout)
        )
        return offset, update

    async def _ask(self, room: Room, question: Callable[[], Awaitable[T]]) -> tuple[int, T, int]:
        """The offset that an answer reflects exactly, the answer, and the log's bytes up to it.

        A replica that had to be loaded for it holds more than was in the log at the question. Who
        got that with the old offset would, after a crash of this relay, keep it to himself: it is
        beyond a place that is good. A replica that was there all the time answers exactly.
        """
        loaded = self._get(room.id)
        while True:
            reloads, offset, log_bytes = loaded.reloads, room.head, room.log_bytes
            answer = await question()
            if room.head == offset or loaded.reloads == reloads:
                return offset, answer, log_bytes

    def _get(self, room_id: int) -> Loaded:
        loaded = self._by_id.get(room_id)
        if loaded is None:  # who asked has left, and the room was evicted meanwhile
            raise ReplicaFailed("the room is not loaded any more", dropped=False)
        return loaded

    async def reload(self, room_id: int) -> tuple[bytes | None, list[bytes]]:
        """All of a room, for a worker that does not have it: snapshot, then updates in order.

        Complete at the moment when it returns, not committed part included.
        """
        loaded = self._get(room_id)
        loaded.room.pins += 1
        try:
            stored = await self._log.load(room_id)
        finally:
            loaded.room.pins -= 1
        last = max([stored.snapshot_offset, *(offset for offset, _ in stored.updates)])
        updates = [data for _, data in stored.updates]
        loaded.reloads += 1
        return stored.snapshot, updates + loaded.room.tail_after(last)

    async def _compact(self, loaded: Loaded) -> None:
        room = loaded.room
        try:
            offset, (snapshot, coverage), log_bytes = await self._ask(
                room, lambda: self._replicas.snapshot(room.id)
            )
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


def coverage_of(stored: StoredRoom) -> Coverage:
    """What a stored room contains."""
    coverage = Coverage()
    if stored.coverage is not None:
        try:
            coverage = Coverage.from_bytes(stored.coverage)
        except BadUpdate:  # of another version of this program
            coverage = Coverage.from_update(stored.snapshot or EMPTY_UPDATE)
    elif stored.snapshot is not None:
        coverage = Coverage.from_update(stored.snapshot)
    for _, data in stored.updates:
        coverage.add(walk(data))
    return coverage
