"""Whoever decides the rights fails: one room waits, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from collab.errors import LocalError
from collab.protocol import frames
from collab.protocol.frames import Access, Close, Code
from collab_server.app import Relay
from collab_server.auth import Authorize, User
from tests.e2e.authors import Author
from tests.e2e.support import join, run, running, scripted_client, soon, until
from tests.e2e.test_members import ruled_by_members
from tests.e2e.test_rights import House
from tests.e2e.test_yjs_endpoint import provider

FAILURES = [RuntimeError("no database"), asyncio.CancelledError()]


class Fickle(House):
    """Fails for rooms whose name says so, as long as ``fails``."""

    def __init__(self, failure: BaseException) -> None:
        super().__init__()
        self.failure = failure
        self.fails = True

    async def authorize(self, user: User, room: str) -> Access:
        if self.fails and room.startswith("fickle"):
            raise self.failure
        return await super().authorize(user, room)


def decide(relay: Relay, authorize: Callable[[Authorize], Authorize]) -> None:
    """Put something in the place of a running relay's ``authorize``."""
    assert relay._shared is not None
    rights = relay._shared.rights
    relay._shared.rights = replace(rights, authorize=authorize(rights.authorize))


@pytest.mark.parametrize("failure", FAILURES, ids=["raises", "cancelled"])
def test_a_room_whose_rights_are_unknown_is_busy_and_the_others_are_served(
    tmp_path: Path, failure: BaseException
) -> None:
    house = Fickle(failure)

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            scripted_client(url, token="ada") as ada,
        ):  # fmt: skip
            await ada.send(join("notes"))
            channel = (await ada.expect(frames.Joined)).channel
            await ada.send(join("fickle", request=2))
            denied = await ada.expect(frames.Denied)
            assert (denied.request, denied.code) == (2, Code.BUSY)
            await ada.send(frames.Offer(channel, 1, Author(5).insert(0, "served")))
            await ada.expect(frames.Ack)
            house.fails = False
            await ada.send(join("fickle", request=3))
            assert (await ada.expect(frames.Joined)).request == 3

    run(main())


@pytest.mark.parametrize("failure", FAILURES, ids=["raises", "cancelled"])
def test_a_check_that_fails_closes_the_room_for_now_and_those_of_other_rooms_go_on(
    tmp_path: Path, failure: BaseException
) -> None:
    house = Fickle(failure)
    house.fails = False

    async def main() -> None:
        async with (
            running(
                tmp_path,
                authenticate=house.authenticate,
                authorize=house.authorize,
                recheck_rights_s=0.02,
            ) as (url, _),
            scripted_client(url, token="ada") as ada,
        ):
            await ada.send(join("fickle"), join("notes", request=2))
            channels = [(await ada.expect(frames.Joined)).channel for _ in range(2)]
            house.fails = True
            left = await ada.expect(frames.Left)
            assert (left.channel, left.code) == (channels[0], Code.BUSY)
            house.rights["ada", "notes"] = Access.NONE
            left = await ada.expect(frames.Left)
            assert (left.channel, left.code) == (channels[1], Code.FORBIDDEN)

    run(main())


@pytest.mark.parametrize("failure", FAILURES, ids=["raises", "cancelled"])
def test_a_provider_whose_rights_are_unknown_is_to_come_again(
    tmp_path: Path, failure: BaseException
) -> None:
    house = Fickle(failure)

    async def main() -> None:
        async with running(
            tmp_path,
            authenticate=house.authenticate,
            authorize=house.authorize,
            recheck_rights_s=0.02,
        ) as (url, _):
            async with provider(url, "/y/fickle", token="ada") as one:
                await soon(one.socket.wait_closed())
                assert one.socket.close_code == Close.OVERLOADED
            house.fails = False
            async with provider(url, "/y/fickle", token="ada") as one:
                await one.receive()
                house.fails = True
                await soon(one.socket.wait_closed())
                assert one.socket.close_code == Close.OVERLOADED

    run(main())


@pytest.mark.parametrize("how", ["fails", "leaves"])
def test_a_room_is_given_back_by_somebody_whose_role_was_not_found_out(
    tmp_path: Path, how: str
) -> None:
    """It is held by then: one that nobody gives back is never evicted."""
    asked, is_asked = count(), asyncio.Event()

    def failing(authorize: Authorize) -> Authorize:
        async def twice(user: User, room: str) -> Access:
            if next(asked) == 0:
                return await authorize(user, room)
            is_asked.set()
            if how == "leaves":
                await asyncio.Event().wait()
            raise LocalError("the disk cannot be read")

        return twice

    async def main() -> None:
        async with ruled_by_members(tmp_path) as (url, relay):
            decide(relay, failing)
            assert relay._shared is not None
            rooms = relay._shared.rooms
            async with scripted_client(url, token="ana") as ana:
                await ana.send(join("notes"))
                await soon(is_asked.wait())
                if how == "fails":
                    assert (await ana.expect(frames.Denied)).code == Code.BUSY
            loaded = rooms.named("notes")
            assert loaded is not None
            await until(lambda: loaded.users == 0)
            assert loaded.eviction is not None

    run(main())


def test_a_join_does_not_wait_for_a_pause_in_the_changes_of_other_rooms(tmp_path: Path) -> None:
    names = count()

    async def main() -> None:
        async with ruled_by_members(tmp_path) as (url, relay):

            def busy(authorize: Authorize) -> Authorize:
                async def meanwhile(user: User, room: str) -> Access:
                    name = f"user {next(names)}"
                    await relay.room("other").set_member(name, "reader", by="shop")
                    return await authorize(user, room)

                return meanwhile

            decide(relay, busy)
            async with scripted_client(url, token="ana") as ana:
                await ana.send(join("notes"))
                await ana.expect(frames.Joined)
            assert next(names) == 2

    run(main())
