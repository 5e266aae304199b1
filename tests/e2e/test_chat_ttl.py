"""How long a message may wait: by a clock of its own, and never against the relay's word."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

import collab
from collab import limits
from collab.protocol import frames
from tests.e2e.chat_support import DAY_MS, Clocks, history, look, on_clock, watch
from tests.e2e.chatty_relay import ChattyRelay
from tests.e2e.support import run, until

HOUR_MS = 3_600_000


async def state_of(client: collab.Client, room: collab.Room) -> str:
    """The state of the room's only message, at this time."""
    await look(client)
    [message] = await room.chat.history()
    return message.state


def test_what_waits_too_long_expires_and_its_body_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        clocks = Clocks()
        async with on_clock(tmp_path / "a.db", clocks) as (client, room):
            seen = watch(room)
            short = await room.chat.send("short", ttl=timedelta(minutes=5))
            default, ever = await room.chat.send("default"), await room.chat.send("ever", ttl=None)
            clocks.go_on(299_999)
            await look(client)
            assert short.state == "queued"
            clocks.go_on(1)
            await look(client)
            assert short.state == "expired"
            event = await seen.saw(collab.MessageExpired)
            assert (event.message, event.message.body) == (short, "short")
            with pytest.raises(collab.NotSent) as caught:
                await short.wait("accepted")
            assert caught.value.state == "expired"
            clocks.go_on(7 * DAY_MS)
            await look(client)
            assert (default.state, ever.state) == ("expired", "queued")
            assert room.status.pending_messages == 1
            clocks.go_on(9 * 365 * DAY_MS)
            await look(client)
            assert ever.state == "queued"

    run(main())


def test_a_timer_expires_it_without_any_other_event(tmp_path: Path) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            room = await client.room("notes")
            message = await room.chat.send("short", ttl=0.05)
            await message.wait("expired", 10)

    run(main())


@pytest.mark.parametrize("restart", ["running", "restarted", "rebooted"])
@pytest.mark.parametrize("jump", [DAY_MS, -DAY_MS])
def test_a_jump_of_the_wall_clock_neither_expires_nor_keeps(
    tmp_path: Path, jump: int, restart: str
) -> None:
    async def main() -> None:
        clocks = Clocks()
        path = tmp_path / "a.db"
        async with on_clock(path, clocks) as (client, room):
            await room.chat.send("hello", ttl=timedelta(hours=6))
            clocks.go_on(HOUR_MS)
            if restart == "running":
                clocks.wall_ms += jump
                assert await state_of(client, room) == "queued"
                clocks.go_on(5 * HOUR_MS)
                assert await state_of(client, room) == "expired"
                return
        if restart == "restarted":
            clocks.wall_ms += jump
        else:
            clocks.reboot(off_ms=60_000, jump_ms=jump)
        async with on_clock(path, clocks) as (client, room):
            assert await state_of(client, room) == "queued"
            clocks.go_on(6 * HOUR_MS)
            assert await state_of(client, room) == "expired"

    run(main())


def test_time_passes_while_the_program_does_not_run(tmp_path: Path) -> None:
    async def main() -> None:
        clocks = Clocks()
        async with on_clock(tmp_path / "a.db", clocks) as (_, room):
            await room.chat.send("hello", ttl=timedelta(hours=6))
        clocks.go_on(6 * HOUR_MS)
        async with on_clock(tmp_path / "a.db", clocks) as (client, room):
            assert await state_of(client, room) == "expired"

    run(main())


def test_what_expired_while_the_rooms_were_opened_is_told_to_who_watches_then(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        clocks = Clocks()
        async with on_clock(tmp_path / "a.db", clocks) as (client, room):
            await room.chat.send("of notes", ttl=1)
            await (await client.room("other")).chat.send("of other", ttl=1)
        clocks.go_on(1_000)
        async with on_clock(tmp_path / "a.db", clocks) as (client, notes):
            other = await client.room("other")
            await look(client)
            for room, body in ((notes, "of notes"), (other, "of other")):
                event = await watch(room).saw(collab.MessageExpired)
                assert (event.message.body, event.message.state) == (body, "expired")
            late = watch(notes)
            await notes.chat.send("again", ttl=1)
            clocks.go_on(1_000)
            await look(client)
            event = await late.saw(collab.MessageExpired)
            assert event.message.body == "again"
            assert len(late.of(collab.MessageExpired)) == 1  # what the first one was told is told

    run(main())


def test_a_device_that_was_off_for_weeks_does_not_send_what_is_long_over(tmp_path: Path) -> None:
    async def main() -> None:
        clocks = Clocks()
        async with on_clock(tmp_path / "a.db", clocks) as (_, room):
            await room.chat.send("see you tonight")
        clocks.reboot(off_ms=21 * DAY_MS)
        async with on_clock(tmp_path / "a.db", clocks) as (client, room):
            assert await state_of(client, room) == "expired"

    run(main())


def test_the_relay_is_told_what_remains(tmp_path: Path) -> None:
    async def main() -> None:
        clocks = Clocks()
        async with (
            ChattyRelay() as relay,
            on_clock(tmp_path / "a.db", clocks, relay.url) as (_, room),
        ):
            async with relay.offline():
                await room.chat.send("hello", ttl=timedelta(hours=6))
                await room.chat.send("for ever", ttl=None)
                clocks.go_on(HOUR_MS)
                clocks.wall_ms += 400 * DAY_MS
            await room.wait_synced(20)
            sent = [frame for frame in relay.received if isinstance(frame, frames.Send)]
            assert [frame.ttl_ms for frame in sent] == [5 * HOUR_MS, None]

    run(main())


@pytest.mark.parametrize("took", [True, False], ids=["the relay took it", "it was lost"])
def test_what_was_sent_and_not_answered_expires_by_the_relays_word_alone(
    tmp_path: Path, took: bool
) -> None:
    async def main() -> None:
        clocks = Clocks()
        path = tmp_path / "a.db"
        async with ChattyRelay() as relay:
            async with on_clock(path, clocks, relay.url) as (client, room):
                await room.wait_synced(20)
                judge = relay.model.receive

                def answer_nothing(reader: object, frame: frames.Frame) -> None:
                    if isinstance(frame, frames.Send) and took:
                        judge(relay.model.readers[0], frame)
                    relay.model.readers[0].down.clear()
                    if isinstance(frame, frames.Send):
                        relay.received.append(frame)

                relay.model.receive = answer_nothing  # type: ignore[method-assign]
                message = await room.chat.send("hello", ttl=timedelta(hours=6))
                await until(lambda: any(isinstance(f, frames.Send) for f in relay.received))
                async with relay.offline():
                    relay.model.receive = judge  # type: ignore[method-assign]
                    clocks.go_on(DAY_MS)
                    assert await state_of(client, room) == "sending"  # nobody can know
                    await client.close()
            async with on_clock(path, clocks, relay.url) as (_, room):
                seen = watch(room)
                [message] = await room.chat.history()
                await message.wait("accepted" if took else "expired", 20)
                await room.wait_synced(20)
                if took:
                    assert seen.of(collab.MessageExpired) == []
                else:
                    assert (await seen.saw(collab.MessageExpired)).message.body == "hello"
                assert len(relay.model.disk.log) == took

    run(main())


def test_a_message_for_now_goes_now(tmp_path: Path) -> None:
    async def main() -> None:
        clocks = Clocks()
        async with (
            ChattyRelay() as relay,
            on_clock(tmp_path / "a.db", clocks, relay.url) as (_, room),
        ):
            await room.wait_synced(20)
            message = await room.chat.send("now", ttl=0)
            await message.wait("accepted", 20)
            [frame] = [frame for frame in relay.received if isinstance(frame, frames.Send)]
            assert frame.ttl_ms is not None
            assert 0 < frame.ttl_ms <= limits.LIVE_TTL_MS
            async with relay.offline():
                await until(lambda: not room._chat.machine.is_open)
                with pytest.raises(collab.OfflineError):
                    await room.chat.send("not now", ttl=0)
            assert await history(room) == ["now"]

    run(main())


def test_a_message_for_now_whose_connection_dies_is_not_sent_later(tmp_path: Path) -> None:
    async def main() -> None:
        clocks = Clocks()
        async with (
            ChattyRelay() as relay,
            on_clock(tmp_path / "a.db", clocks, relay.url) as (_, room),
        ):
            await room.wait_synced(20)
            relay.quiet.add(frames.Send)
            message = await room.chat.send("now", ttl=0)
            await until(lambda: any(isinstance(f, frames.Send) for f in relay.received))
            async with relay.offline():
                clocks.go_on(limits.LIVE_TTL_MS)
                relay.quiet.clear()
            await message.wait("expired", 20)
            assert relay.model.disk.log == []

    run(main())


def test_a_stalled_message_that_is_retried_has_its_whole_time_again(tmp_path: Path) -> None:
    async def main() -> None:
        clocks = Clocks()
        async with (
            ChattyRelay() as relay,
            on_clock(tmp_path / "a.db", clocks, relay.url) as (client, room),
        ):
            await room.wait_synced(20)
            relay.model.refusals.extend(["busy"] * 10)
            message = await room.chat.send("again", ttl=timedelta(hours=6))
            while message.state != "stalled":
                clocks.go_on(100)
                await look(client)
                await asyncio.sleep(0.005)
            clocks.go_on(DAY_MS)
            await look(client)
            assert message.state == "stalled"  # it is kept, whatever the time
            await room.chat.retry(message)
            await message.wait("accepted", 20)
            sent = [frame for frame in relay.received if isinstance(frame, frames.Send)]
            assert sent[-1].ttl_ms == 6 * HOUR_MS

    run(main())
