"""``room.broadcast``: to whoever is there, now, and kept by nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import collab
import collab.testing
from collab import limits
from collab.protocol.frames import Access
from tests.e2e.live_support import Ear, House, bytes_of, everything_in, joined, member
from tests.e2e.support import QUICK, Wire, reads, rooms_at, run, running, until


def test_everybody_else_in_the_room_hears_it_and_the_sender_does_not(tmp_path: Path) -> None:
    house = House()

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            member(url, token="ada 1") as desk,
            member(url, token="ada 2") as phone,
            member(url, token="ben") as ben,
            member(url, "elsewhere", token="ben") as elsewhere,
        ):  # fmt: skip
            rooms = (desk, phone, ben, elsewhere)
            at_desk, on_phone, with_ben, outside = ears = [Ear(room) for room in rooms]
            await desk.broadcast({"caret": 3})
            for ear in (on_phone, with_ben):
                assert await ear.has(1) == [collab.Broadcast("ada", {"caret": 3})]
            await ben.broadcast("end")
            for ear in (at_desk, on_phone):
                await ear.has(len(ear.heard) + ("end" not in ear.payloads))
            assert [ear.payloads for ear in ears] == [
                ["end"], [{"caret": 3}, "end"], [{"caret": 3}], [],
            ]  # fmt: skip
            assert at_desk.heard[0].sender == "ben"
            assert not outside.heard

    run(main())


VALUES: list[Any] = [
    None, True, 0, -(2**63), 2**64 - 1, 1.5, "", "你好 📊", b"\0\xff", [], {},
    [1, [2, {"a": None}]], {"a": 1, 2: [b"x"], None: "none"}, "x" * 32_000,
]  # fmt: skip


def test_any_value_that_msgpack_carries_comes_as_it_went_and_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), member(url) as ada, member(url) as ben:
            ear = Ear(ben)
            for value in VALUES:
                await ada.broadcast(value)
            await ada.broadcast((1, (2,)))
            await ear.has(len(VALUES) + 1)
            assert ear.payloads == [*VALUES, [1, [2]]]

    run(main())


def test_the_program_of_the_relay_tells_everybody_and_nobody_of_a_room_without_people(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay), member(url) as ada, member(url) as ben:
            ears = [Ear(ada), Ear(ben)]
            await relay.room("nobody is here").broadcast("lost", sender="bot")
            await relay.room("talk").broadcast([1, 2], sender="bot")
            for ear in ears:
                assert await ear.has(1) == [collab.Broadcast("bot", [1, 2])]
            for payload, sender, kind in [
                (object(), "bot", collab.BadMessage),
                ("x" * limits.MAX_CAST_BYTES, "bot", collab.TooLarge),
                ("x", "b" * 256, collab.BadMessage),
                ("x", "\ud800", collab.BadMessage),
                ("x", None, collab.BadMessage),
            ]:
                with pytest.raises(kind, match=r"Nothing was sent|Nobody was told"):
                    await relay.room("talk").broadcast(payload, sender=sender)  # type: ignore[arg-type]
            await relay.room("talk").broadcast("end", sender="bot")
            for ear in ears:
                await ear.has(2)
                assert ear.payloads == [[1, 2], "end"]
        with pytest.raises(collab.LocalError, match="does not run"):
            await relay.room("talk").broadcast("x", sender="bot")

    run(main())


def test_a_closed_subscription_hears_no_more_and_a_callback_that_raises_harms_no_other(
    tmp_path: Path,
) -> None:
    async def main() -> list[str]:
        failures: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: failures.append(repr(context.get("exception")))
        )
        async with running(tmp_path) as (url, _), member(url) as ada, member(url) as ben:

            def fails(_: collab.Broadcast) -> None:
                raise ZeroDivisionError

            ben.on_broadcast(fails)
            closed, ear = Ear(ben), Ear(ben)
            closed.subscription.close()
            await ada.broadcast(1)
            await ada.broadcast(2)
            await ear.has(2)
            assert not closed.heard
        return failures

    assert asyncio.run(main()) == ["ZeroDivisionError()"] * 2


# Offline


def test_without_a_live_joined_room_it_says_so_at_once_and_nothing_is_queued(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.db"

    async def refused(room: collab.Room) -> None:
        room.text("body")
        await room.wait_saved()
        before, pending = everything_in(path), room.status
        with pytest.raises(collab.OfflineError, match="nothing was queued"):
            await room.broadcast("now or never")
        assert everything_in(path) == before
        assert room.status == pending
        assert not room._sync.live._casts

    async def main() -> None:
        async with collab.open(path) as client:  # for ever offline
            await refused(await client.room("talk"))
        async with collab.testing.relay() as relay, member(relay.url) as other:
            ear = Ear(other)
            async with collab.open(path, relay=relay.url, settings=QUICK) as client:
                room = await client.room("talk")
                await joined(room)
                async with relay.offline():
                    await until(lambda: room._sync.live._channel is None)
                    await refused(room)
                client.connect()
                await joined(room)
                await joined(other)
                await room.broadcast("back")
                assert await ear.has(1) == [ear.heard[0]]
                assert ear.payloads == ["back"]
                await room.close()
                with pytest.raises(collab.Closed):
                    await room.broadcast("x")
                with pytest.raises(collab.Closed):
                    room.on_broadcast(print)

    run(main())


def test_nothing_of_a_broadcast_is_stored_here_or_there_and_who_comes_later_hears_nothing(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        log = tmp_path / "relay" / "relay.db"
        async with (
            running(tmp_path / "relay") as (url, _),
            member(url, path=tmp_path / "a.db") as ada,
            member(url, path=tmp_path / "b.db") as ben,
        ):
            ear = Ear(ben)
            files = (tmp_path / "a.db", tmp_path / "b.db", log)
            ada.text("body").insert(0, "what is kept")
            await ada.wait_synced(20)
            for number in range(20):
                await ada.broadcast(f"secret {number}")
            await ear.has(20)
            assert b"secret" not in bytes_of(*files)
            assert b"what is kept" in bytes_of(log)  # so it would be seen
            async with member(url) as late:
                late_ear = Ear(late)
                await ada.broadcast("to all")
                await late_ear.has(1)
                assert late_ear.payloads == ["to all"]

    run(main())


# Rights


def test_who_may_only_read_hears_and_is_refused_here(tmp_path: Path) -> None:
    house = House(ron=Access.READ)

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            member(url, token="ada") as ada,
            member(url, token="ron") as ron,
        ):  # fmt: skip
            hers, his = Ear(ada), Ear(ron)
            with pytest.raises(collab.ReadOnly, match="Nothing was sent"):
                await ron.broadcast("x")
            await ada.broadcast("y")
            assert await his.has(1) == [collab.Broadcast("ada", "y")]
            assert not hers.heard

    run(main())


# Misuse


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (object(), collab.BadMessage),
        ({1, 2}, collab.BadMessage),
        (2**64, collab.BadMessage),
        ("\ud800", collab.BadMessage),
        ({(1, 2): 3}, collab.BadMessage),
        ([[]] * 3 + [Path()], collab.BadMessage),
        ("x" * limits.MAX_CAST_BYTES, collab.TooLarge),
        (b"x" * 10**6, collab.TooLarge),
    ],
    ids=["object", "set", "big int", "half a pair", "key", "inside", "text", "bytes"],
)
def test_what_cannot_be_sent_is_a_named_error_and_nothing_was_sent(
    tmp_path: Path, payload: Any, kind: type[Exception]
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), member(url) as ada, member(url) as ben:
            ear = Ear(ben)
            with pytest.raises(kind, match="Nothing was sent"):
                await ada.broadcast(payload)
            await ada.broadcast("end")
            await ear.has(1)
            assert ear.payloads == ["end"]

    run(main())


def test_a_payload_that_contains_itself_or_is_too_deep_is_a_named_error(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    deep: Any = 1
    for _ in range(2_000):
        deep = [deep]

    async def main() -> None:
        async with running(tmp_path) as (url, _), member(url) as ada:
            for payload in (endless, deep):
                with pytest.raises(collab.BadMessage):
                    await ada.broadcast(payload)

    run(main())


# Slow readers, fast senders


def test_a_slow_reader_skips_the_oldest_and_its_document_comes_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            Wire(url) as wire,
            member(url) as ada,
            member(wire.url) as slow,
            member(url) as quick,
        ):
            ears = late, _ = Ear(slow), Ear(quick)
            queues = [rooms._live._casts for rooms in rooms_at(relay)]
            wire.down_limit = wire.down
            payload, sent = "x" * 30_000, 0
            while not any(queue.dropped for queue in queues):
                await relay.room("talk").broadcast([sent, payload], sender="bot")
                sent += 1
                assert all(len(queue) <= limits.MAX_WAITING_CASTS for queue in queues)
                assert all(queue.size <= limits.MAX_WAITING_CAST_BYTES for queue in queues)
                await asyncio.sleep(0)
                assert sent < 100_000
            ada.text("body").insert(0, "saved")
            await ada.wait_synced(20)  # neither the writer nor another reader waits for it
            await reads(quick, "saved")
            await relay.room("talk").broadcast(["last", ""], sender="bot")
            wire.down_limit = 1 << 62
            await reads(slow, "saved")
            for ear in ears:
                await until(lambda ear=ear: ear.payloads and ear.payloads[-1][0] == "last")  # type: ignore[misc]
            numbers = [number for number, _ in late.payloads[:-1]]
            assert numbers == sorted(set(numbers))
            assert len(numbers) < sent

    run(main())


def test_a_flood_is_cut_at_the_relay_and_pushes_out_no_event_of_the_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), member(url) as ada, member(url) as ben:
            ear, events = Ear(ben), ben.events()
            for number in range(10 * limits.CAST_BURST):
                await ada.broadcast(number)
                if number % 50 == 0:
                    await until(lambda: not ada._sync.live._casts)
            ada.text("body").insert(0, "x")
            await reads(ben, "x")
            assert await anext(events) is not None
            assert limits.CAST_BURST // 2 < len(ear.heard) < 10 * limits.CAST_BURST
            assert ear.payloads == sorted(ear.payloads)
            await ben.broadcast("others go on")

    run(main())


def test_a_device_whose_socket_is_slow_keeps_the_newest_and_a_bounded_number(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            Wire(url) as wire,
            member(wire.url) as ada,
        ):
            wire.up_limit = wire.up
            queue = ada._sync.live._casts
            for number in range(100_000):
                await ada.broadcast([number, "x" * 20_000])
                assert queue.size <= limits.MAX_WAITING_CAST_BYTES
                assert len(queue) <= limits.MAX_WAITING_CASTS
                if queue.dropped > 100:
                    break
                await asyncio.sleep(0)
            assert queue.dropped > 100
            ada.text("body").insert(0, "x")
            await ada.wait_saved()
            wire.up_limit = 1 << 62
            await ada.wait_synced(20)
            await until(lambda: not queue)

    run(main())
