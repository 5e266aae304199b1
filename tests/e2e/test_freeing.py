"""Closing frees: a program that opens and closes rooms all day does not grow."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import pycrdt

import collab
from tests.e2e.support import QUICK, run, running, until


def alive(kind: type) -> int:
    gc.collect()
    return sum(isinstance(each, kind) for each in gc.get_objects())


async def use(room: collab.Room, other: collab.Room) -> None:
    """Touch all that may hold on to a document."""
    text = room.text("body")
    text.observe(lambda event: len(text))
    room.observe(lambda event: str(text))
    room.presence.observe(lambda presence: presence.others())
    room.document.get("body", type=pycrdt.Text).observe(lambda event: None)
    room.document.get("map", type=pycrdt.Map).observe_deep(lambda events: None)
    undo = room.undo(text)
    text.insert(0, "hello")
    text.relative_position(2)
    events = room.events()
    with room.transaction():
        text.format(0, 2, {"bold": True})
        room.document.get("map", type=pycrdt.Map)["nested"] = pycrdt.Text("nested")
    undo.undo()
    await room.wait_synced(20)
    assert await anext(events)
    other.text("body").insert(0, "x")
    await until(lambda: str(room.text("body")) == str(other.text("body")))


def test_a_closed_room_frees_its_document(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(tmp_path / "a.db", relay=url, user={"name": "A"}, settings=QUICK) as client,
            collab.open(tmp_path / "b.db", relay=url, user={"name": "B"}, settings=QUICK) as other,
        ):
            theirs = await other.room("notes")
            before = {kind: alive(kind) for kind in (pycrdt.Doc, pycrdt.Awareness, collab.Room)}
            kept: list[weakref.ref[Any]] = []
            for _ in range(5):
                room = await client.room("notes")
                await use(room, theirs)
                document, awareness = weakref.ref(room.document), weakref.ref(room.awareness)
                kept += [weakref.ref(room), document, awareness]
                await room.close()
                del room
            await until(lambda: gc.collect() >= 0 and not any(ref() for ref in kept))
            for kind, count in before.items():
                assert alive(kind) == count, kind

    run(main())


def test_a_closed_client_frees_all_its_rooms_and_leaves_no_task(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _):
            tasks = len(asyncio.all_tasks())
            before = {kind: alive(kind) for kind in (pycrdt.Doc, collab.Room, collab.Client)}
            for _ in range(3):
                async with (
                    collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client,
                    collab.open(tmp_path / "b.db", relay=url, settings=QUICK) as other,
                ):
                    await use(await client.room("notes"), await other.room("notes"))
                    await client.room("another")
            del client, other
            await until(lambda: len(asyncio.all_tasks()) <= tasks)
            for kind, count in before.items():
                assert alive(kind) == count, kind

    run(main())


def test_the_relay_lets_go_of_rooms_that_nobody_uses(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, room_idle_s=0.01) as (url, relay):
            shared = relay._shared
            assert shared is not None
            for number in range(20):
                async with collab.open(":memory:", relay=url, settings=QUICK) as client:
                    room = await client.room(f"room {number % 4}")
                    room.text("body").insert(0, "x")
                    await room.wait_synced(20)
            await until(lambda: not len(shared.rooms) and not shared.connections)
            async with collab.open(":memory:", relay=url, settings=QUICK) as client:
                room = await client.room("room 3")
                await room.wait_synced(20)
                assert str(room.text("body")) == "xxxxx"

    run(main())
