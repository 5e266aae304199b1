"""What is read: what is here, what is fetched, what is missing and says so, and what is unread."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import collab
from collab import limits
from collab.protocol import frames
from collab.protocol.message_state import PATH
from collab.protocol.messages import LoggedMessage, pack_messages
from tests.e2e.chat_support import bodies, history, stored, watch
from tests.e2e.chatty_relay import ChattyRelay
from tests.e2e.support import QUICK, run, soon, until

MANY = 40  # the model lets 10 be missed, sends the newest 4, and has pages of 7


def fill(relay: ChattyRelay, count: int, *, sender: str = "ana") -> None:
    """Messages of somebody else in the relay's log."""
    disk = relay.model.disk
    for seq in range(disk.head + 1, disk.head + count + 1):
        disk.log.append(
            LoggedMessage(seq, seq.to_bytes(16, "big"), sender, f"m{seq}", b"", 1, 2, 0, 0)
        )
        disk.written_in.append(len(disk.generations) - 1)


def numbered(first: int, last: int) -> list[str]:
    return [f"m{seq}" for seq in range(first, last + 1)]


def test_what_was_missed_comes_by_itself_if_it_is_not_too_much(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            seen = watch(room)
            await room.wait_synced(20)
            async with relay.offline():
                fill(relay, 10)
            await until(lambda: len(seen.of(collab.MessageAdded)) == 10)
            await room.wait_synced(20)
            assert not room.status.gaps
            assert await history(room) == numbered(1, 10)
            assert [event.message.seq for event in seen.of(collab.MessageAdded)] == [*range(1, 11)]

    run(main())


def test_of_too_much_the_newest_come_and_the_rest_when_it_is_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            fill(relay, MANY)
            room = await client.room("notes")
            seen = watch(room)
            await room.wait_synced(20)
            assert room.status.gaps == (collab.Gap(1, 36),)
            assert (await seen.saw(collab.GapsChanged)).gaps == (collab.Gap(1, 36),)
            assert room.chat.unread == MANY

            newest = await room.chat.history(4)
            assert (bodies(newest), newest.is_complete) == (numbered(37, 40), True)
            assert not any(isinstance(frame, frames.Fetch) for frame in relay.received)

            page = await room.chat.history(10)
            assert bodies(page) == numbered(31, 40)
            before = await room.chat.history(5, before=page[0])
            assert bodies(before) == numbered(26, 30)
            assert before.is_complete

            first = await room.chat.history(3, after=0)
            assert (bodies(first), first.is_complete) == (numbered(1, 3), True)
            assert bodies(await room.chat.history(5, after=first[-1])) == numbered(4, 8)
            between = await room.chat.history(99, before=12, after=first[1])
            assert bodies(between) == numbered(3, 11)
            assert await history(room) == numbered(1, MANY)
            assert not room.status.gaps

    run(main())


def test_without_a_connection_a_gap_is_shown_and_what_is_here_around_it(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "a.db"
        async with ChattyRelay() as relay:
            fill(relay, 8)
            async with collab.open(path, relay=relay.url, settings=QUICK) as client:
                await (await client.room("notes")).wait_synced(20)
            fill(relay, MANY)
            async with collab.open(path, relay=relay.url, settings=QUICK) as client:
                await (await client.room("notes")).wait_synced(20)
        async with collab.open(path) as client:
            room = await client.room("notes")
            assert room.status.gaps == (collab.Gap(9, 44),)
            found = await room.chat.history()
            assert bodies(found) == [*numbered(1, 8), *numbered(45, 48)]
            assert (found.gaps, found.is_complete) == ((collab.Gap(9, 44),), False)
            assert bodies(found[-2:]) == numbered(47, 48)
            assert (await room.chat.history(4)).is_complete
            assert (await room.chat.history(5)).gaps == (collab.Gap(9, 44),)
            assert (await room.chat.history(5, before=20)).gaps == (collab.Gap(9, 19),)
            assert (await room.chat.history(5, before=9)).gaps == ()
            assert (await room.chat.history(8, after=0)).gaps == ()
            assert (await room.chat.history(9, after=0)).gaps == (collab.Gap(9, 44),)

    run(main())


def test_what_the_relay_keeps_no_more_is_lost_and_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            fill(relay, MANY)
            relay.model.retain(20)
            room = await client.room("notes")
            seen = watch(room)
            await room.wait_synced(20)
            lost = await seen.saw(collab.MessagesLost)
            assert (lost.low, lost.high) == (1, 20)
            assert room.status.gaps == (collab.Gap(1, 20, lost=True), collab.Gap(21, 36))
            relay.model.retain(10)
            found = await room.chat.history()
            assert bodies(found) == numbered(31, 40)
            assert found.gaps == (collab.Gap(1, 30, lost=True),)
            await until(lambda: len(seen.of(collab.MessagesLost)) == 2)
            later = seen.of(collab.MessagesLost)[1]
            assert (later.low, later.high) == (21, 30)

    run(main())


def test_a_chat_of_which_nothing_is_kept_is_caught_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            fill(relay, MANY)
            relay.model.retain(0)
            room = await client.room("notes")
            await room.wait_synced(20)
            assert room.status.gaps == (collab.Gap(1, MANY, lost=True),)
            await (await room.chat.send("hello")).wait("accepted", 20)
            assert await history(room) == ["hello"]

    run(main())


def test_a_page_that_does_not_come_on_is_an_error_and_no_loop(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            fill(relay, MANY)
            room = await client.room("notes")
            await room.wait_synced(20)
            relay.quiet.add(frames.Fetch)
            asked = asyncio.create_task(room.chat.history())
            await until(lambda: any(isinstance(f, frames.Fetch) for f in relay.received))
            [fetch] = [frame for frame in relay.received if isinstance(frame, frames.Fetch)]
            attempts = relay.attempts
            empty = frames.Page(0, fetch.request, 0, 0, 1, pack_messages([]))
            relay.model.readers[0].down.append(empty)
            found = await soon(asked)  # what is here, and the gap
            assert bodies(found) == numbered(37, 40)
            assert found.gaps == (collab.Gap(1, 36),)
            await until(lambda: relay.attempts > attempts)  # that relay was left, and tried again
            assert sum(isinstance(frame, frames.Fetch) for frame in relay.received) == 1
            relay.quiet.clear()
            await room.wait_synced(20)
            assert await history(room) == numbered(1, MANY)

    run(main())


def test_a_relay_that_does_not_answer_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FETCH_TIMEOUT_S", 0.05)

    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            fill(relay, MANY)
            room = await client.room("notes")
            await room.wait_synced(20)
            relay.quiet.add(frames.Fetch)
            found = await soon(room.chat.history())
            assert (bodies(found), found.gaps) == (numbered(37, 40), (collab.Gap(1, 36),))
            asked = asyncio.create_task(room.chat.history())
            await asyncio.sleep(0)
            await room.close()
            with pytest.raises(collab.Closed):
                await soon(asked)

    run(main())


def test_two_who_ask_for_the_same_get_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            fill(relay, MANY)
            room = await client.room("notes")
            await room.wait_synced(20)
            found = await asyncio.gather(*(room.chat.history(MANY) for _ in range(5)))
            for one in found:
                assert bodies(one) == numbered(1, MANY)
                assert all(mine is other for mine, other in zip(one, found[0], strict=True))

    run(main())


def test_what_waits_comes_last_and_moves_to_its_number(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            relay.quiet.add(frames.Send)
            mine = await room.chat.send("mine")
            fill(relay, 2)
            relay.model._serve()
            await until(lambda: room.chat.unread == 2)
            assert await history(room) == ["m1", "m2", "mine"]
            found = await room.chat.history(2, before=mine)
            assert bodies(found) == ["m1", "m2"]
            relay.quiet.clear()
            await relay.cut()
            await mine.wait("accepted", 20)
            fill(relay, 1)
            relay.model._serve()
            await until(lambda: room.chat.unread == 3)
            assert await history(room) == ["m1", "m2", "mine", "m4"]

    run(main())


# Unread and receipts


def test_unread_counts_on_while_live_and_survives_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "a.db"
        async with ChattyRelay() as relay:
            fill(relay, 5)
            async with collab.open(path, relay=relay.url, settings=QUICK) as client:
                room = await client.room("notes")
                seen = watch(room)
                await room.wait_synced(20)
                assert room.chat.unread == 5
                await room.chat.mark_read(3)
                assert room.chat.unread == 2
                fill(relay, 2)
                relay.model._serve()
                await until(lambda: room.chat.unread == 4)
                await room.chat.send("mine does not count")
                await room.wait_synced(20)
                assert room.chat.unread == 4
                assert [event.unread for event in seen.of(collab.UnreadChanged)][-1] == 4
        async with collab.open(path) as client:
            room = await client.room("notes")
            assert room.chat.unread == 4
            await room.chat.mark_read()
            assert room.chat.unread == 0
            await room.chat.mark_read(1)  # never back
            assert room.chat.unread == 0

    run(main())


def test_what_was_read_offline_is_told_when_there_is_a_connection(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "a.db"
        async with ChattyRelay() as relay:
            fill(relay, 5)
            async with collab.open(path, relay=relay.url, settings=QUICK) as client:
                await (await client.room("notes")).wait_synced(20)
            async with collab.open(path) as client:
                await (await client.room("notes")).chat.mark_read(4)
            relay.received.clear()
            async with collab.open(path, relay=relay.url, settings=QUICK) as client:
                room = await client.room("notes")
                await room.wait_synced(20)
                assert room.chat.unread == 1
                await until(lambda: any(isinstance(f, frames.Mark) for f in relay.received))
                [mark] = [frame for frame in relay.received if isinstance(frame, frames.Mark)]
                assert (mark.delivered_upto, mark.read_upto) == (5, 4)

    run(main())


def test_what_was_read_on_another_device_of_the_user_is_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with ChattyRelay() as relay:
            relay.user = "me"
            fill(relay, 5)
            async with (
                collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as phone,
                collab.open(tmp_path / "b.db", relay=relay.url, settings=QUICK) as laptop,
            ):
                here, there = await phone.room("notes"), await laptop.room("notes")
                await here.wait_synced(20)
                await there.wait_synced(20)
                mine = await here.chat.send("from the phone")
                await there.wait_synced(20)
                await until(lambda: there._chat.machine.reader.stored == 6)
                assert (await there.chat.history())[-1].is_mine
                assert there.chat.unread == 5
                await here.chat.mark_read(3)
                await until(lambda: there.chat.unread == 2)
                assert (mine.delivered_by, mine.state) == (0, "accepted")  # nobody else is here

    run(main())


def test_a_burst_of_messages_is_received_with_few_marks(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            for _ in range(30):
                fill(relay, 1)
                relay.model._serve()
                await asyncio.sleep(0.002)
            await until(lambda: room._chat.machine.reader.stored == 30)
            marks = [frame for frame in relay.received if isinstance(frame, frames.Mark)]
            assert len(marks) <= 2
            await until(
                lambda: (
                    [f.delivered_upto for f in relay.received if isinstance(f, frames.Mark)][-1]
                    == 30
                )
            )

    run(main())


def test_a_device_shows_nothing_that_it_has_not_stored(tmp_path: Path) -> None:
    """Every event's message is on the disk by then, in the state that it shows or beyond it."""

    async def main() -> None:
        path = tmp_path / "a.db"
        async with (
            ChattyRelay() as relay,
            collab.open(path, relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            checked = 0

            def check(event: collab.ChatEvent) -> None:
                nonlocal checked
                if isinstance(event, collab.MessageAdded | collab.MessageChanged):
                    [row] = [row for row in stored(path) if row[2] == event.message.id.bytes]
                    [state] = [value for value in row if value in PATH]
                    assert PATH.index(state) >= PATH.index(event.message.state)
                    assert event.message.body in row
                    checked += 1

            room.chat.observe(check)
            for number in range(20):
                fill(relay, 1)
                relay.model._serve()
                await room.chat.send(str(number))
            await room.wait_synced(20)
            assert checked >= 60

    run(main())
