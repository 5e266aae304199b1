"""What a killed relay had shown and not committed: those who saw it put it back."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import collab
from tests.e2e.support import (
    QUICK,
    Wire,
    reads,
    relay_process,
    rows,
    run,
    running,
    until,
)

START = "shared start; "


@asynccontextmanager
async def shown_and_lost(
    tmp_path: Path, edit: Callable[[collab.Text], None], *, reader_sleeps: bool
) -> AsyncIterator[tuple[collab.Client, Wire, str]]:
    """A reader that saw an edit which neither the relay's disk nor its writer has any more.

    Yields the reader, the wire on which it will come back, and the text that it saw.
    """
    data, stall = tmp_path / "relay", tmp_path / "stall"
    writer_path, reader_path = tmp_path / "writer.db", tmp_path / "reader.db"
    async with relay_process(data, stall=stall) as (relay, url), Wire(url) as wire:
        reader = collab.open(reader_path, relay=wire.url, settings=QUICK)
        async with collab.open(writer_path, relay=url, settings=QUICK) as writer, reader:
            room, seen = await writer.room("notes"), await reader.room("notes")
            room.text("body").insert(0, START)
            await room.wait_synced(20)
            await seen.wait_synced(20)
            await reads(seen, START)
            committed = len(rows(data))
            stall.touch()
            edit(room.text("body"))
            await room.wait_saved()
            shown = str(room.text("body"))
            await reads(seen, shown)
            await seen.wait_saved()
            assert room.status.pending_updates  # shown, and not acked
            assert len(rows(data)) == committed  # and not on the relay's disk
            wire.target = ""
            await relay.kill()
            await writer.close()
            if not reader_sleeps:
                for file in tmp_path.glob("writer.db*"):
                    file.unlink()
                stall.unlink()
                yield reader, wire, shown
                return
        for file in tmp_path.glob("writer.db*"):
            file.unlink()
        stall.unlink()
        async with collab.open(reader_path, relay=wire.url, settings=QUICK) as reader:
            await reads(await reader.room("notes"), shown)
            yield reader, wire, shown


EDITS: dict[str, Callable[[collab.Text], None]] = {
    "insertion": lambda text: text.insert(7, "你好 📊 "),
    "deletion": lambda text: text.delete(2, 5),  # state vectors do not cover it
    "both": lambda text: text.replace(0, 6, "SHARED"),
}


@pytest.mark.parametrize("reader_sleeps", [False, True], ids=["awake", "asleep"])
@pytest.mark.parametrize("edit", EDITS)
def test_what_was_shown_and_not_committed_is_put_back_by_who_saw_it(
    tmp_path: Path, edit: str, reader_sleeps: bool
) -> None:
    async def main() -> None:
        async with (
            shown_and_lost(tmp_path, EDITS[edit], reader_sleeps=reader_sleeps) as lost,
            relay_process(tmp_path / "relay") as (_, url),
        ):
            reader, wire, shown = lost
            wire.target = url
            room = await reader.room("notes")
            await until(lambda: room.status.synced and wire.up)
            async with collab.open(":memory:", relay=url, settings=QUICK) as third:
                fresh = await third.room("notes")
                await fresh.wait_synced(20)
                await reads(fresh, shown)

    run(main())


@pytest.mark.parametrize("count", [1, 5], ids=["as many as were lost", "more"])
def test_offsets_that_are_given_twice_confuse_nobody(tmp_path: Path, count: int) -> None:
    """Before the reader is back, somebody else's edits take the offsets that it has seen.

    If they are as many, no later one shows it by building on what it did not get.
    """

    async def main() -> None:
        async with (
            shown_and_lost(tmp_path, EDITS["both"], reader_sleeps=False) as lost,
            relay_process(tmp_path / "relay") as (_, url),
            collab.open(":memory:", relay=url, settings=QUICK) as third,
        ):
            reader, wire, shown = lost
            other = await third.room("notes")
            await other.wait_synced(20)
            assert str(other.text("body")) == START
            more = "".join(map(str, range(count)))
            for number in range(count):
                other.text("body").insert(len(START) + number, str(number))
                await other.wait_synced(20)
            wire.target = url
            await reads(await reader.room("notes"), shown + more)
            await reads(other, shown + more)

    run(main())


def test_a_relay_restored_from_an_older_backup_gets_back_what_its_clients_have(
    tmp_path: Path,
) -> None:
    data, backup = tmp_path / "relay", tmp_path / "backup"

    async def main() -> None:
        async with (
            Wire("") as wire,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as one,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as other,
        ):
            here, there = await one.room("notes"), await other.room("notes")
            async with running(data) as (url, _):
                wire.target = url
                here.text("body").insert(0, START)
                await here.wait_synced(20)
                await reads(there, START)
            shutil.copytree(data, backup)
            async with running(data) as (url, _):
                wire.target = url
                here.text("body").replace(0, 6, "all of")
                there.text("body").insert(len(START), "more")
                await here.wait_synced(20)
                await there.wait_synced(20)
                await until(lambda: str(here.text("body")) == str(there.text("body")))
            shown = str(here.text("body"))
            wire.target = ""
            async with running(backup) as (url, _):
                async with collab.open(":memory:", relay=url, settings=QUICK) as early:
                    room = await early.room("notes")
                    await room.wait_synced(20)
                    assert str(room.text("body")) == START  # what the backup has
                    for number in range(5):  # takes the offsets that were lost
                        room.text("body").insert(len(room.text("body")), str(number))
                        await room.wait_synced(20)
                    wire.target = url
                    await here.wait_synced(20)
                    await there.wait_synced(20)
                    await until(
                        lambda: (
                            str(here.text("body"))
                            == str(there.text("body"))
                            == str(room.text("body"))
                        )
                    )
                merged = str(here.text("body"))
                assert sorted(merged) == sorted(shown + "01234")
                async with collab.open(":memory:", relay=url, settings=QUICK) as late:
                    await reads(await late.room("notes"), merged)

    run(main())


def test_a_device_restored_from_an_older_backup_catches_up_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    path, backup = tmp_path / "a.db", tmp_path / "backup.db"

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _):
            async with collab.open(path, relay=url, settings=QUICK) as client:
                room = await client.room("notes")
                room.text("body").insert(0, "one ")
                await room.wait_synced(20)
                room.text("body").insert(4, "two ")  # in the backup it may not be acked
                await room.wait_saved()
            shutil.copy(path, backup)
            async with collab.open(path, relay=url, settings=QUICK) as client:
                room = await client.room("notes")
                room.text("body").insert(8, "three ")
                room.text("body").delete(0, 4)
                await room.wait_synced(20)
            async with collab.open(backup, relay=url, settings=QUICK) as client:
                room = await client.room("notes")
                assert str(room.text("body")) == "one two "
                room.text("body").insert(8, "four ")
                await room.wait_synced(20)
                text = str(room.text("body"))
                assert text in ("two three four ", "two four three ")
                async with collab.open(":memory:", relay=url, settings=QUICK) as fresh:
                    await reads(await fresh.room("notes"), text)

    run(main())
