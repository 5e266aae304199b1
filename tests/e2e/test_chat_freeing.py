"""Closing frees: a chat that was used leaves neither objects nor tasks nor timers behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import collab
from collab.room_chat import RoomChat
from tests.e2e.chatty_relay import ChattyRelay
from tests.e2e.support import QUICK, run, until
from tests.e2e.test_chat_history import fill


async def use(room: collab.Room) -> list[weakref.ref[Any]]:
    """Touch all that may hold on to a chat."""
    chat = room.chat
    chat.observe(lambda event: chat.unread)
    message = await chat.send("hello", ttl=3_600)
    await message.wait("accepted", 20)
    waiting = asyncio.create_task(message.wait("read", 60))
    found = await chat.history(100)
    await chat.mark_read(found[-1])
    await chat.cancel(await chat.send("regret", ttl=3_600))
    waiting.cancel()
    return [weakref.ref(each) for each in (room, chat, room._chat, message)]


def test_a_closed_room_frees_its_chat(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            fill(relay, 40)
            kept: list[weakref.ref[Any]] = []
            for _ in range(4):
                room = await client.room("notes")
                await room.wait_synced(20)
                kept += await use(room)
                await room.close()
                del room
            await until(lambda: gc.collect() >= 0 and not any(ref() for ref in kept))

    run(main())


def test_a_closed_client_leaves_no_task_and_no_chat(tmp_path: Path) -> None:
    async def main() -> None:
        async with ChattyRelay() as relay:
            gc.collect()
            before = sum(isinstance(each, RoomChat) for each in gc.get_objects())
            for _ in range(3):
                async with collab.open(
                    tmp_path / "a.db", relay=relay.url, settings=QUICK
                ) as client:
                    room = await client.room("notes")
                    await room.wait_synced(20)
                    await use(room)
                    await room.chat.send("waits for its ttl", ttl=3_600)
            del client, room
            await until(lambda: len(asyncio.all_tasks()) <= 3)  # this one, and the relay's
            gc.collect()
            after = sum(isinstance(each, RoomChat) for each in gc.get_objects())
            assert after == before

    run(main())
