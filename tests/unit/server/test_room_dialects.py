"""One log, readers of several dialects, writers without numbers."""

from __future__ import annotations

from itertools import count

import pytest

from collab import limits
from collab.protocol import frames
from collab.protocol.codec import encode
from collab.protocol.frames import Access
from collab.protocol.update import Coverage, walk
from collab_server.gateway.yjs_messages import Update, in_updates, messages_in
from collab_server.room import Appended, Dialect, NotTaken, Reader, Room, in_frames
from tests.unit.protocol.updates import text, update


def typed(client: int, clock: int, letters: str) -> bytes:
    left = {"left": (client, clock - 1)} if clock else {}
    return update((client, clock, [text(letters, **left)]))


class Desk:
    def __init__(self, *, snapshot_bytes: int = 0) -> None:
        self.room = Room(
            room_id=1, channel=7, name="room", epoch=b"e" * 16, base=0, head=0,
            coverage=Coverage(), snapshot_bytes=snapshot_bytes,
        )  # fmt: skip
        self._offsets = count(1)

    def reader(self, dialect: Dialect) -> Reader:
        reader = Reader(Access.WRITE, lambda: None, dialect)
        self.room.join(reader, good=True, offset=0)
        return reader

    def take(self, writer: Reader, data: bytes) -> Appended | NotTaken:
        return self.room.take_in(writer, data, walk(data), lambda: next(self._offsets))


def test_a_run_is_written_once_for_all_readers_of_a_dialect() -> None:
    desk = Desk()
    writer = desk.reader(in_updates)
    stock, devices = (
        [desk.reader(dialect) for _ in range(3)] for dialect in (in_updates, in_frames)
    )
    desk.take(writer, typed(1, 0, "a"))
    desk.take(writer, typed(1, 1, "b"))
    runs = [desk.room.next_run(reader) for reader in [*stock, *devices]]
    assert all(run is runs[0] for run in runs[:3])
    assert all(run is runs[3] for run in runs[3:])
    assert isinstance(runs[0], bytes)
    (told,) = messages_in(runs[0])
    assert isinstance(told, Update)
    assert Coverage.from_update(told.update).clocks == {1: 2}
    assert runs[3] == encode(frames.Updates(7, 2, told.update))


def test_a_writer_without_numbers_is_owed_no_acks_and_does_not_hear_itself() -> None:
    desk = Desk()
    writer = desk.reader(in_updates)
    assert desk.take(writer, typed(1, 0, "a")) == Appended(1, typed(1, 0, "a"))
    assert not writer.acks
    assert desk.room.next_run(writer) is None
    assert desk.room.next_ack(writer, committed=1) is None


def test_what_is_known_early_or_too_large_is_not_taken_and_changes_nothing() -> None:
    desk = Desk()
    writer = desk.reader(in_updates)
    desk.take(writer, typed(1, 0, "ab"))
    assert desk.take(writer, typed(1, 0, "a")) is NotTaken.KNOWN
    assert desk.take(writer, typed(1, 3, "x")) is NotTaken.EARLY
    assert (desk.room.head, desk.room.coverage.clocks) == (1, {1: 2})
    full = Desk(snapshot_bytes=limits.MAX_DOCUMENT_BYTES)
    assert full.take(full.reader(in_updates), typed(1, 0, "a")) is NotTaken.TOO_LARGE
    assert full.room.head == 0


def test_an_update_that_is_early_does_not_keep_the_next_one_out() -> None:
    desk = Desk()
    writer = desk.reader(in_updates)
    assert desk.take(writer, typed(1, 1, "b")) is NotTaken.EARLY
    assert isinstance(desk.take(writer, typed(1, 0, "a")), Appended)


@pytest.mark.parametrize("dialect", [in_updates, in_frames])
def test_what_overlaps_is_cut_before_anybody_sees_it(dialect: Dialect) -> None:
    desk = Desk()
    writer, other = desk.reader(in_updates), desk.reader(dialect)
    desk.take(writer, typed(1, 0, "ab"))
    desk.room.next_run(other)
    taken = desk.take(writer, update((1, 0, [text("abc")])))
    assert isinstance(taken, Appended)
    assert walk(taken.data).ranges == ((1, 2, 3),)
    assert desk.room.next_run(other) == dialect(7, 2, taken.data)
