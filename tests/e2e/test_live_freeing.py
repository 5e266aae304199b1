"""Closing frees, also after broadcasts and calls: at the device and at the relay."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import pycrdt
import pytest

import collab
from collab_server.audience import Listener
from collab_server.gateway.live import ConnectionLive
from collab_server.services import ServiceCall
from tests.e2e.live_support import Ear, joined, member
from tests.e2e.support import QUICK, run, running, soon, until
from tests.e2e.test_freeing import alive


class Load:
    """What a payload becomes in the hands of a program."""


def test_a_closed_room_frees_what_its_broadcasts_and_calls_held(tmp_path: Path) -> None:
    async def main() -> None:
        hang, began = asyncio.Event(), 0

        async def waits(_: ServiceCall) -> None:
            nonlocal began
            began += 1
            await hang.wait()

        async def echo(call: ServiceCall) -> Any:
            return call.payload

        async with (
            running(tmp_path / "relay", services={"echo": echo, "waits": waits}) as (url, _),
            collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client,
            member(url) as theirs,
        ):
            before = {kind: alive(kind) for kind in (pycrdt.Doc, collab.Room, Ear, Load)}
            kept: list[weakref.ref[Any]] = []
            for turn in range(4):
                room = await client.room("talk")
                await joined(room)
                ear, load = Ear(room), Load()
                room.on_broadcast(lambda _, load=load: load)  # type: ignore[misc]
                await theirs.broadcast(turn)
                await ear.has(1)
                await room.broadcast(turn)
                assert await soon(room.call("echo", bytes(300_000 // 2))) == bytes(150_000)
                call = asyncio.create_task(room.call("waits"))
                await until(lambda turn=turn: began == turn + 1)  # type: ignore[misc]
                kept += [weakref.ref(each) for each in (room, ear, load, room._sync.live)]
                await room.close()
                with pytest.raises(collab.Closed):
                    await call
                del room, ear, load, call
            await until(lambda: gc.collect() >= 0 and not any(ref() for ref in kept))
            for kind, count in before.items():
                assert alive(kind) == count, kind

    run(main())


def test_the_relay_lets_go_of_rooms_and_connections_that_are_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async def waits(_: ServiceCall) -> None:
            await asyncio.Event().wait()

        async with running(tmp_path, services={"waits": waits}, room_idle_s=0.01) as (url, relay):
            shared = relay._shared
            assert shared is not None
            tasks = len(asyncio.all_tasks())
            for number in range(6):
                async with member(url, f"room {number % 3}") as ana, member(url) as ben:
                    await ana.broadcast(number)
                    call = asyncio.create_task(ben.call("waits"))
                    await until(lambda: len(relay._services) == 1)
                with pytest.raises(collab.Closed):
                    await call
            await until(lambda: not len(shared.rooms) and not shared.connections)
            assert not len(relay._services)
            del ana, ben, call
            await until(lambda: alive(ConnectionLive) == alive(Listener) == 0)
            assert len(asyncio.all_tasks()) <= tasks

    run(main())
