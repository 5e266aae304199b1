"""A room that is deleted at the relay while messages wait for it: none vanishes, none strays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import collab
from collab.room_chat import RoomChat
from collab.storage.documents import Batch, Documents
from collab_server.chats import Chats
from collab_server.log.chat_port import ChatState
from collab_server.log.sqlite import SqliteLog
from tests.e2e.chat_support import DAY_MS, Clocks, history, logged, look, on_clock, shows, watch
from tests.e2e.support import QUICK, Wire, run, running, until


@pytest.mark.parametrize("is_connected", [True, False])
def test_what_waits_for_a_room_that_was_deleted_stays_here_and_goes_to_no_other(
    tmp_path: Path, is_connected: bool
) -> None:
    path, clocks = tmp_path / "a.db", Clocks()

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, relay), Wire(url) as wire:
            async with on_clock(path, clocks, wire.url) as (_, room):
                await (await room.chat.send("taken")).wait("accepted", 20)
                if not is_connected:
                    wire.target = ""
                    await wire.cut()
                    await room.chat.send("waits", ttl=timedelta(days=1))
                await relay.room("notes").delete()
                wire.target = url
                await until(lambda: room.status.error)
                if is_connected:
                    await room.chat.send("waits", ttl=timedelta(days=1))
                with pytest.raises(collab.RoomReplaced) as caught:
                    await room.wait_synced(20)
                assert ("wait to be sent: 1" in str(caught.value)) is not is_connected
                assert (room.status.pending_messages, room.status.synced) == (1, False)
            async with collab.open(":memory:", relay=url, settings=QUICK) as other:
                theirs = await other.room("notes")
                await theirs.chat.send("in the new room")
                await theirs.wait_synced(20)
                async with on_clock(path, clocks, url) as (client, room):
                    await until(lambda: room.status.error)
                    seen = watch(room)
                    fork = await room.fork("kept")
                    assert await history(fork) == []
                    found = [(it.body, it.state) for it in await room.chat.history()]
                    assert found == [("taken", "accepted"), ("waits", "queued")]
                    clocks.go_on(DAY_MS)
                    await look(client)
                    event = await seen.saw(collab.MessageExpired)
                    assert event.message.body == "waits"
                    await client.forget("notes")
                    await shows(await client.room("notes"), "in the new room")
                assert await history(theirs) == ["in the new room"]
            assert [row[1] for row in logged(tmp_path / "relay")["messages"]] == [1]

    run(main())


def test_who_enters_while_the_room_is_deleted_is_not_told_of_an_empty_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entering, committed = asyncio.Event(), asyncio.Event()
    read, go_on = asyncio.Event(), asyncio.Event()
    state, delete_room = Chats.state, SqliteLog.delete_room

    async def read_after_it(chats: Chats, *arguments: Any) -> ChatState:
        entering.set()
        await committed.wait()
        found = await state(chats, *arguments)
        read.set()
        return found

    async def delete_slowly(log: SqliteLog, room_id: int, *, now_ms: int) -> None:
        await delete_room(log, room_id, now_ms=now_ms)
        committed.set()
        await go_on.wait()

    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, relay),
            Wire(url) as wire,
            collab.open(tmp_path / "a.db", relay=wire.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await (await room.chat.send("taken")).wait("accepted", 20)
            seen = watch(room)
            monkeypatch.setattr(Chats, "state", read_after_it)
            monkeypatch.setattr(SqliteLog, "delete_room", delete_slowly)
            await wire.cut()
            await entering.wait()
            deletion = asyncio.create_task(relay.room("notes").delete())
            await read.wait()
            go_on.set()
            await deletion
            await until(lambda: room.status.error)
            assert [it.state for it in await room.chat.history()] == ["accepted"]
            assert not seen.of(collab.MessagesReplaced)

    run(main())


def test_a_chat_goes_on_once_the_epoch_of_its_room_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storing, go_on = asyncio.Event(), asyncio.Event()
    append, joined = Documents.append, RoomChat.joined
    order: list[str] = []

    async def append_slowly(documents: Documents, batches: Sequence[Batch]) -> list[list[int]]:
        adopts = any(batch.epoch is not None for batch in batches)
        if adopts:
            storing.set()
            await go_on.wait()
        ids = await append(documents, batches)
        if adopts:
            order.append("epoch")
        return ids

    def watched(chat: RoomChat, channel: int, generation: bytes) -> None:
        order.append("chat")
        joined(chat, channel, generation)

    monkeypatch.setattr(Documents, "append", append_slowly)
    monkeypatch.setattr(RoomChat, "joined", watched)

    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            Wire(url) as wire,
            collab.open(tmp_path / "a.db", relay=wire.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await storing.wait()
            await wire.cut()  # what waited was of this joining; the next one has the epoch
            await until(lambda: wire.accepted == 2)
            go_on.set()
            await (await room.chat.send("taken")).wait("accepted", 20)
            assert order == ["epoch", "chat"]

    run(main())
