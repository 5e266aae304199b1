"""What the application may say of a message, and what becomes of it if it says nothing."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any
from uuid import UUID

import pytest

from collab import limits
from collab.protocol.codec import pack_map, unpack_map
from collab_server.hooks import (
    Accept,
    Admitted,
    Hooks,
    IncomingMessage,
    Later,
    Postponed,
    Refused,
    Reject,
    Rewrite,
)
from collab_server.lanes import LaneKey

LANE = LaneKey("ana", b"a" * 16, b"1" * 16)
META = pack_map({"a": 1})
NO_ANSWER = Postponed("busy", 1_000, "the application cannot answer now")


def message(room: str = "talk") -> IncomingMessage:
    return IncomingMessage(room, UUID(int=1), "ana", "hello", {"a": 1}, 5)


def ask(ruling: Any, *, timeout_s: float = 5.0) -> Any:
    """What becomes of a message if the application does this."""

    async def on_message(_: IncomingMessage) -> Any:
        return ruling() if callable(ruling) else ruling

    return asyncio.run(Hooks(on_message, timeout_s).ask(LANE, message(), META))


def test_an_accepted_message_is_taken_as_it_was_sent() -> None:
    assert ask(Accept()) == Admitted("hello", META, None)


def test_a_rejected_message_carries_the_applications_code_and_reason() -> None:
    assert ask(Reject("shop.closed", "come tomorrow")) == Refused("shop.closed", "come tomorrow")


def test_a_reason_is_cut_where_a_frame_ends() -> None:
    refused = ask(Reject("x", "é" * limits.MAX_REASON_BYTES))
    assert refused.reason == "é" * (limits.MAX_REASON_BYTES // 2)


@pytest.mark.parametrize(
    "code",
    ["", "x" * 65, "accepted", "skipped", "conflict", "forgotten", "busy", "rate_limited"],
)
def test_a_code_that_says_something_else_cannot_reject(code: str) -> None:
    with pytest.raises(ValueError, match=r"code|refusal"):
        Reject(code)


def test_a_rewritten_message_remembers_what_was_sent() -> None:
    sent = ("hello", META)
    assert ask(Rewrite(body="bye")) == Admitted("bye", META, sent)
    rewritten = ask(Rewrite(meta={"b": [2]}))
    assert (rewritten.body, unpack_map(rewritten.meta)) == ("hello", {"b": [2]})
    assert rewritten.as_sent == sent
    assert unpack_map(ask(Rewrite(meta={})).meta) == {}


@pytest.mark.parametrize(
    "ruling",
    [
        Rewrite(body="é" * (limits.MAX_BODY_BYTES // 2 + 1)),
        Rewrite(meta={"m": "x" * limits.MAX_META_BYTES}),
    ],
    ids=["body", "meta"],
)
def test_a_message_that_the_application_made_too_large_is_refused(ruling: Rewrite) -> None:
    assert ask(ruling).code == "too_large"
    assert isinstance(ask(ruling), Refused)


def test_a_body_that_is_no_text_is_the_applications_fault() -> None:
    with pytest.raises(TypeError):
        Rewrite(body=b"bytes")  # type: ignore[arg-type]


def test_later_names_the_time_after_which_the_device_comes_again() -> None:
    assert ask(Later(1.5)) == Postponed("rate_limited", 1500, "")
    assert ask(Later(0)) == Postponed("rate_limited", 0, "")


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan, 3601])
def test_a_device_is_not_asked_to_wait_for_ever(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        Later(seconds)


def fails() -> None:
    raise RuntimeError("its database is down")


def is_cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    "ruling",
    [
        None,
        True,
        fails,
        is_cancelled,
        Rewrite(body="\ud800"),
        Rewrite(meta={"x": object()}),
        Rewrite(meta={"x": 2**70}),
    ],
    ids=[
        "nothing",
        "a boolean",
        "fails",
        "cancelled",
        "no UTF-8",
        "no msgpack",
        "too big a number",
    ],
)
def test_an_application_that_fails_makes_the_relay_busy(ruling: Any) -> None:
    answer = ask(ruling)
    assert isinstance(answer, Postponed)
    assert answer.code == "busy"
    assert answer.retry_after_ms == 1_000


def test_an_application_that_is_slow_makes_the_relay_busy() -> None:
    async def main() -> None:
        async def never(_: IncomingMessage) -> Accept:
            await asyncio.Event().wait()
            return Accept()

        answer = await Hooks(never, 0.01).ask(LANE, message(), META)
        assert isinstance(answer, Postponed)
        assert answer.code == "busy"

    asyncio.run(main())


def test_who_asks_can_be_cancelled() -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def waits(_: IncomingMessage) -> Accept:
            started.set()
            await asyncio.Event().wait()
            return Accept()

        asking = asyncio.create_task(Hooks(waits, 5).ask(LANE, message(), META))
        await started.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(main())


@pytest.mark.parametrize("how", ["takes too long", "is cancelled"])
def test_a_call_that_does_not_let_itself_be_cancelled_is_not_waited_for(how: str) -> None:
    """And its lane is busy until it has ended: no two calls for one at a time."""

    async def main() -> None:
        begun, at_work, at_once = asyncio.Event(), 0, 0
        may_end = asyncio.Event()

        async def stays(_: IncomingMessage) -> Accept:
            nonlocal at_work, at_once
            at_work += 1
            at_once = max(at_once, at_work)
            begun.set()
            while not may_end.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await may_end.wait()
            at_work -= 1
            return Accept()

        hooks = Hooks(stays, 0.05 if how == "takes too long" else 5)
        asking = asyncio.create_task(hooks.ask(LANE, message(), META))
        await begun.wait()
        try:
            if how == "is cancelled":
                asking.cancel()
                await asyncio.wait([asking], timeout=5)
                assert asking.cancelled()
            else:
                await asyncio.wait([asking], timeout=5)
                assert asking.done()
                assert asking.result() == NO_ANSWER
                assert await hooks.ask(LANE, message(), META) == NO_ANSWER
            again = asyncio.create_task(hooks.ask(LANE, message(), META))
            await asyncio.sleep(0)
        finally:
            may_end.set()
        assert await again == Admitted("hello", META)
        assert at_once == 1
        await hooks.close()
        assert not hooks._running

    asyncio.run(main())


def test_a_lane_is_asked_about_one_message_at_a_time_and_other_lanes_at_once() -> None:
    async def main() -> None:
        running: list[str] = []
        go_on = asyncio.Event()

        async def waits(incoming: IncomingMessage) -> Accept:
            running.append(incoming.room)
            await go_on.wait()
            return Accept()

        hooks = Hooks(waits, 5)
        other = LaneKey("ben", b"b" * 16, b"1" * 16)
        asking = [
            asyncio.create_task(hooks.ask(lane, message(room), META))
            for lane, room in [(LANE, "a"), (LANE, "a"), (other, "a"), (LANE, "b")]
        ]
        await asyncio.sleep(0.01)
        assert sorted(running) == ["a", "a", "b"]
        go_on.set()
        await asyncio.gather(*asking)
        assert sorted(running) == ["a", "a", "a", "b"]
        assert len(hooks._turns) == 0

    asyncio.run(main())
