"""Undo takes back this user's own edits, and nothing else."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pycrdt
import pytest

from collab.crdt.pycrdt_engine import PycrdtReplica
from collab.errors import Closed
from collab.text import TextChanged
from collab.undo import Undo


class Room:
    def __init__(self, client_id: int = 1) -> None:
        self.turn: list[Callable[[], None]] = []
        self.sent: list[bytes] = []
        self.replica = PycrdtReplica(
            client_id=client_id, call_soon=self.turn.append, on_local=self.sent.append
        )
        self.text = self.replica.text("body")
        self.now_s = 100.0

    def undo(self, *scopes: object, capture_timeout_ms: int = 500) -> Undo:
        return Undo(
            self.replica,
            scopes or (self.text,),
            capture_timeout_ms=capture_timeout_ms,
            clock=lambda: self.now_s,
        )

    def run(self) -> None:
        while self.turn:
            self.turn.pop(0)()


@pytest.fixture
def room() -> Room:
    return Room()


def test_undo_takes_back_and_redo_brings_back(room: Room) -> None:
    undo = room.undo()
    assert (undo.can_undo, undo.can_redo, undo.undo(), undo.redo()) == (False,) * 4
    room.text.insert(0, "你好")
    assert undo.can_undo
    assert undo.undo()
    assert str(room.text) == ""
    assert (undo.can_undo, undo.can_redo) == (False, True)
    assert undo.redo()
    assert str(room.text) == "你好"
    room.text.insert(1, "|")
    assert str(room.text) == "你|好"


def test_undo_leaves_what_others_wrote_in_between(room: Room) -> None:
    undo = room.undo()
    room.text.insert(0, "mine 你")
    other = Room(2)
    other.replica.apply(room.sent[-1])
    other.text.insert(4, "theirs 好")
    room.replica.apply(other.sent[-1])
    room.text.insert(0, "more ")
    undo.undo()
    assert str(room.text) == "theirs 好"
    undo.redo()
    assert str(room.text) == "more minetheirs 好 你"


def test_a_remote_update_alone_is_nothing_to_undo(room: Room) -> None:
    undo = room.undo()
    other = Room(2)
    other.text.insert(0, "theirs")
    room.replica.apply(other.sent[-1])
    assert not undo.can_undo


def test_undo_brings_back_a_deletion_that_was_mine_only(room: Room) -> None:
    room.text.insert(0, "abcdef")
    undo = room.undo()
    other = Room(2)
    other.replica.apply(room.replica.snapshot())
    room.text.delete(0, 2)
    other.text.delete(4, 2)
    room.replica.apply(other.sent[-1])
    undo.undo()
    assert str(room.text) == "abcd"


def test_undo_is_saved_sent_and_observed_like_an_edit(room: Room) -> None:
    undo = room.undo()
    other = Room(2)
    room.text.insert(0, "é!")
    events: list[TextChanged] = []
    room.text.observe(events.append)
    sent = len(room.sent)
    undo.undo()
    undo.redo()
    room.run()
    assert len(room.sent) == sent + 2
    assert [event.local for event in events] == [True, True]
    assert events[0].apply_to("é!") == ""
    assert events[1].apply_to("") == "é!"
    for update in room.sent:
        other.replica.apply(update)
    assert str(other.text) == "é!"


def test_edits_with_an_origin_and_raw_edits_are_followed_too(room: Room) -> None:
    undo = room.undo()
    with room.replica.transaction("toolbar"):
        room.text.insert(0, "a")
    assert undo.undo()
    room.replica.document.get("body", type=pycrdt.Text).insert(0, "é")
    assert undo.undo()
    assert str(room.text) == ""


def test_edits_close_together_are_one_step(room: Room) -> None:
    undo = room.undo(capture_timeout_ms=500)
    room.text.insert(0, "a")
    room.now_s += 0.4
    room.text.insert(1, "b")
    room.now_s += 0.6
    room.text.insert(2, "c")
    undo.undo()
    assert str(room.text) == "ab"
    undo.undo()
    assert str(room.text) == ""


def test_stop_capturing_begins_a_new_step(room: Room) -> None:
    undo = room.undo()
    room.text.insert(0, "a")
    undo.stop_capturing()
    room.text.insert(1, "b")
    undo.undo()
    assert str(room.text) == "a"


def test_a_clock_at_zero_still_gathers_steps(room: Room) -> None:
    room.now_s = 0.0
    undo = room.undo()
    room.text.insert(0, "a")
    room.text.insert(1, "b")
    undo.undo()
    assert str(room.text) == ""


def test_scopes_may_be_several_texts_and_pycrdt_types(room: Room) -> None:
    title = room.replica.text("title")
    meta: pycrdt.Map[object] = room.replica.document.get("meta", type=pycrdt.Map)
    outside = room.replica.text("outside")
    undo = room.undo(room.text, title, meta)
    room.text.insert(0, "a")
    title.insert(0, "b")
    meta["k"] = "v"
    outside.insert(0, "stays")
    undo.undo()
    assert (str(room.text), str(title), dict(meta), str(outside)) == ("", "", {}, "stays")


def test_two_users_of_one_replica_undo_their_own_scopes(room: Room) -> None:
    title = room.replica.text("title")
    first, second = room.undo(room.text), room.undo(title)
    room.text.insert(0, "a")
    title.insert(0, "b")
    first.undo()
    assert (str(room.text), str(title)) == ("", "b")
    assert second.can_undo
    second.undo()
    assert str(title) == ""


def test_a_new_edit_forgets_what_could_be_redone(room: Room) -> None:
    undo = room.undo()
    room.text.insert(0, "a")
    undo.undo()
    room.text.insert(0, "b")
    assert not undo.can_redo


def test_clear_forgets_all_steps(room: Room) -> None:
    undo = room.undo()
    room.text.insert(0, "a")
    undo.clear()
    assert not undo.can_undo
    assert str(room.text) == "a"
    room.text.insert(0, "b")
    undo.undo()
    assert str(room.text) == "a"


def test_undo_inside_a_transaction_is_refused_and_loses_no_step(room: Room) -> None:
    undo = room.undo()
    room.text.insert(0, "a")
    with room.replica.transaction():
        for act in (undo.undo, undo.redo, undo.clear):
            with pytest.raises(RuntimeError, match="transaction"):
                act()
    assert undo.undo()
    assert str(room.text) == ""


def test_an_undo_dropped_inside_a_transaction_does_no_harm(room: Room) -> None:
    undo = room.undo()
    room.text.insert(0, "a")
    with room.replica.transaction():
        room.text.insert(0, "b")
        del undo
        gc.collect()
        room.text.insert(0, "c")
    for _ in range(10):
        room.text.insert(0, "d")
    assert len(room.text) == 13


def test_a_closed_undo_is_closed(room: Room) -> None:
    undo = room.undo()
    undo.close()
    undo.close()
    for act in (undo.undo, undo.redo, undo.clear, lambda: undo.can_undo):
        with pytest.raises(Closed):
            act()


def test_closing_the_replica_closes_its_undo(room: Room) -> None:
    undo = room.undo()
    room.text.insert(0, "a")
    room.replica.close()
    with pytest.raises(Closed):
        undo.undo()


@pytest.mark.parametrize("scopes", [[], [pycrdt.Text("loose")]])
def test_undo_needs_scopes_of_this_room(room: Room, scopes: list[object]) -> None:
    with pytest.raises(ValueError, match="undo"):
        Undo(room.replica, scopes)
    with pytest.raises(ValueError, match="another room"):
        Undo(room.replica, [Room(2).text])


def test_a_negative_timeout_is_refused(room: Room) -> None:
    with pytest.raises(ValueError, match="negative"):
        room.undo(capture_timeout_ms=-1)
