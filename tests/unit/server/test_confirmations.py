"""The application is asked about what awaits a verdict: in order, again, and holding nobody up."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from collab import limits
from collab.protocol.codec import pack_map
from collab.protocol.messages import Verdict
from collab_server.confirmations import Confirmations
from collab_server.confirming import Confirm, ConfirmRequest, Refuse, VerdictRuling, verdict_of
from collab_server.settings import Settings
from tests.unit.server.test_log_chat import ANA, BEN, Chat, id_of, with_chat
from tests.unit.server.test_log_sqlite import Disk

QUICK: dict[str, Any] = {"confirm_retry_s": 0.002, "confirm_retry_cap_s": 0.01}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


class Application:
    """Answers as the test says; remembers whom it was asked about, and what ended."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[], Awaitable[VerdictRuling]]] = {}
        self.asked: list[ConfirmRequest] = []
        self.running: Counter[str] = Counter()

    @property
    def bodies(self) -> list[str]:
        return [request.body for request in self.asked]

    async def __call__(self, request: ConfirmRequest) -> VerdictRuling:
        self.asked.append(request)
        self.running[request.body] += 1
        assert self.running[request.body] == 1, "asked about one message twice at a time"
        try:
            answer = self.answers.get(request.body)
            return Confirm() if answer is None else await answer()
        finally:
            self.running[request.body] -= 1


async def fails() -> VerdictRuling:
    raise RuntimeError("the shop is closed")


async def hangs() -> VerdictRuling:
    await asyncio.Event().wait()
    raise AssertionError


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.001)


async def decided(chat: Chat, *numbers: int) -> list[tuple[int, str]]:
    """The verdicts on these messages, once there are all of them."""
    ids = [id_of(number) for number in numbers]
    async with asyncio.timeout(15):
        while len(found := await chat.log.chat.verdicts(chat.room_id, ids)) < len(ids):
            await asyncio.sleep(0.002)
    return [(one.verdict, one.reason) for one in found]


@asynccontextmanager
async def asking(
    chat: Chat, application: Application, in_memory: int = 100, **settings: Any
) -> AsyncIterator[Confirmations]:
    chosen = Settings(open=True, **{**QUICK, **settings})
    log = chat.log.chat
    async with Confirmations(log, application, chosen, in_memory=in_memory) as asked:
        yield asked


def test_a_ruling_is_confirm_or_refuse_and_a_long_reason_is_cut() -> None:
    assert verdict_of(Confirm()) == (Verdict.CONFIRMED, "")
    assert verdict_of(Refuse("no")) == (Verdict.REFUSED, "no")
    cut = verdict_of(Refuse("é" * limits.MAX_REASON_BYTES))[1]
    assert cut == "é" * (limits.MAX_REASON_BYTES // 2)
    for none in (None, True, "yes", Confirm):
        with pytest.raises(TypeError, match="no verdict"):
            verdict_of(none)
    with pytest.raises(UnicodeEncodeError):
        Refuse("\ud83d")


def test_it_is_told_what_is_in_the_log_and_its_word_is_committed(path: Path) -> None:
    async def sold_out() -> VerdictRuling:
        return Refuse("sold out")

    async def work(chat: Chat) -> None:
        application = Application()
        application.answers["m2"] = sold_out
        async with asking(chat, application):
            await chat.say(1, confirm=True, meta=pack_map({"n": 2}), came_at=9)
            await chat.say(2, confirm=True)
            await chat.say(3)
            assert await decided(chat, 1, 2) == [(2, ""), (3, "sold out")]
        (first, second) = application.asked
        assert (first.room, first.id.bytes, first.seq, first.sender) == ("a", id_of(1), 1, "ana")
        assert (first.body, first.meta, first.sent_at, first.accepted_at) == ("m1", {"n": 2}, 4, 9)
        assert second.body == "m2"

    with_chat(path, work)


def test_those_of_one_lane_are_asked_about_in_their_order_and_lanes_beside_each_other(
    path: Path,
) -> None:
    async def work(chat: Chat) -> None:
        application = Application()
        may = asyncio.Event()

        async def waits() -> VerdictRuling:
            await may.wait()
            return Confirm()

        application.answers["m1"] = waits
        async with asking(chat, application):
            for slot in range(1, 20):
                chat.submit(slot, confirm=True)
                chat.submit(slot, number=100 + slot, lane=BEN, confirm=True)
            await decided(chat, *range(101, 120))
            assert [body for body in application.bodies if len(body) < 4] == ["m1"]
            may.set()
            await decided(chat, *range(1, 20))
        for first in (1, 101):
            lane = [f"m{number}" for number in range(first, first + 19)]
            assert [body for body in application.bodies if body in lane] == lane

    with_chat(path, work)


@pytest.mark.parametrize("trouble", ["fails", "hangs", "answers nonsense", "cancels itself"])
def test_one_that_brings_no_verdict_holds_nobody_up_and_is_asked_about_again(
    path: Path, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def nonsense() -> Any:
        return "yes"

    async def cancels() -> VerdictRuling:
        raise asyncio.CancelledError

    ways = {"fails": fails, "hangs": hangs, "answers nonsense": nonsense, "cancels itself": cancels}

    async def work(chat: Chat) -> None:
        application = Application()
        application.answers["m1"] = ways[trouble]
        async with asking(chat, application, confirm_timeout_s=0.02):
            for slot in range(1, 4):
                await chat.say(slot, confirm=True)
            await decided(chat, 2, 3)
            await until(lambda: application.bodies.count("m1") >= 3)
            assert await chat.log.chat.verdicts(chat.room_id, [id_of(1)]) == []
            del application.answers["m1"]
            assert await decided(chat, 1) == [(2, "")]

    with caplog.at_level(logging.CRITICAL):
        with_chat(path, work)


def test_a_call_that_will_not_be_cancelled_holds_up_neither_others_nor_the_end(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collab_server.confirmations._ENDING_S", 0.02)

    async def work(chat: Chat) -> None:
        application = Application()
        may = asyncio.Event()

        async def stubborn() -> VerdictRuling:
            while not may.is_set():
                with suppress(asyncio.CancelledError):
                    await may.wait()
            return Confirm()

        application.answers["m1"] = stubborn
        async with asking(chat, application, confirm_timeout_s=0.02):
            await chat.say(1, confirm=True)
            await chat.say(2, confirm=True)
            await decided(chat, 2)
            assert application.bodies.count("m1") == 1  # not again before it has ended
        # The block ended although the call goes on.
        assert application.running["m1"] == 1
        assert await chat.log.chat.verdicts(chat.room_id, [id_of(1)]) == []
        may.set()
        await until(lambda: not application.running["m1"])

    with caplog.at_level(logging.CRITICAL):
        with_chat(path, work)


def test_what_awaits_its_verdict_at_a_start_is_asked_about_then(path: Path) -> None:
    async def before(chat: Chat) -> None:
        other = Chat(chat.log, (await chat.log.open_room("b", epoch=b"b" * 16)).id)
        for slot in range(1, 231):  # several pages of a sweep
            chat.submit(slot, confirm=True)
        await chat.outcomes(230)
        await other.say(1, confirm=True)

    async def after(chat: Chat) -> None:
        application = Application()
        async with asking(chat, application):
            await until(lambda: len(application.asked) == 231)
            await decided(chat, *range(1, 231))
        ours = [request.body for request in application.asked if request.room == "a"]
        assert ours == [f"m{slot}" for slot in range(1, 231)]
        assert [request.seq for request in application.asked if request.room == "b"] == [1]

    with_chat(path, before)
    with_chat(path, after, 2)


def test_more_than_memory_holds_wait_in_the_log_and_those_that_fail_make_room(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(chat: Chat) -> None:
        application = Application()
        for number in range(1, 9):
            application.answers[f"m{number}"] = fails
        async with asking(chat, application, in_memory=3) as asked:
            for slot in range(1, 41):
                chat.submit(slot, confirm=True)
                if slot % 5 == 0:
                    await chat.outcomes(slot)
                    assert len(asked._known) <= 3
            await decided(chat, *range(9, 41))
            first_calls = list(dict.fromkeys(application.bodies))
            assert first_calls == [f"m{number}" for number in range(1, 41)]
            application.answers.clear()
            await decided(chat, *range(1, 9))
            await until(lambda: not asked._known)

    with caplog.at_level(logging.CRITICAL):
        with_chat(path, work)


def test_only_so_many_are_asked_about_at_a_time(path: Path) -> None:
    async def work(chat: Chat) -> None:
        application = Application()
        may = asyncio.Event()
        most = 0

        async def waits() -> VerdictRuling:
            nonlocal most
            most = max(most, application.running.total())
            await may.wait()
            return Confirm()

        for number in range(1, 41):
            application.answers[f"m{number}"] = waits
        async with asking(chat, application):
            for number in range(1, 41):  # each in a lane of its own
                lane = type(ANA)("ana", number.to_bytes(16, "big"), b"1" * 16)
                chat.submit(1, number=number, lane=lane, confirm=True)
            await until(lambda: len(application.asked) == limits.MAX_CONFIRMATIONS)
            may.set()
            await decided(chat, *range(1, 41))
        assert most == limits.MAX_CONFIRMATIONS

    with_chat(path, work)


def test_a_verdict_waits_for_a_disk_that_is_full_and_comes_once(path: Path) -> None:
    disk = Disk()

    async def work(chat: Chat) -> None:
        application = Application()
        may = asyncio.Event()

        async def waits() -> VerdictRuling:
            await may.wait()
            return Confirm()

        application.answers["m1"] = waits
        async with asking(chat, application):
            await chat.say(1, confirm=True)
            await until(lambda: application.asked)
            disk.full = True
            may.set()
            await until(lambda: chat.log.failing is not None)
            assert await chat.log.chat.verdicts(chat.room_id, [id_of(1)]) == []
            disk.full = False
            assert await decided(chat, 1) == [(2, "")]
        assert application.bodies == ["m1"]

    with_chat(path, work, disk=disk)


def test_a_room_that_is_deleted_meanwhile_is_forgotten(path: Path) -> None:
    async def work(chat: Chat) -> None:
        application = Application()
        may = asyncio.Event()

        async def waits() -> VerdictRuling:
            await may.wait()
            return Confirm()

        application.answers["m1"] = waits
        async with asking(chat, application) as asked:
            await chat.say(1, confirm=True)
            await chat.say(2, confirm=True)
            await until(lambda: application.asked)
            await chat.log.delete_room(chat.room_id, now_ms=0)
            may.set()
            await until(lambda: not asked._known)
        assert application.bodies == ["m1"]

    with_chat(path, work)
