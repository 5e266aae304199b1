"""A room that is deleted at its relay: who is in it, who comes back to it, who comes after it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

import collab
from collab.protocol import frames
from collab.protocol.frames import Access, Close, Code
from collab_server.app import Relay
from collab_server.gateway import yjs_messages as messages
from collab_server.log.sqlite import SqliteLog
from collab_server.settings import Settings
from tests.e2e.authors import Author, text_of
from tests.e2e.support import Speaker, join, rows, run, running, scripted_client, soon
from tests.e2e.test_rights import House
from tests.e2e.test_yjs_endpoint import provider, update_message
from tests.unit.server.test_log_sqlite import Disk

REASON = "this room was deleted"


async def joins(
    speaker: Speaker, room: str = "notes", *, epoch: bytes | None = None, request: int = 1
) -> frames.Joined:
    await speaker.send(join(room, request=request, epoch=epoch))
    return await speaker.expect(frames.Joined)


async def writes(speaker: Speaker, joined: frames.Joined, update: bytes) -> frames.Ack:
    """Offer ``update``, as the first of a joining, until it is committed."""
    await speaker.send(frames.Offer(joined.channel, 1, update))
    return await speaker.expect(frames.Ack)


async def denied(speaker: Speaker, room: str, epoch: bytes) -> frames.Denied:
    await speaker.send(join(room, request=99, epoch=epoch))
    return await speaker.expect(frames.Denied)


async def silent(speaker: Speaker, number: int) -> None:
    """The relay has nothing more to say than the answer to a ping."""
    await speaker.send(frames.Ping(number))
    assert await speaker.receive() == frames.Pong(number)


def stored(data: Path, table: str) -> list[tuple[object, ...]]:
    path = f"file:{Settings(data=data).log_path}?mode=ro"
    with contextlib.closing(sqlite3.connect(path, uri=True)) as log:
        return log.execute(f"SELECT * FROM {table}").fetchall()


@asynccontextmanager
async def on(disk: Disk, data: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[
    tuple[str, Relay]
]:  # fmt: skip
    """A relay whose log's disk belongs to the test."""
    opened = partial(SqliteLog.open, factory=disk, retry_pauses_s=(0.005,))
    monkeypatch.setattr(SqliteLog, "open", opened)
    async with running(data) as (url, relay):
        try:
            yield url, relay
        finally:
            disk.full = False


# Who is in it


def test_who_is_in_a_room_is_told_that_it_was_deleted_and_nothing_of_it_is_left(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            scripted_client(url, device=b"a" * 16) as writer,
            scripted_client(url, device=b"b" * 16) as reader,
        ):
            author = Author(5)
            inside = await joins(writer)
            await writes(writer, inside, author.insert(0, "hello"))
            elsewhere = await joins(writer, "other", request=2)
            await writes(writer, elsewhere, Author(6).insert(0, "stays"))
            await joins(reader)
            await reader.expect(frames.Difference)
            await relay.room("notes").delete()
            for speaker in (writer, reader):
                left = await speaker.expect(frames.Left)
                assert left == frames.Left(inside.channel, Code.DELETED, REASON)
            assert not frames.is_transient(left.code)
            for number in (2, 3):
                late = frames.Update(inside.channel, number, author.insert(0, "late "))
                await writer.send(late)
            await silent(writer, 7)
            await silent(reader, 7)
            assert [text_of(update) for _, update in rows(tmp_path)] == ["stays"]
            assert [row[1] for row in stored(tmp_path, "rooms")] == ["other"]
            ((_, name, epoch, when),) = stored(tmp_path, "deleted_rooms")
            assert (name, epoch) == ("notes", inside.epoch)
            assert isinstance(when, int)
            assert when > 1_700_000_000_000
            more = Author(6).insert(0, "stays")
            await writer.send(frames.Update(elsewhere.channel, 2, more))
            assert (await writer.expect(frames.Ack)).number == 2

    run(main())


def test_nobody_is_told_of_a_deletion_that_is_not_durable_and_nothing_is_acked_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()

    async def main() -> None:
        async with (
            on(disk, tmp_path, monkeypatch) as (url, relay),
            scripted_client(url, device=b"a" * 16) as writer,
            scripted_client(url, device=b"b" * 16) as late,
        ):
            author = Author(5)
            inside = await joins(writer)
            await writes(writer, inside, author.insert(0, "durable"))
            disk.full = True
            queued = frames.Update(inside.channel, 2, author.insert(0, "queued "))
            await writer.send(queued, frames.Ping(1))
            await writer.expect(frames.Pong)
            deleting = asyncio.create_task(relay.room("notes").delete())
            await asyncio.sleep(0.02)
            after = frames.Update(inside.channel, 3, author.insert(0, "after it "))
            await writer.send(after)
            await silent(writer, 2)
            await late.send(join("notes", epoch=inside.epoch), join("notes", request=2))
            await silent(late, 2)
            assert not deleting.done()
            assert [text_of(update) for _, update in rows(tmp_path)] == ["durable"]
            disk.full = False
            await soon(deleting)
            assert await writer.receive() == frames.Left(inside.channel, Code.DELETED, REASON)
            assert await late.expect(frames.Denied) == frames.Denied(1, Code.DELETED, REASON)
            new = await late.expect(frames.Joined)
            assert (new.request, new.state_vector) == (2, b"\0")
            assert rows(tmp_path) == []
            await silent(writer, 3)

    run(main())


def test_a_stock_provider_is_told_why_and_closed_for_good(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay), provider(url) as one:
            await one.hello()
            await one.send(update_message(one.type("hello")))
            await one.send(messages.step1(b"\0"))
            await one.expect(messages.Step2)
            await relay.room("notes").delete()
            assert await one.expect(bytes) == messages.permission_denied(REASON)
            assert await one.closed() == Close.FORBIDDEN
            assert one.socket.close_reason == REASON
            assert frames.is_permanent(Close.FORBIDDEN)
            async with provider(url) as other:
                assert await other.hello() == b"\0"
                assert str(other.text) == ""
            assert rows(tmp_path) == []

    run(main())


# Who comes back to it


@pytest.mark.parametrize("new_room", ["none", "empty", "written"])
def test_who_knows_the_deleted_room_is_denied_whatever_has_its_name_now(
    tmp_path: Path, new_room: str
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay), scripted_client(url) as writer:
            old = await joins(writer)
            await writes(writer, old, Author(5).insert(0, "old"))
            await relay.room("notes").delete()
            await writer.expect(frames.Left)
            async with scripted_client(url, device=b"n" * 16) as other:
                if new_room != "none":
                    new = await joins(other)
                    assert new.epoch != old.epoch
                    assert new.state_vector == b"\0"
                if new_room == "written":
                    await writes(other, new, Author(6).insert(0, "new"))
                for speaker in (writer, other):
                    answer = await denied(speaker, "notes", old.epoch)
                    assert answer == frames.Denied(99, Code.DELETED, REASON)
                assert len(stored(tmp_path, "rooms")) == (new_room != "none")
            contents = [text_of(update) for _, update in rows(tmp_path)]
            assert contents == ["new"] * (new_room == "written")

    run(main())


def test_a_deleted_room_stays_known_when_the_relay_restarts(tmp_path: Path) -> None:
    async def main() -> None:
        epochs: list[bytes] = []
        for _ in range(3):
            async with running(tmp_path) as (url, relay), scripted_client(url) as speaker:
                for epoch in epochs:
                    answer = await denied(speaker, "notes", epoch)
                    assert answer.code == Code.DELETED
                new = await joins(speaker, epoch=b"%16d" % len(epochs))
                assert new.epoch == b"%16d" % len(epochs)  # an epoch that no room had
                epochs.append(new.epoch)
                await writes(speaker, new, Author(5 + len(epochs)).insert(0, "x"))
                await relay.room("notes").delete()
        assert rows(tmp_path) == []

    run(main())


def test_another_rooms_epoch_is_no_deleted_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay), scripted_client(url) as speaker:
            old = await joins(speaker)
            await relay.room("notes").delete()
            assert (await joins(speaker, "other", epoch=old.epoch)).epoch == old.epoch

    run(main())


def test_who_may_not_read_a_room_is_not_told_that_it_was_deleted(tmp_path: Path) -> None:
    house = House()

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, relay),
            scripted_client(url, token="ada") as ada,
            scripted_client(url, token="eve", device=b"e" * 16) as eve,
        ):  # fmt: skip
            old = await joins(ada)
            await relay.room("notes").delete()
            for room in ("notes", "never"):
                house.rights["eve", room] = Access.NONE
                answer = await denied(eve, room, old.epoch)
                assert answer.code == Code.FORBIDDEN
                assert answer.reason == "there is no such room for this user"
            house.rights["eve", "notes"] = Access.READ
            assert (await denied(eve, "notes", old.epoch)).code == Code.DELETED

    run(main())


# The handle


def test_only_a_room_that_exists_at_a_relay_that_runs_can_be_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        relay = Relay(Settings(data=tmp_path, port=0, open=True))
        with pytest.raises(collab.LocalError, match="does not run"):
            await relay.room("notes").delete()
        for name in ("", "a\n", "x" * 256, "\ud800"):
            with pytest.raises(collab.LocalError, match="no name of a room"):
                relay.room(name)
        async with relay.lifespan():
            handle = relay.room("notes")
            assert handle.name == "notes"
            with pytest.raises(collab.LocalError, match="no room 'notes'"):
                await handle.delete()
        with pytest.raises(collab.LocalError, match="does not run"):
            await handle.delete()
        assert stored(tmp_path, "deleted_rooms") == []

    run(main())


def test_a_room_that_nobody_is_in_is_deleted_too_and_only_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), scripted_client(url) as speaker:
            await writes(speaker, await joins(speaker), Author(5).insert(0, "hello"))
        async with running(tmp_path) as (url, relay):
            await relay.room("notes").delete()
            assert rows(tmp_path) == []
            with pytest.raises(collab.LocalError, match="no room"):
                await relay.room("notes").delete()
            assert len(stored(tmp_path, "deleted_rooms")) == 1

    run(main())


def test_a_deletion_amid_writing_takes_every_row_and_spares_the_other_rooms(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, compact_from_bytes=500) as (url, relay),
            scripted_client(url) as speaker,
        ):
            for life in range(5):
                author, beside = Author(10 + life), Author(100 + life)
                inside = await joins(speaker)
                other = await joins(speaker, f"other {life}", request=2)
                deleting = None
                for number in range(1, 200):
                    kind = frames.Offer if number == 1 else frames.Update
                    await speaker.send(
                        kind(inside.channel, number, author.insert(0, "x")),
                        kind(other.channel, number, beside.insert(0, "y")),
                    )
                    if number == 20 + 40 * life:
                        deleting = asyncio.create_task(relay.room("notes").delete())
                assert deleting is not None
                await soon(deleting)
                acked = 0
                while acked < 199:
                    ack = await speaker.expect(frames.Ack)
                    acked = max(acked, ack.number if ack.channel == other.channel else 0)
                await speaker.send(frames.Leave(other.channel))
                denial = await denied(speaker, "notes", inside.epoch)
                assert denial.code == Code.DELETED
            for life in range(5):
                again = await joins(speaker, f"other {life}", request=3)
                whole = await speaker.expect(frames.Difference)
                assert len(text_of(whole.update)) == 199, life
                await speaker.send(frames.Leave(again.channel))
        names = {row[0]: row[1] for row in stored(tmp_path, "rooms")}
        assert set(names.values()) == {f"other {life}" for life in range(5)}
        assert {row[1] for row in stored(tmp_path, "updates")} <= set(names)
        assert {row[0] for row in stored(tmp_path, "snapshots")} <= set(names)

    run(main())
