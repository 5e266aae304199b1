"""What a chat machine decides, as it is stored: nothing deleted or doubled, no illegal edge."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from collab import limits
from collab.errors import IdConflict, WrongState
from collab.protocol import chat_changes as cc
from collab.protocol.anybody import user_of_device
from collab.protocol.device_clock import Anchor, Reading
from collab.protocol.gaps import Gap
from collab.protocol.message_state import MessageState
from collab.protocol.messages import LoggedMessage, Receipt
from collab.storage import identity, message_acts
from collab.storage.chat_rows import chat
from collab.storage.chat_work import Stored
from collab.storage.message_acts import Draft, OutboxCaps
from collab.storage.message_changes import carry_out
from collab.storage.message_rows import TAIL, MessageRow, own, select
from collab.storage.messages import StoredChat, load
from tests.property.chat_device import ROOM, new_file

EPOCH, FRESH, RUN = b"e" * 16, b"f" * 16, b"r" * 16


@pytest.fixture
def file() -> sqlite3.Connection:
    return new_file(EPOCH)


def ident(number: int) -> bytes:
    return number.to_bytes(16, "big")


def at(ms: int) -> Anchor:
    return Anchor(ms, Reading(b"b" * 16, ms, ms))


def send(file: sqlite3.Connection, *numbers: int, now: int = 0, ttl: int | None = None) -> None:
    for number in numbers:
        draft = Draft(ident(number), f"m{number}", b"", 1, ttl)
        message_acts.write(file, ROOM, draft, at(now), OutboxCaps())


def message(seq: int, number: int | None = None, **fields: Any) -> LoggedMessage:
    number = 1_000 + seq if number is None else number
    known = LoggedMessage(seq, ident(number), "ana", f"m{number}", b"", 1, 2, 0, 0)
    return replace(known, **fields)


def store(file: sqlite3.Connection, *changes: cc.Change) -> Stored:
    """The last one's result; each in a transaction of its own."""
    stored = Stored()
    for change in changes:
        file.execute("BEGIN")
        stored = carry_out(file, ROOM, change)
        file.execute("COMMIT")
    return stored


def place(after: int = 0, head: int = 0, **fields: Any) -> cc.Place:
    known = cc.Place("me", RUN, after, head, oldest=1, read_upto=0, unread=0)
    return replace(known, **fields)


def receive(file: sqlite3.Connection, *messages: LoggedMessage) -> Stored:
    return store(file, cc.Receive(messages, RUN, messages[-1].seq))


def bind(file: sqlite3.Connection, *numbers: int, first: int = 1) -> Stored:
    return store(file, cc.Bind(EPOCH, first, tuple(map(ident, numbers))))


def decide(number: int, state: str, seq: int = 0, *, code: str = "", reason: str = "") -> cc.Decide:
    return cc.Decide(ident(number), MessageState(state), seq, code or state, reason)


def row(file: sqlite3.Connection, number: int) -> MessageRow:
    found = own(file, ROOM, ident(number))
    assert found is not None
    return found


def states(file: sqlite3.Connection) -> list[str]:
    return [found.state.value for found in select(file, "WHERE position NOT NULL", ())]


def order(file: sqlite3.Connection) -> list[str]:
    """The bodies in the order in which history shows them."""
    return [found.body for found in select(file, "ORDER BY place, tie", ())]


def loaded(file: sqlite3.Connection) -> StoredChat:
    stored = load(file, ROOM)
    assert stored is not None
    return stored


# The outbox


def test_what_is_bound_has_its_slot_and_is_found_again_after_a_crash(
    file: sqlite3.Connection,
) -> None:
    send(file, 1, 2, 3, ttl=500)
    stored = bind(file, 1, 2)
    assert [slot.lane_seq for slot in stored.slots] == [1, 2]
    assert [changed.state for changed in stored.changed] == ["sending", "sending"]
    again = loaded(file)
    assert (again.bound, again.slots) == (2, stored.slots)
    assert [waiting.id for waiting in again.waiting] == [ident(3)]
    assert stored.slots[0] == cc.Bound(1, ident(1), "m1", b"", 1, 500, 0, None, logged=False)


def test_an_outcome_and_its_slot_are_settled_together(file: sqlite3.Connection) -> None:
    send(file, 1, 2)
    bind(file, 1, 2)
    store(file, place(), decide(1, "accepted", 7), decide(2, "rejected", code="no", reason="why"))
    first, second = row(file, 1), row(file, 2)
    assert (first.state, first.seq, first.slot, first.sender) == ("accepted", 7, None, "me")
    assert (second.state, second.code, second.reason, second.slot) == (
        "rejected",
        "no",
        "why",
        None,
    )
    assert loaded(file).slots == []


def test_an_illegal_edge_raises_and_stores_nothing(file: sqlite3.Connection) -> None:
    send(file, 1)
    with pytest.raises(WrongState):
        carry_out(file, ROOM, decide(1, "rejected"))
    assert states(file) == ["queued"]


def test_what_ended_stands_where_it_was_written_and_what_waits_comes_last(
    file: sqlite3.Connection,
) -> None:
    receive(file, message(1), message(2))
    send(file, 1, 2)
    receive(file, message(3))
    send(file, 3)
    assert order(file) == ["m1001", "m1002", "m1003", "m1", "m2", "m3"]
    bind(file, 1)
    store(file, decide(1, "rejected"), cc.Expire((ident(3),)))
    assert order(file) == ["m1001", "m1002", "m1", "m1003", "m3", "m2"]


def test_another_user_gets_a_lane_and_nothing_that_waits_of_the_one_before(
    file: sqlite3.Connection,
) -> None:
    send(file, 1)  # before anybody knew who this is
    store(file, place())
    send(file, 2, 3)
    bind(file, 2)
    stored = store(file, cc.NewUser("you", FRESH))
    again = loaded(file)
    assert (again.lane_epoch, again.bound, again.user, again.slots) == (FRESH, 0, "you", [])
    assert states(file) == ["queued", "stalled", "stalled"]
    assert {row(file, number).code for number in (2, 3)} == {"other_user"}
    assert [waiting.id for waiting in stored.waiting] == [ident(1)]


def test_what_was_written_before_anybody_knew_who_is_theirs_for_whom_it_was_sent(
    file: sqlite3.Connection,
) -> None:
    send(file, 1, 2)
    store(file, place())
    bind(file, 1)  # it may be at the relay now, under this name
    stored = store(file, cc.NewUser("you", FRESH))
    assert (states(file), row(file, 1).code) == (["stalled", "queued"], "other_user")
    assert [waiting.id for waiting in stored.waiting] == [ident(2)]


def test_what_the_relay_made_of_the_message_of_a_user_before_is_that_message(
    file: sqlite3.Connection,
) -> None:
    send(file, 1)
    bind(file, 1)
    store(file, place(), decide(1, "accepted", 1), cc.NewUser("you", FRESH))
    stored = receive(file, message(1, 1, sender="me", body="better"))
    assert (stored.added, order(file)) == ([], ["better"])
    assert (row(file, 1).replaced, row(file, 1).mine) == (False, False)


@pytest.mark.parametrize("named_by", ["the device", "a token"])
def test_with_another_device_id_only_who_is_named_by_it_is_the_same_person(
    file: sqlite3.Connection, named_by: str
) -> None:
    before = user_of_device(bytes(16)) if named_by == "the device" else "ana"
    store(file, place(user=before))
    send(file, 1, 2)
    bind(file, 1)
    receive(file, message(1, sender=before))
    identity.renew(file, b"n" * 16)
    store(file, cc.NewUser("ben", FRESH))
    is_same = named_by == "the device"
    assert states(file) == 2 * ["queued" if is_same else "stalled"]
    here = select(file, "WHERE room_id = ? AND sender = ? AND seq = 1", (ROOM, before))
    assert [one.mine for one in here] == [is_same]


def test_what_a_user_before_took_back_and_the_relay_had_taken_is_one_message(
    file: sqlite3.Connection,
) -> None:
    store(file, place())
    send(file, 1)
    bind(file, 1)
    store(file, cc.GiveUp(ident(1), MessageState.CANCELLED), cc.NewUser("you", FRESH))
    assert (states(file), row(file, 1).sender) == (["cancelled"], "me")
    assert receive(file, message(1, 1, sender="me")).added == []
    assert (states(file), row(file, 1).seq, row(file, 1).mine) == (["accepted"], 1, False)


def test_a_message_never_gets_the_id_of_one_that_went(file: sqlite3.Connection) -> None:
    store(file, place())
    send(file, 1)
    bind(file, 1)
    (seen,) = receive(file, message(1, 1, sender="me", body="better")).added
    stored = store(file, decide(1, "accepted", 1))
    assert list(stored.merged) == [seen.row]
    (new,) = receive(file, message(2)).added
    assert new.row > seen.row


def test_the_same_person_under_another_name_keeps_what_waits(file: sqlite3.Connection) -> None:
    store(file, place())
    send(file, 1, 2)
    bind(file, 1)
    file.execute("UPDATE chats SET user = ''")  # as a device does that takes another id
    file.execute("UPDATE messages SET sender = ''")
    stored = store(file, cc.NewUser("me-too", FRESH))
    assert states(file) == ["queued", "queued"]
    assert [waiting.id for waiting in stored.waiting] == [ident(1), ident(2)]


def test_what_is_mine_read_and_received_is_seen_anew_by_another_user(
    file: sqlite3.Connection,
) -> None:
    store(file, place(head=2))
    receive(file, message(1, sender="me"), message(2, sender="you"))
    store(file, cc.TakeReceipts([Receipt("ana", 2, 2)], 2))
    assert loaded(file).unread == 0
    stored = store(file, cc.NewUser("you", FRESH))
    rows = select(file, "ORDER BY place", ())
    assert [(found.mine, found.state.value) for found in rows] == [
        (False, "accepted"), (True, "accepted"),
    ]  # fmt: skip
    assert (stored.receipts, stored.unread, loaded(file).read_upto) == ([], 1, 0)


def test_a_new_lane_queues_what_is_undecided_under_its_old_ids_and_in_its_order(
    file: sqlite3.Connection,
) -> None:
    send(file, 1, 2, 3, 4)
    bind(file, 1, 2, 3)
    store(file, decide(1, "accepted", 5))
    stored = store(file, cc.NewLane(FRESH, rolled_back=True))
    assert [(waiting.id, waiting.offered) for waiting in stored.waiting] == [
        (ident(2), True), (ident(3), True), (ident(4), False),
    ]  # fmt: skip
    assert states(file) == ["accepted", "queued", "queued", "queued"]
    assert (loaded(file).lane_epoch, loaded(file).bound) == (FRESH, 0)


def test_what_was_cancelled_in_a_lane_that_is_left_is_not_sent_again(
    file: sqlite3.Connection,
) -> None:
    send(file, 1, 2)
    bind(file, 1, 2)
    store(file, cc.GiveUp(ident(1), MessageState.CANCELLED), cc.CountRefusal(ident(2), 3))
    assert [slot.refusals for slot in loaded(file).slots] == [0, 3]
    stored = store(file, cc.NewLane(FRESH, rolled_back=True))
    assert states(file) == ["cancelled", "queued"]
    assert [waiting.id for waiting in stored.waiting] == [ident(2)]


def test_giving_up_survives_a_crash(file: sqlite3.Connection) -> None:
    send(file, 1)
    bind(file, 1)
    store(file, cc.GiveUp(ident(1), MessageState.STALLED))
    assert loaded(file).slots[0].giving_up is MessageState.STALLED
    store(file, decide(1, "stalled"))
    assert row(file, 1).place == TAIL
    assert loaded(file).slots == []


# The log


def test_messages_and_the_mark_that_covers_them_are_one_transaction(
    file: sqlite3.Connection,
) -> None:
    stored = receive(file, message(1), message(2, body="你好 \x00 📊"))
    assert [added.seq for added in stored.added] == [1, 2]
    assert (loaded(file).generation, loaded(file).seq) == (RUN, 2)
    assert select(file, "WHERE seq = 2", ())[0].body == "你好 \x00 📊"


def test_our_own_message_is_one_whether_its_outcome_or_the_log_comes_first(
    file: sqlite3.Connection,
) -> None:
    send(file, 1, 2)
    bind(file, 1, 2)
    store(file, place(), decide(1, "accepted", 1))
    mine = {"sender": "me", "accepted_at": 9}
    stored = receive(file, message(1, 1, **mine), message(2, 2, **mine))
    assert stored.added == []
    assert stored.logged == [ident(2)]
    assert [row(file, n).accepted_at for n in (1, 2)] == [9, 9]
    assert [slot.logged for slot in loaded(file).slots] == [True]
    store(file, decide(2, "accepted", 2))
    assert states(file) == ["accepted", "accepted"]
    assert loaded(file).slots == []


@pytest.mark.parametrize(
    "end", ["queued", "sending", "expired", "cancelled", "rejected", "stalled"]
)
def test_the_log_has_the_last_word(file: sqlite3.Connection, end: str) -> None:
    """A copy of this file sent it."""
    send(file, 1)
    if end in ("sending", "rejected", "stalled"):
        bind(file, 1)
    if end in ("rejected", "stalled"):
        store(file, decide(1, end))
    if end == "expired":
        store(file, cc.Expire((ident(1),)))
    if end == "cancelled":
        message_acts.cancel(file, row(file, 1).row)
    assert states(file) == [end]
    stored = receive(file, message(1, 1, sender="me"))
    assert (states(file), stored.logged, stored.added) == (["accepted"], [ident(1)], [])
    assert order(file) == ["m1"]


def test_what_was_bound_after_the_log_had_it_keeps_its_slot_and_its_state(
    file: sqlite3.Connection,
) -> None:
    send(file, 1)
    receive(file, message(1, 1, sender="me"))
    stored = bind(file, 1)
    assert [slot.logged for slot in stored.slots] == [True]
    assert states(file) == ["accepted"]
    assert store(file, cc.Expire((ident(1),))).changed == []


def test_a_message_of_somebody_else_under_our_id_is_another_message(
    file: sqlite3.Connection,
) -> None:
    send(file, 1)
    store(file, place())
    bind(file, 1)
    receive(file, message(1, 1, sender="ana"))
    store(file, decide(1, "rejected", code="conflict"))
    assert states(file) == ["rejected"]
    assert [(found.sender, found.state) for found in select(file, "ORDER BY id", ())] == [
        ("me", "rejected"), ("ana", "accepted"),
    ]  # fmt: skip


@pytest.mark.parametrize("log_first", [False, True])
def test_what_the_relay_made_of_our_message_is_our_message(
    file: sqlite3.Connection, log_first: bool
) -> None:
    send(file, 1)
    store(file, place())
    bind(file, 1)
    kept = message(1, 1, sender="me", body="M1", meta=b"\x80", accepted_at=9)
    if log_first:  # a copy of this file sent it, and nobody can say yet that it is the same
        assert len(receive(file, kept).added) == 1
        assert (row(file, 1).body, row(file, 1).state) == ("m1", "sending")
    stored = store(file, decide(1, "accepted", 1))
    assert len(stored.merged) == log_first
    if not log_first:
        stored = receive(file, kept)
    assert [(it.body, it.meta, it.state, it.seq) for it in stored.changed] == [
        ("M1", b"\x80", "accepted", 1)
    ]
    assert stored.added == []
    [only] = select(file, "", ())
    assert (only.replaced, only.sender, only.accepted_at, only.slot) == (False, "me", 9, None)
    for draft in (Draft(ident(1), "m1", b"", 1, None), Draft(ident(1), "M1", b"\x80", 1, None)):
        again, waiting = message_acts.write(file, ROOM, draft, at(0), OutboxCaps())
        assert (again.row, waiting) == (only.row, None)
    with pytest.raises(IdConflict):
        message_acts.write(file, ROOM, Draft(ident(1), "x", b"", 1, None), at(0), OutboxCaps())
    receive(file, kept)
    assert select(file, "", ()) == [only]


def test_what_conflicts_with_a_message_of_our_own_keeps_its_body(file: sqlite3.Connection) -> None:
    send(file, 1)
    store(file, place())
    bind(file, 1)
    receive(file, message(1, 1, sender="me", body="by another device of ours"))
    store(file, decide(1, "rejected", code="conflict"))
    assert order(file) == ["m1", "by another device of ours"]
    assert states(file) == ["rejected"]


def test_the_same_message_twice_is_stored_once(file: sqlite3.Connection) -> None:
    receive(file, message(1), message(2))
    stored = receive(file, message(1), message(2), message(3))
    assert [added.seq for added in stored.added] == [3]
    assert order(file) == ["m1001", "m1002", "m1003"]


def test_a_number_that_is_given_twice_keeps_both_messages(file: sqlite3.Connection) -> None:
    """By a relay that is broken, or was put back unnoticed: the newer stands in the log."""
    receive(file, message(1, 5))
    stored = receive(file, message(1, 6))
    assert [(changed.id, changed.replaced) for changed in stored.changed] == [(ident(5), True)]
    assert {found.id: found.replaced for found in select(file, "", ())} == {
        ident(5): True, ident(6): False,
    }  # fmt: skip


def test_an_outcome_with_a_number_that_another_message_has_takes_nobodys_place(
    file: sqlite3.Connection,
) -> None:
    receive(file, message(1))
    send(file, 1)
    bind(file, 1)
    store(file, decide(1, "accepted", 1))
    assert (row(file, 1).state, row(file, 1).seq) == ("accepted", None)
    assert order(file) == ["m1001", "m1"]


# Gaps


def test_a_mark_that_is_left_behind_leaves_a_gap(file: sqlite3.Connection) -> None:
    receive(file, message(1), message(2))
    stored = store(file, place(after=50, head=60))
    assert stored.gaps == loaded(file).gaps == (Gap(3, 50),)
    assert (loaded(file).seq, loaded(file).generation) == (50, RUN)
    assert store(file, place(after=50, head=60)).gaps is None


def test_what_only_an_outcome_told_of_is_asked_for_all_the_same(file: sqlite3.Connection) -> None:
    send(file, 1)
    bind(file, 1)
    store(file, decide(1, "accepted", 30))
    assert store(file, place(after=50, head=60)).gaps == (Gap(1, 50),)
    send(file, 2)
    bind(file, 2, first=2)
    assert store(file, decide(2, "accepted", 40)).gaps is None
    page = [message(30, 1, sender="me"), message(31)]
    assert store(file, cc.Fill(1, page, 30, 31, 1)).gaps == (Gap(1, 29), Gap(32, 50))
    assert [found.body for found in select(file, "WHERE seq IN (30, 31) ORDER BY seq", ())] == [
        "m1",
        "m1031",
    ]


def test_what_was_accepted_beyond_the_end_of_the_log_is_offered_again(
    file: sqlite3.Connection,
) -> None:
    send(file, 1, 2, 3)
    bind(file, 1, 2)
    store(file, place(), decide(1, "accepted", 4), decide(2, "accepted", 5))
    stored = store(file, place(after=0, head=4))
    assert stored.reoffered == 1
    assert stored.waiting == [cc.Waiting(ident(2), 2, None, offered=True)]
    assert states(file) == ["accepted", "queued", "queued"]
    assert [waiting.id for waiting in loaded(file).waiting] == [ident(2), ident(3)]


@pytest.mark.parametrize("is_another_log", [False, True])
def test_what_another_user_had_accepted_and_no_log_has_is_stalled_and_not_offered(
    file: sqlite3.Connection, is_another_log: bool
) -> None:
    send(file, 1)
    bind(file, 1)
    store(file, place(), decide(1, "accepted", 1))
    store(file, cc.NewUser("you", FRESH))
    older = place(user="you")
    stored = store(file, cc.Replace(older, 0) if is_another_log else older)
    assert (stored.reoffered, stored.waiting, loaded(file).waiting) == (0, [], [])
    assert (states(file), row(file, 1).code) == (["stalled"], "other_user")
    assert [changed.state for changed in stored.changed] == ["stalled"]
    receive(file, message(1, 1, sender="me"))  # another device of its writer has brought it back
    assert (row(file, 1).state, row(file, 1).mine) == ("accepted", False)


def test_what_was_sent_under_an_earlier_name_of_the_device_is_offered_again(
    file: sqlite3.Connection,
) -> None:
    send(file, 1)
    bind(file, 1)
    store(file, place(), decide(1, "accepted", 1))
    file.execute("UPDATE chats SET user = ''")  # as a device does that takes another id
    store(file, cc.NewUser("me-too", FRESH))
    receive(file, message(1, 1, sender="me"))
    assert row(file, 1).mine
    stored = store(file, place(user="me-too"))
    assert (states(file), stored.reoffered) == (["queued"], 1)


def test_what_came_of_this_user_while_nobody_knew_the_name_is_their_own(
    file: sqlite3.Connection,
) -> None:
    store(file, place())
    send(file, 1, 2)
    bind(file, 1, 2)
    file.execute("UPDATE chats SET user = ''")  # as a device does that takes another id
    file.execute("UPDATE messages SET sender = ''")
    store(file, decide(1, "accepted", 1))
    sent = [message(number, number, sender="me") for number in (1, 2)]
    receive(file, *sent, message(3, sender="me"), message(4))
    assert [found.mine for found in select(file, "ORDER BY place", ())] == [
        True,
        True,
        False,
        False,
    ]
    stored = store(file, place(4, 4))
    assert [found.mine for found in select(file, "ORDER BY place", ())] == [True, True, True, False]
    assert ([changed.body for changed in stored.changed], stored.unread) == (["m1003"], 1)


def test_a_chat_in_which_anything_was_ever_said_is_not_empty(file: sqlite3.Connection) -> None:
    assert not loaded(file).has_messages
    send(file, 1, ttl=50)
    store(file, cc.Expire((ident(1),)))
    assert loaded(file).has_messages


def test_marks_beyond_the_end_of_the_log_are_of_another_one(file: sqlite3.Connection) -> None:
    store(file, place(), cc.TakeReceipts([Receipt("ana", 9, 7), Receipt("ben", 2, 1)], 0))
    send(file, 1)
    bind(file, 1)
    store(file, decide(1, "accepted", 8))
    message_acts.read(file, ROOM, None)
    stored = store(file, place(after=0, head=3))
    assert stored.receipts == [Receipt("ana", 3, 3), Receipt("ben", 2, 1)]
    known = chat(file, ROOM)
    assert known is not None
    assert known.read_upto == 3


def test_what_lost_its_number_to_another_message_is_offered_again(
    file: sqlite3.Connection,
) -> None:
    send(file, 1, ttl=50)
    bind(file, 1)
    store(file, place(), decide(1, "accepted", 1))
    stored = receive(file, message(1))
    assert stored.waiting == [cc.Waiting(ident(1), 1, None, offered=True)]
    assert (row(file, 1).state, row(file, 1).seq, row(file, 1).replaced) == ("queued", None, False)
    assert order(file) == ["m1001", "m1"]
    bind(file, 1, first=2)
    store(file, decide(1, "accepted", 2))
    assert order(file) == ["m1001", "m1"]


def test_a_bound_message_that_lost_its_number_waits_for_its_outcome_again(
    file: sqlite3.Connection,
) -> None:
    store(file, place())
    send(file, 1)
    bind(file, 1)
    receive(file, message(1, 1, sender="me"))
    assert (row(file, 1).state, row(file, 1).slot) == ("accepted", 1)
    stored = store(file, cc.Fill(1, [message(1)], 1, 1, 1))
    assert stored.waiting == []
    assert [(slot.id, slot.logged) for slot in stored.slots] == [(ident(1), False)]
    assert (row(file, 1).state, row(file, 1).slot) == ("sending", 1)


def test_a_page_fills_a_gap(file: sqlite3.Connection) -> None:
    store(file, place(after=50, head=60))
    messages = [message(seq) for seq in range(41, 51)]
    stored = store(file, cc.Fill(1, messages, 41, 50, oldest=1))
    assert len(stored.added) == 10
    assert stored.gaps == (Gap(1, 40),)
    assert loaded(file).seq == 50


def test_what_the_relay_has_no_more_is_lost_and_told_once(file: sqlite3.Connection) -> None:
    stored = store(file, place(after=50, head=60, oldest=21))
    assert (stored.gaps, stored.lost) == (
        (Gap(1, 20, lost=True), Gap(21, 50)), (Gap(1, 20, lost=True),),
    )  # fmt: skip
    assert store(file, place(after=50, head=60, oldest=21)).lost == ()
    stored = store(file, cc.Fill(1, (), 51, 50, oldest=51))
    assert stored.gaps == (Gap(1, 50, lost=True),)
    assert stored.lost == (Gap(21, 50, lost=True),)


def test_a_log_that_is_put_back_again_leaves_nothing_beyond_its_end(
    file: sqlite3.Connection,
) -> None:
    receive(file, message(1), message(2), message(3))
    store(file, cc.Replace(place(0, 3), 0))  # all is asked for again
    stored = store(file, place(0, 1))
    assert (stored.replaced, stored.reoffered) == (2, 0)
    assert [found.replaced for found in select(file, "ORDER BY place", ())] == [False, True, True]


# Another history


def replaced(file: sqlite3.Connection, since: int = 0, **fields: Any) -> Stored:
    return store(file, cc.Replace(place(**fields), since))


def test_another_history_keeps_everything_and_marks_what_it_has_not(
    file: sqlite3.Connection,
) -> None:
    receive(file, *(message(seq) for seq in range(1, 11)))
    stored = replaced(file, after=3, head=6)
    assert (stored.replaced, stored.reoffered) == (4, 0)
    assert len(select(file, "", ())) == 10
    assert sorted(found.place for found in select(file, "WHERE replaced", ())) == [7, 8, 9, 10]
    assert stored.gaps == (Gap(1, 3),)
    assert (loaded(file).seq, loaded(file).generation) == (3, RUN)


def test_what_both_histories_have_is_one_message_again(file: sqlite3.Connection) -> None:
    receive(file, *(message(seq) for seq in range(1, 7)))
    replaced(file, after=3, head=6)
    stored = receive(file, message(4), message(5, 6_000), message(6, 1_005))
    # 4 is the same; 5 is another one; what was 5 is 6 now; what was 6 is nowhere yet.
    assert [added.id for added in stored.added] == [ident(6_000)]
    found = {row.id: (row.seq, row.replaced) for row in select(file, "", ())}
    assert found[ident(1_004)] == (4, False)
    assert found[ident(6_000)] == (5, False)
    assert found[ident(1_005)] == (6, False)
    assert found[ident(1_006)] == (6, True)
    stored = store(file, cc.Fill(1, [message(seq) for seq in (1, 2, 3)], 1, 3, 1))
    assert (stored.added, stored.gaps) == ([], ())


@pytest.mark.parametrize("body", ["m2", "better"])
def test_a_message_that_is_told_a_number_which_another_has_here_is_found_when_it_comes(
    file: sqlite3.Connection, body: str
) -> None:
    receive(file, message(1))
    send(file, 2)
    bind(file, 2)
    store(file, place(1, 1), decide(2, "accepted", 2))
    # The relay has one message now: ours, which a copy of the file has sent.
    replaced(file, after=1, head=1)
    store(file, cc.NewLane(FRESH, rolled_back=False))
    store(file, cc.Bind(FRESH, 1, (ident(2),)), decide(2, "accepted", 1))
    assert (row(file, 2).seq, row(file, 2).state) == (None, "accepted")
    store(file, cc.TakeReceipts([Receipt("ana", 1, 0)], 0))
    filled = store(file, cc.Fill(1, [message(1, 2, sender="me", body=body)], 1, 1, 1))
    assert filled.added == []
    assert (row(file, 2).seq, row(file, 2).body, row(file, 2).state) == (1, body, "delivered")
    assert len(select(file, "WHERE message_id = ?", (ident(2),))) == 1
    assert [found.id for found in select(file, "WHERE replaced", ())] == [ident(1_001)]


def test_own_messages_of_the_last_days_are_offered_again_and_never_expire(
    file: sqlite3.Connection,
) -> None:
    send(file, 1, now=100)
    send(file, 2, 3, now=900, ttl=5)
    bind(file, 1, 2, 3)
    store(file, place(), decide(1, "accepted", 1), decide(2, "accepted", 2), decide(3, "rejected"))
    send(file, 4, now=950)
    stored = replaced(file, since=500, after=0, head=0)
    assert (stored.reoffered, stored.replaced) == (1, 1)
    assert states(file) == ["accepted", "queued", "rejected", "queued"]
    assert stored.waiting == [
        cc.Waiting(ident(2), 2, None, offered=True), cc.Waiting(ident(4), 4, None, offered=False),
    ]  # fmt: skip
    assert row(file, 1).replaced
    bind(file, 2, first=4)
    store(file, decide(2, "accepted", 9))
    assert (row(file, 2).state, row(file, 2).seq, row(file, 2).replaced) == ("accepted", 9, False)


def test_what_the_log_had_before_its_outcome_is_undecided_again(file: sqlite3.Connection) -> None:
    send(file, 1, now=100)
    bind(file, 1)
    receive(file, message(1, 1, sender="me"))
    stored = replaced(file, after=0, head=0)
    assert (states(file), stored.waiting) == (["sending"], [])
    assert [slot.logged for slot in loaded(file).slots] == [False]


def test_receipts_and_what_was_read_are_of_the_other_history(file: sqlite3.Connection) -> None:
    receive(file, *(message(seq) for seq in range(1, 11)))
    store(file, cc.TakeReceipts([Receipt("ana", 9, 9)], 8))
    stored = replaced(file, after=0, head=4, read_upto=2, unread=2)
    assert stored.receipts == loaded(file).receipts == []
    assert loaded(file).read_upto == 2


def test_lost_is_only_what_is_not_here(file: sqlite3.Connection) -> None:
    receive(file, message(1), message(2))
    assert replaced(file, after=9, head=9, oldest=6).gaps == (Gap(3, 5, lost=True), Gap(6, 9))


# Receipts and unread


def sent_and_accepted(file: sqlite3.Connection, count: int) -> None:
    send(file, *range(1, count + 1))
    bind(file, *range(1, count + 1))
    store(file, place(), *(decide(n, "accepted", n) for n in range(1, count + 1)))


def test_receipts_move_own_messages_and_never_back(file: sqlite3.Connection) -> None:
    sent_and_accepted(file, 4)
    stored = store(file, cc.TakeReceipts([Receipt("ana", 3, 1), Receipt("ben", 2, 2)], 0))
    assert states(file) == ["read", "read", "delivered", "accepted"]
    assert len(stored.changed) == 3
    stored = store(file, cc.TakeReceipts([Receipt("ana", 1, 0)], 0))
    assert states(file) == ["read", "read", "delivered", "accepted"]
    assert stored.changed == []
    assert sorted(loaded(file).receipts, key=lambda one: one.user) == [
        Receipt("ana", 3, 1), Receipt("ben", 2, 2),
    ]  # fmt: skip


def test_who_has_read_has_received(file: sqlite3.Connection) -> None:
    sent_and_accepted(file, 1)
    store(file, cc.TakeReceipts([Receipt("ana", 0, 1)], 0))
    assert states(file) == ["read"]


def test_a_receipt_that_came_before_the_outcome_counts(file: sqlite3.Connection) -> None:
    send(file, 1)
    bind(file, 1)
    store(file, cc.TakeReceipts([Receipt("ana", 5, 0)], 0), decide(1, "accepted", 4))
    assert states(file) == ["delivered"]


def test_receipts_of_more_users_than_a_room_may_have_are_not_kept(
    file: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_RECEIPT_USERS", 3)
    users = [Receipt(f"u{n}", 1, 1) for n in range(9)]
    store(file, cc.TakeReceipts(users, 0))
    assert [one.user for one in loaded(file).receipts] == ["u0", "u1", "u2"]
    store(file, cc.TakeReceipts([Receipt("u1", 7, 0), Receipt("u9", 7, 0)], 0))
    assert loaded(file).receipts[1] == Receipt("u1", 7, 1)


def unread(file: sqlite3.Connection) -> int:
    return loaded(file).unread


def test_unread_is_what_others_wrote_after_what_was_read(file: sqlite3.Connection) -> None:
    store(file, place())
    receive(
        file, message(1), message(2, sender="me"), message(3, kind=1), message(4), message(5)
    )  # fmt: skip
    assert unread(file) == 3
    message_acts.read(file, ROOM, 4)
    assert unread(file) == 1
    store(file, cc.TakeReceipts([], 5))
    assert unread(file) == 0
    assert message_acts.read(file, ROOM, 2) == (5, 0)  # never back


def test_the_relays_count_stands_for_what_lies_in_a_gap(file: sqlite3.Connection) -> None:
    store(file, place(after=90, head=100, unread=70))
    receive(file, *(message(seq) for seq in range(91, 101)))
    assert unread(file) == 70
    receive(file, message(101), message(102, sender="me"))
    assert unread(file) == 71
    message_acts.read(file, ROOM, 95)  # the gap ends below: what is here is counted
    assert unread(file) == 6


def test_reading_in_a_gap_takes_what_is_known_from_the_relays_count(
    file: sqlite3.Connection,
) -> None:
    store(file, place())
    receive(file, *(message(seq) for seq in range(1, 11)))
    store(file, place(after=90, head=100, unread=100))
    message_acts.read(file, ROOM, 10)
    assert unread(file) == 90


def test_unread_is_counted_up_to_a_thousand(file: sqlite3.Connection) -> None:
    messages = [message(seq) for seq in range(1, 1_101)]
    for start in range(0, 1_100, 100):
        receive(file, *messages[start : start + 100])
    assert unread(file) == limits.MAX_UNREAD_COUNTED


# Rooms


def test_a_room_that_was_forgotten_gets_nothing(file: sqlite3.Connection) -> None:
    send(file, 1)
    file.execute("DELETE FROM chats")
    changes: Iterable[cc.Change] = (
        cc.Bind(EPOCH, 1, (ident(1),)), decide(1, "accepted", 1), cc.NewLane(FRESH, False),
        place(), cc.Replace(place(), 0), cc.Receive([message(1)], RUN, 1),
        cc.Fill(1, [message(1)], 1, 1, 1), cc.TakeReceipts([Receipt("ana", 1, 1)], 1),
        cc.Expire((ident(1),)), cc.GiveUp(ident(1), MessageState.CANCELLED),
        cc.CountRefusal(ident(1), 1),
    )  # fmt: skip
    for change in changes:
        assert store(file, change) == Stored()
    assert states(file) == ["queued"]
    assert chat(file, ROOM) is None


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT message_id FROM messages WHERE room_id = 1"
        " AND (state = 'queued' OR slot IS NOT NULL) AND slot IS NULL ORDER BY position",
        "SELECT 1 FROM messages WHERE room_id = 1 AND message_id = x'00'",
        "SELECT 1 FROM messages WHERE room_id = 1 AND place = 7 AND tie = 0",
        "SELECT * FROM messages WHERE room_id = 1 AND (place, tie) > (1, 0) AND (place, tie)"
        " < (9, 0) ORDER BY place DESC, tie DESC LIMIT 10",
        "SELECT 1 FROM messages WHERE room_id = 1 AND place > 1 AND place <= 9 AND tie = 0"
        " AND kind = 0 AND NOT mine LIMIT 1000",
        "SELECT * FROM messages WHERE room_id = 1 AND mine AND state IN ('accepted', 'delivered')"
        " AND seq <= 5 AND NOT replaced",
    ],
)
def test_what_is_asked_often_is_answered_from_an_index(
    file: sqlite3.Connection, statement: str
) -> None:
    plan = " ".join(str(line[3]) for line in file.execute(f"EXPLAIN QUERY PLAN {statement}"))
    assert "USING" in plan
    assert "TEMP B-TREE" not in plan


def steps_of(file: sqlite3.Connection, *changes: cc.Change) -> int:
    """How much SQLite had to do for these."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    file.set_progress_handler(step, 1)
    store(file, *changes)
    file.set_progress_handler(None, 1)
    return count


def test_binding_takes_as_long_whatever_waits_behind_it(file: sqlite3.Connection) -> None:
    def steps(number: int) -> int:
        found = steps_of(file, cc.Bind(EPOCH, number, (ident(number),)))
        store(file, decide(number, "rejected"))
        return found

    send(file, 1, 2)
    few = steps(1)
    send(file, *range(3, 1_000))
    assert steps(2) <= few * 1.5


def test_a_receipt_takes_as_long_whatever_was_delivered_and_never_read(
    file: sqlite3.Connection,
) -> None:
    def steps(seq: int) -> int:
        receive(file, message(seq, sender="me"))
        return steps_of(file, cc.TakeReceipts([Receipt("ana", seq, 0)], 0))

    store(file, place())
    few = steps(1)
    receive(file, *(message(seq, sender="me") for seq in range(2, 1_000)))
    store(file, cc.TakeReceipts([Receipt("ana", 999, 0)], 0))
    assert {found.state for found in select(file, "", ())} == {MessageState.DELIVERED}
    assert steps(1_000) <= few * 1.5
