"""Logs and files that are put back, emptied, swapped, copied: each ends well, and says so.

In all of these nothing is doubled, and nothing is lost that anybody still has.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

import collab
from collab.protocol.document_sync import Phase
from collab.protocol.frames import Access
from collab.storage.documents import Batch
from collab_server.app import Relay
from collab_server.settings import Settings
from tests.contract.engines import ENGINES
from tests.e2e.support import QUICK, Wire, run, running, until
from tests.e2e.test_rights import House

TOLD = (collab.RelayRolledBack, collab.StoreRolledBack, collab.Failed)


def watch(room: collab.Room) -> list[collab.RoomEvent]:
    """What this room is told of divided histories from now on."""
    seen: list[collab.RoomEvent] = []
    room.observe(lambda event: seen.append(event) if isinstance(event, TOLD) else None)
    return seen


def words(room: collab.Room) -> list[str]:
    """The words of the text, sorted: where concurrent ones stand does not matter here."""
    return sorted(str(room.text("body")).split())


async def says(room: collab.Room, word: str) -> None:
    """Add a word at the end, and wait until the relay has it."""
    text = room.text("body")
    text.insert(len(text), word + " ")
    await room.wait_synced(20)


async def agree(*rooms: collab.Room, on: str) -> None:
    """All of them have just these words."""
    wanted = sorted(on.split())
    await until(lambda: all(words(room) == wanted for room in rooms))
    await until(lambda: len({str(room.text("body")) for room in rooms}) == 1)


async def a_fresh_device_reads(url: str, words_there: str, name: str = "notes") -> None:
    async with collab.open(":memory:", relay=url, settings=QUICK) as client:
        room = await client.room(name)
        await room.wait_synced(20)
        assert words(room) == sorted(words_there.split())


async def said(data: Path, path: Path | str, word: str, name: str = "notes") -> None:
    """A device adds a word at a relay, and both are gone again."""
    async with (
        running(data) as (url, _),
        collab.open(path, relay=url, settings=QUICK) as client,
    ):
        room = await client.room(name)
        await room.wait_synced(20)
        await says(room, word)


# The relay


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("asleep", [False, True], ids=["awake", "asleep"])
def test_a_relay_restored_from_an_older_backup_is_given_back_what_it_lost(
    tmp_path: Path, engine: str, asleep: bool
) -> None:
    data, backup, path = tmp_path / "relay", tmp_path / "backup", tmp_path / "a.db"

    async def main() -> None:
        async with Wire("") as wire:
            client = collab.open(path, relay=wire.url, engine=engine, settings=QUICK)
            await client.start()
            room = await client.room("notes")
            async with running(data) as (url, _):
                wire.target = url
                await says(room, "one")
            shutil.copytree(data, backup)
            async with running(data) as (url, _):
                wire.target = url
                await says(room, "two")
                async with collab.open(":memory:", relay=url, settings=QUICK) as other:
                    theirs = await other.room("notes")
                    await theirs.wait_synced(20)
                    await says(theirs, "three")
                await agree(room, on="one two three")
                await room.wait_synced(20)
            wire.target = ""
            room.text("body").insert(0, "offline ")
            if asleep:
                await client.close()
                client = collab.open(path, relay=wire.url, engine=engine, settings=QUICK)
                await client.start()
                room = await client.room("notes")
            seen = watch(room)
            async with running(backup) as (url, _):
                await a_fresh_device_reads(url, "one")
                wire.target = url
                await room.wait_synced(20)
                await until(lambda: seen)
                assert seen == [collab.RelayRolledBack(offered=True)]
                await a_fresh_device_reads(url, "offline one two three")
                await says(room, "four")
                await a_fresh_device_reads(url, "offline one two three four")
                assert len(seen) == 1
            await client.close()

    run(main())


def test_a_relay_that_was_emptied_is_filled_again_by_all_who_had_something(tmp_path: Path) -> None:
    data = tmp_path / "relay"

    async def main() -> None:
        async with (
            Wire("") as wire,
            collab.open(tmp_path / "a.db", relay=wire.url, settings=QUICK) as one,
            collab.open(tmp_path / "b.db", relay=wire.url, settings=QUICK) as other,
        ):
            here, there = await one.room("notes"), await other.room("notes")
            async with running(data) as (url, _):
                wire.target = url
                await says(here, "one")
                await says(there, "two")
                await agree(here, there, on="one two")
                await here.wait_synced(20)
            wire.target = ""
            here.text("body").insert(0, "here ")
            there.text("body").insert(0, "there ")
            seen = [watch(here), watch(there)]
            shutil.rmtree(data)
            async with running(data) as (url, _):
                wire.target = url
                await agree(here, there, on="here there one two")
                await here.wait_synced(20)
                await there.wait_synced(20)
                # Who comes second may find all of it there already.
                told = [event for each in seen for event in each]
                assert set(told) == {collab.RelayRolledBack(offered=True)}
                assert all(len(each) <= 1 for each in seen)
                await a_fresh_device_reads(url, "here there one two")

    run(main())


def test_a_relay_with_another_room_of_the_name_gets_nothing_of_ours_and_gives_us_nothing(
    tmp_path: Path,
) -> None:
    ours, strangers, path = tmp_path / "ours", tmp_path / "strangers", tmp_path / "a.db"

    async def main() -> None:
        await said(strangers, ":memory:", "strange")
        async with (
            Wire("") as wire,
            collab.open(path, relay=wire.url, settings=QUICK) as client,
        ):
            room, beside = await client.room("notes"), await client.room("beside")
            async with running(ours) as (url, _):
                wire.target = url
                await says(room, "one")
                await says(beside, "aside")
            wire.target = ""
            seen = watch(room)
            async with running(strangers) as (url, _):
                wire.target = url
                with pytest.raises(collab.RoomReplaced) as replaced:
                    await room.wait_synced(20)
                for way_out in ("room.fork(name)", "client.forget(name)"):
                    assert way_out in str(replaced.value)
                await until(lambda: seen)
                assert seen == [collab.Failed(replaced.value)]
                assert room.status.error is replaced.value
                room.text("body").insert(0, "still saved ")
                await room.wait_saved()
                await beside.wait_synced(20)  # of which that relay had nothing
                fork = await room.fork("ours")
                await fork.wait_synced(20)
                assert words(room) == ["one", "saved", "still"]
                await a_fresh_device_reads(url, "strange")
                await a_fresh_device_reads(url, "still saved one", "ours")
                await client.forget("notes")
                room = await client.room("notes")
                await room.wait_synced(20)
                assert words(room) == ["strange"]

    run(main())


def test_a_room_that_met_a_stranger_goes_on_at_its_own_relay(tmp_path: Path) -> None:
    ours, strangers, path = tmp_path / "ours", tmp_path / "strangers", tmp_path / "a.db"

    async def main() -> None:
        async with Wire("") as wire:
            await said(strangers, ":memory:", "strange")
            async with collab.open(path, relay=wire.url, settings=QUICK) as client:
                room = await client.room("notes")
                async with running(ours) as (url, _):
                    wire.target = url
                    await says(room, "one")
                async with running(strangers) as (url, _):
                    wire.target = url
                    with pytest.raises(collab.RoomReplaced):
                        await room.wait_synced(20)
                    room.text("body").insert(0, "meanwhile ")
                await room.close()
                async with running(ours) as (url, _):
                    wire.target = url
                    room = await client.room("notes")
                    await room.wait_synced(20)
                    await a_fresh_device_reads(url, "meanwhile one")

    run(main())


def test_what_was_typed_and_not_even_saved_yet_was_not_lost_by_the_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        await said(tmp_path / "relay", path, "one")
        with contextlib.closing(sqlite3.connect(path)) as file:  # as after an exchange was cut off
            file.execute('UPDATE rooms SET generation = NULL, "offset" = NULL')
            file.commit()
        async with (
            running(tmp_path / "relay") as (url, _),
            Wire("") as wire,
            collab.open(path, relay=wire.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            seen, go, append = watch(room), asyncio.Event(), client._documents.append

            async def late(batches: Sequence[Batch]) -> list[list[int]]:
                await go.wait()
                return await append(batches)

            monkeypatch.setattr(client._documents, "append", late)
            room.text("body").insert(0, "typed ")
            wire.target = url
            await until(lambda: room._sync.machine.phase is Phase.OPEN)
            await asyncio.sleep(0.05)  # for a thread to find out
            go.set()
            await room.wait_synced(20)
            assert seen == []

    run(main())


def test_what_a_reader_alone_still_has_is_given_back_once_he_may_write(tmp_path: Path) -> None:
    """Its right is gone while the relay loses what it acked; the program restarts in between."""
    data, backup, path = tmp_path / "relay", tmp_path / "backup", tmp_path / "a.db"
    house = House()

    def relay(data: Path) -> AbstractAsyncContextManager[tuple[str, Relay]]:
        return running(data, authenticate=house.authenticate, authorize=house.authorize)

    async def main() -> None:
        await said(data, ":memory:", "before")
        async with Wire("") as wire:
            shutil.copytree(data, backup)
            async with relay(data) as (url, _):
                wire.target = url
                async with collab.open(path, relay=wire.url, token="ada", settings=QUICK) as ada:
                    room = await ada.room("notes")
                    await room.wait_synced(20)
                    await says(room, "acked")
            house.rights["ada", "notes"] = Access.READ
            async with (
                relay(backup) as (url, _),
                collab.open(":memory:", relay=url, token="ben", settings=QUICK) as ben,
            ):
                theirs = await ben.room("notes")
                wire.target = url
                for _ in range(2):  # and says so at each start, as it is true
                    async with collab.open(
                        path, relay=wire.url, token="ada", settings=QUICK
                    ) as ada:
                        room = await ada.room("notes")
                        seen = watch(room)
                        await until(lambda seen=seen: seen)  # type: ignore[misc]
                        assert seen == [collab.RelayRolledBack(offered=False)]
                        await room.wait_synced(20)
                        assert room.status.refused is None
                        assert words(room) == ["acked", "before"]
                await says(theirs, "more")
                assert words(theirs) == ["before", "more"]
                async with collab.open(path, relay=wire.url, token="ada", settings=QUICK) as ada:
                    room = await ada.room("notes")
                    await until(lambda: "more" in words(room))
                    house.rights["ada", "notes"] = Access.WRITE
                    await wire.cut()
                    await agree(room, theirs, on="before acked more")
                    await room.wait_synced(20)

    run(main())


# The device


def test_a_device_file_restored_from_an_older_copy_catches_up_quietly(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "copy.db"

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _):
            async with collab.open(path, relay=url, settings=QUICK) as client:
                await says(await client.room("notes"), "one")
            async with collab.open(path) as client:
                room = await client.room("notes")
                room.text("body").insert(0, "unsent ")
            shutil.copy(path, copy)
            async with collab.open(path, relay=url, settings=QUICK) as client:
                room = await client.room("notes")
                await room.wait_synced(20)  # what the copy takes for unsent is at the relay
                await says(room, "two")
            shutil.copy(copy, path)
            async with collab.open(path, relay=url, settings=QUICK) as client:
                room = await client.room("notes")
                assert words(room) == ["one", "unsent"]
                seen = watch(room)
                room.text("body").insert(0, "three ")
                await room.wait_synced(20)
                await agree(room, on="unsent one two three")
                await a_fresh_device_reads(url, "unsent one two three")
                assert seen == []

    run(main())


def test_two_copies_of_a_device_file_part_and_lose_nothing(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "copy.db"

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _), Wire("") as wire:
            async with collab.open(path, relay=url, settings=QUICK) as client:
                await says(await client.room("notes"), "one")
            async with collab.open(path) as client:
                (await client.room("notes")).text("body").insert(0, "unsent ")
            shutil.copy(path, copy)
            async with (
                collab.open(path, relay=wire.url, settings=QUICK) as client,
                collab.open(copy, relay=wire.url, settings=QUICK) as clone,
            ):
                rooms = [await client.room("notes"), await clone.room("notes")]
                seen = [watch(room) for room in rooms]
                for room, word in zip(rooms, ("mine ", "yours "), strict=True):
                    room.text("body").insert(0, word)
                wire.target = url
                await agree(*rooms, on="unsent one mine yours")
                await until(lambda: any(seen))
                [[event]] = [each for each in seen if each]
                assert isinstance(event, collab.StoreRolledBack)
                ids = [await each._identity.device_id() for each in (client, clone)]
                assert ids[0] != ids[1]
                # From now on they are two devices, and nobody fences anybody.
                states: list[collab.State] = []
                for each in (client, clone):
                    await until(lambda each=each: each.connection.state is collab.State.LIVE)  # type: ignore[misc]
                    each.observe(lambda status: states.append(status.state))
                await asyncio.gather(says(rooms[0], "two"), says(rooms[1], "three"))
                await agree(*rooms, on="unsent one mine yours two three")
                assert states == []
                assert sum(map(len, seen)) == 1
                await a_fresh_device_reads(url, "unsent one mine yours two three")
            async with (
                collab.open(path, relay=url, settings=QUICK) as client,
                collab.open(copy, relay=url, settings=QUICK) as clone,
            ):
                rooms = [await client.room("notes"), await clone.room("notes")]
                seen = [watch(room) for room in rooms]
                for room in rooms:
                    await room.wait_synced(20)
                assert seen == [[], []]

    run(main())


def test_two_copies_that_are_never_connected_at_once_merge_all_the_same(tmp_path: Path) -> None:
    """Nobody can tell, and nobody has to: each opening writes under a client id of its own."""
    path, copy = tmp_path / "a.db", tmp_path / "copy.db"

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _):
            async with collab.open(path, relay=url, settings=QUICK) as client:
                await says(await client.room("notes"), "one")
            shutil.copy(path, copy)
            said = ["one"]
            for turn in range(3):
                for each, word in ((path, f"mine{turn}"), (copy, f"yours{turn}")):
                    async with collab.open(each, relay=url, settings=QUICK) as client:
                        room = await client.room("notes")
                        seen = watch(room)
                        await says(room, word)
                        said.append(word)
                        await agree(room, on=" ".join(said))
                        assert seen == []
            await a_fresh_device_reads(url, " ".join(said))

    run(main())


def test_everything_at_once(tmp_path: Path) -> None:
    """A copied device, a relay restored under both, and a third that slept through it."""
    data, backup = tmp_path / "relay", tmp_path / "backup"
    path, copy, third = (tmp_path / f"{name}.db" for name in ("a", "copy", "third"))

    async def main() -> None:
        await said(data, path, "one")
        shutil.copytree(data, backup)
        await said(data, third, "two")
        await said(data, path, "three")
        shutil.copy(path, copy)
        shutil.rmtree(data)
        shutil.copytree(backup, data)
        assert Settings(data=data).log_path.exists()
        async with running(data) as (url, _):
            clients = [collab.open(each, relay=url, settings=QUICK) for each in (path, copy, third)]
            rooms = []
            for client in clients:
                await client.start()
                rooms.append(await client.room("notes"))
            for number, room in enumerate(rooms):
                room.text("body").insert(0, f"word{number} ")
            await agree(*rooms, on="one two three word0 word1 word2")
            for room in rooms:
                await room.wait_synced(20)
            await a_fresh_device_reads(url, "one two three word0 word1 word2")
            for client in clients:
                await client.close()

    run(main())
