"""A room's broadcasts and calls on its device, without a connection."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

import collab
from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.codec import decode_from_client, pack_value
from collab.protocol.frames import Access
from collab.room_live import RoomLive

ONE = pack_value(1)


def play(main: Callable[[RoomLive], Coroutine[Any, Any, None]]) -> None:
    """Run ``main`` with a room that is open on channel 7."""

    async def whole() -> None:
        device: Any = SimpleNamespace(uplink=None, requests=count(1))
        live = RoomLive(device, "talk")
        live.joined(7, Access.WRITE)
        await main(live)
        assert not live._calls
        assert not live._to_send

    asyncio.run(whole())


def sent(live: RoomLive) -> list[Any]:
    """The frames that go up now."""
    found = []
    while (data := live.next_frame()) is not None:
        found.append(decode_from_client(data))
    return found


async def asked(live: RoomLive, service: str = "s") -> tuple[asyncio.Task[Any], int]:
    """A call that is under way, and its number."""
    call = asyncio.create_task(live.call(service, None, None))
    await asyncio.sleep(0)
    (frame,) = sent(live)
    return call, frame.request


def test_calls_go_up_before_broadcasts_and_each_in_its_order() -> None:
    async def main(live: RoomLive) -> None:
        for number in range(3):
            live.broadcast(number)
        calls = [asyncio.create_task(live.call("s", number, None)) for number in range(3)]
        await asyncio.sleep(0)
        found = sent(live)
        assert [type(each) for each in found] == [frames.Call] * 3 + [frames.Cast] * 3
        assert [each.request for each in found[:3]] == [1, 2, 3]
        assert [each.payload for each in found] == [b"\0", b"\1", b"\2"] * 2
        live.detach()
        await asyncio.wait(calls)
        for call in calls:
            assert isinstance(call.exception(), collab.OfflineError)

    play(main)


def test_a_request_number_is_never_used_again_in_any_joining_or_room_of_the_device() -> None:
    async def main(live: RoomLive) -> None:
        other = RoomLive(live._device, "other")
        seen = []
        for _ in range(3):
            for room in (live, other):
                room.joined(7, Access.WRITE)
                call, request = await asked(room)
                seen.append(request)
                room.detach()
                await asyncio.wait([call])
                assert isinstance(call.exception(), collab.OfflineError)
        assert len(set(seen)) == 6

    play(main)


def test_an_answer_of_an_earlier_joining_or_of_nobodys_call_is_ignored() -> None:
    async def main(live: RoomLive) -> None:
        lost, old = await asked(live)
        live.detach()
        live.receive(frames.Answer(7, old, "done", "", ONE))
        with pytest.raises(collab.OfflineError, match="not known whether"):
            await lost
        live.joined(7, Access.WRITE)
        call, request = await asked(live)
        for number in (0, old, request + 1, 2**63 - 1):
            live.receive(frames.Answer(7, number, "done", "", b"no value"))
        live.receive(frames.Answer(7, request, "done", "", ONE))
        live.receive(frames.Answer(7, request, "failed", "again", b""))
        assert await call == 1
        live.receive(frames.Answer(7, request, "done", "", b"no value"))

    play(main)


def test_an_answer_that_is_no_value_is_the_relays_fault_and_the_call_goes_on_waiting() -> None:
    async def main(live: RoomLive) -> None:
        call, request = await asked(live)
        for payload in (b"", b"\xc1", b"\xc0\xc0", b"\x81\x90\x01", b"\x91" * 10_000):
            with pytest.raises(BadFrame):
                live.receive(frames.Answer(7, request, "done", "", payload))
        assert not call.done()
        live.receive(frames.Answer(7, request, "own", "", b"\xc1 not looked at"))
        with pytest.raises(collab.Rejected) as refused:
            await call
        assert (refused.value.code, refused.value.retryable) == ("own", False)

    play(main)


def test_a_caller_that_is_cancelled_before_its_call_went_out_takes_it_back() -> None:
    async def main(live: RoomLive) -> None:
        first, second, third = (
            asyncio.create_task(live.call("s", number, None)) for number in range(3)
        )
        await asyncio.sleep(0)
        second.cancel()
        # Not even if the socket has room before the caller has noticed.
        assert [each.payload for each in sent(live)] == [b"\0", b"\2"]
        third.cancel()
        await asyncio.wait([second, third])
        assert list(live._calls) == [1]
        first.cancel()
        await asyncio.wait([first])

    play(main)


def test_the_callers_own_timeout_is_a_timeout_and_forgets_the_call() -> None:
    async def main(live: RoomLive) -> None:
        with pytest.raises(TimeoutError):
            await live.call("s", None, 0.0)
        assert sent(live) == []

    play(main)


def test_nothing_is_taken_in_while_the_room_is_not_open() -> None:
    async def main(live: RoomLive) -> None:
        live.broadcast("lost with the joining")
        live.detach()
        with pytest.raises(collab.OfflineError):
            live.broadcast("x")
        with pytest.raises(collab.OfflineError):
            await live.call("s", None, None)
        live.joined(8, Access.WRITE)
        assert sent(live) == []
        live.joined(8, Access.READ)
        with pytest.raises(collab.ReadOnly):
            live.broadcast("x")
        assert sent(live) == []

    play(main)


def test_broadcasts_are_heard_and_what_is_no_value_is_not() -> None:
    async def main(live: RoomLive) -> None:
        heard: list[collab.Broadcast] = []
        live.receive(frames.Broadcast(7, "ben", ONE))  # nobody listens yet
        live.observers.add(heard.append)
        for payload in (b"", b"\xc1", b"\xc0\xc0", b"\x81\x90\x01", b"\x91" * 10_000, ONE):
            live.receive(frames.Broadcast(7, "ben", payload))
        live.detach()
        live.receive(frames.Broadcast(7, "ben", ONE))
        await asyncio.sleep(0)
        assert heard == [collab.Broadcast("ben", 1)]

    play(main)


def test_a_socket_that_takes_nothing_keeps_a_bounded_number_of_the_newest() -> None:
    async def main(live: RoomLive) -> None:
        for number in range(10_000):
            live.broadcast(number)
        kept = [each.payload for each in sent(live)]
        assert kept == [pack_value(n) for n in range(10_000 - limits.MAX_WAITING_CASTS, 10_000)]

    play(main)


def test_a_room_that_ended_keeps_nobody() -> None:
    class Program:
        def hear(self, _: collab.Broadcast) -> None: ...

    async def main(live: RoomLive) -> None:
        program = Program()
        live.observers.add(program.hear)
        call, _ = await asked(live)
        live.end()
        with pytest.raises(collab.Closed, match="not known whether"):
            await call
        gone = weakref.ref(program)
        del program
        gc.collect()
        assert gone() is None

    play(main)
