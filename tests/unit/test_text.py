"""Text on pycrdt: what goes beyond the contract of every engine (``tests/contract``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pycrdt
import pytest

from collab.crdt.pycrdt_engine import PycrdtReplica
from collab.errors import BadUpdate, Unsupported
from collab.text import Insert, Text, TextChanged


class Room:
    """As much of a room as a text needs."""

    def __init__(self, client_id: int = 1, content: str = "") -> None:
        self.turn: list[Callable[[], None]] = []
        self.sent: list[bytes] = []
        self.replica = PycrdtReplica(
            client_id=client_id, call_soon=self.turn.append, on_local=self.sent.append
        )
        self.text: Text = self.replica.text("body")
        self.text.insert(0, content)
        self.raw: pycrdt.Text = self.replica.document.get("body", type=pycrdt.Text)

    def run(self) -> list[Exception]:
        """One turn of the event loop; what callbacks raise is what its handler would get."""
        errors: list[Exception] = []
        while self.turn:
            try:
                self.turn.pop(0)()
            except Exception as error:
                errors.append(error)
        return errors

    def record(self) -> list[TextChanged]:
        events: list[TextChanged] = []
        self.text.observe(events.append)
        return events


@pytest.fixture
def room() -> Room:
    return Room(content="你好世界")


# --- indices ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "text", "result"),
    [(0, "", "你好世界"), (0, "!", "!你好世界"), (2, "", "世界")],
)
def test_a_replace_of_nothing_or_by_nothing_does_the_rest(
    room: Room, length: int, text: str, result: str
) -> None:
    room.text.replace(0, length, text)
    assert str(room.text) == result


def test_an_embed_counts_as_one_and_reads_as_an_object_character(room: Room) -> None:
    room.text.insert_embed(1, {"image": "a.png"})
    room.text.insert_embed(0, pycrdt.Map({"who": "me"}))
    assert str(room.text) == "\ufffc你\ufffc好世界"
    assert len(room.text) == 6
    room.text.insert(3, "-")
    room.text.delete(2, 1)
    assert str(room.text) == "\ufffc你-好世界"


def test_an_embed_in_ascii_text_counts_as_one() -> None:
    room = Room(content="ab")
    room.text.insert_embed(1, {"x": 1})
    room.text.insert(2, "c")
    assert str(room.text) == "a\ufffccb"


def test_a_nested_text_in_a_text_is_edited_by_its_own_indices(room: Room) -> None:
    nested = pycrdt.Text("é")
    room.text.insert_embed(1, nested)
    inner = room.replica.text(nested)
    inner.insert(1, "!")
    assert str(inner) == "é!"
    assert str(room.text) == "你\ufffc好世界"


@pytest.mark.parametrize("value", [None, "a string"])
def test_an_embed_is_not_a_string(room: Room, value: object) -> None:
    with pytest.raises(TypeError):
        room.text.insert_embed(0, value)


def test_formats_have_no_length(room: Room) -> None:
    room.text.format(1, 2, {"bold": True})
    room.text.insert(3, "X")
    room.text.insert(0, "Y", {"italic": True})
    assert str(room.text) == "Y你好世X界"
    assert room.raw.diff()[0] == ("Y", {"italic": True})


def test_text_that_was_there_before_is_indexed_too() -> None:
    room = Room(content="")
    raw = room.replica.document.get("late", type=pycrdt.Text)
    raw.insert(0, "é́a")
    raw.insert_embed(0, {"x": 1})
    text = room.replica.text("late")
    text.insert(2, "|")
    assert str(text) == "\ufffcé|\u0301a"


def test_raw_edits_in_the_same_transaction_are_seen_at_once(room: Room) -> None:
    with room.replica.transaction():
        room.text.insert(0, "a")
        room.raw.insert(1, "é")
        assert str(room.text) == "aé你好世界"
        room.text.insert(2, "b")
        del room.raw[0:1]
        room.raw.insert(0, "Z")
        room.text.insert(1, "c")
        room.raw.insert(0, "ü")
    room.text.insert(1, "d")
    assert str(room.text) == "üdZcéb你好世界" == str(room.raw)


def test_raw_edits_in_a_raw_transaction_are_seen_at_once(room: Room) -> None:
    with room.replica.document.transaction():
        room.raw.insert(0, "é")
        room.text.insert(1, "b")
        room.raw.insert(0, "ü")
        assert len(room.text) == 7
    assert str(room.text) == "üéb你好世界"


def test_many_remote_updates_without_a_look_are_not_lost(room: Room) -> None:
    other = Room(2)
    other.replica.apply(room.replica.snapshot())
    for number in range(200):
        other.text.insert(number, chr(0x4E00 + number))
    for update in other.sent:
        room.replica.apply(update)
    room.text.insert(199, "|")
    assert str(room.text) == str(other.text)[:199] + "|" + str(other.text)[199:]


def test_an_edit_that_changes_nothing_does_not_hide_a_remote_one(room: Room) -> None:
    other = Room(2)
    other.replica.apply(room.replica.snapshot())
    room.text.format(0, 2, {"b": True})
    room.text.format(0, 2, {"b": True})
    other.text.insert(1, "é")
    room.replica.apply(other.sent[-1])
    assert str(room.text) == "你é好世界"


def test_a_look_between_raw_reads_does_not_hide_the_next_edit(room: Room) -> None:
    for _ in range(2):
        with room.replica.transaction():
            assert len(room.raw) == 12
            assert len(room.text) == 4
    room.text.insert(1, "é")
    assert str(room.text) == "你é好世界"
    with room.replica.transaction():
        assert len(room.raw) == 14
        assert len(room.text) == 5
    room.raw.insert(0, "ü")
    assert str(room.text) == "ü你é好世界"


def test_a_refused_update_does_not_spoil_what_observers_replay(room: Room) -> None:
    other = Room(2)
    other.replica.apply(room.replica.snapshot())
    events = room.record()
    with pytest.raises(BadUpdate):
        room.replica.apply(b"\xff")
    other.text.insert(1, "é")
    room.replica.apply(other.sent[-1])
    room.run()
    assert events[-1].apply_to("你好世界") == str(room.text) == "你é好世界"


def test_a_foreign_embed_that_is_a_string_counts_as_one(room: Room) -> None:
    events = room.record()
    with room.replica.document.transaction():
        room.raw.insert_embed(3, "好世")
        room.raw.insert_embed(0, "")
    room.run()
    assert str(room.text) == "\ufffc你\ufffc好世界"
    assert events[-1].apply_to("你好世界") == str(room.text)
    room.text.insert(3, "|")
    assert str(room.text) == "\ufffc你\ufffc|好世界"


def test_a_name_that_holds_an_array_is_not_edited_as_text() -> None:
    other: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    other["body"] = pycrdt.Array([1, 2])
    room = Room()
    room.replica.apply(other.get_update())
    with pytest.raises(Unsupported, match="nothing was changed"):
        room.text.insert(0, "x")


# --- checks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda t: t.insert(5, "x"), IndexError),
        (lambda t: t.insert(-1, "x"), IndexError),
        (lambda t: t.delete(4, 1), IndexError),
        (lambda t: t.delete(-1, 1), IndexError),
        (lambda t: t.delete(0, -1), ValueError),
        (lambda t: t.delete(1, 4), IndexError),
        (lambda t: t.replace(3, 2, "x"), IndexError),
        (lambda t: t.replace(0, 1, "\ud800"), ValueError),
        (lambda t: t.format(3, 2, {"b": 1}), IndexError),
        (lambda t: t.insert_embed(9, {"x": 1}), IndexError),
        (lambda t: t.insert(0, "a\ud83d"), ValueError),
        (lambda t: t.insert(0, "\udc00"), ValueError),
        (lambda t: t.insert("0", "x"), TypeError),
        (lambda t: t.insert(1.0, "x"), TypeError),
        (lambda t: t.insert(0, b"x"), TypeError),
        (lambda t: t.insert(0, None), TypeError),
        (lambda t: t.replace(0, 1, None), TypeError),
        (lambda t: t.insert(0, "x", [1]), TypeError),
        (lambda t: t.format(0, 1, None), TypeError),
        (lambda t: t.insert(5, ""), IndexError),
        (lambda t: t.relative_position(5), IndexError),
        (lambda t: t.relative_position(0, "left"), ValueError),
    ],
)
def test_a_wrong_argument_raises_before_anything_is_changed(
    room: Room, act: Callable[[Text], object], error: type[Exception]
) -> None:
    sent = len(room.sent)
    with pytest.raises(error) as caught:
        act(room.text)
    assert str(caught.value)
    assert str(room.text) == "你好世界"
    assert len(room.sent) == sent
    room.text.insert(2, "|")
    assert str(room.text) == "你好|世界"


def test_edits_of_nothing_open_no_transaction(room: Room) -> None:
    sent = len(room.sent)
    room.text.insert(0, "")
    room.text.delete(4, 0)
    room.text.format(0, 0, {"b": 1})
    room.text.format(0, 1, {})
    Room().text.clear()
    assert len(room.sent) == sent


def test_a_shared_type_is_embedded_once_and_only_where_it_can_be(room: Room) -> None:
    nested = pycrdt.Array([1])
    room.text.insert_embed(0, nested)
    with pytest.raises(ValueError, match="already"):
        room.text.insert_embed(0, nested)
    with pytest.raises(TypeError, match="cannot hold a XmlFragment"):
        room.text.insert_embed(0, pycrdt.XmlFragment())
    assert len(room.text) == 5


# --- events -----------------------------------------------------------------------------------


def test_a_raw_transactions_origin_is_reported(room: Room) -> None:
    events = room.record()
    with room.replica.document.transaction(origin="raw"):
        room.raw.insert(0, "x")
    room.run()
    assert events[0].origin == "raw"


def test_a_nested_type_in_a_delta_is_pycrdts(room: Room) -> None:
    events = room.record()
    room.text.insert_embed(0, pycrdt.Text("inner"))
    room.run()
    (op,) = events[0].delta
    assert isinstance(op, Insert)
    assert isinstance(op.content, pycrdt.Text)
    assert str(op.content) == "inner"


def test_a_callback_may_edit(room: Room) -> None:
    def once(event: TextChanged) -> None:
        if len(room.text) < 8:
            room.text.append("好")

    room.text.observe(once)
    room.text.insert(0, "!")
    room.run()
    assert str(room.text) == "!你好世界好好好"


def test_a_callback_that_raises_does_not_keep_others_from_being_called(room: Room) -> None:
    def fail(event: TextChanged) -> None:
        raise KeyError(event.delta)

    room.text.observe(fail)
    events = room.record()
    room.text.insert(0, "x")
    assert [type(error) for error in room.run()] == [KeyError]
    assert len(events) == 1


def test_observing_inside_a_transaction_begins_with_all_that_it_did(room: Room) -> None:
    replayed = ["你好世界"]

    def follow(event: TextChanged) -> None:
        replayed.append(event.apply_to(replayed[-1]))

    with room.replica.transaction():
        room.text.insert(0, "é")
        room.text.delete(2, 2)
        room.text.observe(follow)
        room.text.insert(1, "x")
        room.raw.insert(0, "ü")
    room.run()
    room.text.insert(0, "y")
    room.run()
    assert replayed[1:] == ["üéx你界", "yüéx你界"]


# --- places that stay -------------------------------------------------------------------------


def test_a_place_moves_with_its_character(room: Room) -> None:
    after = room.text.relative_position(2)
    before = room.text.relative_position(2, "before")
    room.text.insert(2, "𝄞x")
    assert (after.index, before.index) == (4, 2)
    room.text.insert(0, "é")
    assert (after.index, before.index) == (5, 3)


def test_a_place_at_the_end_stays_at_the_end(room: Room) -> None:
    end, start = room.text.relative_position(4), room.text.relative_position(0, "before")
    room.text.append("!")
    room.text.insert(0, "!")
    assert (end.index, start.index) == (6, 0)


def test_a_place_whose_character_was_deleted_is_where_it_was(room: Room) -> None:
    places = [room.text.relative_position(2), room.text.relative_position(3, "before")]
    room.text.delete(1, 2)
    assert [place.index for place in places] == [1, 1]


def test_a_place_is_yjs_json_with_clocks_in_utf16() -> None:
    room = Room(client_id=7, content="𝄞你b")
    text = room.text
    assert text.relative_position(1).to_json() == {
        "tname": "body",
        "item": {"client": 7, "clock": 2},
        "assoc": 0,
    }
    assert text.relative_position(1, "before").to_json()["item"] == {"client": 7, "clock": 1}
    assert text.relative_position(2).to_json()["item"] == {"client": 7, "clock": 3}
    assert text.relative_position(3).to_json() == {"tname": "body", "assoc": 0}
    assert text.relative_position(0, "before").to_json() == {"tname": "body", "assoc": -1}


def test_a_place_from_yjs_is_found(room: Room) -> None:
    find = room.text.relative_position_from_json
    item = {"client": 1, "clock": 2}
    assert find({"type": None, "tname": "body", "item": item, "assoc": 0}).index == 2
    assert find({"item": item, "assoc": -1}).index == 3
    assert find({"item": item}).index == 2
    assert find({"tname": "body", "item": None, "assoc": 0}).index == 4


def test_a_place_in_a_nested_text_names_its_type(room: Room) -> None:
    nested = pycrdt.Text("日本")
    room.text.insert_embed(0, nested)
    inner = room.replica.text(nested)
    data = inner.relative_position(1).to_json()
    assert data["type"] == {"client": 1, "clock": 4}
    assert inner.relative_position_from_json(data).index == 1
    with pytest.raises(ValueError, match="another text"):
        room.text.relative_position_from_json(data)


def test_a_place_that_this_replica_has_not_heard_of_is_none_until_it_has(room: Room) -> None:
    other = Room(2)
    other.replica.apply(room.replica.snapshot())
    other.text.insert(2, "新")
    place = room.text.relative_position_from_json(other.text.relative_position(2).to_json())
    assert place.index is None
    room.replica.apply(other.sent[-1])
    assert place.index == 2


def test_asking_for_places_changes_nothing(room: Room) -> None:
    sent, vector = len(room.sent), room.replica.state_vector()
    for index in range(5):
        assert room.text.relative_position(index).index == index
        assert room.text.relative_position(index, "before").index == index
    assert len(room.sent) == sent
    assert room.replica.state_vector() == vector


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"assoc": 0},
        {"item": {"client": 1}},
        {"item": {"client": -1, "clock": 0}},
        {"item": {"client": 1, "clock": 2**31}},
        {"item": {"client": 2**53, "clock": 0}},
        {"item": {"client": True, "clock": 0}},
        {"item": [1, 2]},
        {"item": {"client": 1, "clock": 0}, "assoc": "0"},
        {"tname": "other", "assoc": 0},
        {"type": {"client": 1, "clock": 0}, "assoc": 0},
        {"tname": 5, "assoc": 0},
    ],
)
def test_what_is_no_place_in_this_text_is_a_value_error(room: Room, data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        room.text.relative_position_from_json(data)
