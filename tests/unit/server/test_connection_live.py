"""The broadcasts and calls of one connection, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from collab import limits
from collab.protocol import frames
from collab.protocol.codec import decode_from_relay, pack_value, unpack_value
from collab.protocol.frames import Access
from collab.protocol.update import Coverage
from collab_server.auth import User
from collab_server.gateway.live import ConnectionLive
from collab_server.room import Room
from collab_server.rooms import Loaded
from collab_server.services import Service, ServiceCall, Services

ONE = pack_value(1)


def loaded(channel: int) -> Loaded:
    return Loaded(
        Room(
            room_id=channel, channel=channel, name=f"room {channel}", epoch=bytes(16), base=0,
            head=0, coverage=Coverage(),
        )
    )  # fmt: skip


@dataclass
class Side:
    """One connection, and what it was woken for."""

    live: ConnectionLive
    woken: list[None] = field(default_factory=list)

    def casts(self) -> list[frames.Frame]:
        return self._drained(self.live.next_cast)

    def answers(self) -> list[Any]:
        return self._drained(self.live.next_answer)

    @staticmethod
    def _drained(following: Callable[[], bytes | None]) -> list[Any]:
        found = []
        while (data := following()) is not None:
            found.append(decode_from_relay(data, limits.MAX_PAYLOAD_BYTES))
        return found


def play(
    main: Callable[[Callable[[str], Side]], Coroutine[Any, Any, None]],
    handlers: dict[str, Service] | None = None,
) -> None:
    """Run ``main``, which is given a way to make connections."""

    async def whole() -> None:
        services = Services(handlers or {}, timeout_s=20.0, max_calls=1_000)
        async with asyncio.TaskGroup() as tasks:

            def side(user: str) -> Side:
                made: Side
                made = Side(
                    ConnectionLive(
                        services, user=User(user), tasks=tasks,
                        wake=lambda: made.woken.append(None), now=0.0,
                    )
                )  # fmt: skip
                return made

            await main(side)
        assert not len(services)

    asyncio.run(whole())


class Gate:
    """A service that waits until it is opened."""

    def __init__(self) -> None:
        self.began = 0
        self.cancelled = 0
        self.open = asyncio.Event()

    async def __call__(self, call: ServiceCall) -> Any:
        self.began += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return call.payload


def test_a_broadcast_goes_to_the_others_under_the_senders_name() -> None:
    async def main(side: Callable[[str], Side]) -> None:
        room, desk, phone, ben = loaded(3), side("ana"), side("ana"), side("ben")
        for each in (desk, phone, ben):
            each.live.open(room)
        desk.live.handle(frames.Cast(3, ONE), Access.WRITE, 0.0)
        for each in (phone, ben):
            assert each.woken
            assert each.casts() == [frames.Broadcast(3, "ana", ONE)]
        assert not desk.casts()

    play(main)


def test_who_may_only_read_is_not_heard_and_uses_nothing_up() -> None:
    async def main(side: Callable[[str], Side]) -> None:
        room, ana, ben = loaded(3), side("ana"), side("ben")
        ana.live.open(room)
        ben.live.open(room)
        for _ in range(1_000):
            ana.live.handle(frames.Cast(3, ONE), Access.READ, 0.0)
        assert not ben.casts()
        ana.live.handle(frames.Cast(3, ONE), Access.WRITE, 0.0)
        assert len(ben.casts()) == 1

    play(main)


def test_the_rate_is_the_connections_whatever_the_room_and_comes_back_with_time() -> None:
    async def main(side: Callable[[str], Side]) -> None:
        rooms, ana, ben = [loaded(3), loaded(4)], side("ana"), side("ben")
        for room in rooms:
            ana.live.open(room)
            ben.live.open(room)
        for number in range(1_000):
            ana.live.handle(frames.Cast(3 + number % 2, ONE), Access.WRITE, 0.0)
        assert len(ben.casts()) == limits.CAST_BURST
        for _ in range(1_000):
            ana.live.handle(frames.Cast(3, ONE), Access.WRITE, 1.0)
        assert len(ben.casts()) == limits.CASTS_PER_S
        assert not ana.live.is_full

    play(main)


def test_a_closed_channel_hears_nothing_and_what_waited_is_gone() -> None:
    async def main(side: Callable[[str], Side]) -> None:
        room, other, ana, ben = loaded(3), loaded(4), side("ana"), side("ben")
        for each in (ana, ben):
            each.live.open(room)
            each.live.open(other)
        for channel in (3, 4):
            ana.live.handle(frames.Cast(channel, ONE), Access.WRITE, 0.0)
        ben.live.drop(3)
        ben.live.drop(3)
        ana.live.handle(frames.Cast(3, ONE), Access.WRITE, 0.0)
        assert ben.casts() == [frames.Broadcast(4, "ana", ONE)]
        assert len(room.audience) == 1

    play(main)


def test_a_call_is_answered_under_its_number() -> None:
    async def echo(call: ServiceCall) -> Any:
        return [call.room, call.user.sub, call.access, call.payload]

    async def main(side: Callable[[str], Side]) -> None:
        ana = side("ana")
        ana.live.open(loaded(3))
        ana.live.handle(frames.Call(3, 9, "echo", ONE), Access.READ, 0.0)
        assert not ana.answers()
        while not ana.woken:
            await asyncio.sleep(0)
        (answer,) = ana.answers()
        assert (answer.channel, answer.request, answer.code) == (3, 9, "done")
        assert unpack_value(answer.payload) == ["room 3", "ana", 1, 1]

    play(main, {"echo": echo})


def test_a_payload_that_is_no_value_is_invalid_and_never_reaches_a_handler() -> None:
    gate = Gate()

    async def main(side: Callable[[str], Side]) -> None:
        ana = side("ana")
        ana.live.open(loaded(3))
        for payload in (b"", b"\xc1", b"\xc0\xc0", b"\x81\x90\x01", b"\x91" * 10_000):
            ana.live.handle(frames.Call(3, 1, "gate", payload), Access.WRITE, 0.0)
            (answer,) = ana.answers()
            assert (answer.code, answer.payload) == ("invalid", b"")
        assert gate.began == 0

    play(main, {"gate": gate})


def test_calls_at_work_and_answers_not_sent_count_together() -> None:
    gate = Gate()

    async def main(side: Callable[[str], Side]) -> None:
        ana, most = side("ana"), limits.MAX_CALLS_PER_CONNECTION
        ana.live.open(loaded(3))
        for request in range(most + 1):
            ana.live.handle(frames.Call(3, request, "gate", ONE), Access.WRITE, 0.0)
        assert [(each.request, each.code) for each in ana.answers()] == [(most, "busy")]
        gate.open.set()
        while len(ana.woken) < most + 1:
            await asyncio.sleep(0)
        ana.live.handle(frames.Call(3, 100, "gate", ONE), Access.WRITE, 0.0)
        codes = [each.code for each in ana.answers()]
        assert codes == ["done"] * most + ["busy"]
        ana.live.handle(frames.Call(3, 101, "gate", ONE), Access.WRITE, 0.0)
        while len(ana.woken) < most + 3:
            await asyncio.sleep(0)
        assert [each.code for each in ana.answers()] == ["done"]

    play(main, {"gate": gate})


def test_answers_that_pile_up_stop_the_reading() -> None:
    async def main(side: Callable[[str], Side]) -> None:
        ana = side("ana")
        ana.live.open(loaded(3))
        for request in range(limits.MAX_CONTROL_FRAMES):
            assert not ana.live.is_full
            ana.live.handle(frames.Call(3, request, "none", b""), Access.WRITE, 0.0)
        assert ana.live.is_full
        ana.live.next_answer()
        assert not ana.live.is_full

    play(main)


def test_a_channel_that_is_closed_takes_its_calls_and_answers_along_and_no_others() -> None:
    gate = Gate()

    async def main(side: Callable[[str], Side]) -> None:
        ana = side("ana")
        for channel in (3, 4):
            ana.live.open(loaded(channel))
            ana.live.handle(frames.Call(channel, channel, "gate", ONE), Access.WRITE, 0.0)
            ana.live.handle(frames.Call(channel, 10 + channel, "gate", b""), Access.WRITE, 0.0)
        while gate.began < 2:
            await asyncio.sleep(0)
        ana.live.drop(3)
        ana.live.open(loaded(3))  # joined again: what was asked before is not of this joining
        while not gate.cancelled:
            await asyncio.sleep(0)
        gate.open.set()
        while len(ana.woken) < 3:
            await asyncio.sleep(0)
        answers = [(each.channel, each.request, each.code) for each in ana.answers()]
        assert answers == [(4, 14, "invalid"), (4, 4, "done")]
        assert (gate.began, gate.cancelled) == (2, 1)

    play(main, {"gate": gate})
