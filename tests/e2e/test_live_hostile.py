"""Broadcasts and calls in raw frames: devices and relays that keep no rule, and those that do."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path
from typing import Any

import pytest

import collab
from collab import limits
from collab.protocol import frames
from collab.protocol.codec import encode, pack_value
from collab.protocol.frames import Access, Close
from collab_server.services import ServiceCall
from tests.e2e.live_support import Ear, House, joined, member
from tests.e2e.support import (
    QUICK,
    ScriptedRelay,
    Speaker,
    Wire,
    join,
    reads,
    rooms_at,
    run,
    running,
    scripted_client,
    soon,
    until,
)
from tests.e2e.support import joined as joined_frame

ONE = pack_value(1)


async def echo(call: ServiceCall) -> Any:
    return call.payload


async def open_room(speaker: Speaker, room: str = "talk") -> int:
    """Join without entering the chat; the channel."""
    await speaker.send(join(room))
    return (await speaker.expect(frames.Joined)).channel


# Devices


def test_both_are_allowed_as_soon_as_the_channel_is_open_and_without_a_chat(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, services={"echo": echo}) as (url, _),
            scripted_client(url, device=b"a" * 16) as ana,
            scripted_client(url, device=b"b" * 16) as ben,
        ):
            channel = await open_room(ben)
            await ana.send(join("talk"))
            joining = await ana.expect(frames.Joined)
            await ana.send(
                frames.Cast(joining.channel, ONE), frames.Call(joining.channel, 5, "echo", ONE)
            )
            assert await ana.expect(frames.Answer) == frames.Answer(
                joining.channel, 5, "done", "", ONE
            )
            heard = await ben.expect(frames.Broadcast)
            assert (heard.channel, heard.payload) == (channel, ONE)
            assert heard.sender.startswith("anybody-")
            assert not any(isinstance(each, frames.Broadcast) for each in ana.passed)

    run(main())


def test_on_a_channel_that_is_not_open_they_are_ignored(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, services={"echo": echo}) as (url, _),
            scripted_client(url) as ana,
            member(url) as ben,
        ):
            ear = Ear(ben)
            channel = await open_room(ana)
            for closed in (channel + 1, 2**63 - 1):
                await ana.send(frames.Cast(closed, ONE), frames.Call(closed, 1, "echo", ONE))
            await ana.send(
                frames.Leave(channel),
                frames.Cast(channel, ONE),
                frames.Call(channel, 2, "echo", ONE),
            )
            again = await open_room(ana)
            await ana.send(frames.Cast(again, b"\2"), frames.Call(again, 3, "echo", ONE))
            assert (await ana.expect(frames.Answer)).request == 3
            await ear.has(1)
            assert ear.payloads == [2]

    run(main())


def test_a_reader_whose_device_does_not_know_is_not_heard(tmp_path: Path) -> None:
    house = House(ron=Access.READ)

    async def main() -> None:
        async with (
            running(
                tmp_path,
                authenticate=house.authenticate,
                authorize=house.authorize,
                services={"echo": echo},
            ) as (url, _),
            scripted_client(url, token="ron") as ron,
            member(url, token="ada") as ada,
        ):
            ear = Ear(ada)
            channel = await open_room(ron)
            await ron.send(frames.Cast(channel, ONE), frames.Call(channel, 1, "echo", ONE))
            assert (await ron.expect(frames.Answer)).code == "done"
            async with member(url, token="ben") as ben:
                await ben.broadcast("after it")
                await ear.has(1)
            assert ear.payloads == ["after it"]

    run(main())


@pytest.mark.parametrize(
    "frame",
    [
        lambda channel: frames.Cast(channel, bytes(limits.MAX_CAST_BYTES + 1)),
        lambda channel: frames.Call(channel, 1, "", ONE),
        lambda channel: frames.Call(channel, 1, "s" * 256, ONE),
        lambda channel: frames.Call(channel, 1, "s", bytes(limits.MAX_CALL_BYTES + 1)),
        lambda channel: frames.Answer(channel, 1, "done", "", ONE),
        lambda channel: frames.Broadcast(channel, "ana", ONE),
    ],
    ids=["large cast", "no name", "long name", "large call", "answer", "broadcast"],
)
def test_what_no_device_may_send_ends_its_connection_and_no_other(
    tmp_path: Path, frame: Any
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, services={"echo": echo}) as (url, _),
            member(url) as ben,
            scripted_client(url) as ana,
        ):
            ear = Ear(ben)
            channel = await open_room(ana)
            await ana.send(frame(channel))
            assert (await ana.closed())[0] == Close.BAD_FRAME
            assert not ear.heard
            assert await soon(ben.call("echo", 1)) == 1

    run(main())


def test_what_is_no_value_reaches_neither_a_handler_nor_a_program(tmp_path: Path) -> None:
    calls: list[ServiceCall] = []

    async def note(call: ServiceCall) -> None:
        calls.append(call)

    async def main() -> None:
        async with (
            running(tmp_path, services={"note": note}) as (url, _),
            member(url) as ben,
            scripted_client(url) as ana,
        ):
            ear = Ear(ben)
            channel = await open_room(ana)
            bad = [b"", b"\xc1", b"\xc0\xc0", b"\x81\x90\x01", b"\xd4\x01\x01", b"\x91" * 30_000]
            for number, payload in enumerate(bad):
                await ana.send(
                    frames.Cast(channel, payload), frames.Call(channel, number, "note", payload)
                )
                assert (await ana.expect(frames.Answer)).code == "invalid"
            await ana.send(frames.Cast(channel, ONE))
            await ear.has(1)
            assert ear.payloads == [1]
            assert not calls

    run(main())


def test_a_request_number_that_is_used_again_is_answered_again_and_harms_nobody(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, services={"echo": echo}) as (url, _),
            scripted_client(url) as ana,
        ):
            channel = await open_room(ana)
            for _ in range(5):
                await ana.send(frames.Call(channel, 2**63 - 1, "echo", ONE))
            for _ in range(5):
                assert (await ana.expect(frames.Answer)).code == "done"

    run(main())


@pytest.mark.parametrize("what", ["calls", "unknown", "casts"])
def test_a_flood_of_somebody_who_never_reads_stays_bounded(tmp_path: Path, what: str) -> None:
    async def much(_: ServiceCall) -> bytes:
        return bytes(500_000)

    async def flood(ana: Speaker, channel: int) -> None:
        for number in range(10_000 if what == "casts" else 100_000):
            frame: frames.Frame
            match what:
                case "calls":
                    frame = frames.Call(channel, number, "much", ONE)
                case "unknown":
                    frame = frames.Call(channel, number, "none", ONE)
                case _:
                    frame = frames.Cast(channel, bytes(1_000))
            await ana.socket.send(encode(frame))

    async def main() -> None:
        async with (
            running(tmp_path, services={"much": much, "echo": echo}) as (url, relay),
            Wire(url) as wire,
            scripted_client(wire.url, device=b"a" * 16) as ana,
            member(url) as ben,
        ):
            channel = await open_room(ana)
            lives = [rooms._live for rooms in rooms_at(relay)]
            wire.down_limit = wire.down
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            flooding = asyncio.create_task(flood(ana, channel))
            if what == "casts":
                await soon(flooding)
            else:
                await until(lambda: any(live.is_full for live in lives))
            for live in lives:
                assert len(live._answers) <= limits.MAX_CONTROL_FRAMES
                assert live._calls <= limits.MAX_CALLS_PER_CONNECTION
                large = [each for _, each in live._answers if len(each) > 100_000]
                assert len(large) <= limits.MAX_CALLS_PER_CONNECTION
                assert len(live._casts) <= limits.MAX_WAITING_CASTS
            # Others are served meanwhile.
            ben.text("body").insert(0, "x")
            await ben.wait_synced(20)
            assert await soon(ben.call("echo", 1)) == 1
            flooding.cancel()
            await asyncio.wait([flooding])
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert after - before < 64 * 1024  # KiB: the test's own client is in it
            await wire.cut()

    run(main())


def test_a_stock_provider_never_hears_a_broadcast(tmp_path: Path) -> None:
    async def main() -> None:
        from websockets.asyncio.client import connect

        async with (
            running(tmp_path) as (url, relay),
            connect(url + "/y/talk") as provider,
            member(url) as ana,
        ):
            await soon(provider.recv())  # the relay's step 1
            await provider.send(b"\0\0\1\0")  # and its own
            await ana.broadcast("a secret of our own")
            await relay.room("talk").broadcast("a secret of our own", sender="bot")
            ana.text("body").insert(0, "the end")
            heard = b""
            while b"the end" not in heard:
                said = await soon(provider.recv())
                assert isinstance(said, bytes)
                heard += said
            assert b"secret" not in heard

    run(main())


# Relays


async def let_in(visit: Speaker, *, channel: int = 7) -> None:
    """Open the room that the device joins."""
    request = await visit.expect(frames.Join)
    await visit.send(
        joined_frame(request, channel=channel), frames.Difference(channel, 0, b"\0\0")
    )  # fmt: skip


@pytest.mark.parametrize("code", ["done", "", "busy", "own", "x" * 512])
def test_a_device_ignores_answers_and_broadcasts_that_are_nobodys(
    tmp_path: Path, code: str
) -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("talk")
            ear = Ear(room)
            visit = await relay.welcomed()
            await visit.send(frames.Broadcast(7, "ana", ONE), frames.Answer(7, 1, code, "", ONE))
            await let_in(visit)
            await until(lambda: room._sync.live._channel == 7)
            call = asyncio.create_task(room.call("s", None))
            asked = await visit.expect(frames.Call)
            for channel, request in [(8, asked.request), (7, asked.request + 1), (7, 0)]:
                await visit.send(
                    frames.Answer(channel, request, code, "why", ONE),
                    frames.Broadcast(8, "ana", ONE),
                    frames.Broadcast(7, "ana", b"\xc1"),
                )
            await visit.send(
                frames.Broadcast(7, "", ONE), frames.Answer(7, asked.request, "done", "", b"\2")
            )
            assert await soon(call) == 2
            assert ear.heard == [collab.Broadcast("", 1)]

    run(main())


def test_a_room_that_a_bad_update_stops_ends_its_calls(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("talk")
            visit = await relay.welcomed()
            await let_in(visit)
            await until(lambda: room._sync.live._channel == 7)
            call = asyncio.create_task(room.call("s", None))
            await visit.expect(frames.Call)
            await visit.send(frames.Updates(7, 1, b"no update"))
            with pytest.raises(collab.OfflineError, match="not known whether"):
                await soon(call)
            with pytest.raises(collab.OfflineError, match="Nothing was sent"):
                await room.broadcast(1)

    run(main())


def test_an_answer_that_is_no_value_costs_the_connection_and_the_device_comes_back(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("talk")
            room.text("body").insert(0, "kept")
            visit = await relay.welcomed()
            await let_in(visit)
            await until(lambda: room._sync.live._channel == 7)
            call = asyncio.create_task(room.call("s", None))
            asked = await visit.expect(frames.Call)
            await visit.send(frames.Answer(7, asked.request, "done", "", b"\xc0\xc0"))
            with pytest.raises(collab.OfflineError, match="not known whether"):
                await soon(call)
            visit = await relay.welcomed()
            await let_in(visit)
            await until(lambda: room._sync.live._channel == 7)
            call = asyncio.create_task(room.call("s", None))
            again = await visit.expect(frames.Call)
            assert again.request > asked.request
            await visit.send(frames.Answer(7, again.request, "done", "", ONE))
            assert await soon(call) == 1
            assert str(room.text("body")) == "kept"

    run(main())


@pytest.mark.parametrize(
    "frame",
    [
        frames.Broadcast(7, "ana", bytes(limits.MAX_CAST_BYTES + 1)),
        frames.Broadcast(7, "u" * 256, ONE),
        frames.Answer(7, 1, "done", "", bytes(limits.MAX_ANSWER_BYTES + 1)),
        frames.Cast(7, ONE),
        frames.Call(7, 1, "s", ONE),
    ],
    ids=["large broadcast", "long name", "large answer", "cast", "call"],
)
def test_what_no_relay_may_send_costs_the_connection_alone(
    tmp_path: Path, frame: frames.Frame
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            ScriptedRelay() as bad,
            Wire(bad.url) as wire,
            collab.open(tmp_path / "a.db", relay=wire.url, settings=QUICK) as client,
        ):
            room = await client.room("talk")
            room.text("body").insert(0, "kept")
            ear = Ear(room)
            visit = await bad.welcomed()
            await let_in(visit)
            await until(lambda: room._sync.live._channel == 7)
            wire.target = url
            await visit.send(frame)
            async with member(url) as other:
                await reads(other, "kept")
                await joined(room)
                assert not ear.heard
                await other.broadcast("well")
                await ear.has(1)

    run(main())


def test_a_flood_of_broadcasts_from_a_relay_neither_grows_nor_holds_up_the_device(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("talk")
            heard, events = 0, room.events()

            def hear(_: collab.Broadcast) -> None:
                nonlocal heard
                heard += 1

            room.on_broadcast(hear)
            visit = await relay.welcomed()
            await let_in(visit)
            await until(lambda: room._sync.live._channel == 7)
            payload = pack_value("x" * 30_000)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for number in range(5_000):
                await visit.send(frames.Broadcast(7, "ana", payload))
                if number == 2_500:
                    room.text("body").insert(0, "x")
            await visit.expect(frames.Offer)
            await until(lambda: heard == 5_000)
            assert await soon(anext(events)) is not None
            assert len(events._waiting) < 10  # type: ignore[attr-defined]
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert after - before < 64 * 1024  # KiB; 150 MB went by

    run(main())
