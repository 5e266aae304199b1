"""A device that comes back gets every message that is retained, or is told what it missed."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from collab import limits
from collab.protocol import frames
from collab.protocol.frames import Code
from collab.protocol.messages import unpack_messages
from collab_server.app import Relay
from collab_server.settings import Settings
from tests.e2e.chat_member import NOWHERE, Member, connected, entered
from tests.e2e.support import Wire, join, rooms_at, run, running, until

ANA, BEN = b"a" * 16, b"b" * 16


async def fill(relay: Relay, count: int, *, room: str = "talk", body: str = "") -> list[int]:
    """Put messages into a room, by the relay's own program; their seqs."""
    handle = relay.room(room)
    sends = (handle.send(body or f"m{n}", sender="bot") for n in range(1, count + 1))
    return list(await asyncio.gather(*sends))


def generation_of(relay: Relay) -> bytes:
    assert relay._shared is not None
    return relay._shared.log.generation


def seqs(page: frames.Page) -> list[int]:
    return [message.seq for message in unpack_messages(page.data)]


# --- where it goes on ---


@pytest.mark.parametrize("missed", [0, 1, 100, 300])
def test_what_was_missed_comes_forward_from_the_mark(tmp_path: Path, missed: int) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay):
            await fill(relay, 500)
            place = (generation_of(relay), 500 - missed)
            async with entered(url, place=place) as ana:
                assert (ana.now.good, ana.now.after, ana.now.head) == (True, 500 - missed, 500)
                await ana.catch_up()
                assert [message.seq for message in ana.messages] == list(range(501 - missed, 501))
                await fill(relay, 1)  # live messages follow on
                await ana.until(lambda: ana.place == 501)

    run(main())


def test_who_missed_more_gets_the_newest_fifty(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay):
            await fill(relay, 400)
            async with entered(url, place=(generation_of(relay), 99)) as ana:
                assert (ana.now.good, ana.now.after, ana.now.head) == (True, 350, 400)
                await ana.catch_up()
                assert len(ana.messages) == limits.NEWEST_IN_LIMITED
            async with entered(url, place=(generation_of(relay), 380)) as ana:
                assert ana.now.after == 380

    run(main())


def test_a_mark_that_is_no_place_in_this_history_is_not_good_and_all_comes_again(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay):
            await fill(relay, 20)
            for place in ((generation_of(relay), 21), (b"?" * 16, 5)):
                async with entered(url, place=place) as ana:
                    assert (ana.now.good, ana.now.after) == (False, 0)
                    assert len(await ana.catch_up()) == 20

    run(main())


def test_a_relay_that_is_put_back_to_an_older_backup_is_noticed_by_its_places(
    tmp_path: Path,
) -> None:
    data, backup = tmp_path / "relay", tmp_path / "backup"

    async def main() -> None:
        async with running(data) as (url, relay), entered(url) as ana:
            await ana.say(ana.message(1))
            before = (generation_of(relay), 1)
        shutil.copytree(data, backup)
        async with running(data) as (url, relay), entered(url, place=before) as ana:
            assert ana.now.good
            await ana.say(ana.message(2))
            after = (generation_of(relay), 2)
        async with running(backup) as (url, _):
            async with entered(url, place=before) as ana:
                assert (ana.now.good, ana.now.lane_seq) == (True, 1)
                await ana.say(ana.message(2, number=22))  # takes the seq that was lost
            async with entered(url, place=after, device=BEN) as ana:
                assert (ana.now.good, ana.now.after) == (False, 0)
                # Its accepted message, offered again under its id, is in this history now.
                assert (await ana.say(ana.message(1, number=2))).seq == 3

    run(main())


# --- a backlog ---


def test_of_ten_thousand_the_newest_come_at_once_and_pages_lead_to_the_first(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay):
            assert await fill(relay, 10_000) == list(range(1, 10_001))
            async with entered(url) as ana:
                assert (ana.now.after, ana.now.head, ana.now.oldest) == (9_950, 10_000, 1)
                await ana.catch_up()
                assert len(ana.runs) == 1
                found = [message.seq for message in ana.messages]
                pages, low = 0, ana.now.after + 1
                while low > 1:
                    page = await ana.fetch(0, low, newest=True)
                    assert page.upto == low - 1
                    found = seqs(page) + found
                    low = page.after + 1
                    pages += 1
                assert found == list(range(1, 10_001))
                assert pages == 100
                forward: list[int] = []
                while not forward or forward[-1] < 1_000:
                    page = await ana.fetch(len(forward), 1_001)
                    assert page.after == len(forward)
                    forward += seqs(page)
                assert forward == list(range(1, 1_001))

    run(main())


def test_pages_are_answered_while_messages_stream(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay), AsyncExitStack() as stack:
            await fill(relay, 2_000)
            ana = await stack.enter_async_context(entered(url))
            streaming = asyncio.create_task(fill(relay, 2_000))
            low = 1_900
            while low > 1:
                low = (await ana.fetch(0, low, newest=True)).after + 1
            await streaming
            await ana.until(lambda: ana.place == 4_000)
            assert [message.seq for message in ana.messages] == list(range(1_951, 4_001))

    run(main())


def test_two_thousand_of_all_rooms_come_forward_and_of_the_others_the_newest(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay), connected(url) as speaker:
            rooms = [f"room {n}" for n in range(50)]
            await asyncio.gather(*(fill(relay, 100, room=room) for room in rooms))
            numbers: dict[int, int] = {}
            for request, room in enumerate(rooms):
                await speaker.send(join(room, request=request))
            while len(numbers) < 50:
                frame = await speaker.receive()
                if isinstance(frame, frames.Joined):
                    numbers[frame.channel] = frame.request
                    await speaker.send(frames.Enter(frame.channel, b"l" * 16, 0, *NOWHERE))
            afters: dict[int, int] = {}
            found: dict[int, list[int]] = {channel: [] for channel in numbers}
            while len(afters) < 50 or any(seqs[-1:] != [100] for seqs in found.values()):
                match await speaker.receive():
                    case frames.Entered() as told:
                        afters[told.channel] = told.after
                    case frames.Messages() as run_:
                        found[run_.channel] += [m.seq for m in unpack_messages(run_.data)]
                    case _:
                        pass
            assert sorted(afters.values()) == [0] * 20 + [50] * 30
            for channel, after in afters.items():
                assert found[channel] == list(range(after + 1, 101))

    run(main())


# --- retention ---


def ages(data: Path, older_than: int, days: float) -> None:
    """Make the messages up to a seq as old as that, while no relay runs."""
    at = round((time.time() - days * 86_400) * 1000)
    with closing(sqlite3.connect(Settings(data=data).log_path)) as log, log:
        log.execute("UPDATE messages SET accepted_at = ? WHERE seq <= ?", (at, older_than))


def test_messages_of_more_than_thirty_days_are_gone_and_the_others_are_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (_, relay):
            await fill(relay, 30)
        ages(tmp_path, 20, 29.9)
        ages(tmp_path, 10, 30.1)
        async with running(tmp_path) as (url, relay):
            async with entered(url):
                assert relay._shared is not None
                chats = relay._shared.chats
                await until(lambda: not chats._retaining)
            async with entered(url) as ana:
                assert (ana.now.oldest, ana.now.head, ana.now.after) == (11, 30, 10)
                assert len(await ana.catch_up()) == 20
                page = await ana.fetch(0, 11)
                assert (page.oldest, seqs(page)) == (11, [])
                assert page.after == page.upto
                page = await ana.fetch(0, 31)
                assert (page.after, page.upto, page.oldest) == (10, 30, 11)

    run(main())


def test_a_room_keeps_its_newest_messages_while_it_is_written_to(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, max_messages_per_room=500) as (url, relay),
            entered(url) as ana,
        ):
            for upto in range(200, 2_601, 200):
                await fill(relay, 200)
                await ana.reach(upto)
            assert len(ana.messages) == 2_600  # who keeps up misses nothing
            again = await ana.enter(place=(generation_of(relay), 2_600))
            assert 1_000 < again.oldest <= 2_101
            assert again.head == 2_600

    run(main())


def test_a_mark_below_what_is_retained_goes_on_from_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay):
            await fill(relay, 100)
            assert relay._shared is not None
            room_id = relay._shared.rooms._loaded["talk"].room.id
            await relay._shared.log.chat.retain(room_id, newer_than_ms=0, at_most=10)
            async with entered(url, place=(generation_of(relay), 40)) as ana:
                assert (ana.now.good, ana.now.after, ana.now.oldest) == (True, 90, 91)
                assert [message.seq for message in await ana.catch_up()] == list(range(91, 101))

    run(main())


def test_a_reader_that_retention_overtook_is_asked_to_come_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            Wire(url) as wire,
            entered(wire.url) as ana,
        ):
            assert relay._shared is not None
            rooms, log = relay._shared.rooms, relay._shared.log
            wire.down_limit = wire.down  # it takes nothing more
            await fill(relay, 3_000, body="x" * 5_000)
            room_id = rooms._loaded["talk"].room.id
            await log.chat.retain(room_id, newer_than_ms=0, at_most=10)
            await fill(relay, 1)
            wire.down_limit = 1 << 62
            await ana.until(lambda: ana.left)
            assert ana.left is not None
            assert ana.left.code == Code.BUSY
            ana.joined = None
            await ana.join("talk")
            again = await ana.enter(place=(generation_of(relay), ana.place))
            assert (again.good, again.oldest) == (True, 2_991)
            await ana.catch_up()
            assert ana.messages[-1].seq == 3_001

    run(main())


# --- slow readers ---


def test_a_reader_that_does_not_read_costs_the_relay_next_to_nothing(tmp_path: Path) -> None:
    body = "x" * 10_000

    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            Wire(url) as wire,
            entered(wire.url, device=ANA) as slow,
            entered(url, device=BEN) as quick,
        ):
            assert relay._shared is not None
            wire.down_limit = wire.down
            await fill(relay, 3_000, body=body)
            await quick.until(lambda: quick.place == 3_000)
            chat = relay._shared.rooms._loaded["talk"].chat
            assert len(chat._tail) * len(body) <= limits.MAX_TAIL_MESSAGE_BYTES
            waiting = [
                channel.ready
                for rooms in rooms_at(relay)
                for channel in rooms._chat._channels.values()
            ]
            assert sum(len(frame) for frame in waiting if frame) <= limits.MAX_FRAME_BYTES
            wire.down_limit = 1 << 62
            await slow.until(lambda: slow.place == 3_000)
            assert slow.messages == quick.messages

    run(main())


def test_many_chats_that_are_not_read_hold_a_few_frames_in_all(tmp_path: Path) -> None:
    rooms = [f"room {n}" for n in range(30)]

    async def main() -> None:
        async with running(tmp_path) as (url, relay), Wire(url) as wire:
            for room in rooms:
                await fill(relay, 60, room=room, body="x" * 20_000)
            async with connected(wire.url) as speaker:
                assert relay._shared is not None
                (opened,) = rooms_at(relay)
                chat = opened._chat
                wire.down_limit = wire.down + 3_000
                for request, room in enumerate(rooms):
                    await speaker.send(join(room, request=request))
                members: list[Member] = []
                for room in rooms:
                    member = Member(speaker)
                    members.append(member)
                    loaded_rooms = relay._shared.rooms._loaded
                    while room not in loaded_rooms:
                        await asyncio.sleep(0.001)
                    loaded = loaded_rooms[room]
                    member.channel = loaded.room.channel
                    await speaker.send(frames.Enter(member.channel, b"l" * 16, 0, *NOWHERE))
                    await speaker.send(frames.Fetch(member.channel, 1, 0, 61, False))
                await asyncio.sleep(0.5)
                ready = [channel.ready for channel in chat._channels.values() if channel.ready]
                assert len(ready) <= limits.MAX_CHAT_READS
                wire.down_limit = 1 << 62

    run(main())
