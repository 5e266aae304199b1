"""What the tests of broadcasts and calls share. Not a test."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.requests import HTTPConnection

import collab
from collab.protocol.frames import Access
from collab_server.auth import User
from tests.e2e.support import QUICK, until


class House:
    """Everybody who has a token, "ada" or "ada 2"; rights by user, WRITE where nothing is said."""

    def __init__(self, **rights: Access) -> None:
        self.rights = rights

    async def authenticate(self, token: str | None, _request: HTTPConnection) -> User | None:
        return None if token is None else User(token.split()[0])

    async def authorize(self, user: User, _room: str) -> Access:
        return self.rights.get(user.sub, Access.WRITE)


class Ear:
    """What a room's observer of broadcasts was told."""

    def __init__(self, room: collab.Room) -> None:
        self.heard: list[collab.Broadcast] = []
        self.subscription = room.on_broadcast(self.heard.append)

    @property
    def payloads(self) -> list[Any]:
        """What was said, in its order."""
        return [each.payload for each in self.heard]

    async def has(self, count: int) -> list[collab.Broadcast]:
        """The first ``count`` of them, once they are there."""
        await until(lambda: len(self.heard) >= count)
        return self.heard[:count]


@asynccontextmanager
async def member(
    url: str, name: str = "talk", *, token: str | None = None, path: Path | str = ":memory:"
) -> AsyncIterator[collab.Room]:
    """A room of a device of its own, open at the relay."""
    async with collab.open(path, relay=url, token=token, settings=QUICK) as client:
        room = await client.room(name)
        await joined(room)
        yield room


async def joined(room: collab.Room) -> None:
    """Return when the room is open at the relay, and level with it."""
    await room.wait_synced(20)
    await until(lambda: room._sync.live._channel is not None)


def bytes_of(*paths: Path) -> bytes:
    """All bytes of these databases, with what is in their write-ahead logs."""
    found = (each for path in paths for each in (path, path.with_name(path.name + "-wal")))
    return b"".join(each.read_bytes() for each in found if each.exists())


def everything_in(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of a device's or a relay's file."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        tables = [
            row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {
            table: sorted(file.execute(f'SELECT * FROM "{table}"').fetchall(), key=repr)
            for table in tables
        }
