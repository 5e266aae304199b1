"""What becomes of a message: refused, stalled, cancelled, edited; and none blocks another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import collab
from collab.protocol import frames
from tests.e2e.chat_support import history, shows, stored, watch
from tests.e2e.chatty_relay import ChattyRelay
from tests.e2e.support import QUICK, run, soon, until


def test_a_message_goes_from_queued_to_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            async with relay.offline():
                room = await client.room("notes")
                seen = watch(room)
                message = await room.chat.send("hello", meta={"n": 1})
                assert (message.state, message.seq, message.sender) == ("queued", None, None)
                assert room.status.pending_messages == 1
                assert not room.status.synced
            await message.wait("accepted", 20)
            assert (message.seq, message.is_mine) == (1, True)
            async with collab.open(":memory:", relay=relay.url, settings=QUICK) as other:
                theirs = await other.room("notes")
                await message.wait("delivered", 20)
                assert (message.delivered_by, message.read_by) == (1, 0)
                [got] = await theirs.chat.history()
                assert (got.body, got.meta, got.state) == ("hello", {"n": 1}, "accepted")
                assert (got.is_mine, got.sender) == (False, message.sender)
                assert theirs.chat.unread == 1
                await theirs.chat.mark_read(got)
                await message.wait("read", 20)
                assert (message.read_by, theirs.chat.unread) == (1, 0)
            await room.wait_synced(20)
            assert room.status.pending_messages == 0
            states = [event.message for event in seen.of(collab.MessageChanged)]
            assert all(each is message for each in states)

    run(main())


@pytest.mark.parametrize("code", ["too_large", "forbidden", "our-own-code"])
def test_a_message_that_is_refused_for_good_comes_back_and_those_behind_it_arrive(
    tmp_path: Path, code: str
) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            seen = watch(room)
            relay.model.refusals.append(code)
            poison, *others = await asyncio.gather(
                *(room.chat.send(body) for body in ("poison", "1", "2", "3"))
            )
            with pytest.raises(collab.Rejected) as caught:
                await poison.wait("accepted", 20)
            assert caught.value.code == code
            await room.wait_synced(20)
            assert [message.seq for message in others] == [1, 2, 3]
            assert (poison.state, poison.code, poison.seq) == ("rejected", code, None)
            event = await seen.saw(collab.MessageRejected)
            assert (event.message, event.message.body, event.code) == (poison, "poison", code)
            assert [message.body for message in relay.model.disk.log] == ["1", "2", "3"]
        async with collab.open(tmp_path / "a.db") as client:
            kept = await (await client.room("notes")).chat.history()
            assert [(message.body, message.state) for message in kept] == [
                ("poison", "rejected"), ("1", "accepted"), ("2", "accepted"), ("3", "accepted"),
            ]  # fmt: skip

    run(main())


def test_a_message_that_is_refused_for_ever_for_now_stalls_and_can_be_tried_again(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            relay.model.refusals.extend(["busy"] * 10)
            poison, *others = await asyncio.gather(
                *(room.chat.send(body) for body in ("poison", "1", "2"))
            )
            with pytest.raises(collab.NotSent) as caught:
                await poison.wait("accepted", 20)
            assert caught.value.state == "stalled"
            await others[-1].wait("accepted", 20)
            assert [message.body for message in relay.model.disk.log] == ["1", "2"]
            sent = [frame for frame in relay.received if isinstance(frame, frames.Send)]
            assert [frame.lane_seq for frame in sent].count(1) == 10
            [skip] = [frame for frame in relay.received if isinstance(frame, frames.Skip)]
            assert (skip.lane_seq, skip.message_id) == (1, poison.id.bytes)
            await room.wait_synced(20)  # nobody has to wait for it
            assert room.status.pending_messages == 0
            assert (await history(room))[-1] == "poison"  # where it can be seen
            await room.chat.retry(poison)
            await poison.wait("accepted", 20)
            assert [message.body for message in relay.model.disk.log] == ["1", "2", "poison"]
            assert await history(room) == ["1", "2", "poison"]

    run(main())


def test_rate_limits_delay_and_never_stall(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            relay.model.refusals.extend(["rate_limited"] * 25)
            messages = [await room.chat.send(str(n)) for n in range(5)]
            await room.wait_synced(20)
            assert [message.seq for message in messages] == [1, 2, 3, 4, 5]

    run(main())


def test_refusals_are_counted_across_restarts(tmp_path: Path) -> None:
    async def main() -> None:
        async with ChattyRelay() as relay:
            # Ten are counted; some more, as the one that is on its way at the restart may be lost.
            relay.model.refusals.extend(["busy"] * 13)
            async with collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client:
                await (await client.room("notes")).chat.send("poison")
                await until(lambda: len(relay.model.refusals) <= 8)
            async with collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client:
                room = await client.room("notes")
                [poison] = await room.chat.history()
                await poison.wait("stalled", 20)
            assert 0 < len(relay.model.refusals) <= 3

    run(main())


# Cancel and edit


def test_what_waits_can_be_edited_and_cancelled_and_is_never_sent_as_it_was(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            async with relay.offline():
                room = await client.room("notes")
                seen = watch(room)
                kept, gone = await room.chat.send("tpyo"), await room.chat.send("regret")
                await room.chat.edit(kept, "typo")
                await room.chat.cancel(gone)
                assert (kept.body, gone.state) == ("typo", "cancelled")
                with pytest.raises(collab.WrongState):
                    await room.chat.cancel(gone)
                with pytest.raises(collab.WrongState):
                    await room.chat.edit(gone, "more regret")
                with pytest.raises(collab.NotSent):
                    await gone.wait("accepted")
                await until(lambda: len(seen.of(collab.MessageChanged)) == 2)
            await room.wait_synced(20)
            assert [message.body for message in relay.model.disk.log] == ["typo"]
            assert await history(room) == ["regret", "typo"]  # it stands where it was written
            with pytest.raises(collab.WrongState, match="another message"):
                await room.chat.edit(kept, "late")
            with pytest.raises(collab.WrongState, match="accepted"):
                await room.chat.cancel(kept)

    run(main())


def test_what_was_sent_is_cancelled_with_its_slot_or_accepted(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "a.db"
        async with (
            ChattyRelay() as relay,
            collab.open(path, relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            relay.quiet.add(frames.Send)  # they get lost
            first, second = await room.chat.send("first"), await room.chat.send("second")
            await until(lambda: len(relay.received) >= 3 and second.state == "sending")
            with pytest.raises(collab.WrongState):
                await room.chat.edit(first, "edited")
            relay.quiet.clear()
            async with relay.offline():
                await room.chat.cancel(first)
                assert first.state == "sending"  # nobody can know yet
            await first.wait("cancelled", 20)
            await second.wait("accepted", 20)
            assert [message.body for message in relay.model.disk.log] == ["second"]

            relay.quiet.add(frames.Skip)
            third = await room.chat.send("third")
            await until(lambda: third.state == "accepted")
            with pytest.raises(collab.WrongState):
                await room.chat.cancel(third)
            with pytest.raises(collab.WrongState, match="will not become"):
                await third.wait("cancelled")

    run(main())


def test_a_cancel_that_comes_too_late_leaves_the_message_accepted(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            held: list[frames.Frame] = []
            judge = relay.model.receive
            relay.model.receive = lambda reader, frame: (  # type: ignore[method-assign]
                held.append(frame) if isinstance(frame, frames.Send) else judge(reader, frame)
            )
            message = await room.chat.send("too late")
            await until(lambda: held)
            reader = relay.model.readers[0]
            judge(reader, held[0])  # accepted; the outcome is on its way
            reader.down.clear()
            await room.chat.cancel(message)
            await message.wait("accepted", 20)
            assert message.seq == 1
            await shows(room, "too late")

    run(main())


def test_a_cancel_survives_the_end_of_the_program(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "a.db"
        async with ChattyRelay() as relay:
            relay.quiet.add(frames.Send)
            async with collab.open(path, relay=relay.url, settings=QUICK) as client:
                room = await client.room("notes")
                message = await room.chat.send("regret")
                await until(lambda: message.state == "sending")
                async with relay.offline():
                    await room.chat.cancel(message)
                    await client.close()
            relay.quiet.clear()
            async with collab.open(path, relay=relay.url, settings=QUICK) as client:
                room = await client.room("notes")
                [message] = await room.chat.history()
                await message.wait("cancelled", 20)
                await room.wait_synced(20)
            assert relay.model.disk.log == []

    run(main())


# Connections


def test_outcomes_that_were_lost_are_told_at_the_next_joining(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            seen = watch(room)
            for number in range(40):
                await room.chat.send(str(number))
                if number % 7 == 3:
                    await relay.cut()
            await room.wait_synced(20)
            expected = [str(number) for number in range(40)]
            assert [message.body for message in relay.model.disk.log] == expected
            assert await history(room) == expected
            assert seen.of(collab.StoreRolledBack) == []

    run(main())


def test_a_window_of_messages_is_on_its_way_and_not_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            relay.quiet.add(frames.Send)
            room = await client.room("notes")
            await asyncio.gather(*(room.chat.send(str(n)) for n in range(50)))
            await until(lambda: sum(isinstance(f, frames.Send) for f in relay.received) == 16)
            await asyncio.sleep(0.05)
            assert sum(isinstance(frame, frames.Send) for frame in relay.received) == 16
            assert room.status.pending_messages == 50
            bound = [row for row in stored(tmp_path / "a.db") if "sending" in row]
            assert len(bound) == 16
            relay.quiet.clear()
            await relay.cut()
            await room.wait_synced(20)
            assert [m.body for m in relay.model.disk.log] == [str(n) for n in range(50)]

    run(main())


def test_waiting_ends_with_the_room_and_after_its_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            room = await client.room("notes")
            message = await room.chat.send("hello")
            with pytest.raises(TimeoutError):
                await message.wait("accepted", 0.01)
            with pytest.raises(ValueError, match="nonsense"):
                await message.wait("nonsense")
            waiting = asyncio.create_task(message.wait("accepted"))
            await asyncio.sleep(0)
            await room.close()
            with pytest.raises(collab.Closed):
                await soon(waiting)

    run(main())
