"""A room that is deleted while it is loaded, joined, written to, compacted or asked about."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

import pytest

from collab.errors import Closed, LocalError
from collab_server.log.port import RoomDeleted
from collab_server.replicas import ReplicaFailed
from collab_server.room import Appended
from collab_server.rooms import Loaded
from tests.unit.protocol.updates import text, update
from tests.unit.server.house import house, pause, reader_of, run
from tests.unit.server.test_log_sqlite import EPOCH

HI = update((1, 0, [text("hi")]))
MORE = update((1, 2, [text("!", left=(1, 1))]))


def test_who_joins_while_a_room_is_being_deleted_waits_and_is_judged_then(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as at:
            before = await at.rooms.hold("a", epoch=EPOCH)
            at.disk.full = True
            deleting = at.delete()
            joining = [at.hold(epoch) for epoch in (EPOCH, None, b"u" * 16, EPOCH)]
            await pause()
            assert not any(task.done() for task in [deleting, *joining])
            at.disk.full = False
            await deleting
            first, fresh, unknown, last = await asyncio.gather(*joining, return_exceptions=True)
            assert isinstance(first, RoomDeleted)
            assert isinstance(last, RoomDeleted)
            assert isinstance(fresh, Loaded)
            assert fresh is unknown
            assert fresh.room.epoch != EPOCH
            assert fresh.room.channel != before.room.channel
            assert fresh.room.head == 0

    run(main())


def test_only_who_offers_the_epoch_of_a_deleted_room_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, room_idle_s=0.0) as at:
            at.rooms.release(await at.rooms.hold("a", epoch=EPOCH))
            await at.rooms.delete("a", now_ms=0)
            with pytest.raises(RoomDeleted):  # there is none of the name
                await at.rooms.hold("a", epoch=EPOCH)
            assert await at.log.find_room("a") is None
            new = await at.rooms.hold("a", epoch=b"n" * 16)
            assert new.room.epoch == b"n" * 16
            with pytest.raises(RoomDeleted):  # there is one, and it is loaded
                await at.rooms.hold("a", epoch=EPOCH)
            assert await at.rooms.hold("a", epoch=b"u" * 16) is new
            for _ in range(2):
                at.rooms.release(new)
            async with asyncio.timeout(5):
                while len(at.rooms):
                    await asyncio.sleep(0.001)
            with pytest.raises(RoomDeleted):  # there is one, and it is not loaded
                await at.rooms.hold("a", epoch=EPOCH)
            assert (await at.rooms.hold("b", epoch=EPOCH)).room.epoch == EPOCH

    run(main())


def test_who_offers_a_deleted_epoch_does_not_spoil_it_for_who_waits_beside(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as at:
            await at.rooms.hold("a", epoch=EPOCH)
            await at.rooms.delete("a", now_ms=0)
            epochs = (EPOCH, None, EPOCH, b"u" * 16)
            joining = [at.hold(epoch) for epoch in epochs]  # the first loads for all of them
            found = await asyncio.gather(*joining, return_exceptions=True)
            assert isinstance(found[0], RoomDeleted)
            assert isinstance(found[2], RoomDeleted)
            assert isinstance(found[1], Loaded)
            assert found[1] is found[3]

    run(main())


def test_from_its_deletion_on_a_room_takes_nothing_and_acks_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as at:
            loaded = await at.rooms.hold("a", epoch=EPOCH)
            told: list[str] = []
            reader = reader_of(loaded, told)
            assert isinstance(await at.write(loaded, reader, HI), Appended)
            at.disk.full = True
            deleting = at.delete()
            await pause()
            assert await at.write(loaded, reader, MORE) is None
            assert told == []
            at.disk.full = False
            await deleting
            assert told == ["deleted"]
            assert loaded.room.next_run(reader) is None
            assert loaded.room.next_ack(reader, at.log.committed) is None
            assert await at.write(loaded, reader, MORE) is None
            assert await at.log.read(loaded.room.id, 0, 999) == []

    run(main())


def test_a_room_that_comes_after_a_deleted_one_is_not_touched_by_who_lets_go_of_that(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with house(tmp_path, room_idle_s=0.0) as at:
            old = await at.rooms.hold("a", epoch=EPOCH)
            await at.rooms.delete("a", now_ms=0)
            new = await at.rooms.hold("a", epoch=None)
            reader = reader_of(new, [])
            assert isinstance(await at.write(new, reader, HI), Appended)
            at.rooms.release(old)
            await pause()
            assert await at.rooms.hold("a", epoch=None) is new
            assert len(at.rooms) == 1
            await at.durable()
            assert len((await at.log.load(new.room.id)).updates) == 1

    run(main())


def test_a_room_that_is_being_loaded_is_deleted_once_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as at:
            at.disk.full = True
            joining = at.hold(EPOCH)
            await pause()
            deleting = at.delete()
            await pause()
            assert not joining.done()
            at.disk.full = False
            await deleting
            with pytest.raises(RoomDeleted):
                await joining
            assert await at.log.find_room("a") is None

    run(main())


@pytest.mark.parametrize("loaded", [True, False])
def test_cancelling_who_deletes_does_not_stop_the_deletion(tmp_path: Path, loaded: bool) -> None:
    async def main() -> None:
        async with house(tmp_path) as at:
            if loaded:
                await at.rooms.hold("a", epoch=EPOCH)
            else:
                await at.log.open_room("a", epoch=EPOCH)
            at.disk.full = True
            deleting = at.delete()
            await pause()
            deleting.cancel()
            with suppress(asyncio.CancelledError):
                await deleting
            joining = at.hold(EPOCH)
            await pause()
            assert not joining.done()
            at.disk.full = False
            with pytest.raises(RoomDeleted):
                await joining

    run(main())


def test_who_asks_for_a_deletion_that_is_on_its_way_waits_for_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as at:
            await at.rooms.hold("a", epoch=EPOCH)
            await asyncio.gather(*[at.delete() for _ in range(3)])
            assert await at.log.is_deleted("a", EPOCH)
            with pytest.raises(LocalError, match="no room 'a'"):
                await at.rooms.delete("a", now_ms=0)
            assert await at.log.find_room("a") is None

    run(main())


def test_a_deletion_that_the_end_of_the_relay_overtakes_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as at:
            await at.rooms.hold("a", epoch=EPOCH)
            at.disk.full = True
            deleting = at.delete()
            await pause()
        with pytest.raises(Closed, match="whole or not at all"):
            await deleting

    run(main())


@pytest.mark.parametrize("snapshot_comes", ["before", "after"])
def test_a_compaction_that_is_under_way_neither_fails_nor_brings_the_room_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, snapshot_comes: str
) -> None:
    async def main() -> None:
        async with house(tmp_path, compact_from_bytes=1) as at:
            loaded = await at.rooms.hold("a", epoch=EPOCH)
            asked, answer = asyncio.Event(), asyncio.Event()

            async def snapshot(_room_id: int) -> tuple[int, bytes, bytes]:
                offset = loaded.room.head
                asked.set()
                await answer.wait()
                return offset, HI, loaded.room.coverage.to_bytes()

            at.rooms._replicas.snapshot = snapshot  # type: ignore[method-assign, assignment]
            await at.write(loaded, reader_of(loaded, []), HI)
            await asyncio.wait_for(asked.wait(), 5)
            if snapshot_comes == "before":
                await at.durable()
                at.disk.may_commit.clear()
                answer.set()
                await pause()
                deleting = at.delete()
                await pause()
                at.disk.may_commit.set()
                await deleting
            else:
                await at.rooms.delete("a", now_ms=0)
                answer.set()
            await pause()
            assert loaded.compacting is None
            with pytest.raises(KeyError):
                await at.log.load(loaded.room.id)
            new = await at.rooms.hold("a", epoch=None)
            assert (await at.log.load(new.room.id)).snapshot is None

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.messages == []


def test_a_question_about_a_room_that_is_deleted_meanwhile_ends_as_a_failed_replica(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with house(tmp_path) as at:
            loaded = await at.rooms.hold("a", epoch=EPOCH)
            await at.write(loaded, reader_of(loaded, []), HI)
            deleting = at.delete()
            async with asyncio.timeout(5):
                while not await at.log.is_deleted("a", EPOCH):
                    await asyncio.sleep(0)
            with pytest.raises(ReplicaFailed):
                await at.rooms.reload(loaded.room.id)
            await deleting
            with pytest.raises(ReplicaFailed):
                await at.rooms.reload(loaded.room.id)

    run(main())
