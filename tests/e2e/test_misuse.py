"""What a program can do wrong on its own device: it is told so, and nothing is lost by it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import collab
from tests.e2e.support import QUICK, run, running, until


def test_a_second_open_of_a_file_is_refused_and_harms_the_first_not(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"

    async def main() -> None:
        async with collab.open(path) as client:
            room = await client.room("notes")
            with pytest.raises(collab.StoreLocked, match=r"Nothing was read .* Close it there"):
                async with collab.open(path):
                    pass
            room.text("body").insert(0, "still mine")
            await room.wait_saved()
        async with collab.open(path) as client:
            assert str((await client.room("notes")).text("body")) == "still mine"

    run(main())


def test_a_closed_client_and_a_closed_room_say_so(tmp_path: Path) -> None:
    async def main() -> None:
        client = collab.open(tmp_path / "notes.db")
        with pytest.raises(collab.Closed, match="Open it again"):
            await client.room("notes")  # it was not started
        await client.start()
        room, other = await client.room("notes"), await client.room("other")
        text = room.text("body")
        text.insert(0, "kept")
        await room.close()
        await room.close()
        for use in (
            lambda: room.text("body"),
            lambda: room.transaction(),
            lambda: room.document,
            lambda: room.awareness,
            lambda: room.undo(other.text("body")),
            lambda: room.observe(print),
            lambda: room.events(),
            lambda: text.insert(0, "x"),
            lambda: text.observe(print),
        ):
            with pytest.raises(collab.Closed, match=r"pen .* again"):
                use()
        for wait in (room.wait_saved, room.wait_synced):
            with pytest.raises(collab.Closed):
                await wait()
        again = await client.room("notes")
        assert again is not room
        assert str(again.text("body")) == "kept"
        waiting = asyncio.create_task(again.wait_synced())
        await client.close()
        await client.close()
        with pytest.raises((collab.Closed, collab.OfflineError)):
            await waiting
        for call in (lambda: client.room("notes"), client.rooms, lambda: client.forget("notes")):
            with pytest.raises(collab.Closed, match="Open it again"):
                await call()
        with pytest.raises(collab.Closed):
            other.text("body").insert(0, "x")

    run(main())


def test_another_thread_is_refused_before_anything_changes() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            room = await client.room("notes")
            text = room.text("body")
            text.insert(0, "safe")

            def enter() -> None:
                with room.transaction():
                    pass

            attempts: list[Callable[[], object]] = [
                lambda: text.insert(0, "x"),
                lambda: text.delete(0, 1),
                lambda: text.replace(0, 1, "x"),
                lambda: str(text),
                lambda: room.text("other"),
                lambda: room.document,
                enter,
                lambda: room.undo(text),
            ]
            outcomes: list[object] = []

            def elsewhere() -> None:
                for attempt in attempts:
                    try:
                        outcomes.append(attempt())
                    except collab.WrongThread as error:
                        outcomes.append(error)

            await asyncio.to_thread(elsewhere)
            assert len(outcomes) == len(attempts)
            assert all(isinstance(outcome, collab.WrongThread) for outcome in outcomes), outcomes
            assert all("use client.call_soon" in str(outcome) for outcome in outcomes), outcomes
            assert str(text) == "safe"
            done = threading.Event()

            def edit() -> None:
                text.insert(4, "!")
                done.set()

            caller = threading.Thread(target=lambda: client.call_soon(edit))
            caller.start()
            await until(done.is_set)
            caller.join()
            assert str(text) == "safe!"

    run(main())


@pytest.mark.parametrize(
    "name",
    ["", "x" * 256, "é" * 128, "a\nb", "a\0", "\x7f", "\x85", "\ud800", "📊\udfff"],
    ids=ascii,
)
def test_a_bad_name_of_a_room_opens_nothing(name: str) -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            with pytest.raises(collab.LocalError, match="Nothing was opened"):
                await client.room(name)
            assert await client.rooms() == []

    run(main())


def test_the_longest_and_oddest_good_names_are_rooms_at_the_relay_too(tmp_path: Path) -> None:
    names = ["x" * 255, "é" * 127, " ", "/", "../..", "'; DROP TABLE rooms", "📊", "%00", "٣"]

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            for name in names:
                room = await client.room(name)
                room.text("body").insert(0, name)
                await room.wait_synced(20)
            for name in names:
                theirs = await other.room(name)
                await theirs.wait_synced(20)
                assert str(theirs.text("body")) == name

    run(main())


def test_without_a_reachable_relay_edits_are_saved_and_the_reason_is_told(tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as nobody:
        port = nobody.getsockname()[1]
    path = tmp_path / "notes.db"

    async def main() -> None:
        async with collab.open(path, relay=f"ws://127.0.0.1:{port}", settings=QUICK) as client:
            room = await client.room("notes")
            room.text("body").insert(0, "kept")
            await room.wait_saved()
            with pytest.raises(TimeoutError, match=r"no relay is reached.*on this device's disk"):
                await room.wait_synced(timeout=0.05)
            await until(lambda: client.connection.state is collab.State.OFFLINE)  # type: ignore[union-attr]
            assert client.connection is not None
            assert "refused" in client.connection.reason.lower() or "Connect" in (
                client.connection.reason
            )
            assert client.connection.next_attempt is not None
            assert room.status.saved
            assert not room.status.synced
            assert room.status.pending_updates == 1
            assert room.status.error is None
        async with collab.open(path) as client:
            assert client.connection is None
            room = await client.room("notes")
            assert str(room.text("body")) == "kept"
            with pytest.raises(collab.OfflineError, match="pass relay="):
                await room.wait_synced()
            with pytest.raises(collab.LocalError):
                client.observe(print)

    run(main())


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "127.0.0.1:1", ""])
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    with pytest.raises(collab.LocalError, match="Nothing was opened"):
        collab.open(":memory:", relay=address)


@pytest.mark.parametrize("damage", ["foreign", "header", "middle"])
def test_a_corrupt_file_is_refused_and_not_touched(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "notes.db"

    async def write() -> None:
        async with collab.open(path) as client:
            room = await client.room("notes")
            for _ in range(50):
                room.text("body").insert(0, "some text that fills pages " * 40)
                await room.wait_saved()

    run(write())
    if damage == "foreign":
        path.write_bytes(b"%PDF-1.7 " + bytes(5000))
    else:
        data = bytearray(path.read_bytes())
        at = 0 if damage == "header" else 4096
        data[at : at + 2048] = b"\xa5" * 2048
        path.write_bytes(data)
    before = path.read_bytes()

    async def read() -> None:
        with pytest.raises(collab.StoreCorrupt, match=r"left as it is.* restore a backup"):
            async with collab.open(path) as client:
                await client.room("notes")

    run(read())
    assert path.read_bytes() == before


def test_a_client_that_cannot_start_lets_go_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"

    async def main() -> None:
        async with collab.open(path):
            pass
        with contextlib.closing(sqlite3.connect(path)) as store:
            store.execute("UPDATE meta SET value = x'00' WHERE key = 'device_id'")
            store.commit()
        tasks = len(asyncio.all_tasks())
        for _ in range(2):  # the second would find the lock of the first
            with pytest.raises(collab.StoreCorrupt):
                await collab.open(path, relay="ws://127.0.0.1:1", settings=QUICK).start()
        assert len(asyncio.all_tasks()) == tasks

    run(main())


def test_a_close_that_is_cancelled_or_fails_lets_go_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"

    async def main() -> None:
        for steps in range(6):
            client = collab.open(path)
            await client.start()
            room = await client.room("notes")
            room.text("body").insert(0, "x" * 500)
            closing = asyncio.create_task(client.close())
            for _ in range(steps):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait([closing])
            await client.close()
            await until(lambda: len(asyncio.all_tasks()) == 1)
        async with collab.open(path) as client:
            assert len((await client.room("notes")).text("body")) >= 500
            room = await client.room("notes")
            ended = asyncio.Event()

            async def misuse() -> None:
                with room.transaction():  # which is one synchronous block, and not this
                    await ended.wait()

            misusing = asyncio.create_task(misuse())
            await until(lambda: room._local.replica.in_transaction)
            with pytest.raises(RuntimeError, match="transaction"):
                await client.close()
            ended.set()
            await asyncio.wait([misusing])
        async with collab.open(path):
            pass

    run(main())


def test_forgetting_a_room_while_it_is_saved_harms_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "notes.db") as client:
            room, other = await client.room("gone"), await client.room("stays")
            await client._documents.forget(room._local.id)  # as forget() may between two commits
            room.text("body").insert(0, "lost")
            mark = asyncio.ensure_future(room._local.queue.mark())
            other.text("body").insert(0, "kept")
            async with asyncio.timeout(20):
                await other.wait_saved()
                await mark
            await client.forget("gone")
            assert await client.rooms() == ["stays"]

    run(main())
