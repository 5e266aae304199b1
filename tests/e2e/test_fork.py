"""A fork: this copy under another name, whole, durable, and never mixed with what is there."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
from pathlib import Path

import pytest

import collab
from collab import limits
from collab.protocol.frames import Access
from tests.contract.engines import ENGINES
from tests.e2e.support import QUICK, Child, reads, run, running
from tests.e2e.test_engines import content
from tests.e2e.test_rights import House


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fork_has_all_of_the_content_and_is_on_the_disk_when_it_returns(
    tmp_path: Path, engine: str
) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "copy.db"

    async def main() -> None:
        async with collab.open(path, engine=engine) as client:
            room = await client.room("notes")
            text = room.text("body")
            text.insert(0, "你好, offline 📊 world")
            await room.wait_saved()
            text.format(0, 2, {"bold": True})
            text.delete(2, 9)  # and not saved
            fork = await room.fork("kept")
            for file in tmp_path.glob("a.db*"):
                if file.is_file():
                    shutil.copy(file, tmp_path / file.name.replace("a.db", "copy.db"))
            assert str(fork.text("body")) == "你好 📊 world" == str(text)
            assert content(fork) == content(room)
            assert fork.name == "kept"
            assert fork.status.saved
            assert fork is await client.room("kept")
            assert await client.rooms() == ["notes", "kept"]
            text.insert(0, "only here ")
            fork.text("body").insert(0, "only there ")
            await fork.wait_saved()
            assert str(text) == "only here 你好 📊 world"
            assert str(fork.text("body")) == "only there 你好 📊 world"
        async with collab.open(copy, engine=engine) as client:
            assert str((await client.room("kept")).text("body")) == "你好 📊 world"

    run(main())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fork_is_sent_like_any_room_and_the_forked_one_goes_on(
    tmp_path: Path, engine: str
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, engine=engine, settings=QUICK) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            room, theirs = await client.room("notes"), await other.room("notes")
            theirs.text("body").insert(0, "theirs")
            await reads(room, "theirs")
            room.text("body").insert(0, "ours, ")
            fork = await room.fork("kept")
            fork.text("body").insert(0, "kept: ")
            await fork.wait_synced(20)
            await reads(await other.room("kept"), "kept: ours, theirs")
            await room.wait_synced(20)
            await reads(theirs, "ours, theirs")
            # The same identities: what was typed once is there once, also where both are forked.
            again = await (await other.room("kept")).fork("twice kept")
            await again.wait_synced(20)
            await reads(await client.room("twice kept"), "kept: ours, theirs")

    run(main())


def test_a_room_without_content_forks_to_one_without(tmp_path: Path) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            fork = await (await client.room("notes")).fork("kept")
            assert str(fork.text("body")) == ""
            assert fork.status.pending_updates == 0
            assert await client.rooms() == ["notes", "kept"]

    run(main())


def test_refused_edits_can_be_kept_under_another_name(tmp_path: Path) -> None:
    house = House()
    house.rights["ada", "notes"] = Access.READ

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            collab.open(":memory:", relay=url, token="ada", settings=QUICK) as ada,
            collab.open(":memory:", relay=url, token="ben", settings=QUICK) as ben,
        ):  # fmt: skip
            theirs, ours = await ben.room("notes"), await ada.room("notes")
            theirs.text("body").insert(0, "theirs")
            await reads(ours, "theirs")
            ours.text("body").insert(0, "refused ")
            with pytest.raises(collab.Rejected, match=r"room\.fork\(name\)"):
                await ours.wait_synced(20)
            fork = await ours.fork("mine")
            await fork.wait_synced(20)
            await reads(await ben.room("mine"), "refused theirs")
            assert ours.status.refused is not None
            assert str(theirs.text("body")) == "theirs"

    run(main())


def test_a_fork_never_mixes_with_a_room_of_its_name_at_the_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            theirs = await other.room("kept")
            theirs.text("body").insert(0, "theirs")
            await theirs.wait_synced(20)
            room = await client.room("notes")
            room.text("body").insert(0, "ours")
            fork = await room.fork("kept")
            with pytest.raises(collab.RoomReplaced, match="another history"):
                await fork.wait_synced(20)
            assert str(fork.text("body")) == "ours"
            assert str(theirs.text("body")) == "theirs"
            better = await fork.fork("kept elsewhere")
            await better.wait_synced(20)
            assert str(better.text("body")) == "ours"

    run(main())


def test_a_fork_takes_the_name_of_no_room_that_has_content_or_is_open(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "a.db"
        async with collab.open(path) as client:
            for name in ("closed", "empty"):
                other = await client.room(name)
                if name == "closed":
                    other.text("body").insert(0, "there")
                await other.close()
            room, opened = await client.room("notes"), await client.room("open")
            room.text("body").insert(0, "ours")
            for name, why in (
                ("notes", "is open"),
                ("open", "is open"),
                ("closed", "has content on this device"),
                ("bad\n", "without control characters"),
                ("", "1 to 255 bytes"),
                ("x" * 256, "1 to 255 bytes"),
            ):
                with pytest.raises(collab.LocalError, match=why):
                    await room.fork(name)
            assert str((await client.room("closed")).text("body")) == "there"
            assert str((await room.fork("empty")).text("body")) == "ours"
            assert str(opened.text("body")) == ""
            assert await client.rooms() == ["closed", "notes", "open", "empty"]

    run(main())


def test_what_no_relay_could_take_is_not_forked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            room = await client.room("notes")
            room.text("body").insert(0, "x" * 1000)
            monkeypatch.setattr(limits, "MAX_UPDATE_BYTES", 900)
            with pytest.raises(collab.TooLarge, match="Nothing was forked"):
                await room.fork("kept")
            assert await client.rooms() == ["notes"]
            assert str(room.text("body")) == "x" * 1000
            room.text("body").delete(0, 900)
            await room.fork("kept")

    run(main())


def test_a_fork_inside_a_transaction_says_so_instead_of_waiting_for_ever() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            room = await client.room("notes")
            with room.transaction():
                room.text("body").insert(0, "x")
                with pytest.raises(collab.LocalError, match="transaction of this room is open"):
                    await room.fork("kept")
            assert str((await room.fork("kept")).text("body")) == "x"

    run(main())


def test_a_closed_room_and_a_full_disk_fork_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            room = await client.room("notes")
            room.text("body").insert(0, "x")

            async def full(*_: object) -> None:
                raise collab.DiskFull("full")

            with monkeypatch.context() as patched:
                patched.setattr(client._rooms._copies, "fork", full)
                with pytest.raises(collab.DiskFull):
                    await room.fork("kept")
            assert await client.rooms() == ["notes"]
            await room.fork("kept")
            await room.close()
            with pytest.raises(collab.Closed):
                await room.fork("more")

    run(main())


def test_many_forks_at_once_and_an_opening_of_the_same_name_make_one_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            room = await client.room("notes")
            room.text("body").insert(0, "x")
            made = await asyncio.gather(
                *(room.fork("kept") for _ in range(5)), client.room("kept"), return_exceptions=True
            )
            rooms = {each for each in made if isinstance(each, collab.Room)}
            assert rooms == {await client.room("kept")}
            assert sum(isinstance(each, collab.LocalError) for each in made) == 4
            assert str(rooms.pop().text("body")) == "x"

    run(main())


CONTENT = "All of it, or nothing. 你好 📊 "


async def fork_for_ever(path: str) -> None:
    """The child: fork one room again and again, and say which forks have returned."""
    async with collab.open(path) as client:
        room = await client.room("notes")
        room.text("body").insert(0, CONTENT * 500)
        await room.wait_saved()
        print("ready", flush=True)
        number = 0
        while True:
            fork = await room.fork(f"fork {number}")
            print(number, flush=True)
            await fork.close()
            number += 1


def test_forks_survive_sigkill_whole_and_none_is_half(tmp_path: Path) -> None:
    async def main() -> None:
        for attempt in range(4):
            path = tmp_path / f"{attempt}.db"
            async with Child("tests.e2e.test_fork", path) as child:
                assert await child.line() == "ready"
                await asyncio.sleep(random.uniform(0, 0.2))
                await child.kill()
                returned = [int(line) for line in await child.rest()]
            async with collab.open(path) as client:
                names = await client.rooms()
                assert {f"fork {number}" for number in returned} <= set(names)
                for name in names:
                    assert str((await client.room(name)).text("body")) == CONTENT * 500, name

    run(main())


def test_a_fork_that_nobody_waited_for_is_there_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            room = await client.room("notes")
            room.text("body").insert(0, "x")
            forking = asyncio.create_task(room.fork("kept"))
            made = client._rooms._copies.fork
            asked = asyncio.Event()

            async def fork(*arguments: object) -> object:
                asked.set()
                return await made(*arguments)  # type: ignore[arg-type]

            client._rooms._copies.fork = fork  # type: ignore[method-assign,assignment]
            await asked.wait()
            forking.cancel()
            await asyncio.wait([forking])
            assert forking.cancelled()
            assert str((await client.room("kept")).text("body")) == "x"

    run(main())


if __name__ == "__main__":
    asyncio.run(fork_for_ever(sys.argv[1]))
