"""The lane of a room: bound before sent, in order, decided by slot and id, never twice or lost."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.chat_changes import (
    Bind,
    Bound,
    Change,
    CountRefusal,
    Decide,
    Expire,
    GiveUp,
    NewLane,
    Waiting,
)
from collab.protocol.message_state import MessageState
from collab.protocol.messages import SlotOutcome
from collab.protocol.outbox import Outbox

EPOCH, FRESH = b"e" * 16, b"f" * 16
CANCELLED, STALLED = MessageState.CANCELLED, MessageState.STALLED


def ident(number: int) -> bytes:
    return number.to_bytes(16, "big")


def waits(number: int, *, expires_at: int | None = None, offered: bool = False) -> Waiting:
    return Waiting(ident(number), number, expires_at, offered)


def slot(lane_seq: int, number: int | None = None, **fields: Any) -> Bound:
    values: dict[str, Any] = {
        "body": f"m{number or lane_seq}", "meta": b"", "sent_at": 1, "expires_at": None,
        "refusals": 0, "giving_up": None, "logged": False,
    }  # fmt: skip
    return Bound(lane_seq=lane_seq, id=ident(number or lane_seq), **{**values, **fields})


def outcome(lane_seq: int, code: str = "accepted", **fields: Any) -> frames.Outcome:
    values: dict[str, Any] = {
        "message_id": ident(lane_seq), "seq": 100 + lane_seq if code == "accepted" else 0,
        "retry_after_ms": 0, "reason": "",
    }  # fmt: skip
    return frames.Outcome(channel=7, lane_seq=lane_seq, code=code, **{**values, **fields})


def entered(outbox: Outbox, last: int = 0, outcomes: Iterable[SlotOutcome] = ()) -> list[Change]:
    return outbox.entered(last, list(outcomes), FRESH)


def sent(outbox: Outbox, now: int = 0) -> list[int | str]:
    """What goes up now: the slots of SENDs, and "skip n"."""
    found: list[int | str] = []
    while (frame := outbox.next_frame(7, now)) is not None:
        skip = isinstance(frame, frames.Skip)
        found.append(f"skip {frame.lane_seq}" if skip else frame.lane_seq)
    return found


def open_with(count: int, *, sending: bool = True) -> Outbox:
    """An entered lane whose first ``count`` slots are bound."""
    outbox = Outbox(
        lane_epoch=EPOCH, bound=count, waiting=(), slots=[slot(n) for n in range(1, count + 1)]
    )
    assert entered(outbox) == []
    if sending:
        assert sent(outbox) == list(range(1, count + 1))
    return outbox


def decide(number: int, state: str, seq: int = 0, code: str = "", reason: str = "") -> Decide:
    return Decide(ident(number), MessageState(state), seq, code or state, reason)


# Binding


def test_nothing_is_bound_before_entered_and_nothing_is_sent_before_it_is_bound() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=0, waiting=[waits(1), waits(2)], slots=())
    assert outbox.bind() == []
    entered(outbox)
    [bind] = outbox.bind()
    assert bind == Bind(EPOCH, 1, (ident(1), ident(2)))
    assert sent(outbox) == []
    assert outbox.pending == 2
    outbox.is_bound(bind, [slot(1), slot(2)])
    assert sent(outbox) == [1, 2]
    assert sent(outbox) == []


def test_at_most_a_window_is_bound_and_undecided() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=0, waiting=[waits(n) for n in range(1, 41)], slots=())
    entered(outbox)
    [bind] = outbox.bind()
    assert isinstance(bind, Bind)
    assert len(bind.ids) == limits.LANE_WINDOW
    assert outbox.bind() == []  # also while it is on its way to the disk
    outbox.is_bound(bind, [slot(n) for n in range(1, 17)])
    assert outbox.bind() == []
    for number in (1, 2, 3):
        outbox.outcome(outcome(number), 0, 0.5, FRESH)
    assert outbox.bind() == [Bind(EPOCH, 17, (ident(17), ident(18), ident(19)))]
    assert outbox.pending == 37


def test_messages_are_bound_in_the_order_of_sending() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=4, waiting=[waits(9), waits(5)], slots=())
    outbox.queued(waits(12))
    entered(outbox, last=4)
    assert outbox.bind() == [Bind(EPOCH, 5, (ident(5), ident(9), ident(12)))]


def test_a_message_that_the_program_is_changing_is_not_bound_nor_those_behind_it() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=0, waiting=[waits(n) for n in (1, 2, 3)], slots=())
    outbox.hold(ident(2))
    entered(outbox)
    assert outbox.bind() == [Bind(EPOCH, 1, (ident(1),))]
    assert outbox.bind() == []
    outbox.let_go(ident(2))
    assert outbox.bind() == [Bind(EPOCH, 2, (ident(2), ident(3)))]


def test_a_message_that_was_cancelled_while_it_waited_takes_no_slot() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=0, waiting=[waits(1), waits(2)], slots=())
    outbox.hold(ident(1))
    outbox.removed(ident(1))
    entered(outbox)
    assert outbox.bind() == [Bind(EPOCH, 1, (ident(2),))]


def test_what_is_bound_after_the_connection_was_lost_is_sent_on_the_next_one() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=0, waiting=[waits(1)], slots=())
    entered(outbox)
    [bind] = outbox.bind()
    assert isinstance(bind, Bind)
    outbox.detach()
    outbox.is_bound(bind, [slot(1)])
    assert sent(outbox) == []
    entered(outbox)
    assert sent(outbox) == [1]


# Outcomes


def test_an_outcome_decides_its_message_once() -> None:
    outbox = open_with(2)
    assert outbox.outcome(outcome(1), 0, 0.5, FRESH) == [decide(1, "accepted", 101)]
    assert outbox.outcome(outcome(1), 0, 0.5, FRESH) == []
    assert outbox.pending == 1


@pytest.mark.parametrize("code", ["too_large", "forbidden", "invalid", "conflict", "our-own"])
def test_a_permanent_refusal_rejects_and_those_behind_go_on(code: str) -> None:
    outbox = open_with(2)
    [change] = outbox.outcome(outcome(1, code, reason="no"), 0, 0.5, FRESH)
    assert change == decide(1, "rejected", 0, code, "no")
    assert outbox.outcome(outcome(2), 0, 0.5, FRESH) == [decide(2, "accepted", 102)]


def test_the_relays_word_expires() -> None:
    outbox = open_with(1)
    assert outbox.outcome(outcome(1, "expired"), 0, 0.5, FRESH) == [decide(1, "expired")]


def test_a_slot_that_somebody_else_skipped_leaves_its_message_stalled_where_it_is_seen() -> None:
    outbox = open_with(1)
    [change] = outbox.outcome(outcome(1, "skipped"), 0, 0.5, FRESH)
    assert change == decide(1, "stalled", code="skipped")


@pytest.mark.parametrize(("code", "seq"), [("accepted", 0), ("invalid", 3), ("busy", 1)])
def test_an_outcome_that_cannot_be_is_a_bad_frame_and_changes_nothing(code: str, seq: int) -> None:
    outbox = open_with(2)
    with pytest.raises(BadFrame):
        outbox.outcome(outcome(1, code, seq=seq), 0, 0.5, FRESH)
    assert outbox.pending == 2
    good = [SlotOutcome(1, ident(1), "accepted", 9), SlotOutcome(2, ident(2), code, seq)]
    with pytest.raises(BadFrame):
        entered(outbox, 2, good)
    assert outbox.pending == 2


def test_a_recorded_outcome_is_never_transient() -> None:
    with pytest.raises(BadFrame):
        entered(open_with(1), 1, [SlotOutcome(1, ident(1), "busy", 0)])


def test_what_the_log_has_is_accepted_whatever_its_slot_says() -> None:
    outbox = open_with(2)
    outbox.logged([ident(1)])
    assert outbox.pending == 1
    [change] = outbox.outcome(outcome(1, "invalid"), 0, 0.5, FRESH)
    assert change == decide(1, "accepted", 0, "accepted")


def test_what_the_log_has_is_not_sent_again() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=0, waiting=[waits(1), waits(2)], slots=())
    outbox.logged([ident(1)])
    entered(outbox)
    assert outbox.bind() == [Bind(EPOCH, 1, (ident(2),))]


# After a reconnect


def test_entered_resolves_what_was_decided_and_sends_the_rest_again() -> None:
    outbox = open_with(4)
    outbox.detach()
    known = [SlotOutcome(1, ident(1), "accepted", 7), SlotOutcome(2, ident(2), "invalid", 0)]
    assert entered(outbox, 2, known) == [
        decide(1, "accepted", 7), decide(2, "rejected", code="invalid"),
    ]  # fmt: skip
    assert sent(outbox) == [3, 4]


FOREIGN = {
    "another message in our slot": (2, [SlotOutcome(1, ident(1), "accepted", 7),
                                        SlotOutcome(2, ident(99), "accepted", 8)]),
    "a slot that is forgotten": (2, [SlotOutcome(1, ident(1), "accepted", 7),
                                     SlotOutcome(2, ident(2), "forgotten", 0)]),
    "a slot that is not told of": (2, [SlotOutcome(1, ident(1), "accepted", 7)]),
    "a slot that was never bound here": (9, [SlotOutcome(1, ident(1), "accepted", 7),
                                             SlotOutcome(9, ident(99), "accepted", 8)]),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_lane_that_is_not_ours_alone_is_left(name: str) -> None:
    last, outcomes = FOREIGN[name]
    outbox = open_with(3)
    outbox.detach()
    changes = entered(outbox, last, outcomes)
    assert changes == [decide(1, "accepted", 7), NewLane(FRESH, rolled_back=True)]
    assert (outbox.lane_epoch, outbox.bound, outbox.is_reading) == (FRESH, 0, True)
    assert sent(outbox) == []
    assert outbox.bind() == []
    outbox.was_read([waits(2, offered=True), waits(3, offered=True)])
    assert not outbox.is_reading
    entered(outbox)
    assert outbox.bind() == [Bind(FRESH, 1, (ident(2), ident(3)))]


def test_a_lane_that_a_copy_used_while_a_binding_was_on_its_way_to_the_disk_is_left() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=0, waiting=[waits(1)], slots=())
    entered(outbox)
    (bind,) = outbox.bind()
    assert isinstance(bind, Bind)
    outbox.detach()
    # Nothing has gone up from here, so it was another one, whatever it says in the slot.
    assert entered(outbox, 1, [SlotOutcome(1, ident(1), "accepted", 7)]) == [
        NewLane(FRESH, rolled_back=True)
    ]


def test_a_lane_that_went_on_without_this_file_is_left_also_when_nothing_of_ours_is_open() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=3, waiting=[waits(7)], slots=())
    assert entered(outbox, 4, [SlotOutcome(4, ident(99), "accepted", 8)]) == [
        NewLane(FRESH, rolled_back=True)
    ]
    assert outbox.bind() == []


@pytest.mark.parametrize("undecided", [0, 1])
def test_a_relay_that_is_behind_gets_a_new_lane_without_blaming_this_file(undecided: int) -> None:
    slots = [slot(5)] if undecided else []
    outbox = Outbox(lane_epoch=EPOCH, bound=4 + undecided, waiting=(), slots=slots)
    assert entered(outbox, 2) == [NewLane(FRESH, rolled_back=False)]


def test_a_lane_that_was_never_used_is_kept() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=0, waiting=(), slots=())
    assert entered(outbox) == []
    assert outbox.lane_epoch == EPOCH


@pytest.mark.parametrize("code", ["accepted", "forgotten"])
def test_a_foreign_outcome_of_what_was_sent_begins_a_new_lane(code: str) -> None:
    outbox = open_with(2)
    frame = outcome(2, code, message_id=ident(99 if code == "accepted" else 2))
    assert outbox.outcome(frame, 0, 0.5, FRESH) == [NewLane(FRESH, rolled_back=True)]


def test_a_foreign_outcome_of_what_was_not_sent_is_of_an_earlier_lane() -> None:
    outbox = open_with(2, sending=False)
    assert outbox.outcome(outcome(1, message_id=ident(99)), 0, 0.5, FRESH) == []
    assert outbox.outcome(outcome(9, message_id=ident(99)), 0, 0.5, FRESH) == []
    assert sent(outbox) == [1, 2]


def test_what_was_bound_in_an_old_lane_is_not_bound_in_the_new_one() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=1, waiting=[waits(2)], slots=[slot(1)])
    entered(outbox)
    [bind] = outbox.bind()
    assert isinstance(bind, Bind)
    assert sent(outbox) == [1]
    outbox.outcome(outcome(1, message_id=ident(99)), 0, 0.5, FRESH)
    outbox.is_bound(bind, [slot(2)])
    outbox.was_read([waits(1, offered=True), waits(2, offered=True)])
    entered(outbox)
    assert sent(outbox) == []
    assert outbox.bind() == [Bind(FRESH, 1, (ident(1), ident(2)))]


# EXPECTED


def test_expected_begins_again_at_that_slot() -> None:
    outbox = open_with(4)
    assert outbox.expected(2, 0, FRESH) == []
    assert sent(outbox) == [2, 3, 4]


def test_a_slot_that_will_come_anyhow_changes_nothing() -> None:
    outbox = open_with(2, sending=False)
    assert outbox.expected(2, 0, FRESH) == []
    assert sent(outbox) == [1, 2]
    assert outbox.expected(3, 0, FRESH) == []  # the next one that will be bound


def test_a_relay_that_asks_for_the_same_slot_for_ever_is_answered_ever_slower() -> None:
    outbox = open_with(2)
    now, times = 0, []
    for _ in range(12):
        outbox.expected(1, now, FRESH)
        while not sent(outbox, now):
            deadline = outbox.deadline(now)
            assert deadline is not None
            now = deadline
        times.append(now)
    assert times[0] == 0
    waits_ms = [later - earlier for earlier, later in pairwise(times)]
    assert waits_ms == sorted(waits_ms)
    assert waits_ms[-1] == limits.RETRY_CAP_MS


def test_expecting_what_is_decided_or_was_never_bound_begins_a_new_lane() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=5, waiting=(), slots=[slot(5)])
    entered(outbox, 4)
    assert outbox.expected(3, 0, FRESH) == [NewLane(FRESH, rolled_back=False)]
    outbox = Outbox(lane_epoch=EPOCH, bound=5, waiting=(), slots=[slot(5)])
    entered(outbox, 4)
    assert outbox.expected(9, 0, FRESH) == [NewLane(FRESH, rolled_back=True)]


# Refused for now


def test_a_transient_refusal_waits_as_long_as_the_relay_says_and_sends_the_slot_again() -> None:
    outbox = open_with(3)
    changes = outbox.outcome(outcome(1, "busy", retry_after_ms=700), 1_000, 0.5, FRESH)
    assert changes == [CountRefusal(ident(1), 1)]
    outbox.expected(1, 1_000, FRESH)  # of those behind it, which were dropped
    assert sent(outbox, 1_699) == []
    assert outbox.deadline(1_000) == 1_700
    assert sent(outbox, 1_700) == [1, 2, 3]


def test_without_a_time_the_wait_doubles_up_to_a_minute() -> None:
    outbox = open_with(1)
    waited = []
    for _ in range(9):
        outbox.outcome(outcome(1, "busy"), 0, 1.0, FRESH)
        deadline = outbox.deadline(0)
        assert deadline is not None
        waited.append(deadline)
        assert sent(outbox, deadline) == [1]
    assert waited[:3] == [1_000, 2_000, 4_000]
    assert waited[-1] == limits.RETRY_CAP_MS


def test_a_relay_cannot_silence_a_lane_for_ever() -> None:
    outbox = open_with(1)
    outbox.outcome(outcome(1, "rate_limited", retry_after_ms=2**62), 0, 0.5, FRESH)
    assert outbox.deadline(0) == limits.MAX_RETRY_AFTER_MS


def test_ten_refusals_give_the_slot_up_and_those_behind_it_arrive() -> None:
    outbox = open_with(3)
    for refusal in range(1, 10):
        assert outbox.outcome(outcome(1, "busy", retry_after_ms=1), refusal, 0.5, FRESH) == [
            CountRefusal(ident(1), refusal)
        ]
        assert sent(outbox, refusal + 1)[0] == 1
    changes = outbox.outcome(outcome(1, "busy", retry_after_ms=1), 10, 0.5, FRESH)
    assert changes == [CountRefusal(ident(1), 10), GiveUp(ident(1), STALLED)]
    assert sent(outbox, 100) == []  # the giving up is not on the disk
    outbox.given_up(ident(1), STALLED)
    assert sent(outbox, 100) == ["skip 1", 2, 3]
    assert outbox.outcome(outcome(1, "skipped"), 0, 0.5, FRESH) == [
        decide(1, "stalled", code="skipped")
    ]


def test_rate_limits_are_not_counted() -> None:
    outbox = open_with(1)
    for now in range(0, 1_000, 10):
        assert outbox.outcome(outcome(1, "rate_limited", retry_after_ms=1), now, 0.5, FRESH) == []
        assert sent(outbox, now + 1) == [1]


def test_a_slot_that_is_refused_while_it_is_given_up_is_skipped_again() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=1, waiting=(), slots=[slot(1, giving_up=STALLED)])
    entered(outbox)
    assert sent(outbox) == ["skip 1"]
    assert outbox.outcome(outcome(1, "busy", retry_after_ms=5), 0, 0.5, FRESH) == []
    assert sent(outbox, 5) == ["skip 1"]


# Cancelling what was sent


def test_a_slot_that_was_sent_and_is_given_up_is_skipped_at_once() -> None:
    outbox = open_with(2)
    outbox.given_up(ident(1), CANCELLED)
    assert sent(outbox) == ["skip 1"]
    assert outbox.outcome(outcome(1), 0, 0.5, FRESH) == [decide(1, "accepted", 101)]  # too late


def test_a_slot_that_was_not_sent_is_skipped_in_its_turn() -> None:
    outbox = open_with(2, sending=False)
    outbox.given_up(ident(2), CANCELLED)
    assert sent(outbox) == [1, "skip 2"]
    assert outbox.outcome(outcome(2, "skipped"), 0, 0.5, FRESH) == [
        decide(2, "cancelled", code="skipped")
    ]


def test_giving_up_ends_the_wait_that_the_slot_caused() -> None:
    outbox = open_with(2)
    outbox.outcome(outcome(1, "busy", retry_after_ms=60_000), 0, 0.5, FRESH)
    outbox.given_up(ident(1), CANCELLED)
    assert sent(outbox) == ["skip 1", 2]


def test_giving_up_what_is_decided_does_nothing() -> None:
    outbox = open_with(1)
    outbox.outcome(outcome(1), 0, 0.5, FRESH)
    outbox.given_up(ident(1), CANCELLED)
    assert sent(outbox) == []


# Expiry


def test_only_what_the_relay_never_saw_expires_here() -> None:
    waiting = [waits(1, expires_at=50), waits(2, expires_at=50, offered=True), waits(3)]
    outbox = Outbox(
        lane_epoch=EPOCH, bound=1, waiting=waiting, slots=[slot(1, number=9, expires_at=50)]
    )
    assert outbox.deadline(0) == 50
    assert outbox.expire(49) == []
    assert outbox.expire(50) == [Expire((ident(1),))]
    assert outbox.expire(99) == []
    assert outbox.pending == 3


def test_a_retried_message_has_its_new_time_and_not_the_one_it_was_first_sent_with() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=0, waiting=[waits(1, expires_at=50)], slots=())
    entered(outbox)
    [bind] = outbox.bind()
    assert isinstance(bind, Bind)
    outbox.is_bound(bind, [slot(1, expires_at=50)])
    outbox.given_up(ident(1), STALLED)
    assert outbox.outcome(outcome(1, "skipped"), 10, 0.5, FRESH) == [
        decide(1, "stalled", code="skipped")
    ]
    outbox.queued(waits(1, expires_at=90, offered=True))
    outbox.detach()
    assert outbox.expire(50) == []
    assert outbox.expire(90) == []  # the relay's word alone, since it has seen it
    assert outbox.pending == 1


def test_those_that_expire_together_do_so_in_the_order_of_sending() -> None:
    waiting = [waits(1, expires_at=50), waits(2, expires_at=40), waits(3, expires_at=60)]
    outbox = Outbox(lane_epoch=EPOCH, bound=0, waiting=waiting, slots=())
    assert outbox.expire(55) == [Expire((ident(1), ident(2)))]
    assert outbox.expire(60) == [Expire((ident(3),))]


def test_what_was_sent_long_ago_is_not_kept_in_memory_until_its_time() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=0, waiting=(), slots=())
    entered(outbox)
    for number in range(1, 1_000):
        outbox.queued(waits(number, expires_at=10**9))
        [bind] = outbox.bind()
        assert isinstance(bind, Bind)
        outbox.is_bound(bind, [slot(number)])
        outbox.outcome(outcome(number), 0, 0.5, FRESH)
    assert outbox.pending == 0
    assert len(outbox._expiries) < 100


def test_the_wire_carries_what_remains() -> None:
    outbox = Outbox(
        lane_epoch=EPOCH, bound=3, waiting=(),
        slots=[slot(1, expires_at=80), slot(2, expires_at=10), slot(3)],
    )  # fmt: skip
    entered(outbox)
    found = [outbox.next_frame(7, 30) for _ in range(3)]
    assert [frame.ttl_ms for frame in found if isinstance(frame, frames.Send)] == [50, 0, None]


def test_a_message_does_not_expire_while_the_program_changes_it_but_right_after() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=0, waiting=[waits(1, expires_at=5)], slots=())
    outbox.hold(ident(1))
    assert outbox.expire(10) == []
    outbox.let_go(ident(1))
    assert outbox.expire(10) == [Expire((ident(1),))]


def test_nothing_expires_while_the_queue_is_read_again() -> None:
    outbox = Outbox(lane_epoch=EPOCH, bound=0, waiting=[waits(1, expires_at=5)], slots=())
    outbox.reads_again()
    assert outbox.expire(10) == []
    assert outbox.deadline(10) is None
    outbox.was_read([waits(1, expires_at=5)])
    assert outbox.expire(10) == [Expire((ident(1),))]
