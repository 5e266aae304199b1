"""Devices that were away come back, at the cost of what they missed and no more."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from pathlib import Path

import pytest

import collab
from collab import testing
from collab_server.settings import Settings
from tests.e2e.client_process import SCRIPTS, tokens
from tests.e2e.support import QUICK, Wire, reads, rows, run, running, until

SEED = 20263
MIB = 1024 * 1024


def scribble(text: collab.Text, dice: random.Random, who: str, count: int) -> None:
    """Edit at random places; ``[who-n]`` are whole and stay."""
    for number in range(count):
        text.insert(dice.choice((0, len(text))), f"[{who}-{number}]")
        filler = dice.choice(SCRIPTS)
        text.insert(len(text), filler)
        if dice.random() < 0.5:
            text.delete(len(text) - len(filler), len(filler))


async def alike(*rooms: collab.Room) -> None:
    """Return when the rooms' texts are the same."""
    await until(lambda: len({str(room.text("body")) for room in rooms}) == 1)


async def come_back(client: collab.Client, wire: Wire, *rooms: collab.Room) -> None:
    """Cut the client's wire, and return when it is level again."""
    before = wire.accepted
    await wire.cut()
    await until(lambda: wire.accepted > before)
    await until(lambda: client.connection and client.connection.state is collab.State.LIVE)
    for room in rooms:
        await room.wait_synced(20)


def test_hundreds_of_offline_edits_on_two_devices_converge(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    dice = random.Random(SEED)

    async def main() -> None:
        async with (
            testing.relay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as a,
            collab.open(tmp_path / "b.db", relay=relay.url, settings=QUICK) as b,
        ):
            here, there = await a.room("notes"), await b.room("notes")
            here.text("body").insert(0, "你好 ")
            await here.wait_synced(20)
            await reads(there, "你好 ")
            async with relay.offline():
                scribble(here.text("body"), dice, "a", 300)
                scribble(there.text("body"), dice, "b", 300)
                await here.wait_saved()
                await there.wait_saved()
                assert not here.status.synced
            await here.wait_synced(20)
            await there.wait_synced(20)
            await alike(here, there)
            expected = sorted(f"{who}-{n}" for who in "ab" for n in range(300))
            assert tokens(str(here.text("body"))) == expected
            assert "你好 " in str(here.text("body"))

    run(main())


def test_a_reconnect_with_nothing_new_writes_nothing_and_sends_under_a_kibibyte(
    tmp_path: Path,
) -> None:
    print(f"seed {SEED}")
    dice = random.Random(SEED)

    async def main() -> None:
        user = {"user": {"name": "Ada"}}
        async with (
            running(tmp_path) as (url, _),
            Wire(url) as wire,
            collab.open(":memory:", relay=wire.url, user=user, settings=QUICK) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            room, theirs = await client.room("notes"), await other.room("notes")
            scribble(room.text("body"), dice, "a", 200)
            await room.wait_synced(20)
            scribble(theirs.text("body"), dice, "b", 200)
            await theirs.wait_synced(20)
            await alike(room, theirs)
            # The first one may still tell the relay what nobody had acked.
            await come_back(client, wire, room)
            for _ in range(3):
                before = rows(tmp_path)
                wire.up = wire.down = 0
                await come_back(client, wire, room)
                assert 0 < wire.up < 1024, wire.up
                assert 0 < wire.down < 1024, wire.down
                assert rows(tmp_path) == before

    run(main())


def test_a_device_that_missed_a_compaction_gets_everything(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    dice = random.Random(SEED)

    def base() -> int:
        path = f"file:{Settings(data=tmp_path).log_path}?mode=ro"
        with contextlib.closing(sqlite3.connect(path, uri=True)) as log:
            return int(log.execute("SELECT max(base) FROM rooms").fetchone()[0])

    async def main() -> None:
        async with (
            running(tmp_path, compact_from_bytes=2000) as (url, _),
            Wire(url) as wire,
            collab.open(":memory:", relay=url, settings=QUICK) as writer,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as away,
        ):
            room, missing = await writer.room("notes"), await away.room("notes")
            room.text("body").insert(0, "start")
            await room.wait_synced(20)
            await reads(missing, "start")
            position = missing._sync.machine.position
            wire.target = ""
            await wire.cut()
            scribble(missing.text("body"), dice, "away", 50)
            number = 0
            while base() <= position.offset:
                scribble(room.text("body"), dice, f"w{number}", 20)
                await room.wait_synced(20)
                number += 1
                assert number < 100, "the relay never compacts"
            wire.target = url
            await missing.wait_synced(20)
            await alike(room, missing)
            expected = [f"away-{n}" for n in range(50)]
            expected += [f"w{round_}-{n}" for round_ in range(number) for n in range(20)]
            assert tokens(str(room.text("body"))) == sorted(expected)

    run(main())


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_huge_update_on_its_way_lets_small_edits_of_another_room_pass(
    tmp_path: Path, way: str
) -> None:
    """The wire is held back so far that the huge one cannot be through before the small one is."""
    huge = "x" * (10 * MIB)

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            Wire(url) as wire,
            collab.open(":memory:", relay=wire.url if way == "up" else url, settings=QUICK) as a,
            collab.open(":memory:", relay=wire.url if way == "down" else url, settings=QUICK) as b,
        ):
            big, small = await a.room("big"), await a.room("small")
            big_there, small_there = await b.room("big"), await b.room("small")
            for room in (big, small, big_there, small_there):
                await room.wait_synced(20)
            setattr(wire, f"{way}_limit", getattr(wire, way) + 256 * 1024)
            big.text("body").insert(0, huge)
            await until(lambda: getattr(wire, way) >= getattr(wire, f"{way}_limit"))
            small.text("body").insert(0, "small")
            await (small.wait_saved() if way == "up" else small.wait_synced(20))
            while str(small_there.text("body")) != "small":
                held = getattr(wire, way)
                setattr(wire, f"{way}_limit", held + 128 * 1024)
                await until(
                    lambda held=held: (
                        getattr(wire, way) > held  # type: ignore[misc]
                        or str(small_there.text("body")) == "small"
                    )
                )
            assert not len(big_there.text("body"))
            assert not big.status.synced or way == "down"
            setattr(wire, f"{way}_limit", 1 << 62)
            await big.wait_synced(20)
            await until(lambda: len(big_there.text("body")) == len(huge))

    run(main())


def test_many_rooms_share_one_socket(tmp_path: Path) -> None:
    names = [f"room {number} 🗒" for number in range(80)]

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            Wire(url) as wire,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as a,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as b,
        ):
            here = [await a.room(name) for name in names]
            there = [await b.room(name) for name in names]
            for one, other in zip(here, there, strict=True):
                one.text("body").insert(0, f"from a in {one.name}. ")
                other.text("body").insert(0, f"from b in {one.name}. ")
            for room in (*here, *there):
                await room.wait_synced(20)
            for one, other in zip(here, there, strict=True):
                await alike(one, other)
                assert f"from a in {one.name}. " in str(other.text("body"))
                assert f"from b in {one.name}. " in str(other.text("body"))
            assert wire.accepted == 2

    run(main())


def test_a_client_without_rooms_becomes_live(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
        ):
            await until(lambda: client.connection and client.connection.state is collab.State.LIVE)

    run(main())


def test_a_relay_that_stops_answering_is_left_and_found_again(tmp_path: Path) -> None:
    """A half-open connection: TCP is up, and nothing comes; only a pong is proof."""
    settings = collab.ClientSettings(
        connection=collab.ConnectionSettings(
            ping_s=0.05, silence_s=0.1, connect_timeout_s=0.5, backoff=QUICK.connection.backoff
        )
    )

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            Wire(url) as wire,
            collab.open(":memory:", relay=wire.url, settings=settings) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            reasons: list[str] = []
            client.observe(lambda status: reasons.append(status.reason))
            wire.down_limit = 0
            await until(lambda: any("The relay stopped answering" in reason for reason in reasons))
            room.text("body").insert(0, "x")
            wire.down_limit = 1 << 62
            await room.wait_synced(20)
            assert client.connection is not None
            assert client.connection.state is not collab.State.FAILED

    run(main())


def test_a_reader_that_is_far_behind_gets_everything_from_the_log(tmp_path: Path) -> None:
    """Too far behind for the relay's memory: 16 MB more than the wire takes."""
    piece = "x" * 200_000

    async def main() -> None:
        async with (
            running(tmp_path, compact_from_bytes=1 << 40) as (url, relay),
            Wire(url) as wire,
            collab.open(":memory:", relay=url, settings=QUICK) as writer,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as slow,
        ):
            room, behind = await writer.room("notes"), await slow.room("notes")
            room.text("body").insert(0, "start")
            await room.wait_synced(20)
            await reads(behind, "start")
            wire.down_limit = wire.down
            for number in range(80):
                room.text("body").insert(0, f"[{number}]{piece}")
                await room.wait_synced(20)
            shared = relay._shared
            assert shared is not None
            loaded = shared.rooms._loaded["notes"].room
            assert loaded.slowest < loaded._tail_base  # memory alone does not reach back to it
            assert loaded._tail_bytes < 6 * MIB
            wire.down_limit = 1 << 62
            await until(lambda: len(behind.text("body")) == len(room.text("body")))
            assert str(behind.text("body")) == str(room.text("body"))
            await behind.wait_synced(20)

    run(main())
