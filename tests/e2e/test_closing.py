"""A room that is closed at an odd moment loses nothing, and says what it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import collab
from tests.e2e.support import QUICK, Disk, reads, run, running, soon, until


class Gate:
    """Who calls a coroutine function of an object waits until the gate before it is open."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self._function = function

    @classmethod
    def before(cls, thing: object, name: str) -> Gate:
        gate = cls(getattr(thing, name))
        setattr(thing, name, gate)
        return gate

    async def __call__(self, *arguments: Any) -> Any:
        self.reached.set()
        await self.open.wait()
        return await self._function(*arguments)


# A room


def test_a_room_stays_open_until_what_was_edited_while_it_closes_is_on_the_disk(
    tmp_path: Path,
) -> None:
    """Else who opens it again edits a document without that, and compacts it away."""

    async def main() -> None:
        async with collab.open(tmp_path / "a.db", settings=QUICK) as client:
            disk, room = Disk(client), await client.room("notes")
            room.text("body").insert(0, "one ")
            await room.wait_saved()
            gate = Gate.before(client._documents, "last_row")
            closing = asyncio.create_task(room.close())
            await soon(gate.reached.wait())
            disk.is_full = True
            room.text("body").insert(4, "two")
            gate.open.set()
            await until(lambda: disk.refused > 2)
            assert not closing.done()
            assert room is await client.room("notes")
            disk.is_full = False
            await soon(closing)
            again = await client.room("notes")
            assert again is not room
            assert str(again.text("body")) == "one two"

    run(main())


def test_a_room_whose_close_is_cancelled_goes_on_with_its_chat(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            room, theirs = await client.room("notes"), await other.room("notes")
            await room.wait_synced(20)
            gate = Gate.before(room._chat._ledger, "flush")
            closing = asyncio.create_task(room.close())
            await soon(gate.reached.wait())
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert room is await client.room("notes")
            sent = await room.chat.send("still here")
            await sent.wait(timeout=20)
            await theirs.chat.send("so are we")
            await until(lambda: room.chat.unread)
            theirs.text("body").insert(0, "and this")
            await reads(room, "and this")
            await room.wait_synced(20)
            gate.open.set()
            await soon(room.close())
            with pytest.raises(collab.Closed):
                room.text("body")

    run(main())
