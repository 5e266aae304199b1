"""What a program is told, and that its own faults stay its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import collab
from collab.storage.documents import Batch
from tests.e2e.support import QUICK, Disk, reads, run, running, soon, until


def test_events_are_coalesced_and_a_slow_reader_holds_nobody_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as one,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            here, there = await one.room("notes"), await other.room("notes")
            await there.wait_synced(20)
            events = there.events()  # and nobody reads it yet
            for number in range(500):
                here.text("body").insert(0, "x")
                there.text("body").insert(0, "y")
                if number % 50 == 0:
                    await asyncio.sleep(0)
            await here.wait_synced(20)
            await until(lambda: len(there.text("body")) == 1000)
            await there.wait_synced(20)
            taken = [await soon(anext(events)) for _ in range(3)]
            assert len(set(taken)) == 3
            assert set(taken) == {
                collab.DocumentChanged(local=True),
                collab.DocumentChanged(local=False),
                collab.StatusChanged(),
            }

    run(main())


def test_events_begin_at_the_call_and_end_with_the_room() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            room = await client.room("notes")
            events = room.events()
            room.text("body").insert(0, "x")
            await room.wait_saved()
            seen: list[collab.RoomEvent] = []

            async def watch() -> None:
                async for event in events:
                    seen.append(event)

            watching = asyncio.create_task(watch())
            await until(lambda: collab.DocumentChanged(local=True) in seen)
            await room.close()
            await soon(watching)

    run(main())


def test_a_stream_of_events_that_nobody_reads_is_let_go() -> None:
    async def main() -> None:
        import gc

        async with collab.open(":memory:") as client:
            room = await client.room("notes")
            for _ in range(10):
                room.events()
            gc.collect()
            assert not room._local.observers

    run(main())


def test_observers_that_raise_are_reported_and_break_nothing(tmp_path: Path) -> None:
    reported: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context)
        )
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, user={"name": "Ada"}, settings=QUICK) as one,
            collab.open(":memory:", relay=url, user={"name": "Bob"}, settings=QUICK) as other,
        ):

            def fail(*_: object) -> None:
                raise RuntimeError("the program's own fault")

            here, there = await one.room("notes"), await other.room("notes")
            there.observe(fail)
            there.text("body").observe(fail)
            there.presence.observe(fail)
            raw = there.document.observe(fail)
            other.observe(fail)
            heard: list[collab.TextChanged] = []
            there.text("body").observe(heard.append)
            for number in range(20):
                here.text("body").insert(number, "x")
                await here.wait_synced(20)
            await reads(there, "x" * 20)
            await there.wait_synced(20)
            with pytest.raises(ExceptionGroup):  # as pycrdt's own observers do, and it is edited
                there.text("local").insert(0, "edited")
            there.document.unobserve(raw)
            await there.wait_synced(20)
            await reads(here, "edited", name="local")
            ops = [op for event in heard for op in event.delta]
            assert "".join(op.text for op in ops if isinstance(op, collab.Insert)) == "x" * 20
            assert there.status.error is None

    asyncio.run(main())
    assert len(reported) > 20
    assert all(
        "own fault" in repr(context.get("exception")) or "Observer" in repr(context)
        for context in reported
    ), reported


def test_callbacks_may_edit_and_close(tmp_path: Path) -> None:
    """A program that answers every remote change with an edit of its own, and closes at the end."""

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as one,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            here, there = await one.room("notes"), await other.room("notes")
            await there.wait_synced(20)
            text = there.text("body")

            def echo(event: collab.TextChanged) -> None:
                if not event.local:
                    with there.transaction("echo"):
                        for op in event.delta:
                            if isinstance(op, collab.Insert):
                                there.text("echo").insert(0, op.text)

            subscription = text.observe(echo)
            for letter in "abc":
                here.text("body").insert(0, letter)
                await here.wait_synced(20)
                await until(lambda letter=letter: letter in str(there.text("echo")))  # type: ignore[misc]
            await reads(here, "cba", name="echo")
            subscription.close()
            subscription.close()
            here.text("body").insert(0, "d")
            await reads(there, "dcba")
            closing: list[asyncio.Task[None]] = []

            def close(_: collab.RoomEvent) -> None:
                if not closing:
                    closing.append(asyncio.ensure_future(there.close()))

            there.observe(close)
            here.text("body").insert(0, "e")
            await until(lambda: closing)
            await soon(closing[0])

    run(main())


def test_a_fault_that_ends_all_saving_is_told_to_every_room_and_to_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context)
        )
        client = collab.open(tmp_path / "a.db")
        await client.start()
        room, other = await client.room("notes"), await client.room("other")
        heard: list[collab.RoomEvent] = []
        other.observe(heard.append)

        async def broken(_: Sequence[Batch]) -> list[list[int]]:
            raise RuntimeError("a bug of ours")

        monkeypatch.setattr(client._documents, "append", broken)
        room.text("body").insert(0, "x")
        waiting = asyncio.create_task(room.wait_saved())
        with pytest.raises(collab.CollabError, match="a bug of ours"):
            await soon(waiting)
        other.text("body").insert(0, "y")
        with pytest.raises(collab.CollabError, match="Nothing is saved any more"):
            await soon(other.wait_saved())
        with pytest.raises(collab.CollabError, match="Nothing is saved any more"):
            await soon(client.suspend())
        assert not other.status.saved
        assert other.status.error is not None
        assert any(isinstance(event, collab.Failed) for event in heard)
        with pytest.raises(RuntimeError, match="a bug of ours"):
            await client.close()

    asyncio.run(main())
    assert len(reported) == 1


def test_a_disk_has_recovered_once_it_has_what_was_edited_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db", settings=QUICK) as client:
            disk, room = Disk(client), await client.room("notes")
            told: list[tuple[str, bool]] = []
            room.observe(
                lambda event: (
                    told.append((type(event).__name__, room.status.saved))
                    if isinstance(event, collab.Failed | collab.Recovered)
                    else None
                )
            )
            disk.is_full = True
            room.text("body").insert(0, "x")
            await until(lambda: disk.refused)
            room.text("body").insert(1, "y")  # in the commit after that one
            disk.is_full = False
            await room.wait_saved()
            await until(lambda: len(told) == 2)
            assert told == [("Failed", False), ("Recovered", True)]
            assert room.status.error is None

    run(main())


def test_who_waits_for_a_room_whose_chat_stopped_by_a_fault_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)

            async def broken(_: object) -> object:
                raise RuntimeError("a bug of ours")

            monkeypatch.setattr(room._chat._ledger, "_write", broken)
            with pytest.raises(collab.Closed, match="a bug of ours"):
                await room.chat.send("x")
            with pytest.raises(collab.Closed, match="a bug of ours"):
                await soon(room.wait_synced())

    asyncio.run(main())
