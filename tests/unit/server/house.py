"""Rooms on a log whose disk belongs to the test, without sockets. Not a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from collab.protocol import frames
from collab.protocol.frames import Access
from collab.protocol.update import walk
from collab_server.log.sqlite import SqliteLog
from collab_server.replicas import Contents, Replicas
from collab_server.room import Appended, Reader
from collab_server.rooms import Loaded, Rooms
from collab_server.settings import Settings
from tests.unit.server.test_log_sqlite import PAUSES, RELAY, Disk, generation


class House:
    """A log, its rooms, and what a gateway does with them."""

    def __init__(self, log: SqliteLog, replicas: Replicas, rooms: Rooms, disk: Disk) -> None:
        self.log = log
        self.replicas = replicas
        self.rooms = rooms
        self.disk = disk

    def delete(self, name: str = "a") -> asyncio.Task[None]:
        """Begin to delete a room."""
        return asyncio.create_task(self.rooms.delete(name, now_ms=0))

    def hold(self, epoch: bytes | None, name: str = "a") -> asyncio.Task[Loaded]:
        """Begin to hold a room."""
        return asyncio.create_task(self.rooms.hold(name, epoch=epoch))

    async def write(self, loaded: Loaded, reader: Reader, data: bytes) -> object:
        """Take in an update of ``reader``; what the room says to it."""
        frame = frames.Update(loaded.room.channel, reader.number + 1, data)
        taken = loaded.room.receive(reader, frame, walk(data), self.rooms.next_offset)
        if isinstance(taken, Appended):
            await self.rooms.appended(loaded, taken.offset, taken.data)
        return taken

    async def durable(self) -> None:
        """Return when all that was appended is committed."""
        async with asyncio.timeout(10):
            while self.log.committed < self.log.head:
                await asyncio.sleep(0.001)


@asynccontextmanager
async def house(tmp_path: Path, *, worker: bool = False, **settings: Any) -> AsyncIterator[House]:
    """Rooms that run; without ``worker`` no question about a replica is allowed."""
    disk = Disk()
    log = await SqliteLog.open(
        tmp_path / "log.db", generation=generation(1), relay_id=RELAY, now_ms=0, factory=disk,
        retry_pauses_s=PAUSES,
    )  # fmt: skip
    committing = asyncio.create_task(log.run())

    async def reload(room_id: int) -> Contents:
        return await rooms.reload(room_id)

    replicas = Replicas(reload=reload)
    rooms = Rooms(log, replicas, Settings(data=tmp_path, open=True, **settings))
    try:
        if worker:
            await replicas.start()
        async with rooms:
            yield House(log, replicas, rooms, disk)
    finally:
        await replicas.close()
        disk.full = False
        disk.may_commit.set()
        await log.close()
        await committing


def run(main: Coroutine[Any, Any, None]) -> None:
    """``asyncio.run`` that fails when anything in the background failed."""
    failures: list[dict[str, Any]] = []

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context))
        await main

    asyncio.run(watched())
    assert not failures, failures


async def pause() -> None:
    """Whatever does not wait for the disk has happened after this."""
    await asyncio.sleep(0.02)


def reader_of(loaded: Loaded, told: list[str]) -> Reader:
    """A writer in the room; ``told`` gets what it is told."""
    reader = Reader(Access.WRITE, lambda: None, on_deleted=lambda: told.append("deleted"))
    loaded.room.join(reader, good=True, offset=0)
    return reader
