"""One room's log: what is appended, what is acked when, and what each reader gets next."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from collab import limits
from collab.errors import BadFrame, BadUpdate
from collab.protocol import frames
from collab.protocol.codec import decode_from_relay
from collab.protocol.frames import Access, Code
from collab.protocol.update import Coverage, Fit, encode_state_vector, walk
from collab_server.room import BEHIND, Answer, Appended, Behind, Reader, Room
from tests.unit.protocol.updates import deletes, shared_type, text, update


def typed(client: int, clock: int, letters: str) -> bytes:
    """One client's insert after its own last letter."""
    place: dict[str, Any] = {"left": (client, clock - 1)} if clock else {}
    return update((client, clock, [text(letters, **place)]))


class Desk:
    """A room, and what a shell does around it: offsets, numbers, readers that count wake-ups."""

    def __init__(self, *, head: int = 0, base: int = 0, **how: Any) -> None:
        self.room = Room(
            room_id=1, channel=7, name="room", epoch=b"e" * 16, base=base, head=head,
            coverage=how.pop("coverage", Coverage()), **how,
        )  # fmt: skip
        self.offsets = count(head + 1)

    def reader(
        self, *, offset: int = 0, good: bool = True, access: Access = Access.WRITE
    ) -> Reader:
        reader = Reader(access, lambda: None)
        self.room.join(reader, good=good, offset=offset)
        return reader

    def take(
        self, reader: Reader, data: bytes, *, number: int | None = None, offer: bool = False
    ) -> Appended | Answer | None:
        kind = frames.Offer if offer else frames.Update
        frame = kind(7, reader.number + 1 if number is None else number, data)
        return self.room.receive(reader, frame, walk(data), lambda: next(self.offsets))

    def offset_of(self, reader: Reader, data: bytes) -> int:
        taken = self.take(reader, data)
        assert isinstance(taken, Appended)
        return taken.offset

    def run(self, reader: Reader) -> frames.Updates | Behind | None:
        data = self.room.next_run(reader)
        if not isinstance(data, bytes):
            return data
        frame = decode_from_relay(data)
        assert isinstance(frame, frames.Updates)
        return frame

    def ack(self, reader: Reader, committed: int) -> frames.Ack | None:
        data = self.room.next_ack(reader, committed)
        if data is None:
            return None
        frame = decode_from_relay(data)
        assert isinstance(frame, frames.Ack)
        return frame


# Joining


def test_a_good_offset_goes_on_from_there() -> None:
    desk = Desk(head=10)
    reader = Reader(Access.WRITE, lambda: None)
    assert desk.room.join(reader, good=True, offset=10)
    assert not desk.room.is_behind(reader)
    assert isinstance(desk.take(reader, typed(1, 0, "a")), Appended)


@pytest.mark.parametrize(("good", "offset"), [(False, 10), (True, 4)], ids=["unknown", "compacted"])
def test_an_offset_that_is_unknown_or_below_the_base_gets_a_difference(
    good: bool, offset: int
) -> None:
    desk = Desk(head=10, base=5)
    reader = Reader(Access.WRITE, lambda: None)
    assert not desk.room.join(reader, good=good, offset=offset)
    assert reader.waits_for_difference
    assert reader.waits_for_offer


def test_an_offset_at_the_base_is_good() -> None:
    assert Desk(head=10, base=5).room.join(Reader(Access.READ, lambda: None), good=True, offset=5)


def test_nothing_of_the_log_goes_to_a_reader_before_its_difference() -> None:
    desk = Desk()
    writer, late = desk.reader(), desk.reader(good=False)
    offset = desk.offset_of(writer, typed(1, 0, "a"))
    assert desk.run(late) is None
    assert not desk.room.is_behind(late)
    desk.room.place(late, 0)
    assert desk.run(late) == frames.Updates(7, offset, typed(1, 0, "a"))


def test_a_difference_places_its_reader_at_its_own_offset() -> None:
    desk = Desk()
    writer, late = desk.reader(), desk.reader(good=False)
    first = desk.offset_of(writer, typed(1, 0, "a"))
    second = desk.offset_of(writer, typed(1, 1, "b"))
    desk.room.place(late, first)
    assert desk.run(late) == frames.Updates(7, second, typed(1, 1, "b"))


def test_a_reader_that_joins_again_starts_anew() -> None:
    desk = Desk()
    reader = desk.reader(access=Access.READ)
    desk.take(reader, typed(1, 0, "a"))
    assert reader.refused
    reader.access = Access.WRITE
    desk.room.join(reader, good=True, offset=0)
    assert (reader.number, reader.refused, len(reader.acks)) == (0, False, 0)
    assert isinstance(desk.take(reader, typed(1, 0, "a")), Appended)


def test_what_a_reader_wrote_stays_when_it_leaves() -> None:
    desk = Desk()
    writer, other = desk.reader(), desk.reader()
    offset = desk.offset_of(writer, typed(1, 0, "a"))
    desk.room.leave(writer)
    assert writer not in desk.room.readers
    assert desk.ack(writer, offset) is None
    assert desk.run(other) == frames.Updates(7, offset, typed(1, 0, "a"))


# 1. The log has no gap and no overlap


def test_an_update_that_fits_is_appended_as_it_is() -> None:
    desk = Desk()
    reader = desk.reader()
    assert desk.take(reader, typed(1, 0, "a")) == Appended(1, typed(1, 0, "a"))
    assert desk.room.head == 1
    assert desk.room.coverage.clocks == {1: 1}
    assert desk.room.log_bytes == len(typed(1, 0, "a"))


def test_what_is_known_is_cut_off_an_update_that_overlaps() -> None:
    desk = Desk()
    reader, other = desk.reader(), desk.reader()
    desk.take(reader, typed(1, 0, "ab"))
    known = desk.room.coverage.copy()
    taken = desk.take(reader, update((1, 0, [text("abc")])))
    assert isinstance(taken, Appended)
    assert known.fit(walk(taken.data)) is Fit.NEW
    assert walk(taken.data).ranges == ((1, 2, 3),)
    run = desk.run(other)
    assert isinstance(run, frames.Updates)
    assert walk(run.update).ranges == ((1, 0, 3),)


def test_an_update_that_adds_nothing_is_not_appended() -> None:
    desk = Desk()
    reader = desk.reader()
    desk.take(reader, typed(1, 0, "a"))
    assert desk.take(reader, typed(1, 0, "a")) is None
    assert desk.take(reader, b"\0\0") is None
    assert desk.room.head == 1


@pytest.mark.parametrize(
    "early",
    [typed(1, 1, "b"), update((2, 0, [text("x", left=(1, 0))])),
     update(delete_set=deletes((1, [(0, 1)])))],
    ids=["a gap", "a missing neighbour", "a delete of what is not there"],
)  # fmt: skip
def test_an_early_update_is_answered_with_resync_and_not_appended(early: bytes) -> None:
    desk = Desk(coverage=Coverage.from_update(typed(9, 0, "zz")), head=4)
    reader = desk.reader(offset=4)
    outcome = desk.take(reader, early)
    assert outcome == Answer(frames.Resync(7, encode_state_vector({9: 2})))
    assert desk.room.head == 4
    assert not reader.acks


def test_after_a_resync_updates_are_dropped_until_the_offer() -> None:
    desk = Desk()
    reader = desk.reader()
    desk.take(reader, typed(1, 1, "b"))
    assert desk.take(reader, typed(1, 2, "c")) is None
    assert desk.take(reader, typed(2, 0, "fits")) is None
    assert desk.room.head == 0
    assert not reader.acks
    whole = update((1, 0, [text("abc")]))
    assert desk.take(reader, whole, offer=True) == Appended(1, whole)
    assert desk.take(reader, typed(1, 3, "d")) == Appended(2, typed(1, 3, "d"))
    assert [number for number, _ in reader.acks] == [4, 5]


def test_an_offer_that_does_not_fit_is_answered_with_resync_again() -> None:
    desk = Desk()
    reader = desk.reader()
    for _ in range(3):
        assert isinstance(desk.take(reader, typed(1, 1, "b"), offer=True), Answer)
    assert reader.waits_for_offer


def test_updates_before_the_offer_of_a_joining_that_was_not_good_are_dropped() -> None:
    desk = Desk()
    reader = desk.reader(good=False)
    assert desk.take(reader, typed(1, 0, "a")) is None
    assert desk.room.head == 0
    assert isinstance(desk.take(reader, typed(1, 0, "a"), offer=True), Appended)


def test_an_update_that_may_not_be_applied_is_refused_and_changes_nothing() -> None:
    desk = Desk()
    reader = desk.reader()
    deep = [shared_type()] + [shared_type(parent=(1, at)) for at in range(limits.MAX_TYPE_DEPTH)]
    with pytest.raises(BadUpdate):
        desk.take(reader, update((1, 0, deep)))
    assert desk.room.head == 0
    assert desk.room.coverage == Coverage()


@pytest.mark.parametrize("number", [0, 2, 99])
def test_numbers_that_skip_or_repeat_are_bad_frames(number: int) -> None:
    desk = Desk()
    with pytest.raises(BadFrame, match=f"update {number} came after 0"):
        desk.take(desk.reader(), typed(1, 0, "a"), number=number)


# 2. An ack comes after the commit, to a reader whose place is at or beyond it


def test_an_ack_waits_for_the_commit() -> None:
    desk = Desk()
    reader = desk.reader()
    offset = desk.offset_of(reader, typed(1, 0, "a"))
    assert desk.run(reader) is None
    assert desk.ack(reader, offset - 1) is None
    assert desk.ack(reader, offset) == frames.Ack(7, 1, offset)
    assert desk.ack(reader, offset) is None


def test_an_ack_waits_until_everything_before_it_was_sent_to_the_writer() -> None:
    desk = Desk()
    writer, other = desk.reader(), desk.reader()
    first = desk.offset_of(other, typed(2, 0, "x"))
    offset = desk.offset_of(writer, typed(1, 0, "a"))
    assert desk.ack(writer, offset) is None
    run = desk.run(writer)
    assert isinstance(run, frames.Updates)
    assert run.offset == offset > first
    assert desk.ack(writer, offset) == frames.Ack(7, 1, offset)


def test_an_ack_waits_for_the_difference_of_its_reader() -> None:
    desk = Desk()
    reader = desk.reader(good=False)
    taken = desk.take(reader, typed(1, 0, "a"), offer=True)
    assert isinstance(taken, Appended)
    assert desk.ack(reader, taken.offset) is None
    desk.room.place(reader, 0)
    assert desk.run(reader) is None
    assert desk.ack(reader, taken.offset) == frames.Ack(7, 1, taken.offset)


def test_one_ack_stands_for_all_that_is_committed() -> None:
    desk = Desk()
    reader = desk.reader()
    offsets = [desk.offset_of(reader, typed(1, at, "a")) for at in range(4)]
    desk.run(reader)
    assert desk.ack(reader, offsets[2]) == frames.Ack(7, 3, offsets[3])
    assert desk.ack(reader, offsets[3]) == frames.Ack(7, 4, offsets[3])


def test_what_adds_nothing_is_acked_when_the_head_of_that_moment_is_committed() -> None:
    desk = Desk()
    writer, other = desk.reader(), desk.reader()
    desk.offset_of(other, typed(2, 0, "x"))
    head = desk.offset_of(other, typed(2, 1, "y"))
    assert desk.take(writer, typed(2, 0, "x")) is None
    desk.run(writer)
    assert desk.ack(writer, head - 1) is None
    later = desk.offset_of(other, typed(2, 2, "z"))
    assert later > head
    assert desk.ack(writer, head) == frames.Ack(7, 1, head)


def test_an_empty_offer_to_an_empty_room_is_acked_at_once() -> None:
    desk = Desk()
    reader = desk.reader(good=False)
    desk.take(reader, b"\0\0", offer=True)
    assert desk.ack(reader, 0) == frames.Ack(7, 1, 0)


# 3. A reader's place never passes what was not sent to it, except its own


def test_a_run_is_all_from_the_readers_place_to_the_head() -> None:
    desk = Desk()
    a, b, reader = desk.reader(), desk.reader(), desk.reader()
    desk.take(a, typed(1, 0, "a"))
    desk.take(b, typed(2, 0, "x"))
    head = desk.offset_of(a, typed(1, 1, "b"))
    run = desk.run(reader)
    assert isinstance(run, frames.Updates)
    assert run.offset == reader.position == head
    assert Coverage.from_update(run.update).clocks == {1: 2, 2: 1}
    assert desk.run(reader) is None


def test_a_writer_does_not_get_its_own_updates() -> None:
    desk = Desk()
    reader = desk.reader()
    offset = desk.offset_of(reader, typed(1, 0, "a"))
    assert desk.room.is_behind(reader)
    assert desk.run(reader) is None
    assert reader.position == offset


def test_own_updates_come_back_only_behind_those_of_others() -> None:
    desk = Desk()
    writer, other = desk.reader(), desk.reader()
    desk.take(writer, typed(1, 0, "a"))
    desk.take(other, typed(2, 0, "x"))
    head = desk.offset_of(writer, typed(1, 1, "b"))
    run = desk.run(writer)
    assert isinstance(run, frames.Updates)
    assert walk(run.update).ranges == ((2, 0, 1), (1, 1, 2))
    assert run.offset == head


def test_the_same_run_is_encoded_once_for_all_its_readers() -> None:
    desk = Desk()
    writer, *readers = [desk.reader() for _ in range(4)]
    desk.take(writer, typed(1, 0, "a"))
    desk.take(writer, typed(1, 1, "b"))
    runs = [desk.room.next_run(reader) for reader in readers]
    assert all(run is runs[0] for run in runs)
    assert isinstance(runs[0], bytes)


def test_the_memory_of_runs_is_bounded() -> None:
    desk = Desk()
    writer, reader = desk.reader(), desk.reader()
    for at in range(100):
        desk.take(writer, typed(1, at, "a"))
        assert desk.run(reader) is not None
    assert len(desk.room._runs) <= 16


@pytest.mark.parametrize("bound", ["MAX_RUN_UPDATES", "MAX_RUN_BYTES"])
def test_a_long_run_is_cut_and_goes_on_in_the_next(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, bound, 3 if bound == "MAX_RUN_UPDATES" else 40)
    desk = Desk()
    writer, reader = desk.reader(), desk.reader()
    for at in range(8):
        desk.take(writer, typed(1, at, "a"))
    ends: list[int] = []
    while isinstance(run := desk.run(reader), frames.Updates):
        assert walk(run.update).ranges[0][1] == (ends[-1] if ends else 0)
        ends.append(walk(run.update).ranges[0][2])
    assert len(ends) > 2
    assert ends[-1] == 8


def test_one_update_above_the_bound_of_a_run_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_RUN_BYTES", 10)
    desk = Desk()
    writer, reader = desk.reader(), desk.reader()
    desk.take(writer, typed(1, 0, "long enough"))
    assert desk.run(reader) == frames.Updates(7, 1, typed(1, 0, "long enough"))


def test_a_reader_below_the_tail_is_behind() -> None:
    desk = Desk()
    writer, slow = desk.reader(), desk.reader()
    for at in range(3):
        desk.take(writer, typed(1, at, "a"))
    desk.room._tail_base = 1  # as after a trim for want of memory
    assert desk.run(slow) is BEHIND
    slow.position = 1
    assert isinstance(desk.run(slow), frames.Updates)


def test_a_room_loaded_from_disk_has_no_tail() -> None:
    desk = Desk(head=10, coverage=Coverage.from_update(typed(1, 0, "a")))
    assert desk.run(desk.reader(offset=9)) is BEHIND
    assert desk.run(desk.reader(offset=10)) is None
    assert desk.room.tail_after(0) == []


# 4. Uncommitted updates are always in the tail


def test_a_trim_keeps_what_is_not_committed_and_what_a_reader_was_not_sent() -> None:
    desk = Desk()
    writer, slow = desk.reader(), desk.reader()
    data = [typed(1, at, "a") for at in range(4)]
    for one in data:
        desk.take(writer, one)
    desk.run(writer)
    desk.room.trim(2)
    assert desk.room.tail_after(0) == data  # the slow reader has nothing yet
    slow.position = 3
    desk.room.trim(2)
    assert desk.room.tail_after(0) == data[2:]
    desk.room.trim(4)
    assert desk.room.tail_after(0) == data[3:]


@pytest.mark.parametrize("bound", ["MAX_TAIL_BYTES", "MAX_TAIL_UPDATES"])
def test_a_trim_for_want_of_memory_leaves_slow_readers_behind_and_nothing_uncommitted(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, bound, 0)
    desk = Desk()
    writer, slow = desk.reader(), desk.reader()
    data = [typed(1, at, "a") for at in range(4)]
    for one in data:
        desk.take(writer, one)
    desk.room.trim(3)
    assert desk.room.tail_after(0) == data[3:]
    assert desk.run(slow) is BEHIND


def test_a_reader_that_waits_for_its_difference_holds_no_tail() -> None:
    desk = Desk()
    writer = desk.reader()
    desk.reader(good=False)
    desk.take(writer, typed(1, 0, "a"))
    desk.run(writer)
    desk.room.trim(1)
    assert desk.room.tail_after(0) == []


def test_a_pinned_tail_is_not_trimmed() -> None:
    desk = Desk()
    writer = desk.reader()
    desk.take(writer, typed(1, 0, "a"))
    desk.run(writer)
    desk.room.pins += 1
    desk.room.trim(1)
    assert desk.room.tail_after(0) == [typed(1, 0, "a")]
    desk.room.pins -= 1
    desk.room.trim(1)
    assert desk.room.tail_after(0) == []


def test_a_trim_forgets_encoded_runs() -> None:
    desk = Desk()
    writer, reader = desk.reader(), desk.reader()
    desk.take(writer, typed(1, 0, "a"))
    desk.run(reader)
    desk.run(writer)
    desk.room.trim(1)
    assert not desk.room._runs


def test_the_slowest_reader_is_the_one_with_the_lowest_place() -> None:
    desk = Desk(head=10)
    assert desk.room.slowest == 10
    desk.reader(good=False)
    assert desk.room.slowest == 10
    desk.reader(offset=4)
    desk.reader(offset=7)
    assert desk.room.slowest == 4


# Refusals


def test_a_reader_without_the_right_to_write_is_refused_once() -> None:
    desk = Desk()
    reader = desk.reader(access=Access.READ)
    outcome = desk.take(reader, typed(1, 0, "a"))
    assert isinstance(outcome, Answer)
    assert isinstance(outcome.frame, frames.Refused)
    assert (outcome.frame.number, outcome.frame.code) == (1, Code.FORBIDDEN)
    assert desk.take(reader, typed(1, 1, "b")) is None
    assert desk.room.head == 0
    assert not reader.acks


def test_rights_withdrawn_while_joined_refuse_the_next_update() -> None:
    desk = Desk()
    reader = desk.reader()
    offset = desk.offset_of(reader, typed(1, 0, "a"))
    reader.access = Access.READ
    assert isinstance(desk.take(reader, typed(1, 1, "b")), Answer)
    desk.run(reader)
    assert desk.ack(reader, offset) == frames.Ack(7, 1, offset)  # what was taken stays acked


def test_a_document_above_its_bound_is_refused_and_reading_goes_on() -> None:
    desk = Desk(snapshot_bytes=limits.MAX_DOCUMENT_BYTES)
    reader, other = desk.reader(), desk.reader()
    outcome = desk.take(reader, typed(1, 0, "a"))
    assert isinstance(outcome, Answer)
    assert isinstance(outcome.frame, frames.Refused)
    assert outcome.frame.code == Code.TOO_LARGE
    assert desk.run(other) is None
    assert desk.room.coverage == Coverage()


def test_what_adds_nothing_is_never_too_large() -> None:
    desk = Desk(
        snapshot_bytes=limits.MAX_DOCUMENT_BYTES, head=3,
        coverage=Coverage.from_update(typed(1, 0, "a")),
    )  # fmt: skip
    reader = desk.reader(offset=3)
    assert desk.take(reader, typed(1, 0, "a")) is None
    assert desk.ack(reader, 3) == frames.Ack(7, 1, 3)


# 5. A sealed room


def test_a_sealed_room_takes_nothing_in_and_acks_nothing() -> None:
    desk = Desk()
    writer, other = desk.reader(), desk.reader()
    offset = desk.offset_of(writer, typed(1, 0, "a"))
    desk.room.seal()
    assert desk.take(writer, typed(1, 1, "b")) is None
    assert desk.take(writer, typed(9, 5, "early")) is None
    assert desk.take(writer, typed(1, 0, "a")) is None  # known
    assert desk.room.head == offset
    assert desk.run(other) == frames.Updates(7, offset, typed(1, 0, "a"))
    assert desk.run(writer) is None
    assert desk.ack(writer, offset) is None


def test_a_sealed_room_still_knows_a_bad_frame() -> None:
    desk = Desk()
    writer = desk.reader()
    desk.room.seal()
    desk.take(writer, typed(1, 0, "a"))
    with pytest.raises(BadFrame):
        desk.take(writer, typed(1, 1, "b"), number=1)
