"""The log in one SQLite file: a queue in memory, and a loop that commits all of it at once."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from collab.errors import Closed, LocalError
from collab.storage.database import Database, Factory
from collab_server.log import schema, transactions
from collab_server.log.chat import SqliteChatLog
from collab_server.log.port import (
    MAX_UNCOMMITTED_BYTES,
    MAX_UNCOMMITTED_ENTRIES,
    RETRY_PAUSES_S,
    CommitCallback,
    RoomDeleted,
    RoomRow,
    StoredRoom,
)
from collab_server.log.transactions import Batch, Compaction, Deletion, NewRoom, Start

_T = TypeVar("_T")

# What a disk, a file system or a lock can do to a commit. All of them may pass; none of them may
# end the loop, because what is queued exists nowhere else.
_COMMIT_ERRORS = (LocalError, sqlite3.Error, OSError)


class SqliteLog:
    """``Log`` in one file that one process owns. Make it with ``open``, end it with ``close``."""

    def __init__(
        self,
        database: Database,
        generation: bytes,
        start: Start,
        retry_pauses_s: Sequence[float],
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._relay_id = start.relay_id
        self._generation = generation
        self._ends = start.ends
        self._head = self._committed = self._last_appended = start.head
        self._retry_pauses_s = retry_pauses_s
        self._updates: list[tuple[int, int, bytes]] = []
        self._deletions: list[Deletion] = []
        self._rooms: list[NewRoom] = []
        self._deleted: set[int] = set()  # ids of this run's deletions, durable or not
        self._compactions: deque[Compaction] = deque()
        self._again = False
        self._uncommitted_bytes = 0
        self._uncommitted_entries = 0
        self._failing: Exception | None = None
        self._callbacks: list[CommitCallback] = []
        self._wake = asyncio.Event()
        self._below_bound = asyncio.Event()
        self._below_bound.set()
        self._closing = asyncio.Event()
        self._not_running = asyncio.Event()
        self._not_running.set()
        self.chat = SqliteChatLog(database, queued=self._queued, wake=self._wake.set, clock=clock)

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        generation: bytes,
        relay_id: bytes,
        now_ms: int,
        factory: Factory | None = None,
        retry_pauses_s: Sequence[float] = RETRY_PAUSES_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> SqliteLog:
        """Open or create the log and make this start durable.

        ``generation`` (16 random bytes) names this run; ``relay_id`` (16 random bytes) is used
        only when the file is new; ``now_ms`` is kept for people who read the file.
        ``retry_pauses_s`` are the waits after the first, second, … failing commit in a row;
        ``clock`` is the one, in seconds, by which messages that wait for a commit expire.

        Raises ``StoreLocked`` when another relay owns the file, ``StoreCorrupt`` when it is
        damaged or not a log of ours (it is left as it is), and ``DiskFull``.
        """
        database = await Database.open(
            path,
            application_id=schema.APPLICATION_ID,
            migrations=schema.MIGRATIONS,
            factory=factory,
            what="log",
        )
        try:
            start = await database.write(
                lambda connection: transactions.start(connection, generation, relay_id, now_ms)
            )
        except BaseException:
            await database.close()
            raise
        return cls(database, generation, start, retry_pauses_s, clock)

    # --- names and places --------------------------------------------------------------------

    @property
    def relay_id(self) -> bytes:
        return self._relay_id

    @property
    def generation(self) -> bytes:
        return self._generation

    @property
    def head(self) -> int:
        return self._head

    @property
    def committed(self) -> int:
        return self._committed

    @property
    def uncommitted_bytes(self) -> int:
        return self._uncommitted_bytes

    @property
    def failing(self) -> Exception | None:
        return self._failing

    def next_offset(self) -> int:
        self._head += 1
        return self._head

    def is_good(self, generation: bytes, offset: int) -> bool:
        end = self._head if generation == self._generation else self._ends.get(generation, -1)
        return 0 <= offset <= end

    # --- writing ----------------------------------------------------------------------------

    def append(self, room_id: int, offset: int, data: bytes) -> None:
        self._check_open()
        if not self._last_appended < offset <= self._head:
            raise ValueError("offsets are appended in the order in which they were given out")
        if room_id in self._deleted:
            raise ValueError("nothing is appended to a room that is being deleted")
        self._last_appended = offset
        self._updates.append((offset, room_id, data))
        self._queued(len(data))

    def on_commit(self, callback: CommitCallback) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    async def wait_for_room(self) -> None:
        await self._below_bound.wait()

    async def open_room(self, name: str, *, epoch: bytes) -> RoomRow:
        stored = await self.find_room(name)
        if stored is not None and stored.id not in self._deleted:
            return stored
        self._check_open()
        created: asyncio.Future[RoomRow] = asyncio.get_running_loop().create_future()
        self._rooms.append(NewRoom(name, epoch, created))
        self._queued(len(name))
        return await created

    async def delete_room(self, room_id: int, *, now_ms: int) -> None:
        self._check_open()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._deleted.add(room_id)
        self._deletions.append(Deletion(room_id, now_ms, done))
        self._queued(0)
        await done

    async def compact(
        self,
        room_id: int,
        snapshot: bytes,
        offset: int,
        *,
        keep_after: int,
        coverage: bytes | None = None,
    ) -> bool:
        self._check_open()
        if not 0 <= offset <= self._head:
            raise ValueError("a snapshot cannot be valid at an offset that was not given out")
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._compactions.append(Compaction(room_id, snapshot, offset, keep_after, coverage, done))
        self._wake.set()
        return await done

    async def run(self) -> None:
        assert self._not_running.is_set(), "one task runs the commit loop"
        self._not_running.clear()
        failures = 0
        try:
            while not self._closing.is_set():
                await self._wake.wait()
                self._wake.clear()
                try:
                    await self._commit()
                except _COMMIT_ERRORS as error:
                    self._failing = error
                    last = len(self._retry_pauses_s) - 1
                    await self._pause(self._retry_pauses_s[min(failures, last)])
                    failures += 1
                    continue
                failures = 0
                await self._compact_next()
                await self._retain_next()
        except Exception as error:
            self._failing = error  # nothing is committed any more; who asks for it is told so
            raise
        finally:
            self._not_running.set()

    async def close(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        self.chat.close()
        self._wake.set()
        await self._not_running.wait()
        try:
            await self._commit()
        finally:
            for compaction in self._compactions:
                _fail(compaction.done, Closed("the log was closed before it was compacted"))
            for deletion in self._deletions:
                _fail(deletion.done, Closed("the log was closed before the room was deleted"))
            for room in self._rooms:
                _fail(room.created, Closed("the log was closed; the room was not created"))
            self.chat.abandon()
            await self._database.close()

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise Closed("the log was closed; what was acknowledged is on disk")

    def _queued(self, size: int) -> None:
        self._uncommitted_bytes += size
        self._uncommitted_entries += 1
        self._wake.set()
        if (
            self._uncommitted_bytes > MAX_UNCOMMITTED_BYTES
            or self._uncommitted_entries > MAX_UNCOMMITTED_ENTRIES
        ):
            self._below_bound.clear()

    async def _commit(self) -> None:
        """Write all that is queued in one transaction; put it back in front if that fails."""
        batch = Batch(
            self._head, self._updates, self._deletions, self._rooms, self.chat.take(), self._again
        )
        if batch.is_empty:
            self._committed = batch.head  # offsets that nobody used
            return
        self._updates, self._deletions, self._rooms = [], [], []
        try:
            written = await self._database.write(batch.write)
        except BaseException:
            # New lists: a transaction that a cancelled wait left behind may still read the old.
            self._updates = [*batch.updates, *self._updates]
            self._deletions = [*batch.deletions, *self._deletions]
            self._rooms = [*batch.rooms, *self._rooms]
            self.chat.put_back(batch.chat)
            self._again = True
            self._wake.set()
            raise
        self._failing = None
        self._again = False
        self._committed = batch.head
        self._uncommitted_bytes -= batch.size
        self._uncommitted_entries -= batch.entries
        if (
            self._uncommitted_bytes <= MAX_UNCOMMITTED_BYTES
            and self._uncommitted_entries <= MAX_UNCOMMITTED_ENTRIES
        ):
            self._below_bound.set()
        for deletion in batch.deletions:
            _resolve(deletion.done, None)
        for room, row in zip(batch.rooms, written.rooms, strict=True):
            if row is None:
                _fail(room.created, RoomDeleted(room.name, room.epoch))
            else:
                _resolve(room.created, row)
        room_ids = batch.written_rooms
        if room_ids:
            for callback in tuple(self._callbacks):
                callback(batch.head, room_ids)
        self.chat.announce(batch.chat, written.chat)

    async def _compact_next(self) -> None:
        """Write one snapshot, in a transaction of its own.

        It was queued before the commit that just succeeded, so every update that it stands for is
        durable. On its own, because a snapshot that the disk has no place for must not keep small
        updates from being stored; one at a time, because acks wait meanwhile.
        """
        if not self._compactions:
            return
        compaction = self._compactions[0]
        if compaction.offset > self._committed:
            self._wake.set()
            return
        committed = self._committed
        try:
            written = await self._database.write(
                lambda connection: transactions.compact(connection, compaction, committed)
            )
        except _COMMIT_ERRORS as error:
            _fail(compaction.done, error)
        else:
            _resolve(compaction.done, written)
        self._compactions.popleft()
        if self._compactions:
            self._wake.set()

    async def _retain_next(self) -> None:
        """Delete some old messages, in a transaction of its own; acks wait meanwhile."""
        retention = self.chat.next_retention
        if retention is None:
            return
        try:
            oldest, over = await self._database.write(retention.write)
        except _COMMIT_ERRORS as error:
            self.chat.retention_failed(error)
        else:
            self.chat.retention_moved(oldest, over=over)
        if self.chat.next_retention is not None:
            self._wake.set()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    # --- reading -------------------------------------------------------------------------------

    async def find_room(self, name: str) -> RoomRow | None:
        return await self._database.read(lambda connection: transactions.find(connection, name))

    async def is_deleted(self, name: str, epoch: bytes) -> bool:
        return await self._database.read(
            lambda connection: transactions.is_deleted(connection, name, epoch)
        )

    async def load(self, room_id: int) -> StoredRoom:
        stored = await self._database.read(
            lambda connection: transactions.load(connection, room_id)
        )
        if stored is None:
            raise KeyError(room_id)
        return stored

    async def read(self, room_id: int, after: int, limit_bytes: int) -> list[tuple[int, bytes]]:
        return await self._database.read(
            lambda connection: transactions.read(connection, room_id, after, limit_bytes)
        )


def _resolve(future: asyncio.Future[_T], value: _T) -> None:
    if not future.done():  # who asked may have been cancelled
        future.set_result(value)


def _fail(future: asyncio.Future[_T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
