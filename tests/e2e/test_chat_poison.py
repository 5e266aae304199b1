"""Real devices at a real relay whose application refuses, fails or hangs: none blocks another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import collab
from collab import limits
from collab_server.hooks import IncomingMessage, Reject, Rewrite, Ruling
from tests.e2e.chat_support import Clocks, history, look, on_clock, shows, watch
from tests.e2e.support import QUICK, run
from tests.e2e.test_chat_relay_hooks import Application, ruled


async def rewritten(message: IncomingMessage) -> Ruling:
    return Rewrite(body=message.body.upper())


def test_a_message_that_the_application_rewrites_is_one_on_its_own_device(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ruled(tmp_path / "relay", rewritten) as (url, _),
            collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            room, theirs = await client.room("notes"), await other.room("notes")
            message = await room.chat.send("hello", meta={"n": 1})
            await message.wait("delivered", 20)
            await shows(theirs, "HELLO")
            await shows(room, "HELLO")
            assert (message.body, message.seq, message.replaced) == ("HELLO", 1, False)
            assert await room.chat.send("hello", id=message.id, meta={"n": 1}) is message
            with pytest.raises(collab.IdConflict):
                await room.chat.send("goodbye", id=message.id, meta={"n": 1})

    run(main())


@pytest.mark.parametrize(
    ("ruling", "code"),
    [
        (Reject("spam", "we know this one"), "spam"),
        (Reject("too_large"), "too_large"),
        (Rewrite(body="x" * 40_000), "too_large"),
    ],
    ids=["rejected", "above the application's bound", "made too large"],
)
def test_what_is_refused_for_good_comes_back_and_those_around_it_keep_their_order(
    tmp_path: Path, ruling: Ruling, code: str
) -> None:
    async def main() -> None:
        application = Application(poison=ruling)
        path = tmp_path / "a.db"
        async with (
            ruled(tmp_path / "relay", application) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            theirs = await other.room("notes")
            async with collab.open(path, relay=url, settings=QUICK) as client:
                room = await client.room("notes")
                seen = watch(room)
                _, poison, *_ = await asyncio.gather(
                    *(room.chat.send(body) for body in ("0", "poison", "1", "2"))
                )
                event = await seen.saw(collab.MessageRejected)
                assert (event.message, event.message.body, event.code) == (poison, "poison", code)
                await room.wait_synced(20)
                await shows(theirs, "0", "1", "2")
                assert [(it.body, it.seq) for it in await theirs.chat.history()] == [
                    ("0", 1), ("1", 2), ("2", 3),
                ]  # fmt: skip
            async with collab.open(path, relay=url, settings=QUICK) as client:
                room = await client.room("notes")
                await room.wait_synced(20)
                kept = {it.body: it for it in await room.chat.history()}
                assert kept.pop("poison").state == "rejected"
                for message in kept.values():
                    await message.wait("delivered", 20)
                assert sorted(kept) == ["0", "1", "2"]
        assert application.bodies.count("poison") == 1

    run(main())


async def fail() -> Ruling:
    raise RuntimeError("the application is broken")


async def hang() -> Ruling:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("trouble", [fail, hang])
def test_what_the_application_cannot_take_stalls_and_arrives_when_it_is_tried_again(
    tmp_path: Path, trouble: Callable[[], Awaitable[Ruling]]
) -> None:
    async def main() -> None:
        application, clocks = Application(poison=trouble), Clocks()
        async with (
            ruled(tmp_path / "relay", application, hook_timeout_s=0.05) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as other,
            on_clock(tmp_path / "a.db", clocks, url) as (client, room),
        ):
            theirs = await other.room("notes")
            await room.wait_synced(20)
            poison, *others = await asyncio.gather(
                *(room.chat.send(body) for body in ("poison", "1", "2", "3"))
            )
            elsewhere = await (await client.room("elsewhere")).chat.send("not held up")
            await elsewhere.wait("accepted", 20)
            assert poison.state == "sending"
            assert [it.state for it in others] == ["sending"] * 3
            async with asyncio.timeout(60):
                while poison.state != "stalled":
                    clocks.go_on(1_000)
                    await look(client)
                    await asyncio.sleep(0.005)
            await shows(theirs, "1", "2", "3")
            assert application.bodies.count("poison") == limits.MAX_TRANSIENT_REFUSALS
            await room.wait_synced(20)
            assert (await history(room))[-1] == "poison"
            application.rulings.clear()
            await room.chat.retry(poison)
            await poison.wait("accepted", 20)
            await shows(theirs, "1", "2", "3", "poison")
            await shows(room, "1", "2", "3", "poison")

    run(main())
