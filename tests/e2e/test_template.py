"""Rooms that start from one template, apart and offline, are one document when they meet."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pycrdt
import pytest

import collab
from tests.contract.engines import ENGINES, needs_ypy
from tests.e2e.support import QUICK, Wire, reads, run, running, until


def template(*texts: str) -> collab.Template:
    """One whose "body" was typed in these pieces."""
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=4_111_222_333)
    for text in texts:
        document.get("body", type=pycrdt.Text).insert(0, text)
    update = document.get_update()
    return collab.Template(update, sha256=hashlib.sha256(update).hexdigest())


MINUTES = template("Decisions:\n", "Present:\n", "# Minutes 📊\n")
TEXT = "# Minutes 📊\nPresent:\nDecisions:\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_an_empty_room_starts_from_the_template_which_is_saved_like_an_edit(
    tmp_path: Path, engine: str
) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        async with collab.open(path, engine=engine) as client:
            room = await client.room("minutes", template=MINUTES)
            assert str(room.text("body")) == TEXT
            assert not room.status.saved  # queued, and the next commit has it
            await room.wait_saved()
            assert room.status.pending_updates == 1
        async with collab.open(path, engine=engine) as client:
            room = await client.room("minutes")
            assert str(room.text("body")) == TEXT
            assert room.status.pending_updates == 1

    run(main())


def test_a_room_that_has_anything_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        async with collab.open(path) as client:
            room = await client.room("written")
            room.text("body").insert(0, "mine")
            assert await client.room("written", template=MINUTES) is room
            assert str(room.text("body")) == "mine"
            gone = await client.room("deleted")
            gone.text("body").insert(0, "x")
            gone.text("body").delete(0, 1)
            started = await client.room("started", template=MINUTES)
            started.text("body").insert(0, "and ")
            opened = await client.room("opened")
            assert await client.room("opened", template=MINUTES) is opened
            assert str(opened.text("body")) == TEXT  # it was open, and empty
        async with collab.open(path) as client:
            for name, text in (
                ("written", "mine"),
                ("deleted", ""),
                ("started", "and " + TEXT),
                ("opened", TEXT),
            ):
                room = await client.room(name, template=MINUTES)
                assert str(room.text("body")) == text, name
                await room.wait_saved()
                assert room.status.pending_updates == 1, name

    run(main())


PAIRS = [("pycrdt", "pycrdt"), pytest.param("pycrdt", "y-py", marks=needs_ypy)]


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("saved_before", [False, True])
def test_two_devices_that_start_from_it_apart_merge_without_doubling(
    tmp_path: Path, first: str, second: str, saved_before: bool
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            Wire("") as wire,
            collab.open(":memory:", relay=wire.url, engine=first, settings=QUICK) as ada,
            collab.open(":memory:", relay=wire.url, engine=second, settings=QUICK) as ben,
        ):
            hers = await ada.room("minutes", template=MINUTES)
            his = await ben.room("minutes", template=MINUTES)
            if saved_before:
                await hers.wait_saved()
                await his.wait_saved()
            at = TEXT.index("Decisions")
            hers.text("body").insert(at, "Ada\n")
            hers.text("body").delete(0, 2)
            his.text("body").insert(len(TEXT), "- none\n")
            wire.target = url
            expected = "Minutes 📊\nPresent:\nAda\nDecisions:\n- none\n"
            await reads(hers, expected)
            await reads(his, expected)
            await hers.wait_synced(20)
            await his.wait_synced(20)
            async with collab.open(":memory:", relay=url, settings=QUICK) as late:
                theirs = await late.room("minutes")  # without the template
                await theirs.wait_synced(20)
                assert str(theirs.text("body")) == expected
            async with collab.open(":memory:", relay=url, settings=QUICK) as later:
                again = await later.room("minutes", template=MINUTES)
                await again.wait_synced(20)
                assert str(again.text("body")) == expected

    run(main())


@pytest.mark.parametrize("engine", ENGINES)
def test_the_template_of_a_room_that_lives_already_adds_nothing_to_its_log(
    tmp_path: Path, engine: str
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay):
            async with collab.open(":memory:", relay=url, settings=QUICK) as ada:
                await (await ada.room("minutes", template=MINUTES)).wait_synced(20)
            shared = relay._shared
            assert shared is not None
            head = shared.log.committed
            async with collab.open(":memory:", relay=url, engine=engine) as ben:
                his = await ben.room("minutes", template=MINUTES)
                await his.wait_synced(20)
                assert str(his.text("body")) == TEXT
            assert shared.log.committed == head

    run(main())


@needs_ypy
def test_a_template_that_the_engine_cannot_hold_starts_nothing(tmp_path: Path) -> None:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=2**40)
    document.get("body", type=pycrdt.Text).insert(0, "x")
    update = document.get_update()
    wide = collab.Template(update, sha256=hashlib.sha256(update).hexdigest())

    async def main() -> None:
        async with collab.open(tmp_path / "a.db", engine="y-py") as client:
            with pytest.raises(collab.Unsupported):
                await client.room("minutes", template=wide)
            room = await client.room("minutes")
            assert str(room.text("body")) == ""
            room.text("body").insert(0, "goes on")
            await room.wait_saved()
        async with collab.open(tmp_path / "b.db") as client:
            assert str((await client.room("minutes", template=wide)).text("body")) == "x"

    run(main())


def test_openings_at_once_start_from_the_template_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            rooms = await asyncio.gather(
                *(client.room("minutes", template=MINUTES) for _ in range(5))
            )
            assert len(set(map(id, rooms))) == 1
            await rooms[0].wait_saved()
            assert str(rooms[0].text("body")) == TEXT
            assert rooms[0].status.pending_updates == 1
            seen: list[collab.RoomEvent] = []
            empty = await client.room("empty")
            empty.observe(seen.append)
            undo = empty.undo(empty.text("body"))
            await client.room("empty", template=MINUTES)
            await until(lambda: collab.DocumentChanged(local=True) in seen)
            assert not undo.can_undo  # it is no edit of this user's

    run(main())
