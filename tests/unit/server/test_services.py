"""What becomes of a call, whatever its handler does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from collab import limits
from collab.protocol.codec import pack_value, unpack_value
from collab.protocol.frames import Access
from collab_server.auth import User
from collab_server.services import Answered, CallRefused, Service, ServiceCall, Services

CALL = ServiceCall("talk", User("ana"), [1], Access.READ)


def ask(handler: Service, *, timeout_s: float = 20.0) -> Answered:
    """What one call comes to."""
    return asyncio.run(Services({"s": handler}, timeout_s=timeout_s, max_calls=1).ask("s", CALL))


def returns(value: Any) -> Service:
    async def handler(_: ServiceCall) -> Any:
        return value

    return handler


def raises(error: BaseException) -> Service:
    async def handler(_: ServiceCall) -> Any:
        raise error

    return handler


def test_a_value_is_done_and_packed() -> None:
    answered = ask(returns({"a": [1, None]}))
    assert (answered.code, answered.reason) == ("done", "")
    assert unpack_value(answered.payload) == {"a": [1, None]}


def test_an_answer_may_fill_its_bound_and_not_a_byte_more() -> None:
    room = limits.MAX_ANSWER_BYTES - len(pack_value(bytes(100_000))) + 100_000
    assert ask(returns(bytes(room))).code == "done"
    assert ask(returns(bytes(room + 1))) == Answered(
        "failed", "the service answered more than fits an answer"
    )


def test_a_refusal_carries_its_code_and_a_reason_cut_where_a_frame_ends() -> None:
    assert ask(raises(CallRefused("shop.closed", "come back"))) == Answered(
        "shop.closed", "come back"
    )
    long = ask(raises(CallRefused("x", "é" * limits.MAX_REASON_BYTES)))
    assert long.reason == "é" * (limits.MAX_REASON_BYTES // 2)
    assert ask(raises(CallRefused("x", "half \ud800"))).reason == "half ?"


@pytest.mark.parametrize(
    "code", ["", "x" * 65, "é" * 33, "done", "unknown_service", "failed", "timeout", "\ud800"]
)
def test_a_code_that_is_the_relays_own_word_or_no_word_cannot_refuse(code: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - one of them is Unicode's own
        CallRefused(code)


@pytest.mark.parametrize(
    "handler",
    [
        raises(ZeroDivisionError("a secret")), raises(TimeoutError("a secret")),
        raises(asyncio.CancelledError("a secret")), returns(object()), returns("\ud800"),
        returns(2**64), lambda _: None,
    ],
    ids=["error", "timeout", "cancelled", "object", "half a pair", "big", "no coroutine"],
)  # fmt: skip
def test_a_handler_that_fails_is_logged_and_what_failed_is_not_told(
    handler: Service, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(handler) == Answered("failed", "the service failed")
    assert "the service 's'" in caplog.text


def test_one_that_takes_too_long_is_cancelled_and_a_timeout() -> None:
    ended: list[str] = []

    async def hangs(_: ServiceCall) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def main() -> Answered:
        services = Services({"s": hangs}, timeout_s=0.01, max_calls=1)
        answered = await services.ask("s", CALL)
        await services.close()
        assert not len(services)
        return answered

    assert asyncio.run(main()).code == "timeout"
    assert ended == ["cancelled"]


def test_who_asked_and_goes_takes_the_handler_along_and_does_not_wait_for_it() -> None:
    async def main() -> None:
        began, cancelled, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def slow_to_end(_: ServiceCall) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
                await go_on.wait()

        services = Services({"s": slow_to_end}, timeout_s=20.0, max_calls=1)
        asking = asyncio.create_task(services.ask("s", CALL))
        await began.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(10):
            await cancelled.wait()
        assert len(services) == 1
        assert (await services.ask("s", CALL)).code == "busy"
        go_on.set()
        await services.close()
        assert not len(services)

    asyncio.run(main())


def test_one_that_was_cut_off_and_fails_as_it_ends_is_nobodys_error() -> None:
    failures: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: failures.append(what))

        async def bitter(_: ServiceCall) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ZeroDivisionError from None

        services = Services({"s": bitter}, timeout_s=0.01, max_calls=1)
        assert (await services.ask("s", CALL)).code == "timeout"
        await services.close()

    asyncio.run(main())
    assert not failures


def test_a_name_that_is_not_there_is_unknown_also_when_the_relay_is_busy() -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def waits(_: ServiceCall) -> None:
            await go_on.wait()

        services = Services({"s": waits}, timeout_s=20.0, max_calls=1)
        asking = asyncio.create_task(services.ask("s", CALL))
        await asyncio.sleep(0)
        assert (await services.ask("t", CALL)).code == "unknown_service"
        assert (await services.ask("s", CALL)).code == "busy"
        go_on.set()
        assert (await asking).code == "done"

    asyncio.run(main())


def test_closing_leaves_alone_what_does_not_let_itself_be_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("collab_server.services._CLOSING_S", 0.01)

    async def main() -> None:
        go_on = asyncio.Event()

        async def stubborn(_: ServiceCall) -> None:
            while not go_on.is_set():
                try:
                    await go_on.wait()
                except asyncio.CancelledError:
                    continue

        services = Services({"s": stubborn}, timeout_s=0.01, max_calls=1)
        assert (await services.ask("s", CALL)).code == "timeout"
        await services.close()
        assert len(services) == 1
        go_on.set()
        await services.close()
        assert not len(services)

    asyncio.run(main())
