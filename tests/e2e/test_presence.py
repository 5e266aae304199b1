"""Who is here: seen by everybody, gone with its connection, and nobody else's to take."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import collab
from collab.protocol import frames
from collab.protocol.ysync import AwarenessState, decode_awareness, encode_awareness
from tests.e2e.support import (
    QUICK,
    Child,
    Wire,
    join,
    reads,
    run,
    running,
    scripted_client,
    until,
)
from tests.e2e.test_rights import House


def states(room: collab.Room) -> list[dict[str, Any]]:
    """The states of all others that said anything."""
    return [state for state in room.presence.others().values() if state]


async def sees(room: collab.Room, *expected: dict[str, Any]) -> None:
    """Return when exactly these others are seen."""

    def order(found: list[dict[str, Any]]) -> list[str]:
        return sorted(map(repr, found))

    try:
        await until(lambda: order(states(room)) == order(list(expected)), timeout_s=8)
    except AssertionError:
        raise AssertionError(f"{states(room)} instead of {expected}") from None


ADA = {"user": {"name": "Ada"}}
BOB = {"user": {"name": "小波 📊 שלום"}}


def test_both_see_each_other_in_any_script_and_changes_arrive(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, user=ADA["user"], settings=QUICK) as ada,
            collab.open(":memory:", relay=url, user=BOB["user"], settings=QUICK) as bob,
        ):
            here, there = await ada.room("notes"), await bob.room("notes")
            await sees(here, BOB)
            await sees(there, ADA)
            calls: list[int] = []
            there.presence.observe(lambda presence: calls.append(len(presence.others())))
            here.presence.set({"caret": {"文": [1, 2.5, None, "é\u2028\x00"]}})
            await sees(there, ADA | {"caret": {"文": [1, 2.5, None, "é\u2028\x00"]}})
            await until(lambda: calls)
            here.presence.set({"caret": None, "user": None})
            await sees(there)
            here.presence.set(ADA)
            await sees(there, ADA)
            other = await bob.room("other")
            await other.wait_synced(20)
            await sees(other)  # rooms do not share who is in them
            await ada.close()
            await sees(there)

    run(main())


def test_closing_the_room_takes_the_state_away_and_the_client_may_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, user=ADA["user"], settings=QUICK) as ada,
            collab.open(":memory:", relay=url, user=BOB["user"], settings=QUICK) as bob,
        ):
            here, there = await ada.room("notes"), await bob.room("notes")
            await sees(there, ADA)
            await here.close()
            await sees(there)
            here = await ada.room("notes")
            await sees(there, ADA)
            await sees(here, BOB)

    run(main())


def test_after_a_cut_everybody_sees_everybody_again(tmp_path: Path) -> None:
    """The clocks of awareness must have moved on, or what is said again counts as known."""

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            Wire(url) as wire,
            collab.open(":memory:", relay=wire.url, user=ADA["user"], settings=QUICK) as ada,
            collab.open(":memory:", relay=url, user=BOB["user"], settings=QUICK) as bob,
        ):
            here, there = await ada.room("notes"), await bob.room("notes")
            await sees(here, BOB)
            await sees(there, ADA)
            for _ in range(3):
                wire.target = ""
                await wire.cut()
                await sees(there)
                await sees(here)
                wire.target = url
                await sees(there, ADA)
                await sees(here, BOB)

    run(main())


def test_after_a_restart_of_the_relay_everybody_sees_everybody_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            Wire("") as wire,
            collab.open(":memory:", relay=wire.url, user=ADA["user"], settings=QUICK) as ada,
            collab.open(":memory:", relay=wire.url, user=BOB["user"], settings=QUICK) as bob,
        ):
            here, there = await ada.room("notes"), await bob.room("notes")
            for _ in range(2):
                async with running(tmp_path) as (url, _):
                    wire.target = url
                    await sees(here, BOB)
                    await sees(there, ADA)
                await sees(here)
                await sees(there)

    run(main())


def test_a_killed_process_is_not_present(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(":memory:", relay=url, user=ADA["user"], settings=QUICK) as ada,
        ):
            here = await ada.room("notes")
            await here.wait_synced(20)
            arguments = ("stay", tmp_path / "eve.db", url)
            async with Child("tests.e2e.client_process", *arguments) as child:
                assert await child.line() == "here"
                await sees(here, {"user": {"name": "Eve"}})
                await child.kill()
                await sees(here)

    run(main())


@pytest.mark.parametrize("same_user", [False, True])
def test_an_id_is_its_owners_and_only_the_same_user_may_take_it_over(
    tmp_path: Path, same_user: bool
) -> None:
    house = House()

    def state(clock: int, name: str | None) -> bytes:
        text = None if name is None else f'{{"name":"{name}"}}'
        return encode_awareness([AwarenessState(77, clock, text)])

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            collab.open(":memory:", relay=url, token="watcher", settings=QUICK) as watcher,
            scripted_client(url, device=b"1" * 16, token="owner") as owner,
            scripted_client(
                url, device=b"2" * 16, token="owner" if same_user else "thief"
            ) as other,
        ):  # fmt: skip
            room = await watcher.room("notes")
            await room.wait_synced(20)
            await owner.send(join("notes"))
            channel = (await owner.expect(frames.Joined)).channel
            await owner.send(frames.Awareness(channel, state(5, "owner")))
            await sees(room, {"name": "owner"})
            await other.send(join("notes"))
            await other.expect(frames.Joined)
            for claim in (state(9, "other"), state(10, None), state(11, "other")):
                await other.send(frames.Awareness(channel, claim))
            await other.send(frames.Ping(1))
            await other.expect(frames.Pong)
            # What was sent is there: a later one of another id comes after it.
            mark = encode_awareness([AwarenessState(78, 1, '{"name":"mark"}')])
            await other.send(frames.Awareness(channel, mark))
            name = "other" if same_user else "owner"
            await sees(room, {"name": name}, {"name": "mark"})
            await owner.socket.close()
            if same_user:
                await until(lambda: 77 in room.presence.others())
                room.text("body").insert(0, "after the close")
                await room.wait_synced(20)
                await sees(room, {"name": name}, {"name": "mark"})
            else:
                await sees(room, {"name": "mark"})
            heard = [frame for frame in other.passed if isinstance(frame, frames.Awareness)]
            assert all(
                state.state != '{"name":"other"}'
                for frame in heard
                for state in decode_awareness(frame.data)
            )

    run(main())


def test_a_state_that_is_too_large_or_no_json_is_refused_and_changes_nothing() -> None:
    async def main() -> None:
        async with collab.open(":memory:", user=ADA["user"]) as client:
            room = await client.room("notes")
            before = room.awareness.get_local_state()
            with pytest.raises(collab.TooLarge):
                room.presence.set({"much": "x" * 40_000})
            with pytest.raises(TypeError):
                room.presence.set({"odd": object()})
            with pytest.raises(ValueError, match="JSON"):
                room.presence.set({"odd": float("nan")})
            assert room.awareness.get_local_state() == before == ADA

    run(main())


@pytest.mark.parametrize(
    "user",
    [{"n": "x" * 100_000}, {"n": float("nan")}, {"n": object()}, {"n": "\ud800"}],
    ids=["large", "nan", "object", "surrogate"],
)
def test_a_user_that_cannot_be_shown_is_refused_when_the_client_is_made(
    user: dict[str, Any],
) -> None:
    with pytest.raises((ValueError, TypeError)):
        collab.open(":memory:", user=user)


def test_a_bad_state_set_past_presence_harms_neither_the_connection_nor_the_others(
    tmp_path: Path,
) -> None:
    """Bindings made for pycrdt set states directly; the relay would end the connection for them."""
    nested: list[Any] = []
    for _ in range(100):
        nested = [nested]

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            Wire(url) as wire,
            collab.open(":memory:", relay=wire.url, user=ADA["user"], settings=QUICK) as ada,
            collab.open(":memory:", relay=url, settings=QUICK) as bob,
        ):
            here, there = await ada.room("notes"), await bob.room("notes")
            await sees(there, ADA)
            for bad in (object(), float("nan"), "\ud800", "x" * 100_000, nested):
                here.awareness.set_local_state({"bad": bad})
                here.presence.renew()
                here.text("body").insert(0, "x")
                await here.wait_synced(20)
                before = wire.accepted
                await wire.cut()
                await until(lambda before=before: wire.accepted > before)  # type: ignore[misc]
                await here.wait_synced(20)
            await sees(there)
            here.presence.set({"bad": None, **ADA})
            await sees(there, ADA)

    run(main())


def test_presence_without_a_network_is_nobody_and_does_no_harm(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            Wire("") as wire,
            collab.open(":memory:", relay=wire.url, user=ADA["user"], settings=QUICK) as ada,
            collab.open(":memory:", relay=url, settings=QUICK) as bob,
        ):
            here, there = await ada.room("notes"), await bob.room("notes")
            here.presence.set({"caret": 3})
            assert states(here) == []
            here.text("body").insert(0, "x")
            wire.target = url
            await sees(there, ADA | {"caret": 3})
            await reads(there, "x")

    run(main())


@pytest.mark.parametrize("fault", ["it raises", "it ends itself"])
def test_a_binding_that_fails_costs_neither_the_connection_nor_other_bindings(
    tmp_path: Path, fault: str
) -> None:
    """Its window is gone, say, and what it draws into."""
    failures: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: failures.append(context)
        )
        async with (
            running(tmp_path) as (url, _),
            Wire(url) as wire,
            collab.open(":memory:", relay=wire.url, user=ADA["user"], settings=QUICK) as ada,
            collab.open(":memory:", relay=url, user=BOB["user"], settings=QUICK) as bob,
        ):
            here = await ada.room("notes")
            await here.wait_synced(20)
            called: list[str] = []

            def broken(topic: str, _change: object) -> None:
                called.append(topic)
                if fault == "it raises":
                    raise ValueError("the window is gone")
                here.awareness.unobserve(observed)

            heard: list[str] = []
            observed = here.awareness.observe(broken)
            here.awareness.observe(lambda topic, _: heard.append(topic))
            there = await bob.room("notes")
            await sees(here, BOB)
            there.text("body").insert(0, "x")
            await reads(here, "x")
            assert wire.accepted == 1
            await wire.cut()
            there.text("body").insert(1, "y")
            await reads(here, "xy")
            await sees(here, BOB)
            assert called
            assert heard.count("change") >= 3  # Bob came, was out of sight, and came back

    asyncio.run(main())
    assert {str(each["exception"]) for each in failures} == (
        {"the window is gone"} if fault == "it raises" else set()
    )
