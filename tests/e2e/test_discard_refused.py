"""Refused edits are given up only for a copy of the relay's that is whole on this disk."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import collab
from collab import limits
from collab.protocol import frames
from collab.protocol.frames import Access, Code
from collab.storage.copies import Copies
from collab.storage.documents import STAGED, Batch
from tests.contract.engines import ENGINES
from tests.e2e.authors import Author
from tests.e2e.support import (
    QUICK,
    ScriptedRelay,
    Speaker,
    Wire,
    joined,
    reads,
    run,
    running,
    soon,
    until,
)
from tests.e2e.test_rights import House
from tests.unit.storage.files import documents


def stored_names(path: Path) -> list[str]:
    """The rooms in a file, staged ones too."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        return [name for (name,) in file.execute("SELECT name FROM rooms ORDER BY id")]


@dataclass
class Case:
    """Ada's room has "theirs" of Ben's, and an edit that the relay refuses."""

    house: House
    path: Path
    url: str
    wire: Wire
    ada: collab.Client
    room: collab.Room
    theirs: collab.Room

    async def is_as_before(self) -> None:
        """Nothing was given up: refused as before, edited and saved as before."""
        room = self.room
        assert room is await self.ada.room("notes")
        assert str(room.text("body")) == "refused theirs"
        assert room.status.refused is not None
        room.text("body").insert(0, "x")
        await room.wait_saved()
        room.text("body").delete(0, 1)
        await room.wait_saved()
        await until(lambda: stored_names(self.path) == ["notes"])

    async def goes_on(self) -> None:
        """What the others write comes in."""
        text = self.theirs.text("body")
        text.insert(len(text), "!")
        await until(lambda: "!" in str(self.room.text("body")))
        text.delete(len(text) - 1, 1)
        await until(lambda: "!" not in str(self.room.text("body")))


@asynccontextmanager
async def refused(tmp_path: Path, *, engine: str = "pycrdt") -> AsyncIterator[Case]:
    """A room that may be read and not written any more."""
    house, path = House(), tmp_path / "ada.db"
    async with (
        running(
            tmp_path / "relay", authenticate=house.authenticate, authorize=house.authorize
        ) as (url, _),
        Wire(url) as wire,
        collab.open(
            path, relay=wire.url, token="ada", user={"name": "Ada"}, engine=engine, settings=QUICK
        ) as ada,
        collab.open(
            ":memory:", relay=url, token="ben", user={"name": "Ben"}, settings=QUICK
        ) as ben,
    ):  # fmt: skip
        house.rights["ada", "notes"] = Access.READ
        theirs, room = await ben.room("notes"), await ada.room("notes")
        theirs.text("body").insert(0, "theirs")
        await theirs.wait_synced(20)
        await reads(room, "theirs")
        room.text("body").insert(0, "refused ")
        await until(lambda: room.status.refused)
        yield Case(house, path, url, wire, ada, room, theirs)


# What it does


@pytest.mark.parametrize("engine", ENGINES)
def test_the_relays_copy_takes_the_place_of_the_refused_edits(tmp_path: Path, engine: str) -> None:
    async def main() -> None:
        async with refused(tmp_path, engine=engine) as case:
            old = case.room
            events = old.events()
            new = await old.discard_refused()
            assert new is await case.ada.room("notes")
            assert (new.name, str(new.text("body"))) == ("notes", "theirs")
            assert new.status.refused is None
            assert new.status.saved
            await new.wait_synced(20)
            with pytest.raises(collab.Closed):
                old.text("body")
            async for _ in events:  # what was under way comes, and then the end
                pass
            assert stored_names(case.path) == ["notes"] == await case.ada.rooms()
            case.theirs.text("body").insert(0, "still ")
            await reads(new, "still theirs")
            case.house.rights["ada", "notes"] = Access.WRITE
            await case.wire.cut()  # or when the relay looks again
            new.text("body").insert(0, "and ours: ")
            await new.wait_synced(20)
            await reads(case.theirs, "and ours: still theirs")
        async with collab.open(case.path, engine=engine) as client:
            assert str((await client.room("notes")).text("body")) == "and ours: still theirs"

    run(main())


def test_a_document_that_was_too_large_goes_on_with_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_DOCUMENT_BYTES", 1000)

    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            room, theirs = await client.room("notes"), await other.room("notes")
            room.text("body").insert(0, "before ")
            await room.wait_synced(20)
            room.text("body").insert(7, "x" * 2000)
            with pytest.raises(collab.Rejected, match=r"room\.discard_refused\(\)") as rejected:
                await room.wait_synced(20)
            assert rejected.value.code == Code.TOO_LARGE
            room = await room.discard_refused()
            assert str(room.text("body")) == "before "
            room.text("body").insert(7, "and after")
            await room.wait_synced(20)
            await reads(theirs, "before and after")

    run(main())


def test_others_see_one_of_us_before_and_after(tmp_path: Path) -> None:
    async def main() -> None:
        async with refused(tmp_path) as case:
            await until(lambda: len(case.theirs.presence.others()) == 1)
            [before] = case.theirs.presence.others()
            new = await case.room.discard_refused()
            await until(lambda: before not in case.theirs.presence.others())
            await until(lambda: len(case.theirs.presence.others()) == 1)
            assert [s["user"] for s in case.theirs.presence.others().values()] == [{"name": "Ada"}]
            await until(lambda: new.presence.others())

    run(main())


# When it cannot


def test_nothing_is_given_up_where_nothing_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            room.text("body").insert(0, "fine")
            for _ in range(2):
                with pytest.raises(collab.LocalError, match="Nothing of the room"):
                    await room.discard_refused()
                await room.wait_synced(20)

    run(main())


def test_without_a_connection_nothing_is_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with refused(tmp_path) as case:
            case.wire.target = ""
            await case.wire.cut()
            connection = case.ada._connection
            assert connection is not None
            await until(lambda: not connection.is_connected)
            with pytest.raises(collab.OfflineError, match="Nothing was given up"):
                await case.room.discard_refused()
            await case.is_as_before()
            case.wire.target = case.url
            await case.goes_on()

    run(main())


def test_a_client_without_a_relay_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            room = await client.room("notes")
            room._sync.machine.refused(Code.TOO_LARGE, "for the test")
            with pytest.raises(collab.OfflineError):
                await room.discard_refused()

    run(main())


def test_a_user_who_may_not_read_the_room_any_more_keeps_the_local_copy(tmp_path: Path) -> None:
    async def main() -> None:
        async with refused(tmp_path) as case:
            case.house.rights["ada", "notes"] = Access.NONE
            with pytest.raises(collab.Rejected) as rejected:
                await case.room.discard_refused()
            assert rejected.value.code == Code.FORBIDDEN
            for way_out in ("room.fork(name)", "client.forget(name)", "Nothing was given up"):
                assert way_out in str(rejected.value)
            await case.is_as_before()
            case.house.rights["ada", "notes"] = Access.READ
            await case.wire.cut()
            await case.goes_on()
            assert str((await case.room.discard_refused()).text("body")) == "theirs"

    run(main())


@asynccontextmanager
async def refused_by_script(
    tmp_path: Path,
) -> AsyncIterator[tuple[collab.Client, collab.Room, Speaker, frames.Join]]:
    """A room whose edit a scripted relay refused, that relay's end of the socket, and the JOIN."""
    async with (
        ScriptedRelay() as relay,
        collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
    ):
        room = await client.room("notes")
        visit = await relay.welcomed()
        join = await visit.expect(frames.Join)
        await visit.send(joined(join, head=1))
        theirs = Author(5).insert(0, "theirs")
        await visit.send(frames.Difference(7, 1, theirs))
        offer = await visit.expect(frames.Offer)
        await visit.send(frames.Ack(7, offer.number, 1))
        await room.wait_synced(20)
        room.text("body").insert(0, "refused ")
        update = await visit.expect(frames.Update)
        await visit.send(frames.Refused(7, update.number, Code.TOO_LARGE, "no"))
        await until(lambda: room.status.refused)
        yield client, room, visit, join


def test_a_relay_that_takes_too_long_costs_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with refused_by_script(tmp_path) as (client, room, visit, join):
            discarding = asyncio.create_task(room.discard_refused(timeout=0.2))
            assert (await visit.expect(frames.Leave)).channel == 7
            staging = await visit.expect(frames.Join)
            assert (staging.room, staging.state_vector) == ("notes", b"\0")
            assert staging.epoch == b"e" * 16  # or a relay that lost the room would make another
            await visit.send(joined(staging, head=1))  # and then nothing
            with pytest.raises(TimeoutError, match="Nothing was given up"):
                await soon(discarding)
            assert str(room.text("body")) == "refused theirs"
            assert room is await client.room("notes")
            again = await visit.expect(frames.Join)
            assert again.state_vector != b"\0"
            assert again.epoch == join.epoch or join.epoch is None
            await until(lambda: stored_names(tmp_path / "a.db") == ["notes"])

    run(main())


def test_a_connection_that_is_lost_meanwhile_costs_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with refused_by_script(tmp_path) as (client, room, visit, _):
            discarding = asyncio.create_task(room.discard_refused())
            staging = await visit.expect(frames.Join)
            await visit.send(joined(staging, head=1))
            await visit.socket.close(1001)
            with pytest.raises(collab.OfflineError, match="Nothing was given up"):
                await soon(discarding)
            assert str(room.text("body")) == "refused theirs"
            assert room is await client.room("notes")
            assert room.status.refused is not None

    run(main())


def test_what_was_edited_meanwhile_stays_if_it_fails(tmp_path: Path) -> None:
    async def main() -> None:
        async with refused_by_script(tmp_path) as (_, room, visit, _join):
            discarding = asyncio.create_task(room.discard_refused(timeout=0.3))
            await visit.expect(frames.Join)
            room.text("body").insert(0, "meanwhile ")
            await room.wait_saved()
            with pytest.raises(TimeoutError):
                await soon(discarding)
            assert str(room.text("body")) == "meanwhile refused theirs"
            assert room.status.saved
        async with collab.open(tmp_path / "a.db") as client:
            room = await client.room("notes")
            assert str(room.text("body")) == "meanwhile refused theirs"

    run(main())


def test_another_room_of_the_name_is_not_taken_for_the_relays_copy(tmp_path: Path) -> None:
    async def main() -> None:
        async with refused_by_script(tmp_path) as (_, room, visit, _join):
            discarding = asyncio.create_task(room.discard_refused())
            staging = await visit.expect(frames.Join)
            stranger = frames.Joined(staging.request, 7, b"s" * 16, False, 3, b"\1\7\1", 2)
            await visit.send(stranger, frames.Difference(7, 3, Author(9).insert(0, "stranger")))
            with pytest.raises(collab.RoomReplaced, match="Nothing was given up"):
                await soon(discarding)
            assert str(room.text("body")) == "refused theirs"

    run(main())


def test_a_relay_that_lost_what_it_had_does_not_take_it_from_the_last_who_has_it(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with refused_by_script(tmp_path) as (_, room, visit, _join):
            discarding = asyncio.create_task(room.discard_refused())
            staging = await visit.expect(frames.Join)
            await visit.send(joined(staging), frames.Difference(7, 0, b"\0\0"))
            with pytest.raises(collab.RoomReplaced, match="lacks edits") as lost:
                await soon(discarding)
            assert "Nothing was given up" in str(lost.value)
            assert str(room.text("body")) == "refused theirs"

    run(main())


def test_a_deleted_room_is_not_given_up_for_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with refused_by_script(tmp_path) as (_, room, visit, _join):
            discarding = asyncio.create_task(room.discard_refused())
            for _ in range(2):
                staging = await visit.expect(frames.Join)
                await visit.send(frames.Denied(staging.request, Code.DELETED, "it was deleted"))
            with pytest.raises(collab.RoomReplaced):
                await soon(discarding)
            assert str(room.text("body")) == "refused theirs"

    run(main())


def test_a_disk_that_refuses_the_exchange_leaves_the_room_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with refused(tmp_path) as case:

            async def full(*_: object) -> None:
                raise collab.DiskFull("full")

            with monkeypatch.context() as patched:
                patched.setattr(case.ada._rooms._copies, "replace", full)
                with pytest.raises(collab.DiskFull):
                    await case.room.discard_refused()
            await case.is_as_before()
            await case.goes_on()
            message = await case.theirs.chat.send("still there?")
            await until(lambda: case.room.chat.unread)
            await case.room.chat.mark_read()
            await message.wait("read", timeout=20)
            assert str((await case.room.discard_refused()).text("body")) == "theirs"

    run(main())


def test_what_a_crash_leaves_of_a_staging_is_gone_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        async with collab.open(path) as client:
            (await client.room("notes")).text("body").insert(0, "ours")
        async with documents(path) as (database, store):
            staged = await Copies(database).stage("notes", None)
            await store.append([Batch(staged.id, [(False, Author(5).insert(0, "half"))])])
        assert stored_names(path) == ["notes", STAGED + "notes"]
        with monkeypatch.context() as patched:

            async def full(*_: object) -> None:
                raise collab.DiskFull("full")

            patched.setattr(Copies, "drop_staged", full)
            async with collab.open(path) as client:  # which is no reason not to work
                assert await client.rooms() == ["notes"]
        async with collab.open(path) as client:
            assert stored_names(path) == ["notes"] == await client.rooms()
            assert str((await client.room("notes")).text("body")) == "ours"

    run(main())


# While others do something


async def paused(
    monkeypatch: pytest.MonkeyPatch, client: collab.Client
) -> tuple[asyncio.Event, asyncio.Event]:
    """Stop the exchange of the rooms just before it is committed: (asked, go)."""
    asked, go = asyncio.Event(), asyncio.Event()
    replace = client._rooms._copies.replace

    async def late(*arguments: Any) -> None:
        asked.set()
        await go.wait()
        await replace(*arguments)

    monkeypatch.setattr(client._rooms._copies, "replace", late)
    return asked, go


def test_who_opens_the_room_meanwhile_gets_the_one_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with refused(tmp_path) as case:
            asked, go = await paused(monkeypatch, case.ada)
            discarding = asyncio.create_task(case.room.discard_refused())
            await asked.wait()
            assert await case.ada.rooms() == ["notes"]
            opening = asyncio.create_task(case.ada.room("notes"))
            again = asyncio.create_task(case.room.discard_refused())
            await asyncio.sleep(0.02)
            assert not opening.done()
            go.set()
            assert await soon(opening) is await soon(discarding)
            with pytest.raises(collab.Closed):
                await soon(again)

    run(main())


def test_cancelled_before_the_exchange_it_changed_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with refused_by_script(tmp_path) as (client, room, visit, _):
            discarding = asyncio.create_task(room.discard_refused())
            await visit.expect(frames.Join)
            discarding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await discarding
            assert room is await client.room("notes")
            assert str(room.text("body")) == "refused theirs"
            await until(lambda: stored_names(tmp_path / "a.db") == ["notes"])

    run(main())


def test_cancelled_amid_the_exchange_it_is_done_and_the_old_room_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the old room would take edits that the file has no place for."""

    async def main() -> None:
        async with refused(tmp_path) as case:
            asked, go = await paused(monkeypatch, case.ada)
            discarding = asyncio.create_task(case.room.discard_refused())
            await asked.wait()
            for _ in range(3):
                discarding.cancel()
                await asyncio.sleep(0.01)
            assert not discarding.done()
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await discarding
            with pytest.raises(collab.Closed):
                case.room.text("body")
            new = await case.ada.room("notes")
            assert new is not case.room
            assert str(new.text("body")) == "theirs"
            case.theirs.text("body").insert(0, "still ")
            await reads(new, "still theirs")

    run(main())


Act = Callable[[Case], Awaitable[object]]


@pytest.mark.parametrize("moment", ["fetching", "exchanging"])
def test_a_client_that_is_closed_meanwhile_keeps_one_whole_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    async def main() -> None:
        async with refused(tmp_path) as case:
            asked, go = await paused(monkeypatch, case.ada)
            if moment == "fetching":
                go.set()
                case.wire.down_limit = case.wire.down
            discarding = asyncio.create_task(case.room.discard_refused())
            if moment == "exchanging":
                await asked.wait()
                closing = asyncio.create_task(case.ada.close())
                await until(lambda: case.room._local.closed)
                go.set()
            else:
                await until(lambda: case.ada._rooms._staged)
                closing = asyncio.create_task(case.ada.close())
            await soon(closing)
            with pytest.raises(collab.Closed):
                await soon(discarding)
        async with collab.open(case.path) as client:
            assert await client.rooms() == ["notes"] == stored_names(case.path)
            text = str((await client.room("notes")).text("body"))
            assert text in ("refused theirs", "theirs")
            assert moment == "exchanging" or text == "refused theirs"

    run(main())


def test_a_room_that_is_closed_or_forgotten_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        async with refused(tmp_path) as case:
            discarding = asyncio.create_task(case.room.discard_refused())
            closing = asyncio.create_task(case.room.close())
            forgetting = asyncio.create_task(case.ada.forget("notes"))
            await soon(asyncio.wait([discarding, closing, forgetting]))
            assert await case.ada.rooms() == [] == stored_names(case.path)
            if discarding.exception() is None:
                with pytest.raises(collab.Closed):
                    discarding.result().text("body")
            room = await case.ada.room("notes")
            await reads(room, "theirs")

    run(main())
