"""``room.call``: answered by a handler at the relay, or refused, or said to be unknown."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

import collab
import collab.testing
from collab import limits
from collab.protocol.frames import Access
from collab_server.app import Relay
from collab_server.auth import User
from collab_server.services import CallRefused, ServiceCall
from collab_server.settings import Settings
from tests.e2e.live_support import House, bytes_of, everything_in, joined, member
from tests.e2e.support import QUICK, Wire, reads, run, running, soon, until


async def echo(call: ServiceCall) -> Any:
    return call.payload


class Desk:
    """A service that is at work until the test says so. ``ended`` counts how it came to its end."""

    def __init__(self) -> None:
        self.calls: list[ServiceCall] = []
        self.go_on = asyncio.Event()
        self.ended = {"done": 0, "cancelled": 0}

    async def __call__(self, call: ServiceCall) -> Any:
        self.calls.append(call)
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.ended["cancelled"] += 1
            raise
        self.ended["done"] += 1
        return call.payload


async def refusal_of(room: collab.Room, service: str, payload: Any = None) -> collab.Rejected:
    with pytest.raises(collab.Rejected) as refused:
        await soon(room.call(service, payload))
    return refused.value


# Answers

VALUES: list[Any] = [
    None, True, -(2**63), 2**64 - 1, 1.5, "", "你好 📊", b"\0\xff", [], {},
    {1: [None], "a": {"b": 2}}, "x" * 190_000,
]  # fmt: skip


def test_what_the_handler_returns_is_what_the_caller_gets(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, services={"echo": echo}) as (url, _), member(url) as room:
            for value in VALUES:
                assert await soon(room.call("echo", value)) == value
            assert await soon(room.call("echo")) is None
            assert await soon(room.call("echo", (1, (2,)))) == [1, [2]]

    run(main())


def test_the_handler_is_told_who_asks_where_and_with_which_right(tmp_path: Path) -> None:
    house, calls = House(ron=Access.READ), list[ServiceCall]()

    async def note(call: ServiceCall) -> int:
        calls.append(call)
        return len(calls)

    async def main() -> None:
        async with (
            running(
                tmp_path,
                authenticate=house.authenticate,
                authorize=house.authorize,
                services={"note": note},
            ) as (url, _),
            member(url, token="ada") as ada,
            member(url, "plan", token="ron") as ron,
        ):
            assert await soon(ada.call("note", {"a": 1})) == 1
            assert await soon(ron.call("note")) == 2
            assert calls == [
                ServiceCall("talk", User("ada"), {"a": 1}, Access.WRITE),
                ServiceCall("plan", User("ron"), None, Access.READ),
            ]

    run(main())


def test_an_answer_longer_than_a_frame_comes_whole_and_holds_up_nothing(tmp_path: Path) -> None:
    async def much(call: ServiceCall) -> bytes:
        return bytes(call.payload)

    async def main() -> None:
        async with (
            collab.testing.relay(services={"much": much, "echo": echo}) as relay,
            member(relay.url) as ada,
            member(relay.url) as ben,
        ):
            most = limits.MAX_ANSWER_BYTES - 5
            answers = [asyncio.create_task(ada.call("much", most)) for _ in range(8)]
            assert await soon(ada.call("echo", 1)) == 1
            ben.text("body").insert(0, "beside it")
            await reads(ada, "beside it")
            for answer in answers:
                assert await soon(answer) == bytes(most)
            refused = await refusal_of(ada, "much", most + 1)
            assert (refused.code, refused.retryable) == ("failed", False)

    run(main())


def test_answers_come_in_the_order_in_which_they_are_ready(tmp_path: Path) -> None:
    async def main() -> None:
        gates = {number: asyncio.Event() for number in range(8)}

        async def wait(call: ServiceCall) -> int:
            await gates[call.payload].wait()
            return int(call.payload)

        async with running(tmp_path, services={"wait": wait}) as (url, _), member(url) as room:
            calls = {number: asyncio.create_task(room.call("wait", number)) for number in gates}
            for number in reversed(gates):
                gates[number].set()
                assert await soon(calls[number]) == number

    run(main())


# Refusals


def test_every_refusal_has_a_code_and_says_whether_it_may_be_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(_: ServiceCall) -> None:
        raise ZeroDivisionError("a secret of the handler's")

    async def refuses(call: ServiceCall) -> None:
        raise CallRefused(call.payload, "ask ben ü" * 100)

    async def hangs(_: ServiceCall) -> None:
        await asyncio.Event().wait()

    async def cancels_itself(_: ServiceCall) -> None:
        raise asyncio.CancelledError

    async def times_out_itself(_: ServiceCall) -> None:
        raise TimeoutError

    async def returns_no_value(_: ServiceCall) -> object:
        return object()

    async def refuses_badly(_: ServiceCall) -> None:
        raise CallRefused("done")

    def is_no_coroutine(_: ServiceCall) -> None: ...

    services: Any = {
        "fails": fails, "refuses": refuses, "hangs": hangs, "cancels_itself": cancels_itself,
        "times_out_itself": times_out_itself, "returns_no_value": returns_no_value,
        "refuses_badly": refuses_badly, "is_no_coroutine": is_no_coroutine, "echo": echo,
    }  # fmt: skip

    async def main() -> None:
        async with (
            running(tmp_path, services=services, call_timeout_s=0.2) as (url, relay),
            member(url) as room,
        ):
            for service, payload, code, retryable in [
                ("nobody", None, "unknown_service", False),
                ("fails", None, "failed", False),
                ("cancels_itself", None, "failed", False),
                ("times_out_itself", None, "failed", False),
                ("returns_no_value", None, "failed", False),
                ("refuses_badly", None, "failed", False),
                ("is_no_coroutine", None, "failed", False),
                ("hangs", None, "timeout", True),
                ("refuses", "shop.closed", "shop.closed", False),
                ("refuses", "forbidden", "forbidden", False),
                ("refuses", "invalid", "invalid", False),
                ("refuses", "busy", "busy", True),
            ]:
                refused = await refusal_of(room, service, payload)
                assert (refused.code, refused.retryable) == (code, retryable), service
                assert "secret" not in str(refused)
                if service == "refuses":
                    assert "ask ben ü" in str(refused)
                assert await soon(room.call("echo", 1)) == 1
            assert not len(relay._services)

    with caplog.at_level(logging.WARNING, "collab_server.services"):
        run(main())
    assert "a secret of the handler's" in caplog.text


def test_the_limit_of_calls_of_a_connection_refuses_the_next_one_and_no_other_connections(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        desk = Desk()
        async with (
            running(tmp_path, services={"desk": desk, "echo": echo}) as (url, _),
            member(url) as ada,
            member(url) as ben,
        ):
            at_work = [
                asyncio.create_task(ada.call("desk", n))
                for n in range(limits.MAX_CALLS_PER_CONNECTION)
            ]
            await until(lambda: len(desk.calls) == len(at_work))
            refused = await refusal_of(ada, "echo", 1)
            assert (refused.code, refused.retryable) == ("busy", True)
            assert await soon(ben.call("echo", 1)) == 1
            desk.go_on.set()
            assert await soon(asyncio.gather(*at_work)) == list(range(len(at_work)))
            assert await soon(ada.call("echo", 1)) == 1

    run(main())


def test_the_limit_of_calls_of_the_relay_is_for_all_connections(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk()
        async with (
            running(tmp_path, services={"desk": desk}, max_calls=3) as (url, _),
            member(url) as ada,
            member(url) as ben,
        ):
            at_work = [asyncio.create_task(ada.call("desk", n)) for n in range(3)]
            await until(lambda: len(desk.calls) == 3)
            assert (await refusal_of(ben, "desk")).code == "busy"
            desk.go_on.set()
            await soon(asyncio.gather(*at_work))
            assert await soon(ben.call("desk", "now")) == "now"

    run(main())


def test_a_handler_that_is_not_to_be_cancelled_keeps_its_place_and_holds_up_no_connection(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        go_on, began = asyncio.Event(), 0

        async def stubborn(_: ServiceCall) -> None:
            nonlocal began
            began += 1
            while not go_on.is_set():
                try:
                    await go_on.wait()
                except asyncio.CancelledError:
                    continue

        async with running(
            tmp_path, services={"stubborn": stubborn}, call_timeout_s=0.1, max_calls=1
        ) as (url, relay):
            async with member(url) as room:
                assert (await refusal_of(room, "stubborn")).code == "timeout"
                assert (await refusal_of(room, "stubborn")).code == "busy"
            shared = relay._shared
            assert shared is not None
            await until(lambda: not shared.connections)
            assert (began, len(relay._services)) == (1, 1)
            go_on.set()
            await until(lambda: not len(relay._services))

    run(main())


@pytest.mark.parametrize("name", ["", "x" * 256, "\ud800", None])
def test_a_relay_with_a_service_that_nobody_could_call_is_not_made(
    tmp_path: Path, name: Any
) -> None:
    with pytest.raises(collab.LocalError, match="Nothing was started"):
        Relay(Settings(data=tmp_path, open=True), services={name: echo})


# Offline, cut, closed


def test_without_a_live_joined_room_it_says_so_at_once_and_nothing_is_queued(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.db"
    calls: list[ServiceCall] = []

    async def note(call: ServiceCall) -> None:
        calls.append(call)

    async def refused(room: collab.Room) -> None:
        await room.wait_saved()
        before, status = everything_in(path), room.status
        with pytest.raises(collab.OfflineError, match="nothing was queued"):
            await room.call("note", "now or never", timeout=0)
        assert everything_in(path) == before
        assert room.status == status

    async def main() -> None:
        async with collab.open(path) as client:
            await refused(await client.room("talk"))
        async with (
            collab.testing.relay(services={"note": note}) as relay,
            collab.open(path, relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("talk")
            await joined(room)
            async with relay.offline():
                await until(lambda: room._sync.live._channel is None)
                await refused(room)
            client.connect()
            await joined(room)
            await soon(room.call("note", "back"))
            assert [call.payload for call in calls] == ["back"]

    run(main())


def test_a_connection_that_is_cut_says_that_nothing_is_known_and_the_handler_is_cancelled(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        desk = Desk()
        async with (
            running(tmp_path / "relay", services={"desk": desk}) as (url, relay),
            Wire(url) as wire,
            member(wire.url, path=path) as room,
        ):
            files = (path, tmp_path / "relay" / "relay.db")
            waiting = [asyncio.create_task(room.call("desk", number)) for number in range(3)]
            await until(lambda: len(desk.calls) == 3)
            await wire.cut()
            for call in waiting:
                with pytest.raises(collab.OfflineError, match="not known whether"):
                    await soon(call)
            await until(lambda: desk.ended["cancelled"] == 3)
            assert not len(relay._services)
            await joined(room)
            desk.go_on.set()
            assert await soon(room.call("desk", "a secret")) == "a secret"
            assert b"a secret" not in bytes_of(*files)
            assert [call.payload for call in desk.calls] == [0, 1, 2, "a secret"]

    run(main())


def test_a_joining_that_ends_says_that_nothing_is_known(tmp_path: Path) -> None:
    house = House()

    async def main() -> None:
        desk = Desk()
        async with (
            running(
                tmp_path,
                authenticate=house.authenticate,
                authorize=house.authorize,
                services={"desk": desk},
                recheck_rights_s=0.05,
            ) as (url, _),
            member(url, token="ada") as room,
        ):
            call = asyncio.create_task(room.call("desk"))
            await until(lambda: desk.calls)
            house.rights["ada"] = Access.NONE
            with pytest.raises(collab.OfflineError, match="not known whether"):
                await soon(call)
            await until(lambda: desk.ended["cancelled"] == 1)
            with pytest.raises(collab.OfflineError, match="Nothing was sent"):
                await room.call("desk")

    run(main())


def test_a_room_that_is_joined_again_on_its_connection_says_that_nothing_is_known(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        desk = Desk()
        async with (
            running(tmp_path, services={"desk": desk, "echo": echo}) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
        ):
            room = await client.room("talk")
            await joined(room)
            call = asyncio.create_task(room.call("desk"))
            await until(lambda: desk.calls)
            assert client._connection is not None
            client._connection.join(room._sync)
            with pytest.raises(collab.OfflineError, match="not known whether"):
                await soon(call)
            await until(lambda: desk.ended["cancelled"] == 1)
            await joined(room)
            assert await soon(room.call("echo", 1)) == 1

    run(main())


def test_a_room_that_is_closed_ends_its_calls_and_the_next_one_of_its_name_gets_no_old_answer(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        desk = Desk()
        async with (
            running(tmp_path, services={"desk": desk, "echo": echo}) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
        ):
            for turn in range(3):
                room = await client.room("talk")
                await joined(room)
                call = asyncio.create_task(room.call("desk", turn))
                await until(lambda turn=turn: len(desk.calls) == turn + 1)  # type: ignore[misc]
                assert await soon(room.call("echo", [turn])) == [turn]
                await room.close()
                with pytest.raises(collab.Closed, match="not known whether"):
                    await soon(call)
                await until(lambda turn=turn: desk.ended["cancelled"] == turn + 1)  # type: ignore[misc]
                with pytest.raises(collab.Closed):
                    await room.call("echo")

    run(main())


# Callers


def test_a_caller_that_gives_up_is_forgotten_and_its_late_answer_is_nobodys(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        desk = Desk()
        async with (
            running(tmp_path, services={"desk": desk, "echo": echo}) as (url, _),
            member(url) as room,
        ):
            cancelled = asyncio.create_task(room.call("desk", "cancelled"))
            await until(lambda: len(desk.calls) == 1)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            with pytest.raises(TimeoutError):
                await room.call("desk", "too late", timeout=0.05)
            assert not room._sync.live._calls
            desk.go_on.set()
            assert await soon(room.call("echo", "mine")) == "mine"
            assert await soon(room.call("desk", "mine too")) == "mine too"
            assert desk.ended["cancelled"] == 0  # the relay was not told

    run(main())


def test_a_call_that_is_given_up_before_it_went_out_never_reaches_the_relay(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        desk = Desk()
        desk.go_on.set()
        async with running(tmp_path, services={"desk": desk}) as (url, _), member(url) as room:
            given_up = [asyncio.create_task(room.call("desk", n)) for n in range(3)]
            kept = asyncio.create_task(room.call("desk", "kept"))
            await asyncio.sleep(0)
            for call in given_up:
                call.cancel()
            assert await soon(kept) == "kept"
            assert [call.payload for call in desk.calls] == ["kept"]
            assert not room._sync.live._to_send

    run(main())


# Misuse


@pytest.mark.parametrize(
    ("service", "payload", "kind"),
    [
        ("echo", object(), collab.BadMessage),
        ("echo", {1, 2}, collab.BadMessage),
        ("echo", 2**64, collab.BadMessage),
        ("echo", {(1,): 2}, collab.BadMessage),
        ("echo", "\ud800", collab.BadMessage),
        ("echo", "x" * limits.MAX_CALL_BYTES, collab.TooLarge),
        ("", 1, collab.BadMessage),
        ("x" * 256, 1, collab.BadMessage),
        ("\ud800", 1, collab.BadMessage),
        (None, 1, collab.BadMessage),
    ],
    ids=["object", "set", "big", "key", "half a pair", "large", "", "long", "no text", "none"],
)
def test_what_cannot_be_sent_is_a_named_error_and_nothing_was_sent(
    tmp_path: Path, service: Any, payload: Any, kind: type[Exception]
) -> None:
    async def main() -> None:
        async with running(tmp_path, services={"echo": echo}) as (url, _), member(url) as room:
            with pytest.raises(kind, match="Nothing was sent"):
                await room.call(service, payload)
            assert not room._sync.live._to_send
            assert not room._sync.live._calls
            assert await soon(room.call("echo", 1)) == 1

    run(main())
