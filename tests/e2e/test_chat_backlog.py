"""A device that missed very much: the newest at once, the rest by pages, without a hole."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import collab
from collab import limits
from tests.e2e.chat_support import watch
from tests.e2e.support import QUICK, run, running
from tests.e2e.test_chat_relay_catch_up import fill


def gap_rows(path: Path) -> list[tuple[str, int, int, int]]:
    """(room, low, high, lost) of every gap in a device's file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        return file.execute(
            "SELECT name, low, high, lost FROM gaps JOIN rooms ON rooms.id = room_id"
        ).fetchall()


def marks(path: Path) -> list[int]:
    """Up to where each room of a device's file is accounted for."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        return [seq for (seq,) in file.execute("SELECT seq FROM chats")]


def test_of_ten_thousand_missed_the_newest_come_first_and_pages_fill_the_durable_gap(
    tmp_path: Path,
) -> None:
    known, missed = 3, 10_000
    head, newest = known + missed, limits.NEWEST_IN_LIMITED
    path = tmp_path / "a.db"

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, relay):
            await fill(relay, known)
            async with collab.open(path, relay=url, settings=QUICK) as client:
                await (await client.room("talk")).wait_synced(20)
            await fill(relay, missed)
            async with collab.open(path, relay=url, settings=QUICK) as client:
                room = await client.room("talk")
                seen = watch(room)
                await room.wait_synced(20)
                added = [event.message.seq for event in seen.of(collab.MessageAdded)]
                assert added == list(range(head - newest + 1, head + 1))
                assert room.status.gaps == (collab.Gap(known + 1, head - newest),)
                assert room.chat.unread == limits.MAX_UNREAD_COUNTED
            assert gap_rows(path) == [("talk", known + 1, head - newest, 0)]
            async with collab.open(path) as client:  # the gap is shown offline, too
                found = await (await client.room("talk")).chat.history(missed)
                assert len(found) == known + newest
                assert found.gaps == (collab.Gap(known + 1, head - newest),)

            async with collab.open(path, relay=url, settings=QUICK) as client:
                room = await client.room("talk")
                await room.wait_synced(20)
                page = await room.chat.history(100)
                seqs = [message.seq for message in page]
                while page:
                    assert page.is_complete
                    page = await room.chat.history(100, before=page[0])
                    seqs = [*(message.seq for message in page), *seqs]
                assert seqs == list(range(1, head + 1))
                assert not room.status.gaps
        assert not gap_rows(path)
        assert marks(path) == [head]

    run(main())


def test_fifty_rooms_with_a_hundred_missed_each_are_contiguous_with_their_gaps(
    tmp_path: Path,
) -> None:
    names = [f"room {number}" for number in range(50)]
    forward = limits.CATCH_UP_IN_ALL // 100  # rooms; of the others the newest come
    path = tmp_path / "a.db"

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, relay):
            async with collab.open(path, relay=url, settings=QUICK) as client:
                for room in [await client.room(name) for name in names]:
                    await room.wait_synced(20)
            await asyncio.gather(*(fill(relay, 100, room=name) for name in names))
            async with collab.open(path, relay=url, settings=QUICK) as client:
                rooms = [await client.room(name) for name in names]
                for room in rooms:
                    await room.wait_synced(20)
                assert marks(path) == [100] * len(names)
                limited = [room for room in rooms if room.status.gaps]
                assert len(limited) == len(names) - forward
                assert {room.status.gaps for room in limited} == {(collab.Gap(1, 50),)}
                rows = gap_rows(path)
                assert sorted(name for name, *_ in rows) == sorted(room.name for room in limited)
                for room in rooms:
                    found = await room.chat.history(100)
                    assert [message.seq for message in found] == list(range(1, 101))
                    assert found.is_complete
                    assert not room.status.gaps
                assert not gap_rows(path)

    run(main())
