"""Devices with different engines: one file, one relay, the same rooms."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from pathlib import Path
from typing import Any

import pycrdt
import pytest

import collab
from collab.testing import relay
from tests.contract.engines import ENGINES, PAIRS, needs_ypy
from tests.e2e.client_process import tokens
from tests.e2e.support import QUICK, Child, Wire, reads, run, running, soon, until

WORDS = ["a", "word ", "你好", "𝄞", "👩\u200d👧", "é\n"]


def edit(room: collab.Room, dice: random.Random) -> None:
    text = room.text("body")
    at = dice.randint(0, len(text))
    length = min(dice.randint(0, 4), len(text) - at)
    match dice.randrange(6):
        case 0 | 1 | 2:
            text.insert(at, dice.choice(WORDS))
        case 3:
            text.delete(at, length)
        case 4:
            text.format(at, length, {"bold": dice.choice([True, None])})
        case 5:
            text.insert_embed(at, {"n": dice.randrange(9)})


def content(room: collab.Room) -> list[Any]:
    """The room's text with its formats, read by one and the same engine."""
    document: Any = room.document
    if isinstance(document, pycrdt.Doc):
        snapshot = document.get_update()
    else:
        import y_py

        snapshot = y_py.encode_state_as_update(document)
    reader: pycrdt.Doc[Any] = pycrdt.Doc()
    reader.apply_update(bytes(snapshot))
    found: list[Any] = reader.get("body", type=pycrdt.Text).diff()
    return found


# --- one file -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_room_goes_on_with_the_other_engine_and_back(
    tmp_path: Path, first: str, second: str
) -> None:
    async def main() -> None:
        dice = random.Random(7)
        expected: list[Any] = []
        for turn in range(6):
            engine = (first, second)[turn % 2]
            async with collab.open(tmp_path / "a.db", engine=engine) as client:
                room = await client.room("notes")
                assert content(room) == expected
                for _ in range(40):
                    edit(room, dice)
                expected = content(room)
                text = str(room.text("body"))
                await room.wait_saved()
            async with collab.open(tmp_path / "a.db", engine=second) as client:
                assert str((await client.room("notes")).text("body")) == text

    run(main())


@pytest.mark.parametrize("engine", ENGINES)
def test_maps_and_arrays_of_a_room_are_saved_and_sent(tmp_path: Path, engine: str) -> None:
    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _):
            async with collab.open(tmp_path / "a.db", relay=url, engine=engine) as client:
                room = await client.room("notes")
                document: Any = room.document
                if engine == "pycrdt":
                    document.get("m", type=pycrdt.Map)["k"] = [1, {"é": None}]
                else:
                    with document.begin_transaction() as txn:
                        document.get_map("m").set(txn, "k", [1, {"é": None}])
                await room.wait_synced(20)
            async with collab.open(":memory:", relay=url) as other:
                room = await other.room("notes")
                await room.wait_synced(20)
                assert room.document.get("m", type=pycrdt.Map).to_py() == {"k": [1, {"é": None}]}

    run(main())


# --- one relay ------------------------------------------------------------------------------------


@needs_ypy
@pytest.mark.parametrize("seed", range(4))
def test_devices_with_different_engines_converge_online_and_offline(seed: int) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        async with (
            relay() as server,
            collab.open(":memory:", relay=server.url, settings=QUICK) as a,
            collab.open(":memory:", relay=server.url, engine="y-py", settings=QUICK) as b,
            collab.open(":memory:", relay=server.url, engine="y-py", settings=QUICK) as c,
        ):
            rooms = [await client.room("notes") for client in (a, b, c)]
            replayed = [""] * 3
            for number, room in enumerate(rooms):

                def follow(event: collab.TextChanged, number: int = number) -> None:
                    replayed[number] = event.apply_to(replayed[number])

                room.text("body").observe(follow)

            async def type_a_while() -> None:
                for _ in range(40):
                    edit(dice.choice(rooms), dice)
                    await asyncio.sleep(dice.choice([0, 0, 0.001]))

            async def converge() -> None:
                for room in rooms:
                    await room.wait_synced(20)
                await until(lambda: content(rooms[0]) == content(rooms[1]) == content(rooms[2]))
                texts = {str(room.text("body")) for room in rooms}
                assert len(texts) == 1
                await until(lambda: set(replayed) == texts)

            for _ in range(2):
                await type_a_while()
                async with server.offline():
                    await type_a_while()
                await converge()
            assert len(str(rooms[0].text("body"))) > 20

    run(main())


@needs_ypy
def test_people_see_each_other_whatever_their_engines(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(":memory:", relay=url, user={"name": "Ana"}, settings=QUICK) as a,
            collab.open(
                ":memory:", relay=url, user={"name": "Béla"}, engine="y-py", settings=QUICK
            ) as b,
        ):
            ana, bela = await a.room("notes"), await b.room("notes")

            def seen(room: collab.Room) -> list[dict[str, Any]]:
                return list(room.presence.others().values())

            await until(lambda: seen(ana) == [{"user": {"name": "Béla"}}])
            await until(lambda: seen(bela) == [{"user": {"name": "Ana"}}])
            bela.presence.set({"caret": 3})
            await until(lambda: seen(ana) == [{"user": {"name": "Béla"}, "caret": 3}])
            ana.awareness.set_local_state_field("caret", 5)
            await until(lambda: seen(bela) == [{"user": {"name": "Ana"}, "caret": 5}])
            await bela.close()
            await until(lambda: not any(seen(ana)))

    run(main())


@needs_ypy
def test_what_was_saved_with_ypy_survives_sigkill_and_reaches_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        dice = random.Random(20262)
        saved: set[str] = set()
        path = tmp_path / "a.db"
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            watching = await other.room("notes")
            for number in range(3):
                async with Child("tests.e2e.engine_client", "y-py", path, url, number) as child:
                    counts = [int(await child.line())]
                    await asyncio.sleep(dice.uniform(0, 0.15))
                    watching.text("body").append("from elsewhere")
                    await child.kill()
                    counts += map(int, await child.rest())
                saved |= {f"{number}-{n}" for n in range(counts[-1])}
                async with collab.open(path, relay=url, engine="y-py", settings=QUICK) as client:
                    room = await client.room("notes")
                    found = tokens(str(room.text("body")))
                    assert saved <= set(found)
                    assert len(found) == len(set(found))
                    await room.wait_synced(20)
                    await reads(watching, str(room.text("body")))
            assert "from elsewhere" in str(watching.text("body"))

    run(main())


# --- what y-py cannot hold ------------------------------------------------------------------------


def large_id() -> bytes:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=2**45 + 3)
    document.get("body", type=pycrdt.Text).insert(0, "from afar")
    return document.get_update()


def nested_type() -> bytes:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=3)
    document.get("m", type=pycrdt.Map)["k"] = pycrdt.Map({"in": 1})
    return document.get_update()


@needs_ypy
@pytest.mark.parametrize("foreign", [large_id, nested_type])
def test_what_ypy_cannot_hold_stops_that_room_and_no_other_and_loses_nothing(
    tmp_path: Path, foreign: Any
) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            theirs, healthy = await other.room("notes"), await other.room("healthy")
            async with collab.open(path, relay=url, engine="y-py", settings=QUICK) as client:
                room, fine = await client.room("notes"), await client.room("healthy")
                room.text("body").insert(0, "mine ")
                await room.wait_synced(20)
                await reads(theirs, "mine ")
                events: list[collab.RoomEvent] = []
                room.observe(events.append)
                theirs.document.apply_update(foreign())  # a web editor, by another way
                await until(lambda: isinstance(room.status.error, collab.Unsupported))
                assert "engine='pycrdt'" in str(room.status.error)
                assert str(room.text("body")) == "mine "
                room.text("body").append("and kept ")
                await room.wait_saved()
                with pytest.raises(collab.Unsupported):
                    await soon(room.wait_synced(10))
                assert any(isinstance(event, collab.Failed) for event in events)
                fine.text("body").insert(0, "well")
                await reads(healthy, "well")

            # The room opens here, since nothing of the other update was stored; and stops again.
            async with collab.open(path, relay=url, engine="y-py", settings=QUICK) as client:
                room = await client.room("notes")
                assert str(room.text("body")) == "mine and kept "
                with pytest.raises(collab.Unsupported):
                    await soon(room.wait_synced(10))

            async with collab.open(path, relay=url, settings=QUICK) as client:
                room = await client.room("notes")
                await room.wait_synced(20)
                await until(lambda: content(room) == content(theirs))
                assert "and kept " in str(room.text("body"))
                assert (
                    room.document.get("m", type=pycrdt.Map).to_py()
                    == theirs.document.get("m", type=pycrdt.Map).to_py()
                )

            # Now it is stored, so this engine does not open the room; the others it does.
            async with collab.open(path, engine="y-py") as client:
                with pytest.raises(collab.Unsupported, match="engine='pycrdt'"):
                    await client.room("notes")
                assert str((await client.room("healthy")).text("body")) == "well"

    run(main())


@needs_ypy
@pytest.mark.parametrize("when", ["before it was joined", "later"])
def test_a_room_whose_engine_panicked_stops_and_no_other(tmp_path: Path, when: str) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            Wire(url if when == "later" else "") as wire,
            collab.open(":memory:", relay=wire.url, engine="y-py", settings=QUICK) as client,
        ):
            room, fine = await client.room("notes"), await client.room("fine")
            room.text("body").insert(0, "mine")
            if when == "later":
                await room.wait_synced(20)
                wire.target = ""
                await wire.cut()
                await until(lambda: not room.status.synced)
            await room.wait_saved()
            room._local.replica._broke(ValueError("a panic"))  # type: ignore[attr-defined]
            if when == "later":
                room._sync.machine._lose_position()  # so it owes all that it has
            wire.target = url
            with pytest.raises(collab.Unsupported, match="engine='pycrdt'"):
                await soon(room.wait_synced())
            fine.text("body").insert(0, "well")
            await fine.wait_synced(20)
            assert isinstance(room.status.error, collab.Unsupported)

    run(main())


@needs_ypy
def test_a_room_with_ypy_says_what_it_cannot_do() -> None:
    async def main() -> None:
        async with collab.open(":memory:", engine="y-py") as client:
            room = await client.room("notes")
            text = room.text("body")
            text.insert(0, "你好")
            for act in (
                lambda: room.undo(text),
                lambda: text.relative_position(1),
                lambda: text.insert_embed(0, pycrdt.Map()),
            ):
                with pytest.raises(collab.Unsupported, match="engine='pycrdt'"):
                    act()
            assert str(text) == "你好"

    run(main())


@needs_ypy
def test_rooms_closed_with_ypy_are_freed_but_for_what_ypy_keeps(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(tmp_path / "a.db", relay=url, engine="y-py", settings=QUICK) as client,
        ):
            await (await client.room("lobby")).wait_synced(20)
            kept: list[weakref.ref[Any]] = []
            for _ in range(5):
                room = await client.room("notes")
                text = room.text("body")
                text.observe(lambda event, text=text: len(text))  # type: ignore[misc]
                text.insert(0, "x")
                await room.wait_synced(20)
                kept += [weakref.ref(room), weakref.ref(room.document)]
                await room.close()
                del room, text
            await asyncio.sleep(0.01)
            gc.collect()
            assert [it() for it in kept] == [None] * len(kept)

    run(main())
