"""A room's chat as a whole: what goes up when, on one connection and over several."""

from __future__ import annotations

from typing import Any

import pytest

from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.chat_changes import (
    Bind,
    Bound,
    NewLane,
    NewUser,
    Place,
    Receive,
    Replace,
    TakeReceipts,
    Waiting,
)
from collab.protocol.chat_sync import ChatSync, Moment, Phase
from collab.protocol.messages import Receipt, pack_receipts
from tests.e2e.support import entered
from tests.unit.protocol.test_chat_outbox import EPOCH, FRESH, ident, outcome, slot, waits
from tests.unit.protocol.test_chat_reader import OLD, RUN, run

NOW = Moment(1_000, 0.5, FRESH)


def chat(
    *, waiting: tuple[Waiting, ...] = (), slots: tuple[Bound, ...] = (), **fields: Any
) -> ChatSync:
    values: dict[str, Any] = {
        "lane_epoch": EPOCH, "bound": len(slots), "generation": OLD, "seq": 0, "read_upto": 0,
    }  # fmt: skip
    return ChatSync(**{**values, **fields}, waiting=waiting, slots=slots)


def enter(machine: ChatSync, now: int = 0) -> frames.Enter:
    frame = machine.next_frame(now)
    assert isinstance(frame, frames.Enter)
    return frame


def opened(machine: ChatSync, **fields: Any) -> ChatSync:
    """Joined, entered, and all of that on the disk."""
    machine.joined(7, RUN)
    store(machine, machine.receive(entered(enter(machine), **fields), NOW))
    assert machine.is_open
    return machine


def store(machine: ChatSync, changes: list[Any], **results: Any) -> None:
    while changes:
        change = changes.pop(0)
        slots = results.get("slots", ())
        if isinstance(change, Bind):
            slots = [
                slot(change.first_slot + n, int.from_bytes(ident, "big"))
                for n, ident in enumerate(change.ids)
            ]
        changes += machine.stored(
            change, now=NOW.now, slots=slots, waiting=results.get("waiting", ())
        )


def test_nothing_but_enter_goes_up_before_entered() -> None:
    machine = chat(waiting=(waits(1),), slots=(slot(1, 9),), seq=4, read_upto=2)
    assert machine.next_frame(0) is None
    machine.joined(7, RUN)
    assert enter(machine) == frames.Enter(7, EPOCH, 1, OLD, 4)
    assert machine.next_frame(0) is None
    assert machine.phase is Phase.ENTERING


def test_what_was_on_its_way_when_the_room_is_joined_again_is_dropped() -> None:
    machine = opened(chat(), head=3)
    machine.detach()  # the document asks to be joined again, on the same connection
    assert machine.receive(run(0, 3), NOW) == []
    assert machine.receive(frames.Receipts(7, pack_receipts([Receipt("ana", 1, 1)])), NOW) == []
    machine.joined(7, RUN)
    assert enter(machine).seq == 0


def test_what_the_relay_lost_of_ours_goes_up_again_in_its_place_in_the_order() -> None:
    machine = opened(chat(waiting=(waits(2),), bound=1), lane_seq=1)
    assert machine.outbox.pending == 1
    machine.outbox.hold(ident(2))
    again = Waiting(ident(1), 1, None, offered=True)
    received = Receive([], RUN, 1)
    assert machine.stored(received, now=0, waiting=[again]) == [Bind(EPOCH, 3, (ident(1),))]


def test_the_outbox_goes_up_before_history_and_marks() -> None:
    machine = opened(chat(waiting=(waits(1),), seq=9), head=9)
    machine.reader.ask(1, 3, newest=True)
    kinds = []
    while (frame := machine.next_frame(NOW.now)) is not None:
        kinds.append(type(frame))
    assert kinds == [frames.Send, frames.Fetch, frames.Mark]


def test_it_is_level_when_all_is_decided_and_all_of_the_head_is_stored() -> None:
    machine = chat(waiting=(waits(1),))
    machine.joined(7, RUN)
    changes = machine.receive(entered(enter(machine), head=2), NOW)
    assert not machine.is_caught_up
    store(machine, changes)
    received = machine.receive(run(0, 2), NOW)
    assert not machine.is_caught_up
    store(machine, received)
    assert machine.is_caught_up
    assert not machine.is_level
    assert isinstance(machine.next_frame(NOW.now), frames.Send)
    store(machine, machine.receive(outcome(1), NOW))
    assert machine.is_level


def test_a_new_lane_is_entered_once_it_is_on_the_disk() -> None:
    machine = opened(chat(slots=(slot(1),)), lane_seq=0)
    assert isinstance(machine.next_frame(NOW.now), frames.Send)
    [lane] = machine.receive(outcome(1, message_id=ident(99)), NOW)
    assert lane == NewLane(FRESH, rolled_back=True)
    assert machine.next_frame(NOW.now) is None
    store(machine, [lane], waiting=[waits(1, offered=True)])
    assert enter(machine, NOW.now) == frames.Enter(7, FRESH, 0, OLD, 0)
    store(machine, machine.receive(entered(frames.Enter(7, FRESH, 0, OLD, 0)), NOW))
    frame = machine.next_frame(NOW.now)
    assert isinstance(frame, frames.Send)
    assert (frame.lane_seq, frame.message_id) == (1, ident(1))


def test_nothing_of_one_user_goes_up_for_another_and_the_log_goes_on() -> None:
    machine = opened(chat(waiting=(waits(2),), slots=(slot(1),)), lane_seq=0, user="ada")
    machine.joined(7, RUN)
    changes = machine.receive(entered(enter(machine), user="ben", head=2), NOW)
    assert changes[0] == NewUser("ben", FRESH)
    assert isinstance(changes[1], Place)
    assert machine.next_frame(NOW.now) is None
    [received] = machine.receive(run(0, 2), NOW)
    store(machine, [*changes, received])
    assert enter(machine, NOW.now) == frames.Enter(7, FRESH, 0, RUN, 2)


def test_what_was_read_before_another_user_was_known_is_not_told_as_theirs() -> None:
    machine = chat(seq=9, user="ada")
    machine.joined(7, RUN)
    changes = machine.receive(entered(enter(machine), user="ben", head=9, read_upto=2), NOW)
    machine.marks.read(5)  # asked for as ada's
    store(machine, changes)
    assert machine.marks.read_upto == 2


def test_what_comes_meanwhile_of_the_log_is_taken_and_of_the_old_lane_is_not() -> None:
    machine = opened(chat(slots=(slot(1),)), lane_seq=0)
    machine.next_frame(NOW.now)
    [lane] = machine.receive(outcome(1, message_id=ident(99)), NOW)
    assert machine.receive(outcome(1), NOW) == []
    assert machine.receive(frames.Expected(7, 1), NOW) == []
    [received] = machine.receive(run(0, 3), NOW)
    assert isinstance(received, Receive)
    receipts = frames.Receipts(7, pack_receipts([]))
    assert isinstance(machine.receive(receipts, NOW)[0], TakeReceipts)
    store(machine, [lane, received])
    assert enter(machine, NOW.now).seq == 3


def test_a_relay_that_denies_every_lane_is_entered_ever_slower() -> None:
    machine = chat()
    machine.joined(7, RUN)
    now, pauses = 0, []
    for _ in range(12):
        started = now
        while (frame := machine.next_frame(now)) is None:
            deadline = machine.deadline(now)
            assert deadline is not None
            now = deadline
        pauses.append(now - started)
        assert isinstance(frame, frames.Enter)
        answer = entered(frame, lane_seq=frame.lane_seq + 5)
        store(machine, machine.receive(answer, Moment(now, 0.5, FRESH)))
    assert pauses[:2] == [0, 0]
    assert pauses[2:] == sorted(pauses[2:])
    assert pauses[-1] > 60_000


def test_another_history_is_stored_before_anything_is_bound() -> None:
    machine = chat(waiting=(waits(1),), seq=50, read_upto=40)
    machine.joined(7, RUN)
    frame = entered(enter(machine), good=False, after=3, head=3, read_upto=2)
    [replaced] = machine.receive(frame, NOW)
    assert isinstance(replaced, Replace)
    assert replaced.since == NOW.now - limits.REOFFER_MS
    assert machine.next_frame(NOW.now) is None
    again = machine.stored(replaced, now=NOW.now, waiting=[waits(8, offered=True), waits(1)])
    assert again == [Bind(EPOCH, 1, (ident(1), ident(8)))]
    assert (machine.marks.delivered_upto, machine.marks.read_upto) == (3, 2)


def test_what_is_stored_late_of_the_old_history_counts_for_nothing_in_the_new_one() -> None:
    machine = opened(chat(seq=50), head=60, after=50)
    [received] = machine.receive(run(50, 60), NOW)
    machine.marks.read(55)
    machine.detach()
    machine.joined(7, b"n" * 16)
    again = machine.receive(
        entered(enter(machine), good=False, after=3, head=9, read_upto=2), NOW
    )  # fmt: skip
    store(machine, [received])
    machine.marks.read(58)  # an act that was under way
    assert not machine.is_caught_up
    assert machine.next_frame(NOW.now) is None  # no MARK of numbers that mean something else now
    store(machine, again)
    assert not machine.is_caught_up
    assert machine.next_frame(NOW.now) == frames.Mark(7, 3, 2)
    store(machine, machine.receive(run(3, 9), NOW))
    assert machine.is_caught_up


def test_after_a_loss_while_another_history_is_stored_enter_waits_for_it() -> None:
    machine = chat(seq=50)
    machine.joined(7, RUN)
    [replaced] = machine.receive(entered(enter(machine), good=False, after=3, head=3), NOW)
    machine.detach()
    machine.joined(8, RUN)
    assert machine.next_frame(0) is None
    machine.stored(replaced, now=NOW.now)
    assert enter(machine) == frames.Enter(8, EPOCH, 0, RUN, 3)


def test_the_users_own_receipt_is_what_was_read_on_another_device() -> None:
    machine = opened(chat(seq=9), head=9)
    data = pack_receipts([Receipt("me", 9, 7), Receipt("ana", 8, 6)])
    [taken] = machine.receive(frames.Receipts(7, data), NOW)
    assert taken == TakeReceipts([Receipt("ana", 8, 6)], 7)
    assert machine.next_frame(NOW.now) == frames.Mark(7, 9, 7)  # because of what is delivered


@pytest.mark.parametrize(
    "frame",
    [
        entered(frames.Enter(7, EPOCH, 0, OLD, 0)),
        run(0, 1),
        frames.Receipts(7, pack_receipts([])),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_what_comes_before_enter_is_a_bad_frame(frame: Any) -> None:
    machine = chat()
    machine.joined(7, RUN)
    with pytest.raises(BadFrame):
        machine.receive(frame, NOW)


@pytest.mark.parametrize(
    "fields",
    [{"outcomes": b"\xc1"}, {"head": 4, "after": 5}, {"oldest": 9}, {"after": 0, "head": 9}],
    ids=str,
)
def test_an_entered_that_is_refused_has_changed_nothing(fields: dict[str, Any]) -> None:
    machine = chat(slots=(slot(1),), seq=3)
    machine.joined(7, RUN)
    frame = entered(enter(machine), **fields)
    with pytest.raises(BadFrame):
        machine.receive(frame, NOW)
    assert machine.phase is Phase.ENTERING
    assert (machine.outbox.pending, machine.reader.seq) == (1, 3)
    store(machine, machine.receive(entered(frames.Enter(7, EPOCH, 1, OLD, 3), lane_seq=0), NOW))
    assert isinstance(machine.next_frame(NOW.now), frames.Send)


def test_a_place_is_a_change_even_if_nothing_is_new() -> None:
    """It carries who we are, and what is unread."""
    machine = chat()
    machine.joined(7, RUN)
    assert machine.receive(entered(enter(machine), unread=0), NOW) == [
        Place("me", RUN, 0, 0, 1, 0, 0)
    ]


def test_the_deadline_is_never_now() -> None:
    """What is due now is done now; a timer for it would spin."""
    machine = opened(chat(waiting=(waits(1, expires_at=9_000),), seq=9), head=9)
    for now in range(0, 20_000, 500):
        deadline = machine.deadline(now)
        assert deadline is None or deadline > now


def test_the_relay_is_told_when_the_mark_that_covers_all_has_gone_up() -> None:
    machine = chat()
    assert not machine.is_told  # who is not connected has told nothing
    machine.joined(7, RUN)
    changes = machine.receive(entered(enter(machine), head=2), NOW)
    store(machine, changes)
    assert machine.is_told  # there is nothing to tell
    store(machine, machine.receive(run(0, 2), NOW))
    assert not machine.is_told
    assert machine.next_frame(NOW.now) == frames.Mark(7, 2, 0)
    assert machine.is_told
    machine.marks.read(1)
    assert not machine.is_told  # and the next one waits for its time
    assert machine.next_frame(NOW.now) is None
    assert machine.next_frame(NOW.now + limits.MARK_EVERY_MS) == frames.Mark(7, 2, 1)
    assert machine.is_told
    machine.detach()
    assert not machine.is_told
