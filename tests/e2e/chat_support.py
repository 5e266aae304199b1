"""What the tests of the chat share. Not a test."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import collab
from collab.protocol.device_clock import Reading
from collab.running_clock import RunningClock
from collab_server.settings import Settings
from tests.e2e.support import QUICK, until

DAY_MS = 86_400_000


def stored(path: Path | str) -> list[tuple[Any, ...]]:
    """Every row of the outbox and all other messages, as they are on the disk."""
    uri = f"file:{path}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as file:
        return file.execute("SELECT * FROM messages ORDER BY id").fetchall()


def logged(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the relay's messages and lanes, also while it runs."""
    uri = f"file:{Settings(data=data).log_path}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as file:
        return {
            table: file.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4").fetchall()
            for table in ("messages", "lanes")
        }


def bodies(messages: Iterable[collab.Message]) -> list[str]:
    """What the messages say, in their order."""
    return [message.body for message in messages]


async def history(room: collab.Room, limit: int = 10_000) -> list[str]:
    """What all messages of a room say, as its program reads them."""
    return bodies(await room.chat.history(limit))


async def shows(room: collab.Room, *expected: str) -> None:
    """Return when the room's history is this."""
    found: list[str] = []

    async def look() -> bool:
        nonlocal found
        found = await history(room)
        return found == list(expected)

    try:
        await until_true(look)
    except AssertionError:
        raise AssertionError(f"{found} instead of {list(expected)}; {room.status}") from None


async def until_true(look: Callable[[], Awaitable[bool]]) -> None:
    """Return when ``look()`` says so."""
    result = False

    async def once() -> None:
        nonlocal result
        result = await look()

    for _ in range(2_000):
        await once()
        if result:
            return
        await _pause()
    raise AssertionError("what was waited for did not happen")


async def _pause() -> None:
    import asyncio

    await asyncio.sleep(0.005)


@dataclass
class Watch:
    """What a chat told, and what it was of."""

    events: list[collab.ChatEvent] = field(default_factory=list)

    def __call__(self, event: collab.ChatEvent) -> None:
        self.events.append(event)

    def of(self, kind: type[collab.ChatEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def saw(self, kind: type[collab.ChatEvent]) -> Any:
        """The first event of this kind, once there is one."""
        await until(lambda: self.of(kind))
        return self.of(kind)[0]


def watch(room: collab.Room) -> Watch:
    """Begin to watch a room's chat."""
    found = Watch()
    room.chat.observe(found)
    return found


@dataclass
class Clocks:
    """The clocks of a system, set by the test. Times are milliseconds."""

    boot: bytes = b"1" * 16
    up_ms: int = 1_000_000
    wall_ms: int = 1_790_000_000_000

    def __call__(self) -> Reading:
        return Reading(self.boot, self.up_ms, self.wall_ms)

    def go_on(self, ms: int) -> None:
        """Time passes."""
        self.up_ms += ms
        self.wall_ms += ms

    def reboot(self, off_ms: int = 0, jump_ms: int = 0) -> None:
        """The device is off for so long; then its wall clock says another time."""
        self.boot = bytes([self.boot[0] + 1]) * 16
        self.up_ms = 1_000
        self.wall_ms += off_ms + jump_ms


@asynccontextmanager
async def on_clock(
    path: Path | str, clocks: Clocks, relay: str | None = None
) -> AsyncIterator[tuple[collab.Client, collab.Room]]:
    """A client whose running time is read from ``clocks``, and its room."""
    async with collab.open(path, relay=relay, settings=QUICK) as client:
        anchor = await client._device.messages.clock()
        client._device.clock = RunningClock(anchor, clocks)
        yield client, await client.room("notes")


async def look(client: collab.Client) -> None:
    """Let the machines of all open rooms see what time it is."""
    for room in client._rooms.all():
        room._chat._tick()
        await room._chat._ledger.settled()
