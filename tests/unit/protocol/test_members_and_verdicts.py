"""Members, inquiries and verdicts: rows of frames, and what a device asks on one connection."""

from __future__ import annotations

from typing import Any

import pytest

from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.chat_changes import Answered
from collab.protocol.codec import pack_rows
from collab.protocol.inquiries import Inquiries
from collab.protocol.members import is_member_name, pack_members, unpack_members
from collab.protocol.membership import Membership
from collab.protocol.messages import Verdict
from collab.protocol.verdicts import (
    GivenVerdict,
    pack_inquiry,
    pack_verdicts,
    unpack_inquiry,
    unpack_verdicts,
)
from tests.unit.protocol.test_chat_outbox import ident

ID = bytes(range(16))


def test_rows_come_out_as_they_went_in() -> None:
    members = [("ana", "admin"), ("本", "reader"), ("eve", "")]
    assert unpack_members(pack_members(members)) == members
    given = [GivenVerdict(ID, Verdict.REFUSED, "sold out"), GivenVerdict(bytes(16), 2, "")]
    assert unpack_verdicts(pack_verdicts(given)) == given
    assert unpack_inquiry(pack_inquiry([ID, bytes(16)])) == [ID, bytes(16)]


@pytest.mark.parametrize(
    "row",
    [("", "reader"), ("ana", "owner"), ("ana", "x" * 17), ("x" * 256, "reader"), ("ana", 1),
     (b"ana", "reader"), ("ana",), ("ana", "reader", 1)],
    ids=repr,
)  # fmt: skip
def test_what_is_no_member_is_refused(row: tuple[Any, ...]) -> None:
    with pytest.raises(BadFrame):
        unpack_members(pack_rows([row]))


def test_too_many_members_and_one_that_comes_twice_are_refused() -> None:
    with pytest.raises(BadFrame):
        unpack_members(pack_members([(str(n), "reader") for n in range(limits.MAX_MEMBERS + 1)]))
    with pytest.raises(BadFrame, match="twice"):
        unpack_members(pack_members([("ana", "reader"), ("ana", "")]))


@pytest.mark.parametrize(
    "row",
    [(ID, 0, ""), (ID, 1, ""), (ID, 4, ""), (ID, True, ""), (ID[1:], 2, ""), (ID, 3, "x" * 513),
     (ID, 3, None), (ID, 2)],
    ids=repr,
)  # fmt: skip
def test_what_is_no_verdict_is_refused(row: tuple[Any, ...]) -> None:
    with pytest.raises(BadFrame):
        unpack_verdicts(pack_rows([row]))


def test_more_than_a_page_of_verdicts_or_ids_is_refused() -> None:
    many = limits.PAGE_MESSAGES + 1
    with pytest.raises(BadFrame):
        unpack_verdicts(pack_verdicts([GivenVerdict(ID, 2, "")] * many))
    with pytest.raises(BadFrame):
        unpack_inquiry(pack_inquiry([ID] * many))


@pytest.mark.parametrize("name", ["", "x" * 256, "é" * 128, "\ud83d", 7, None, b"ana"], ids=repr)
def test_what_no_member_may_be_called(name: object) -> None:
    assert not is_member_name(name)
    assert is_member_name("x" * 255)


def test_a_change_goes_up_once_and_is_answered_once() -> None:
    membership = Membership()
    first, second = membership.ask("ana", "reader"), membership.ask("ben", "")
    assert membership.next_frame(7) == frames.Change(7, first, "ana", "reader")
    assert membership.answer(frames.Changed(7, second, "done", "")) is None  # not asked yet
    assert membership.next_frame(7) == frames.Change(7, second, "ben", "")
    assert membership.next_frame(7) is None
    assert membership.answer(frames.Changed(7, second, "busy", "later")) == Answered(
        second, "busy", "later"
    )
    assert membership.answer(frames.Changed(7, second, "done", "")) is None
    membership.detach()
    assert membership.take_lost() == {first: True}
    assert membership.take_lost() == {}
    assert membership.answer(frames.Changed(7, first, "done", "")) is None


def test_what_was_not_sent_is_known_not_to_be_done() -> None:
    membership = Membership()
    given_up, waits = membership.ask("ana", "reader"), membership.ask("ben", "reader")
    membership.give_up(given_up)
    membership.detach()
    assert membership.take_lost() == {waits: False}
    assert membership.next_frame(7) is None  # nothing outlives its connection


def test_inquiries_go_up_a_page_at_a_time_without_what_is_decided() -> None:
    inquiries = Inquiries()
    ids = [ident(number) for number in range(1, limits.PAGE_MESSAGES + 20)]
    inquiries.ask(ids)
    inquiries.ask(ids[:3])
    inquiries.decided(ids[:5])
    asked = []
    while (frame := inquiries.next_frame(7)) is not None:
        asked.append(unpack_inquiry(frame.data))
    assert [len(page) for page in asked] == [limits.PAGE_MESSAGES, 14]
    assert [one for page in asked for one in page] == ids[5:]
    inquiries.ask(ids[:1])
    inquiries.detach()
    assert inquiries.next_frame(7) is None
