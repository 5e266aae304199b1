"""The application at the relay: what it says of messages, and what it sends itself."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import collab
from collab import limits
from collab.protocol import frames
from collab.protocol.codec import pack_map, unpack_map
from collab_server.app import Relay
from collab_server.hooks import Accept, IncomingMessage, Later, OnMessage, Reject, Rewrite, Ruling
from collab_server.serving import served
from collab_server.settings import Settings
from tests.e2e.chat_member import Member, entered, id_of
from tests.e2e.support import run, running, soon, until

ANA, BEN = b"a" * 16, b"b" * 16


@asynccontextmanager
async def ruled(
    data: Path, on_message: OnMessage, **settings: Any
) -> AsyncIterator[tuple[str, Relay]]:
    """A relay whose application has something to say."""
    chosen = Settings(data=data, port=0, open=True, **settings)
    relay = Relay(chosen, on_message=on_message)
    async with served(relay, chosen) as url:
        yield url, relay


class Application:
    """Says of each message what the test told it to, and remembers what it was asked."""

    def __init__(self, **rulings: Ruling | Callable[[], Awaitable[Ruling]]) -> None:
        self.rulings: dict[str, Ruling | Callable[[], Awaitable[Ruling]]] = dict(rulings)
        self.asked: list[IncomingMessage] = []

    @property
    def bodies(self) -> list[str]:
        return [message.body for message in self.asked]

    async def __call__(self, message: IncomingMessage) -> Ruling:
        self.asked.append(message)
        ruling = self.rulings.get(message.body, Accept())
        return await ruling() if callable(ruling) else ruling


def brief(told: frames.Outcome) -> tuple[int, str, int]:
    return told.lane_seq, told.code, told.seq


# --- rulings ---


def test_the_application_is_told_who_sent_what_where(tmp_path: Path) -> None:
    application = Application()

    async def main() -> None:
        async with ruled(tmp_path, application) as (url, _), entered(url, "部屋") as ana:
            sent = ana.message(1, body="hi", meta=pack_map({"to": ["ben"]}))
            assert brief(await ana.say(sent)) == (1, "accepted", 1)
            assert application.asked == [
                IncomingMessage(
                    "部屋",
                    uuid.UUID(bytes=id_of(1)),
                    ana.now.user,
                    "hi",
                    {"to": ["ben"]},
                    sent.sent_at,
                )
            ]

    run(main())


def test_a_rejected_message_ends_with_the_applications_code_and_the_next_is_taken(
    tmp_path: Path,
) -> None:
    application = Application(m1=Reject("shop.closed", "we open at nine"))

    async def main() -> None:
        async with ruled(tmp_path, application) as (url, _), entered(url) as ana:
            await ana.send(1, 2)
            await ana.until(lambda: 2 in ana.outcomes)
            assert brief(ana.outcomes[1]) == (1, "shop.closed", 0)
            assert ana.outcomes[1].reason == "we open at nine"
            assert brief(ana.outcomes[2]) == (2, "accepted", 1)
            assert brief(await ana.say(ana.message(1))) == (1, "shop.closed", 0)
            assert application.bodies == ["m1", "m2"]  # a decided slot is not asked about

    run(main())


def test_a_rewritten_message_is_what_everybody_reads_and_is_known_by_what_was_sent(
    tmp_path: Path,
) -> None:
    application = Application(rude=Rewrite(body="****", meta={"edited": True}))

    async def main() -> None:
        async with ruled(tmp_path, application) as (url, _):
            async with entered(url, device=ANA) as ana, entered(url, device=BEN) as ben:
                await ana.say(ana.message(1, body="rude"))
                await ben.until(lambda: ben.messages)
                assert (ben.messages[0].body, unpack_map(ben.messages[0].meta)) == (
                    "****",
                    {"edited": True},
                )
            application.rulings["rude"] = Reject("now it is forbidden")
            async with entered(url, device=ANA, lane=b"put back to 1st.") as ana:
                told = await ana.say(ana.message(1, body="rude"))
                assert brief(told) == (1, "accepted", 1)

    run(main())


@pytest.mark.parametrize(
    "ruling", [Rewrite(body="x" * 32_769), Rewrite(meta={"m": "x" * 8_192})], ids=["body", "meta"]
)
def test_a_message_that_was_made_too_large_is_refused_for_good(
    tmp_path: Path, ruling: Rewrite
) -> None:
    async def main() -> None:
        application = Application(m1=ruling)
        async with ruled(tmp_path, application) as (url, _), entered(url) as ana:
            assert brief(await ana.say(ana.message(1))) == (1, "too_large", 0)
            assert brief(await ana.say(ana.message(2))) == (2, "accepted", 1)

    run(main())


def test_what_comes_later_keeps_its_slot_and_its_place_in_the_lane(tmp_path: Path) -> None:
    application = Application(m2=Later(0.05))

    async def main() -> None:
        async with ruled(tmp_path, application) as (url, _), entered(url) as ana:
            await ana.send(1, 2, 3, 4)
            await ana.until(lambda: 2 in ana.outcomes)
            assert brief(ana.outcomes[2]) == (2, "rate_limited", 0)
            assert ana.outcomes[2].retry_after_ms == 50
            application.rulings.clear()
            await ana.send(2, 3, 4)
            await ana.until(lambda: 4 in ana.outcomes)
            assert [brief(ana.outcomes[slot]) for slot in (2, 3, 4)] == [
                (2, "accepted", 2),
                (3, "accepted", 3),
                (4, "accepted", 4),
            ]
            assert not [told for told in ana.told if isinstance(told, frames.Expected)]
            assert application.bodies == ["m1", "m2", "m2", "m3", "m4"]

    run(main())


# --- applications that fail ---


async def fails() -> Ruling:
    raise RuntimeError("its database is down")


async def never() -> Ruling:
    await asyncio.Event().wait()
    return Accept()


@pytest.mark.parametrize("trouble", [fails, never], ids=["fails", "is slow"])
def test_an_application_in_trouble_holds_up_that_lane_for_a_while_and_nobody_else(
    tmp_path: Path, trouble: Callable[[], Awaitable[Ruling]]
) -> None:
    application = Application(m1=trouble)

    async def main() -> None:
        async with (
            ruled(tmp_path, application, hook_timeout_s=0.3) as (url, _),
            entered(url, device=ANA) as ana,
            entered(url, device=BEN) as ben,
        ):
            await ana.send(1, 2)
            for slot in range(1, 20):
                await ben.say(ben.message(slot, number=100 + slot))
            await ana.until(lambda: 1 in ana.outcomes)
            assert brief(ana.outcomes[1]) == (1, "busy", 0)
            assert ana.outcomes[1].retry_after_ms > 0
            assert ana.outcomes[1].reason
            assert 2 not in ana.outcomes
            application.rulings.clear()
            await ana.send(1, 2)
            await ana.until(lambda: 2 in ana.outcomes)
            assert [brief(ana.outcomes[slot]) for slot in (1, 2)] == [
                (1, "accepted", 20),
                (2, "accepted", 21),
            ]

    run(main())


def test_a_message_behind_a_slow_answer_waits_and_other_rooms_of_the_device_do_not(
    tmp_path: Path,
) -> None:
    gate = asyncio.Event()

    async def gated() -> Ruling:
        await gate.wait()
        return Accept()

    application = Application(m1=gated)

    async def main() -> None:
        async with ruled(tmp_path, application) as (url, _), entered(url) as ana:
            other = Member(ana.speaker)
            await other.join("other")
            await other.enter()
            await ana.send(1, 2)
            await other.speaker.send(other.message(1, number=50))
            await other.until(lambda: 1 in other.outcomes)
            assert other.outcomes[1].channel == other.channel
            await ana.speaker.send(frames.Ping(1))
            while await ana.speaker.receive() != frames.Pong(1):
                pass
            assert sorted(application.bodies) == ["m1", "m50"]
            gate.set()
            await ana.until(lambda: 2 in ana.outcomes)
            assert [ana.outcomes[slot].seq for slot in (1, 2)] == [1, 2]

    run(main())


def test_a_skip_waits_for_its_turn_behind_the_message_that_is_asked_about(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def gated() -> Ruling:
        await gate.wait()
        return Accept()

    async def main() -> None:
        async with ruled(tmp_path, Application(m1=gated)) as (url, _), entered(url) as ana:
            await ana.send(1)
            await ana.speaker.send(frames.Skip(ana.channel, 1, id_of(1)))
            await ana.speaker.send(frames.Skip(ana.channel, 2, id_of(2)))
            await asyncio.sleep(0.05)
            assert not ana.told
            gate.set()
            await ana.until(lambda: 2 in ana.outcomes)
            assert [brief(told) for told in ana.told if isinstance(told, frames.Outcome)] == [
                (1, "accepted", 1),
                (1, "accepted", 1),
                (2, "skipped", 0),
            ]

    run(main())


def test_a_message_whose_sender_went_away_is_asked_about_again_and_is_in_the_log_once(
    tmp_path: Path,
) -> None:
    asked = asyncio.Event()
    times: Counter[uuid.UUID] = Counter()

    async def on_message(message: IncomingMessage) -> Ruling:
        times[message.id] += 1
        asked.set()
        if times[message.id] == 1:
            await asyncio.Event().wait()
        return Accept()

    async def main() -> None:
        async with ruled(tmp_path, on_message) as (url, _):
            async with entered(url) as ana:
                await ana.send(1)
                await soon(asked.wait())
            async with entered(url) as ana:
                assert ana.now.lane_seq == 0
                assert brief(await ana.say(ana.message(1))) == (1, "accepted", 1)
                assert times == {uuid.UUID(bytes=id_of(1)): 2}
                await ana.until(lambda: ana.place == 1)
                assert ana.bodies == ["m1"]

    run(main())


def test_a_thousand_messages_pass_the_application_in_lane_order(tmp_path: Path) -> None:
    application = Application()

    async def main() -> None:
        async with ruled(tmp_path, application) as (url, _), entered(url) as ana:
            await ana.send(*range(1, 1_001))
            await ana.until(lambda: len(ana.outcomes) == 1_000)
            assert application.bodies == [f"m{n}" for n in range(1, 1_001)]
            assert [ana.outcomes[n].seq for n in range(1, 1_001)] == list(range(1, 1_001))

    run(main())


def test_nobody_is_asked_about_what_is_refused_anyway(tmp_path: Path) -> None:
    application = Application()

    async def main() -> None:
        async with ruled(tmp_path, application) as (url, _), entered(url) as ana:
            assert (await ana.say(ana.message(1, meta=b"\xc1"))).code == "invalid"
            assert (await ana.say(frames.Skip(ana.channel, 2, id_of(2)))).code == "skipped"
            assert application.asked == []

    run(main())


# --- the relay's own program ---


def test_the_relays_own_program_sends_to_everybody_and_is_told_the_seq(tmp_path: Path) -> None:
    application = Application()

    async def main() -> None:
        async with ruled(tmp_path, application) as (url, relay), entered(url) as ana:
            room = relay.room("talk")
            assert await room.send("welcome", {"bot": True}, sender="house") == 1
            await ana.until(lambda: ana.messages)
            (message,) = ana.messages
            assert (message.body, message.sender) == ("welcome", "house")
            assert unpack_map(message.meta) == {"bot": True}
            assert uuid.UUID(bytes=message.id).version == 7
            assert application.asked == []

    run(main())


def test_a_message_under_an_id_of_ones_own_is_sent_once(tmp_path: Path) -> None:
    chosen = uuid.uuid4()

    async def main() -> None:
        async with running(tmp_path) as (_, relay):
            room = relay.room("nobody has joined it")
            assert await room.send("order 7", id=chosen, sender="house") == 1
            assert await room.send("order 8", sender="house") == 2
            with pytest.raises(collab.errors.IdConflict):
                await room.send("another", id=chosen, sender="house")
        async with running(tmp_path) as (url, relay):
            room = relay.room("nobody has joined it")
            assert await room.send("order 7", id=chosen, sender="house") == 1
            async with entered(url, "nobody has joined it") as ana:
                assert [m.body for m in await ana.catch_up()] == ["order 7", "order 8"]

    run(main())


@pytest.mark.parametrize(
    ("body", "meta", "sender", "error"),
    [
        ("x" * (limits.MAX_BODY_BYTES + 1), None, "house", collab.TooLarge),
        ("x", {"m": "x" * limits.MAX_META_BYTES}, "house", collab.TooLarge),
        ("x", None, "é" * 128, collab.TooLarge),
        ("\ud800", None, "house", collab.errors.BadMessage),
        (5, None, "house", collab.errors.BadMessage),
        ("x", {"m": object()}, "house", collab.errors.BadMessage),
        ("x", {"m": 2**64}, "house", collab.errors.BadMessage),
        ("x", None, "\ud800", collab.errors.BadMessage),
    ],
)
def test_what_is_no_message_is_not_sent(
    tmp_path: Path, body: Any, meta: Any, sender: str, error: type[Exception]
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay), entered(url) as ana:
            with pytest.raises(error, match="Nothing was sent"):
                await relay.room("talk").send(body, meta, sender=sender)
            assert (await ana.enter()).head == 0

    run(main())


def test_a_relay_that_does_not_run_sends_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (_, relay):
            room = relay.room("talk")
        with pytest.raises(collab.LocalError, match="does not run"):
            await room.send("x", sender="house")
        with pytest.raises(collab.LocalError, match="no name of a room"):
            relay.room("\n")

    run(main())


def test_a_room_that_was_sent_to_is_let_go_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, room_idle_s=0.0) as (_, relay):
            assert relay._shared is not None
            rooms = relay._shared.rooms
            await relay.room("talk").send("x", sender="house")
            await until(lambda: len(rooms) == 0)

    run(main())


def test_a_send_that_was_given_up_does_not_harm_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (_, relay):
            room = relay.room("talk")
            sending = asyncio.create_task(room.send("given up", sender="house"))
            await asyncio.sleep(0.001)
            sending.cancel()
            await asyncio.wait([sending])
            assert await room.send("x", sender="house") in (1, 2)

    run(main())
