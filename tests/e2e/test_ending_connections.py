"""A connection that takes its time to end: what happens meanwhile reaches everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from collab import limits
from collab.protocol import frames
from collab.protocol.frames import Access, Code
from collab_server.app import Relay
from collab_server.auth import MEMBERS_DECIDE, Authorize, User
from tests.e2e.chat_member import LANE, entered
from tests.e2e.support import join, rooms_at, run, running, scripted_client, soon, until
from tests.e2e.test_members import by_token
from tests.e2e.test_rights_unknown import decide

ROOMS = [f"talk {number}" for number in range(limits.MAX_CHAT_READS + 2)]


class Lingering:
    """Looks up rights; for the room "slow" it waits, and when cancelled has to clear up."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.may_end = asyncio.Event()

    def __call__(self, authorize: Authorize) -> Authorize:
        async def look_up(user: User, room: str) -> Access:
            if room != "slow":
                return await authorize(user, room)
            self.asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
                await self.may_end.wait()
            raise AssertionError("it was not cancelled")

        return look_up


@asynccontextmanager
async def leaving(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Relay, str, Lingering]]:
    """A relay that ana's connection is leaving, with more chats to read for than it reads at once.

    Ana is the admin of every room.
    """
    application = Lingering()
    async with running(data, authenticate=by_token, authorize=MEMBERS_DECIDE) as (url, relay):
        assert relay._shared is not None
        decide(relay, application)
        for name in ROOMS:
            await relay.room(name).set_member("ana", "admin", by="shop")
            await relay.room(name).set_member("ben", "writer", by="shop")

        async def takes_its_time(*_: Any, **__: Any) -> None:
            await asyncio.Event().wait()

        async with AsyncExitStack() as stack:
            stack.callback(application.may_end.set)
            speaker = await stack.enter_async_context(scripted_client(url, token="ana"))
            channels = []
            for name in ROOMS:
                await speaker.send(join(name))
                channels.append((await speaker.expect(frames.Joined)).channel)
                await speaker.send(frames.Enter(channels[-1], LANE, 0, bytes(16), 0))
                await speaker.expect(frames.Entered)
            monkeypatch.setattr(relay._shared.chats.log, "page", takes_its_time)
            for channel in channels:
                await speaker.send(frames.Fetch(channel, 1, 0, 10, True))
            (rooms,) = rooms_at(relay)
            await until(lambda: len(rooms._chat._to_read) == 2)
            await speaker.send(join("slow"))
            await soon(application.asked.wait())
            await speaker.socket.close()
            await soon(application.cancelled.wait())
            yield relay, url, application


def test_a_change_of_members_does_not_end_the_commits_of_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with leaving(tmp_path, monkeypatch) as (relay, url, _):
            await soon(relay.room(ROOMS[0]).remove_member("ana", by="shop"))
            async with entered(url, ROOMS[0], token="ben", device=b"b" * 16) as ben:
                assert (await ben.say(ben.message(1))).code == "accepted"

    run(main())


def test_a_deletion_is_told_to_everybody_who_is_in_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with leaving(tmp_path, monkeypatch) as (relay, url, _), AsyncExitStack() as stack:
            others = []
            for number in range(8):  # readers have no order: one of them comes after ana's
                device = bytes([number]) * 16
                opened = scripted_client(url, token="ben", device=device)
                others.append(await stack.enter_async_context(opened))
                await others[-1].send(join(ROOMS[0]))
                await others[-1].expect(frames.Joined)
            await soon(relay.room(ROOMS[0]).delete())
            for other in others:
                assert (await other.expect(frames.Left)).code == Code.DELETED

    run(main())
