"""What a device makes of a room that was deleted at the relay."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

import collab
from collab.protocol import frames
from collab.storage.documents import Batch
from collab_server.app import Relay
from tests.e2e.support import QUICK, ScriptedRelay, Wire, joined, reads, run, running, until


def watch(room: collab.Room) -> list[collab.RoomEvent]:
    seen: list[collab.RoomEvent] = []
    room.observe(lambda event: seen.append(event) if isinstance(event, collab.Failed) else None)
    return seen


async def is_stopped(room: collab.Room, seen: list[collab.RoomEvent]) -> None:
    """The room says that it was deleted, to who waits and to who watches; edits are still saved."""
    await until(lambda: room.status.error)  # until the relay has said so the room is level
    with pytest.raises(collab.RoomReplaced, match="was deleted at the relay") as raised:
        await room.wait_synced(20)
    assert room.status.error is raised.value
    assert "room.fork(name)" in str(raised.value)
    await until(lambda: seen)
    assert seen == [collab.Failed(raised.value)]
    room.text("body").insert(0, "on ")
    await room.wait_saved()
    assert room.status.saved
    assert not room.status.synced


@pytest.mark.parametrize("new_room", ["none", "written"])
def test_a_deleted_room_stops_here_and_everything_is_kept(tmp_path: Path, new_room: str) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, relay), Wire(url) as wire:
            async with (
                collab.open(path, relay=wire.url, settings=QUICK) as client,
                collab.open(":memory:", relay=url, settings=QUICK) as other,
            ):
                room, beside = await client.room("notes"), await client.room("plan")
                room.text("body").insert(0, "ours")
                await room.wait_synced(20)
                wire.target = ""
                await wire.cut()
                await relay.room("notes").delete()
                if new_room == "written":
                    theirs = await other.room("notes")
                    theirs.text("body").insert(0, "theirs")
                    await theirs.wait_synced(20)
                seen = watch(room)
                wire.target = url
                await is_stopped(room, seen)
                beside.text("body").insert(0, "goes on")
                await beside.wait_synced(20)
                if new_room == "written":
                    assert str(theirs.text("body")) == "theirs"
            async with collab.open(path, relay=url, settings=QUICK) as client:
                room = await client.room("notes")  # and so it is after a restart
                seen = watch(room)
                assert str(room.text("body")) == "on ours"
                await is_stopped(room, seen)
                assert str(room.text("body")) == "on on ours"

    run(main())


def test_a_room_that_is_deleted_while_it_is_open_stops_and_others_vanish_from_it(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            collab.open(":memory:", relay=url, user={"name": "Ada"}, settings=QUICK) as client,
            collab.open(":memory:", relay=url, user={"name": "Ben"}, settings=QUICK) as other,
        ):
            room, theirs = await client.room("notes"), await other.room("notes")
            room.text("body").insert(0, "ours")
            await room.wait_synced(20)
            await reads(theirs, "ours")
            await until(lambda: room.presence.others() and theirs.presence.others())
            each = [(room, watch(room)), (theirs, watch(theirs))]
            await relay.room("notes").delete()
            for one, seen in each:
                await is_stopped(one, seen)
                assert one.presence.others() == {}

    run(main())


def test_who_has_nothing_of_a_deleted_room_goes_on_with_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, relay):
            async with collab.open(path, relay=url, settings=QUICK) as client:
                room = await client.room("notes")
                await room.wait_synced(20)
                seen, before = watch(room), room._sync.machine.epoch
                await relay.room("notes").delete()
                await until(lambda: room._sync.machine.epoch not in (None, before))
                room.text("body").insert(0, "new life")
                await room.wait_synced(20)
                async with collab.open(":memory:", relay=url, settings=QUICK) as other:
                    await reads(await other.room("notes"), "new life")
                assert seen == []
            async with collab.open(path, relay=url, settings=QUICK) as client:
                empty = await client.room("empty")
                await empty.wait_synced(20)
            await relay.room("empty").delete()
            async with (
                collab.open(":memory:", relay=url, settings=QUICK) as other,
                collab.open(path, relay=url, settings=QUICK) as client,
            ):
                theirs = await other.room("empty")
                theirs.text("body").insert(0, "theirs")
                await theirs.wait_synced(20)
                await reads(await client.room("empty"), "theirs")

    run(main())


def test_edits_of_a_deleted_room_that_are_not_saved_yet_do_not_get_into_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            go, append = asyncio.Event(), client._documents.append

            async def late(batches: Sequence[Batch]) -> list[list[int]]:
                await go.wait()
                return await append(batches)

            monkeypatch.setattr(client._documents, "append", late)
            room.text("body").insert(0, "old ")
            await relay.room("notes").delete()
            await until(lambda: room.status.error)
            go.set()
            await room.wait_saved()
            assert isinstance(room.status.error, collab.RoomReplaced)
            async with collab.open(":memory:", relay=url, settings=QUICK) as other:
                theirs = await other.room("notes")
                await theirs.wait_synced(20)
                assert str(theirs.text("body")) == ""

    run(main())


def test_a_relay_that_says_deleted_for_ever_is_asked_twice_a_connection() -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            visit = await relay.welcomed()
            for epoch in (None, None):
                join = await visit.expect(frames.Join)
                assert join.epoch == epoch
                await visit.send(frames.Denied(join.request, frames.Code.DELETED, "it was deleted"))
            with pytest.raises(collab.RoomReplaced):
                await room.wait_synced(20)
            await client.room("other")
            assert (await visit.expect(frames.Join)).room == "other"

    run(main())


def test_a_room_that_is_left_as_deleted_again_and_again_is_no_loop() -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            visit = await relay.welcomed()
            for channel in (7, 8):
                join = await visit.expect(frames.Join)
                await visit.send(joined(join, channel=channel))
                await visit.send(frames.Left(channel, frames.Code.DELETED, "it was deleted"))
            with pytest.raises(collab.RoomReplaced):
                await room.wait_synced(20)

    run(main())


async def deleted(client: collab.Client, relay: Relay) -> collab.Room:
    """A room with "ours" that was deleted at the relay."""
    room = await client.room("notes")
    room.text("body").insert(0, "ours")
    await room.wait_synced(20)
    await relay.room("notes").delete()
    await until(lambda: isinstance(room.status.error, collab.RoomReplaced))
    return room


def test_a_deleted_room_can_be_kept_under_another_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            room = await deleted(client, relay)
            kept = await room.fork("kept")
            await kept.wait_synced(20)
            await reads(await other.room("kept"), "ours")
            assert isinstance(room.status.error, collab.RoomReplaced)

    run(main())


def test_a_deleted_room_can_be_given_up_for_a_new_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
        ):
            await deleted(client, relay)
            await client.forget("notes")
            room = await client.room("notes")
            await room.wait_synced(20)
            assert str(room.text("body")) == ""
            room.text("body").insert(0, "new")
            await room.wait_synced(20)

    run(main())
