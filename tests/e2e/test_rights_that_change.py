"""Rights that change while a room is open: a device learns of them when it joins again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import collab
from collab.protocol import frames
from collab.protocol.frames import Access, Close, Code
from collab_server.gateway import yjs_messages as messages
from tests.e2e.authors import Author
from tests.e2e.support import QUICK, join, reads, rows, run, running, scripted_client, until
from tests.e2e.test_rights import House
from tests.e2e.test_yjs_endpoint import provider, update_message


@asynccontextmanager
async def relay_of(house: House, data: Path) -> AsyncIterator[str]:
    async with running(
        data, authenticate=house.authenticate, authorize=house.authorize, recheck_rights_s=0.02
    ) as (url, _):
        yield url


@pytest.mark.parametrize(
    ("before", "after"),
    [(Access.READ, Access.WRITE), (Access.WRITE, Access.READ), (Access.WRITE, Access.ADMIN)],
    ids=lambda access: access.name.lower(),
)
def test_a_device_whose_rights_changed_is_sent_away_for_now_and_told_them_at_its_next_join(
    tmp_path: Path, before: Access, after: Access
) -> None:
    house = House()
    house.rights["ada", "notes"] = before

    async def main() -> None:
        async with relay_of(house, tmp_path) as url, scripted_client(url, token="ada") as ada:
            await ada.send(join("notes"), join("other", request=2))
            first, other = await ada.expect(frames.Joined), await ada.expect(frames.Joined)
            assert (first.access, other.access) == (before, Access.WRITE)
            house.rights["ada", "notes"] = after
            left = await ada.expect(frames.Left)
            assert (left.channel, left.code) == (first.channel, Code.BUSY)
            assert frames.is_transient(left.code)
            assert "rights" in left.reason
            await ada.send(join("notes", request=3, epoch=first.epoch))
            assert (await ada.expect(frames.Joined)).access == after
            await asyncio.sleep(0.1)  # it is checked again, several times
            await ada.send(frames.Ping(1))
            await ada.expect(frames.Pong)
            assert not any(isinstance(frame, frames.Left) for frame in ada.passed)

    run(main())


def test_what_a_reader_was_refused_is_taken_once_it_may_write(tmp_path: Path) -> None:
    house = House()
    house.rights["ada", "notes"] = Access.READ

    async def main() -> None:
        async with relay_of(house, tmp_path) as url, scripted_client(url, token="ada") as ada:
            update = Author(5).insert(0, "mine")
            await ada.send(join("notes"))
            channel = (await ada.expect(frames.Joined)).channel
            await ada.send(frames.Offer(channel, 1, update))
            assert (await ada.expect(frames.Refused)).code == Code.FORBIDDEN
            house.rights["ada", "notes"] = Access.WRITE
            await ada.expect(frames.Left)
            await ada.send(join("notes"))
            channel = (await ada.expect(frames.Joined)).channel
            await ada.send(frames.Offer(channel, 1, update))
            await ada.expect(frames.Ack)
            assert [row for _, row in rows(tmp_path)] == [update]

    run(main())


def test_a_device_comes_back_by_itself_and_writes_what_it_may_write_now(tmp_path: Path) -> None:
    house = House()
    house.rights["eve", "notes"] = Access.READ

    async def main() -> None:
        async with (
            relay_of(house, tmp_path) as url,
            collab.open(":memory:", relay=url, token="ada", settings=QUICK) as one,
            collab.open(":memory:", relay=url, token="eve", settings=QUICK) as other,
        ):
            hers, theirs = await one.room("notes"), await other.room("notes")
            hers.text("body").insert(0, "hello")
            await reads(theirs, "hello")
            house.rights["eve", "notes"] = Access.WRITE
            machine = theirs._sync.machine
            await until(lambda: machine.access is Access.WRITE and machine.is_level)
            theirs.text("body").insert(5, " there")
            await theirs.wait_synced(20)
            await reads(hers, "hello there")
            house.rights["eve", "notes"] = Access.READ
            await until(lambda: machine.access is Access.READ and machine.is_caught_up)
            hers.text("body").insert(0, "oh ")
            await reads(theirs, "oh hello there")

    run(main())


@pytest.mark.parametrize("before", [Access.READ, Access.WRITE])
def test_a_provider_whose_rights_changed_is_closed_for_now_and_served_anew(
    tmp_path: Path, before: Access
) -> None:
    house = House()
    after = Access.READ + Access.WRITE - before
    house.rights["ada", "notes"] = before

    async def main() -> None:
        async with relay_of(house, tmp_path) as url:
            async with provider(url, token="ada") as one:
                await one.hello()
                house.rights["ada", "notes"] = Access(after)
                code = await one.closed()
                assert code == Close.OVERLOADED
                assert not frames.is_permanent(code)
                assert "rights" in (one.socket.close_reason or "")
            async with provider(url, token="ada") as again:
                await again.hello()
                await again.send(update_message(again.type("now")), messages.step1(b"\0"))
                if after == Access.WRITE:
                    await again.expect(messages.Step2)
                    await until(lambda: rows(tmp_path))
                else:
                    refused = await again.expect(bytes)
                    assert refused.startswith(messages.permission_denied("")[:2])
                    assert rows(tmp_path) == []

    run(main())
