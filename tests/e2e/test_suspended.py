"""Programs that sleep: nothing runs meanwhile; a moment of sync is bounded and harms nothing."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

import collab
from collab.protocol.frames import Access
from collab.testing import Portal, proxy, relay
from collab_server.auth import User
from tests.e2e.chat_support import history, shows
from tests.e2e.client_process import tokens
from tests.e2e.support import (
    QUICK,
    Child,
    Disk,
    ScriptedRelay,
    Wire,
    reads,
    relay_process,
    run,
    running,
    until,
)

SLACK_S = 3.0  # for a machine that does other things; timeouts of the connection are 10 s


def state(client: collab.Client) -> collab.State:
    assert client.connection is not None
    return client.connection.state


def has_ended(client: collab.Client) -> bool:
    """Whether nothing is sent or read any more on the socket that is being closed."""
    assert client._connection is not None
    link = client._connection._link
    return link is not None and link._tasks is not None and not link._tasks._tasks


def timers() -> list[asyncio.TimerHandle]:
    """What the loop is going to do by itself."""
    loop = asyncio.get_running_loop()
    scheduled: list[asyncio.TimerHandle] = vars(loop)["_scheduled"]
    return [timer for timer in scheduled if not timer.cancelled()]


def test_a_suspended_client_has_no_socket_and_no_timer_and_resumes_with_what_was_written() -> None:
    async def main() -> None:
        async with (
            relay() as server,
            proxy(server.url) as wire,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as client,
            collab.open(":memory:", relay=server.url, settings=QUICK) as other,
        ):
            room, there = await client.room("notes"), await other.room("notes")
            room.presence.set({"name": "Ada"})
            room.text("body").insert(0, "before ")
            await client.suspend()
            assert room.status.saved
            assert state(client) is collab.State.SUSPENDED
            assert client.connection is not None
            assert client.connection.next_attempt is None
            await until(lambda: wire.open == 0)
            room.text("body").append("asleep ")
            await room.chat.send("asleep")
            there.text("body").insert(0, "others ")
            await there.chat.send("others")
            await there.wait_synced(20)
            client.network_hint(up=True)  # no hint wakes it
            await asyncio.sleep(0.1)
            assert wire.open == 0
            assert room.status.pending_updates >= 1
            assert room.status.pending_messages == 1
            assert room.status.state is collab.RoomState.OFFLINE
            client.resume()
            await room.wait_synced(20)
            await until(lambda: "others " in str(room.text("body")))
            await reads(there, str(room.text("body")))
            assert "asleep " in str(there.text("body"))
            await shows(room, "others", "asleep")
            await shows(there, "others", "asleep")

    run(main())


def test_a_suspended_client_leaves_the_event_loop_nothing_to_do(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            relay_process(tmp_path) as (_, url),  # or its timers would be there too
            collab.open(":memory:", relay=url, user={"name": "Ada"}, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            assert timers()
            await client.suspend()
            assert timers() == []
            # A message whose time is over in ten minutes needs none either, before it is awake.
            message = await room.chat.send("soon stale", ttl=600)
            assert timers() == []
            client.resume()
            await message.wait("accepted")
            await room.wait_synced(20)

    run(main())


def test_a_message_whose_time_was_over_while_asleep_expires_at_waking() -> None:
    async def main() -> None:
        async with (
            relay() as server,
            collab.open(":memory:", relay=server.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            await client.suspend()
            events: list[collab.ChatEvent] = []
            room.chat.observe(events.append)
            message = await room.chat.send("now or never", ttl=0.05)
            await asyncio.sleep(0.1)
            assert str(message.state) == "queued"
            client.resume()
            await until(lambda: any(isinstance(one, collab.MessageExpired) for one in events))
            assert message.state is collab.MessageState.EXPIRED
            await room.wait_synced(20)
            assert await history(room) == ["now or never"]  # here alone, as expired

    run(main())


def test_presence_is_renewed_while_connected_and_not_while_asleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("collab.presence.RENEW_S", 0.02)

    async def main() -> None:
        async with (
            relay() as server,
            collab.open(":memory:", relay=server.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            room.presence.set({"name": "Ada"})

            def clock() -> int:
                return int(room.awareness.meta[room.awareness.client_id]["clock"])

            await room.wait_synced(20)
            before = clock()
            await until(lambda: clock() > before + 2)
            await client.suspend()
            before = clock()
            await asyncio.sleep(0.1)
            assert clock() == before

    run(main())


@pytest.mark.parametrize("is_polite", [True, False])
def test_a_moment_with_a_relay_that_falls_silent_ends_in_time(is_polite: bool) -> None:
    """It takes the WebSocket, and says nothing, or WELCOME and nothing more."""

    async def main() -> None:
        async with (
            ScriptedRelay() as silent,
            collab.open(":memory:", relay=silent.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await client.suspend()
            while not silent.visits.empty():
                silent.visits.get_nowait()
            room.text("body").insert(0, "waits")
            await room.chat.send("waits")
            moment = asyncio.create_task(client.sync_once(deadline=1.0))
            visit = await (silent.welcomed() if is_polite else silent.visit())
            began = time.monotonic()
            report = await moment
            assert time.monotonic() - began < 1.0 + SLACK_S
            assert (report.complete, report.updates_left, report.messages_left) == (False, 1, 1)
            assert state(client) is collab.State.SUSPENDED
            await visit.closed()

    run(main())


def test_suspend_is_over_in_time_when_the_relay_says_nothing_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            proxy(url) as wire,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            wire.freeze()
            room.text("body").insert(0, "x")
            began = time.monotonic()
            await client.suspend(deadline=0.5)
            assert time.monotonic() - began < 0.5 + SLACK_S
            assert room.status.saved
            await client.suspend()  # twice is once
            client.resume()
            await room.wait_synced(20)

    run(main())


def test_a_moment_does_not_believe_a_connection_that_died_while_the_program_was_frozen() -> None:
    """It looks live, all of its rooms look level, and nothing comes on it any more."""

    async def main() -> None:
        async with (
            relay() as server,
            Wire(server.url) as wire,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as client,
            collab.open(":memory:", relay=server.url, settings=QUICK) as other,
        ):
            room, there = await client.room("notes"), await other.room("notes")
            await room.wait_synced(20)
            wire.down_limit = wire.down
            there.text("body").insert(0, "pushed")
            await there.wait_synced(20)
            report = await client.sync_once(deadline=1.0)
            assert not report.complete
            assert report.rooms_level == 0
            again = asyncio.create_task(client.sync_once(deadline=20.0))
            await asyncio.sleep(0)
            wire.down_limit = 1 << 62
            assert (await again).complete
            assert str(room.text("body")) == "pushed"

    run(main())


@pytest.mark.parametrize("act", ["open", "close"])
def test_rooms_come_and_go_while_a_relay_is_slow_to_say_goodbye(act: str) -> None:
    async def main() -> None:
        async with (
            relay() as server,
            Wire(server.url) as wire,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            wire.down_limit = wire.down
            suspending = asyncio.create_task(client.suspend())
            await until(lambda: has_ended(client))
            if act == "open":
                late = await client.room("late")
                late.text("body").insert(0, "x")
                await late.wait_saved()
            else:
                await room.close()
            assert not suspending.done()
            wire.down_limit = 1 << 62
            await suspending
            client.resume()
            late = await client.room("late")
            await late.wait_synced(20)

    run(main())


@pytest.mark.parametrize("how", ["hanging", "refusing", "swallow"])
def test_a_moment_with_a_relay_that_never_answers_ends_in_time_and_says_what_waits(
    how: str,
) -> None:
    deadline = 1.0

    async def main() -> None:
        async with (
            relay() as server,
            proxy(server.url) as wire,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await client.suspend()
            room.text("body").insert(0, "waits")
            message = await room.chat.send("waits")
            match how:
                case "hanging":
                    wire.hanging = True
                case "refusing":
                    wire.refusing = True
                case "swallow":
                    wire.portal = Portal.SWALLOW
            began = time.monotonic()
            report = await client.sync_once(deadline=deadline)
            took = time.monotonic() - began
            assert took <= deadline + SLACK_S
            assert not report.complete
            assert (report.rooms, report.rooms_level) == (1, 0)
            assert (report.updates_sent, report.updates_left) == (0, 1)
            assert (report.messages_sent, report.messages_left) == (0, 1)
            assert str(message.state) == "queued"
            assert "The time was over." in report.reason
            assert report.took_s == pytest.approx(took, abs=0.5)
            assert state(client) is collab.State.SUSPENDED
            await until(lambda: wire.open == 0)
            wire.hanging = wire.refusing = False
            wire.portal = None
            report = await client.sync_once()
            assert report.complete
            assert (report.updates_sent, report.updates_left) == (1, 0)
            assert (report.messages_sent, report.messages_left) == (1, 0)
            assert message.state is collab.MessageState.ACCEPTED
            assert state(client) is collab.State.SUSPENDED

    run(main())


def test_a_moment_behind_a_portal_does_not_wait_for_the_user() -> None:
    async def main() -> None:
        async with (
            relay() as server,
            proxy(server.url) as wire,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as client,
        ):
            await client.room("notes")
            await client.suspend()
            wire.portal = Portal.HTML
            report = await client.sync_once(deadline=20)
            assert report.took_s < 5
            assert not report.complete
            assert "Somebody else answers" in report.reason

    run(main())


def test_a_moment_with_a_slow_relay_manages_a_part_says_which_and_goes_on_next_time(
    tmp_path: Path,
) -> None:
    names = [f"room {number}" for number in range(80)]  # sixteen at a time, some round trips each

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _), proxy(url) as wire:
            async with collab.open(tmp_path / "a.db", settings=QUICK) as client:
                for name in names:  # written without a network, in an earlier run
                    room = await client.room(name)
                    room.text("body").insert(0, name)
                    await room.chat.send(f"in {name}")
            wire.delay_s = 0.15
            async with collab.open(tmp_path / "a.db", relay=wire.url, settings=QUICK) as client:
                await client.suspend()
                first = await client.sync_once(deadline=5.0)
                assert first.took_s < 5.0 + SLACK_S
                assert not first.complete
                assert 0 < first.rooms_level < len(names)
                assert first.updates_sent >= first.rooms_level
                assert first.messages_sent >= first.rooms_level
                assert first.updates_left >= 1
                assert first.messages_sent + first.messages_left == len(names)
                wire.delay_s = 0.0
                second = await client.sync_once(deadline=20)
                assert second.complete
                assert second.rooms_level == second.rooms == len(names)
                assert first.messages_sent + second.messages_sent == len(names)
                assert client._rooms.all() == []  # what was opened for it is closed again
            async with collab.open(":memory:", relay=url, settings=QUICK) as other:
                for name in names:
                    there = await other.room(name)
                    await reads(there, name)
                    await shows(there, f"in {name}")

    run(main())


def test_a_moment_brings_what_others_wrote_to_rooms_that_are_not_open(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _):
            async with collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client:
                await (await client.room("notes")).wait_synced(20)
            async with collab.open(":memory:", relay=url, settings=QUICK) as other:
                there = await other.room("notes")
                there.text("body").insert(0, "news")
                await there.chat.send("news")
                await there.wait_synced(20)
            async with collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client:
                assert (await client.sync_once()).complete
            async with collab.open(tmp_path / "a.db") as client:  # and they are on the disk
                room = await client.room("notes")
                assert str(room.text("body")) == "news"
                assert (await history(room), room.chat.unread) == (["news"], 1)

    run(main())


def test_a_moment_tells_the_writers_that_their_messages_came(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            there = await other.room("notes")
            async with collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client:
                await (await client.room("notes")).wait_synced(20)
            message = await there.chat.send("are you there?")
            await message.wait("accepted")
            async with collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client:
                await client.suspend()
                assert (await client.sync_once()).complete
                assert state(client) is collab.State.SUSPENDED
                await until(lambda: message.state is collab.MessageState.DELIVERED)

    run(main())


def test_a_moment_takes_one_page_of_a_room_that_missed_much_and_leaves_a_gap(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            async with collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client:
                await (await client.room("notes")).wait_synced(20)
            there = await other.room("notes")
            for number in range(1, 401):
                await there.chat.send(f"number {number}")
            await there.wait_synced(60)
            async with collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client:
                first, again = await client.sync_once(), await client.sync_once()
                assert first.complete
                assert again.complete
            async with collab.open(tmp_path / "a.db") as client:
                room = await client.room("notes")
                assert room.status.gaps == (collab.Gap(1, 350, lost=False),)
                newest = [f"number {number}" for number in range(351, 401)]
                assert await history(room, 50) == newest
                assert room.chat.unread == 400

    run(main())


def test_a_moment_sends_the_messages_of_a_room_whose_document_is_refused(tmp_path: Path) -> None:
    async def everybody(_token: object, _request: object) -> User:
        return User("ana")

    access = {"notes": Access.WRITE}

    async def some(_user: object, room: str) -> Access:
        return access[room]

    async def main() -> None:
        async with running(tmp_path / "relay", authenticate=everybody, authorize=some) as (url, _):
            async with collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client:
                await (await client.room("notes")).wait_synced(20)
            async with collab.open(tmp_path / "a.db", settings=QUICK) as client:
                room = await client.room("notes")
                room.text("body").insert(0, "not allowed any more")
                await room.chat.send("nor this")
            access["notes"] = Access.READ
            async with collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client:
                report = await client.sync_once(deadline=20)
                assert report.took_s < 10
                assert not report.complete
                assert (report.updates_left, report.messages_sent, report.messages_left) == (
                    1,
                    1,
                    0,
                )
            async with collab.open(tmp_path / "a.db") as client:
                (message,) = await (await client.room("notes")).chat.history()
                assert (message.state, message.code) == (collab.MessageState.REJECTED, "forbidden")

    run(main())


def test_a_moment_called_twice_at_once_or_again_does_no_harm() -> None:
    async def main() -> None:
        async with (
            relay() as server,
            collab.open(":memory:", relay=server.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await client.suspend()
            room.text("body").insert(0, "once")
            message = await room.chat.send("once")
            reports = await asyncio.gather(*(client.sync_once() for _ in range(3)))
            assert all(report.complete for report in reports)
            assert sum(report.updates_sent for report in reports) == 1
            assert sum(report.messages_sent for report in reports) == 1
            assert message.state is collab.MessageState.ACCEPTED
            assert state(client) is collab.State.SUSPENDED
            again = await client.sync_once()
            assert again.complete
            assert again.updates_sent == again.messages_sent == 0
            client.resume()
            await room.wait_synced(20)
            awake = await client.sync_once()
            assert awake.complete
            assert state(client) is not collab.State.SUSPENDED
            assert str(room.text("body")) == "once"
            assert await history(room) == ["once"]

    run(main())


def test_a_room_that_the_program_opens_during_a_moment_stays_open(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _), proxy(url) as wire:
            async with collab.open(tmp_path / "a.db", settings=QUICK) as client:
                (await client.room("notes")).text("body").insert(0, "words")
            wire.delay_s = 0.05
            async with collab.open(tmp_path / "a.db", relay=wire.url, settings=QUICK) as client:
                await client.suspend()
                moment = asyncio.create_task(client.sync_once())
                await until(lambda: client._rooms.all() != [])
                room = await client.room("notes")
                assert (await moment).complete
                assert str(room.text("body")) == "words"
                room.text("body").append("!")
                await room.wait_saved()

    run(main())


def test_a_room_that_is_forgotten_during_a_moment_does_not_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _), proxy(url) as wire:
            async with collab.open(tmp_path / "a.db", settings=QUICK) as client:
                await (await client.room("notes")).chat.send("gone with it")
            wire.delay_s = 0.05
            async with collab.open(tmp_path / "a.db", relay=wire.url, settings=QUICK) as client:
                await client.suspend()
                moment = asyncio.create_task(client.sync_once())
                await until(lambda: client._rooms.all() != [])
                await client.forget("notes")
                assert (await moment).rooms_level == 0
                assert await client._rooms.borrow("notes") is None  # nor later
                assert await client.rooms() == []

    run(main())


@pytest.mark.parametrize("act", ["suspend", "sync_once"])
def test_a_room_that_is_forgotten_meanwhile_keeps_no_other_from_being_saved(
    tmp_path: Path, act: str
) -> None:
    async def main() -> None:
        async with (
            relay() as server,
            collab.open(tmp_path / "a.db", relay=server.url, settings=QUICK) as client,
        ):
            gone, stays = await client.room("gone"), await client.room("stays")
            await gone.wait_synced(20)
            await stays.wait_synced(20)
            disk = Disk(client)
            disk.is_full = True
            gone.text("body").insert(0, "x")
            stays.text("body").insert(0, "y")
            doing = asyncio.create_task(getattr(client, act)(deadline=20.0))
            await until(lambda: disk.refused)
            await client.forget("gone")
            for _ in range(10):
                await asyncio.sleep(0)
            assert not doing.done()
            disk.is_full = False
            report = await doing
            assert stays.status.saved
            assert report is None or report.complete

    run(main())


def test_what_a_moment_fetched_for_a_full_disk_is_not_lost_to_who_opens_the_room(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            relay() as server,
            collab.open(tmp_path / "a.db", relay=server.url, settings=QUICK) as client,
            collab.open(":memory:", relay=server.url, settings=QUICK) as other,
        ):
            for name in ("notes", "other"):
                room = await client.room(name)
                await room.wait_synced(20)
                await room.close()
            await client.suspend()
            for name in ("notes", "other"):
                theirs = await other.room(name)
                theirs.text("body").insert(0, "theirs")
                await theirs.wait_synced(20)
            disk = Disk(client)
            disk.is_full = True
            report = await client.sync_once(deadline=1.0)
            assert not report.complete
            room = await client.room("notes")
            assert str(room.text("body")) == "theirs"
            disk.is_full = False
            await room.wait_saved()
            await until(lambda: client._rooms.all() == [room])  # nobody asked for the other one
            await room.close()
            assert str((await client.room("notes")).text("body")) == "theirs"

    run(main())


def test_a_moment_that_is_refused_for_good_says_so_at_once(tmp_path: Path) -> None:
    async def nobody(_token: object, _request: object) -> None:
        return None

    async def nothing(_user: object, _room: str) -> object:
        raise AssertionError("nobody is let in")

    async def main() -> None:
        async with (
            running(tmp_path, authenticate=nobody, authorize=nothing) as (url, _),  # type: ignore[arg-type]
            collab.open(":memory:", relay=url, token="bad", settings=QUICK) as client,
        ):
            room = await client.room("notes")
            room.text("body").insert(0, "kept")
            report = await client.sync_once(deadline=20)
            assert report.took_s < 5
            assert not report.complete
            assert "for good" in report.reason
            assert report.updates_left == 1

    run(main())


@pytest.mark.parametrize("how", ["suspend", "close"])
def test_a_moment_is_over_when_the_program_says_so(how: str) -> None:
    async def main() -> None:
        async with (
            relay() as server,
            proxy(server.url) as wire,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await client.suspend()
            wire.hanging = True
            room.text("body").insert(0, "waits")
            moment = asyncio.create_task(client.sync_once(deadline=20))
            await until(lambda: state(client) is collab.State.CONNECTING)
            began = time.monotonic()
            await (client.suspend() if how == "suspend" else client.close())
            report = await moment
            assert time.monotonic() - began < 2
            assert (report.complete, report.rooms_level) == (False, 0)

    run(main())


def test_without_a_relay_a_moment_is_refused_and_sleep_is_saving() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            room = await client.room("notes")
            room.text("body").insert(0, "x")
            await client.suspend()
            assert room.status.saved
            client.resume()
            with pytest.raises(collab.OfflineError, match="No relay is configured"):
                await client.sync_once()

    run(main())


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_in_the_middle_of_a_moment_loses_nothing(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    path = tmp_path / "a.db"

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _), proxy(url) as wire:
            wire.delay_s = 0.01
            async with collab.open(path, settings=QUICK) as client:
                room = await client.room("notes")
                for number in range(40):
                    room.text("body").append(f"[{number}]")
                    await room.chat.send(f"number {number}")
            async with Child("tests.e2e.client_process", "moment", path, wire.url) as child:
                assert await child.line() == "begins"
                await asyncio.sleep(dice.random() * 0.12)
                await child.kill()
            wire.cut()
            async with collab.open(path, relay=wire.url, settings=QUICK) as client:
                assert (await client.sync_once()).complete
                room = await client.room("notes")
                expected = sorted(str(number) for number in range(40))
                assert tokens(str(room.text("body"))) == expected
                said = [f"number {number}" for number in range(40)]
                assert await history(room) == said
            async with collab.open(":memory:", relay=url, settings=QUICK) as other:
                there = await other.room("notes")
                await there.wait_synced(20)
                assert tokens(str(there.text("body"))) == expected
                await shows(there, *said)

    run(main())
