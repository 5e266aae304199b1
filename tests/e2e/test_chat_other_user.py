"""Another user signs in on a device: nothing goes out under a name that is not its writer's."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import HTTPConnection

import collab
from collab import MessageState
from collab.protocol.frames import Access
from collab_server.auth import User
from tests.e2e.chat_support import bodies, history, shows
from tests.e2e.support import QUICK, run, running, until


async def by_token(token: str | None, _request: HTTPConnection) -> User | None:
    return None if token is None else User(token)


async def everybody(_user: User, _room: str) -> Access:
    return Access.WRITE


def test_what_one_user_wrote_offline_does_not_go_out_as_another_who_signs_in(
    tmp_path: Path,
) -> None:
    path = tmp_path / "shared.db"

    async def main() -> None:
        async with running(tmp_path / "relay", authenticate=by_token, authorize=everybody) as (
            url,
            _,
        ):
            async with collab.open(path, relay=url, token="ada", settings=QUICK) as client:
                room = await client.room("desk")
                await (await room.chat.send("first")).wait("accepted", 20)
                await room.chat.mark_read()
            async with collab.open(path) as client:  # ada goes on without a network
                room = await client.room("desk")
                await room.chat.send("ada's secret")
            async with collab.open(path, relay=url, token="ben", settings=QUICK) as client:
                room = await client.room("desk")
                await room.wait_synced(20)
                await until(lambda: room.chat.unread == 1)  # what ada wrote is news to ben
                first, hers = await room.chat.history()
                assert (first.body, first.is_mine, first.sender) == ("first", False, "ada")
                assert (hers.state, hers.code) == (MessageState.STALLED, "other_user")
                with pytest.raises(collab.NotSent):
                    await hers.wait("accepted", 20)
                await (await room.chat.send("ben's")).wait("accepted", 20)
                assert room.status.pending_messages == 0
            async with collab.open(path, relay=url, token="ada", settings=QUICK) as client:
                room = await client.room("desk")
                await room.wait_synced(20)
                hers = next(m for m in await room.chat.history() if m.body == "ada's secret")
                await room.chat.retry(hers)
                await hers.wait("accepted", 20)
                assert [m.sender for m in await room.chat.history()] == ["ada", "ben", "ada"]
                assert [m.is_mine for m in await room.chat.history()] == [True, False, True]
            async with collab.open(":memory:", relay=url, token="eve", settings=QUICK) as client:
                room = await client.room("desk")
                await shows(room, "first", "ben's", "ada's secret")

    run(main())


def test_what_was_taken_while_its_writer_could_not_hear_of_it_is_his_and_stands_once(
    tmp_path: Path,
) -> None:
    path = tmp_path / "shared.db"

    async def main() -> None:
        async with running(tmp_path / "relay", authenticate=by_token, authorize=everybody) as (
            url,
            relay,
        ):
            async with collab.open(path, relay=url, token="ada", settings=QUICK) as client:
                room = await client.room("desk")
                await room.wait_synced(20)
            async with collab.open(path) as client:
                room = await client.room("desk")
                sent = await room.chat.send("did it arrive?")
            # The relay has it, and nobody told this device.
            await relay.room("desk").send("did it arrive?", id=sent.id, sender="ada")
            async with collab.open(path, relay=url, token="ben", settings=QUICK) as client:
                room = await client.room("desk")
                await room.wait_synced(20)
                assert await history(room) == ["did it arrive?"]
                (message,) = await room.chat.history()
                assert (message.state, message.is_mine) == (MessageState.ACCEPTED, False)
                assert bodies(await room.chat.history()) == ["did it arrive?"]

    run(main())
