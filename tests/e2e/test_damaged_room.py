"""One room's log is damaged on the relay's disk: who is told what, and whom it concerns."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import collab
from collab.protocol import frames
from collab.protocol.frames import Close, Code
from collab_server.settings import Settings
from tests.e2e.authors import Author
from tests.e2e.support import QUICK, join, reads, run, running, scripted_client, soon, until
from tests.e2e.test_yjs_endpoint import provider


async def damaged(data: Path) -> None:
    """Leave the log of a relay whose room "notes" has an update that is none."""
    async with running(data) as (url, _), scripted_client(url) as ada:
        await ada.send(join("notes"))
        channel = (await ada.expect(frames.Joined)).channel
        await ada.send(frames.Offer(channel, 1, Author(5).insert(0, "once")))
        await ada.expect(frames.Ack)
    with contextlib.closing(sqlite3.connect(Settings(data=data).log_path)) as log, log:
        log.execute("UPDATE updates SET data = x'ffff'")


def test_a_room_whose_log_is_damaged_is_busy_and_the_others_are_served(tmp_path: Path) -> None:
    async def main() -> None:
        await damaged(tmp_path)
        async with running(tmp_path) as (url, _):
            async with scripted_client(url) as ada:
                await ada.send(join("notes"))
                assert (await ada.expect(frames.Denied)).code == Code.BUSY
                await ada.send(join("other", request=2))
                channel = (await ada.expect(frames.Joined)).channel
                await ada.send(frames.Offer(channel, 1, Author(6).insert(0, "served")))
                await ada.expect(frames.Ack)
            async with provider(url) as one:
                await soon(one.socket.wait_closed())
                assert one.socket.close_code == Close.OVERLOADED

    run(main())


def test_a_device_in_a_damaged_room_goes_on_in_its_others(tmp_path: Path) -> None:
    async def main() -> None:
        await damaged(tmp_path)
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as another,
        ):
            notes, other = await client.room("notes"), await client.room("other")
            notes.text("body").insert(0, "kept here")
            other.text("body").insert(0, "served")
            await other.wait_synced(20)
            await reads(await another.room("other"), "served")
            await until(lambda: notes.status.error is not None)
            assert not notes.status.synced
            assert client.connection is not None
            assert client.connection.state is collab.State.LIVE
            assert str(notes.text("body")) == "kept here"

    run(main())
