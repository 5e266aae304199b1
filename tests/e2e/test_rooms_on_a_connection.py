"""Rooms are closed and opened again on one connection, at the worst moments."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import collab
from collab.protocol import frames
from tests.e2e.support import (
    QUICK,
    ScriptedRelay,
    Wire,
    joined,
    reads,
    run,
    running,
    until,
)

SEED = 20264
MIB = 1024 * 1024


def test_a_room_closed_before_it_was_joined_can_be_opened_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            await (await client.room("first")).wait_synced(20)
            theirs = await other.room("notes")
            for number in range(20):
                room = await client.room("notes")
                for _ in range(number % 4):  # JOIN is on its way, or not yet
                    await asyncio.sleep(0)
                await room.close()
            room = await client.room("notes")
            room.text("body").insert(0, "here")
            await room.wait_synced(20)
            await reads(theirs, "here")
            theirs.text("body").insert(4, " and there")
            await reads(room, "here and there")
            assert client.connection is not None
            assert client.connection.state is collab.State.LIVE

    run(main())


def test_a_second_join_of_a_room_waits_for_the_answer_to_the_first() -> None:
    """The relay knows a room by one channel, so a late LEAVE of the first would end the second."""

    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            visit = await relay.welcomed()
            room = await client.room("notes")
            first = await visit.expect(frames.Join)
            await room.close()
            room = await client.room("notes")
            await until(lambda: room._sync.machine.prepared)
            for _ in range(10):  # whoever does not wait has sent it by now
                await asyncio.sleep(0)
            await visit.send(joined(first))
            left_then_joined = [await visit.receive(), await visit.receive()]
            assert [type(frame) for frame in left_then_joined] == [frames.Leave, frames.Join]
            second = left_then_joined[1]
            assert isinstance(second, frames.Join)
            await visit.send(joined(second), frames.Difference(7, 0, b"\0\0"))
            offer = await visit.expect(frames.Offer)
            await visit.send(frames.Ack(7, offer.number, 0))
            await room.wait_synced(20)

    run(main())


def test_a_room_closed_in_the_middle_of_a_huge_update_can_be_opened_again(tmp_path: Path) -> None:
    """What is left of the old update must not be taken for one of the new joining."""
    huge = "x" * (10 * MIB)

    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            Wire(url) as wire,
            collab.open(tmp_path / "a.db", relay=wire.url, settings=QUICK) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            wire.up_limit = wire.up + 256 * 1024
            room.text("body").insert(0, huge)
            await until(lambda: wire.up >= wire.up_limit)
            await room.close()
            room = await client.room("notes")
            room.text("body").insert(0, "new ")
            await room.wait_saved()
            wire.up_limit = 1 << 62
            await room.wait_synced(20)
            theirs = await other.room("notes")
            await theirs.wait_synced(20)
            await until(lambda: len(theirs.text("body")) == len(huge) + 4)
            assert wire.accepted == 1

    run(main())


def test_a_room_closed_in_the_middle_of_a_huge_difference_misses_nothing_when_opened_again(
    tmp_path: Path,
) -> None:
    """The old difference ends at an old place; edits made since then must not be passed over."""
    huge = "x" * (10 * MIB)

    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            Wire(url) as wire,
            collab.open(":memory:", relay=url, settings=QUICK) as writer,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as client,
        ):
            theirs = await writer.room("notes")
            theirs.text("body").insert(0, huge)
            await theirs.wait_synced(20)
            wire.down_limit = wire.down + 256 * 1024
            room = await client.room("notes")
            await until(lambda: wire.down >= wire.down_limit)
            theirs.text("other").insert(0, "meanwhile")
            await theirs.wait_synced(20)
            await room.close()
            room = await client.room("notes")
            await asyncio.sleep(0)
            wire.down_limit = 1 << 62
            await room.wait_synced(20)
            await until(lambda: len(room.text("body")) == len(huge))
            await reads(room, "meanwhile", name="other")
            assert wire.accepted == 1

    run(main())


def test_rooms_opened_and_closed_at_random_keep_every_edit(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    names = ["a", "b", "c"]
    written: dict[str, int] = dict.fromkeys(names, 0)

    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            Wire(url) as wire,
            collab.open(tmp_path / "a.db", relay=wire.url, settings=QUICK) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            watched = {name: await other.room(name) for name in names}
            for step in range(150):
                name = dice.choice(names)
                room = await client.room(name)
                for _ in range(dice.randrange(4)):
                    room.text("body").insert(0, "x")
                    written[name] += 1
                    await asyncio.sleep(0)
                if dice.random() < 0.4:
                    await room.close()
                if dice.random() < 0.1:
                    await (await client.room(name)).wait_synced(20)
                if step % 50 == 49:
                    await wire.cut()
            for name in names:
                await (await client.room(name)).wait_synced(20)
                await reads(watched[name], "x" * written[name])
            assert client.connection is not None
            assert client.connection.state is not collab.State.FAILED

    run(main())
