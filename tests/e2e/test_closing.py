"""A room or a client that is closed at an odd moment loses nothing, and says what it is."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import collab
from collab import limits
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


# A client


def test_a_client_whose_close_is_cancelled_saves_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        client = collab.open(tmp_path / "a.db")
        await client.start()
        first, second = await client.room("first"), await client.room("second")
        commit = Gate.before(client._documents, "append")
        first.text("body").insert(0, "on its way")
        await soon(commit.reached.wait())
        second.text("body").insert(0, "next")  # in the commit after that one
        closing = asyncio.create_task(client.close())
        await until(lambda: second._local.closed)
        closing.cancel()
        await asyncio.wait(
            [closing], timeout=0.2
        )  # it ends soon, if it does not wait for the commit
        assert not closing.done()
        commit.open.set()
        with pytest.raises(asyncio.CancelledError):
            await soon(closing)
        await soon(client.close())
        async with collab.open(tmp_path / "a.db") as again:
            assert str((await again.room("first")).text("body")) == "on its way"
            assert str((await again.room("second")).text("body")) == "next"

    run(main())


def test_a_client_cancelled_while_it_tidies_up_takes_no_more_edits(tmp_path: Path) -> None:
    async def main() -> None:
        client = collab.open(tmp_path / "a.db")
        await client.start()
        room = await client.room("notes")
        room.text("body").insert(0, "x")
        await room.wait_saved()
        tidying = Gate.before(client._documents, "last_row")
        closing = asyncio.create_task(client.close())
        await soon(tidying.reached.wait())
        room.text("body").insert(1, "y")
        closing.cancel()
        tidying.open.set()
        with pytest.raises(asyncio.CancelledError):
            await soon(closing)
        with pytest.raises(collab.Closed):
            room.text("body")
        await soon(client.close())
        async with collab.open(tmp_path / "a.db") as again:
            assert str((await again.room("notes")).text("body")) == "xy"

    run(main())


def test_who_closes_a_client_that_is_being_closed_waits_for_it(tmp_path: Path) -> None:
    """A program that ends when its ``async with`` does would end in the middle of the first."""

    async def main() -> None:
        client = collab.open(tmp_path / "a.db")
        await client.start()
        room = await client.room("notes")
        commit = Gate.before(client._documents, "append")
        room.text("body").insert(0, "x")
        await soon(commit.reached.wait())
        closing = asyncio.create_task(client.close())
        await until(lambda: client._closed)
        await until(lambda: room._local.closed)
        again = asyncio.create_task(client.close())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not again.done()
        commit.open.set()
        await soon(again)
        async with collab.open(tmp_path / "a.db") as reopened:
            assert str((await reopened.room("notes")).text("body")) == "x"
        await soon(closing)

    run(main())


def test_a_client_that_is_closed_while_it_starts_lets_go_of_its_file(tmp_path: Path) -> None:
    async def main() -> None:
        client = collab.open(tmp_path / "a.db", relay="ws://127.0.0.1:1", settings=QUICK)
        starting = asyncio.create_task(client.start())
        await asyncio.sleep(0)
        assert not starting.done()
        await client.close()
        with pytest.raises(collab.Closed):
            await soon(starting)
        async with collab.open(tmp_path / "a.db"):
            pass

    run(main())


def test_a_token_function_that_closes_the_client_ends_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        asked = asyncio.Event()

        async def signed_out() -> str:
            asked.set()
            await client.close()
            return "never"

        client = collab.open(
            tmp_path / "a.db", relay="ws://127.0.0.1:1", token=signed_out, settings=QUICK
        )
        await client.start()
        await soon(asked.wait())
        await soon(client.close())
        async with collab.open(tmp_path / "a.db"):
            pass

    run(main())


def test_a_token_function_that_waits_for_who_closes_the_client_ends_too(tmp_path: Path) -> None:
    async def main() -> None:
        closing: list[asyncio.Task[None]] = []

        async def signed_out() -> str:
            closing.append(asyncio.create_task(client.close()))
            await closing[0]
            return "never"

        client = collab.open(
            tmp_path / "a.db", relay="ws://127.0.0.1:1", token=signed_out, settings=QUICK
        )
        await client.start()
        await until(lambda: closing)
        await soon(client.close())
        async with collab.open(tmp_path / "a.db"):
            pass

    run(main())


def test_a_program_that_ends_while_its_client_closes_ends(tmp_path: Path) -> None:
    """Its loop cancels every task at once, also the one that has not begun to close."""

    async def main() -> None:
        client = collab.open(tmp_path / "a.db")
        await client.start()
        room = await client.room("notes")
        room.text("body").insert(0, "x")
        await room.wait_saved()
        closing.append(asyncio.create_task(client.close()))
        await asyncio.sleep(0)

    async def again() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            assert str((await client.room("notes")).text("body")) == "x"

    closing: list[asyncio.Task[None]] = []
    run(main())
    assert closing[0].cancelled()
    run(again())


def test_a_room_that_closes_while_it_is_compacted_leaves_a_file_without_rows(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        async with collab.open(path) as client:
            room = await client.room("notes")
            text = room.text("body")
            gate = Gate.before(client._documents, "compact")
            text.insert(0, "x" * 2 * limits.COMPACT_FROM_BYTES)
            await room.wait_saved()
            await gate.reached.wait()
            text.insert(0, "y" * 2 * limits.COMPACT_FROM_BYTES)
            await room.wait_saved()
            closing = asyncio.create_task(room.close())
            await asyncio.sleep(0)
            gate.open.set()
            await closing
        with contextlib.closing(sqlite3.connect(path)) as store:
            assert store.execute("SELECT count(*) FROM updates").fetchone() == (0,)
            assert store.execute("SELECT count(*) FROM snapshots").fetchone() == (1,)

    run(main())
