"""What no editor makes and engines do not survive is refused, and what editors make is not."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pycrdt
import pytest

from collab.crdt.pycrdt_engine import PycrdtReplica
from collab.errors import BadUpdate, Unsupported
from collab.protocol.coverage import Coverage, Fit
from collab.protocol.merge import cut
from collab.protocol.walk import walk
from tests.unit.protocol.updates import deletes, item, number, shared_type, text, update

ARRAY, MAP, TEXT = 0, 1, 2
VALUE = b"\x01\x7f"
PAIR = b"\x02\x7f\x7e"

Block = tuple[int, int, list[bytes]]


def _refused(*blocks: Block, before: Coverage | None = None, delete_set: bytes = b"\0") -> str:
    coverage = before or Coverage()
    with pytest.raises(BadUpdate) as caught:
        coverage.fit(walk(update(*blocks, delete_set=delete_set)))
    return str(caught.value)


def _knows(*blocks: Block, delete_set: bytes = b"\0") -> Coverage:
    return Coverage.from_update(update(*blocks, delete_set=delete_set))


# Text in arrays


@pytest.mark.parametrize("content", ["a", "é", "你好", "😀", "a😀"])
def test_text_in_an_array_that_is_in_a_document_is_refused(content: str) -> None:
    array = shared_type(ARRAY)
    assert "array" in _refused((1, 0, [array, text(content, parent=(1, 0))]))
    known = _knows((1, 0, [array, item(8, VALUE, parent=(1, 0))]))
    for place in ({"parent": (1, 0)}, {"left": (1, 1)}, {"right": (1, 1)}):
        assert "array" in _refused((2, 0, [text(content, **place)]), before=known)
        assert "array" in _refused((1, 2, [text(content, **place)]), before=known)
    again = Coverage.from_bytes(known.to_bytes())
    assert "array" in _refused((2, 0, [text(content, left=(1, 1))]), before=again)


def test_text_in_a_text_that_is_in_an_array_is_welcome() -> None:
    blocks: Block = (1, 0, [shared_type(ARRAY), shared_type(TEXT, parent=(1, 0))])
    known = _knows(blocks)
    known.add(walk(update((2, 0, [text("😀", parent=(1, 1))]))))
    known.add(walk(update((2, 2, [text("你", left=(2, 1))]))))
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    document.apply_update(update(blocks, (2, 0, [text("😀你", parent=(1, 1))])))
    assert document.get("root", type=pycrdt.Array).to_py() == [["😀你"]]


@pytest.mark.parametrize("content", ["ab", "é", "你好", "😀", "a😀"])
def test_a_root_array_that_holds_text_raises_and_the_rest_is_readable(content: str) -> None:
    replica = _replica()
    document = replica.document
    array = document.get("root", type=pycrdt.Array)
    array.extend([1, pycrdt.Map({"a": 1})])
    seen: list[object] = []

    def look(_: object) -> None:
        try:
            seen.append(array.to_py())
        except Unsupported as refusal:
            seen.append(refusal)

    array.observe(look)
    replica.apply(update((1, 0, [text(content)])))
    assert isinstance(seen[-1], Unsupported)
    same = document.get("root", type=pycrdt.Array)
    for of in (array, same, document["root"], dict(document.items())["root"]):
        for use in (
            lambda of=of: of.to_py(), lambda of=of: str(of), lambda of=of: of[0],
            lambda of=of: len(of), lambda of=of: of.append(1), lambda of=of: list(of),
            lambda of=of: of.__delitem__(0),
        ):  # fmt: skip
            with pytest.raises(Unsupported, match="'root'"):
                use()
    other = document.get("other", type=pycrdt.Array)
    other.append("😀")
    assert other.to_py() == ["😀"]
    assert document.get("map", type=pycrdt.Map).to_py() == {}
    replica.text("body").insert(0, "😀")
    assert str(replica.text("body")) == "😀"


def test_a_root_array_is_checked_wherever_a_foreign_update_comes_from() -> None:
    replica = _replica()
    array = replica.document.get("root", type=pycrdt.Array)
    array.append(1)
    assert array.to_py() == [1]
    replica.document.apply_update(update((1, 0, [text("é")])))
    with pytest.raises(Unsupported):
        array.to_py()
    later = _replica()
    later.apply(update((1, 0, [text("é")])))
    with pytest.raises(Unsupported):
        later.document.get("root", type=pycrdt.Array).to_py()


def test_a_root_array_is_readable_again_when_the_text_is_deleted() -> None:
    replica = _replica()
    array = replica.document.get("root", type=pycrdt.Array)
    array.extend([1, 2])
    replica.apply(update((1, 0, [text("é😀")])))
    with pytest.raises(Unsupported):
        array.to_py()
    replica.apply(update(delete_set=deletes((1, [(0, 3)]))))
    assert array.to_py() == [1, 2]


def test_a_root_array_of_a_users_own_class_stays_of_that_class() -> None:
    class Mine(pycrdt.Array[Any]):
        def first(self) -> Any:
            return self[0]

    replica = _replica()
    mine = replica.document.get("root", type=Mine)
    mine.append("😀")
    assert isinstance(mine, Mine)
    assert mine.first() == "😀"
    replica.apply(update((1, 0, [text("é")])))
    with pytest.raises(Unsupported):
        mine.first()


def test_the_bare_engine_never_ends_reading_an_array_with_text() -> None:
    """Why all this is there. When this fails, yrs counts right: ``pycrdt_array`` can go."""
    child = """
import json, sys
import pycrdt
document = pycrdt.Doc()
document.apply_update(bytes.fromhex(json.load(sys.stdin)))
array = document.get("root", type=pycrdt.Array)
print(len(array), flush=True)
array.to_py()
print("read", flush=True)
"""
    said = ""
    with subprocess.Popen(
        [sys.executable, "-c", child],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(json.dumps(update((1, 0, [text("😀")])).hex()), 2)
        except subprocess.TimeoutExpired:
            process.kill()
    assert "read" not in said


# Under keys


def test_two_values_at_once_under_a_key_are_refused() -> None:
    assert "key" in _refused((1, 0, [item(8, PAIR, key="k")]))
    assert "key" in _refused((1, 0, [text("ab", key="k")]))
    assert "key" in _refused((1, 0, [text("😀", key="k")]))
    known = _knows((1, 0, [item(8, VALUE, key="k")]))
    assert "key" in _refused((2, 0, [item(8, PAIR, left=(1, 0))]), before=known)
    assert "key" in _refused((2, 0, [text("ab", left=(1, 0))]), before=known)
    inner = _knows((1, 0, [shared_type(MAP), item(8, VALUE, parent=(1, 0), key="k")]))
    assert "key" in _refused((2, 0, [text("ab", left=(1, 1))]), before=inner)


def test_values_that_overwrite_each_other_under_a_key_are_welcome() -> None:
    known = _knows((1, 0, [item(8, VALUE, key="k")]))
    known.add(walk(update((2, 0, [item(8, VALUE, left=(1, 0))]))))
    known.add(walk(update((1, 1, [item(8, VALUE, left=(2, 0))]))))
    known.add(walk(update((3, 0, [text("x", left=(1, 0))]))))
    assert known.clocks == {1: 2, 2: 1, 3: 1}


def test_overwritten_values_in_one_item_are_welcome_if_they_come_deleted() -> None:
    """An engine without garbage collection joins them (yjs ``Item.mergeWith``)."""
    joined = [item(8, PAIR, key="k"), item(8, VALUE, left=(1, 1))]
    whole = update((1, 0, joined), delete_set=deletes((1, [(0, 2)])))
    known = Coverage.from_update(whole)
    known.add(walk(update((2, 0, [item(8, VALUE, left=(1, 0))]))))  # made before the second
    assert "key" in _refused((1, 0, joined), delete_set=deletes((1, [(0, 1)])))
    gone = _knows((1, 0, [item(1, number(2), key="k")]))
    gone.add(walk(update((2, 0, [item(8, VALUE, left=(1, 0))]))))
    half = _knows((1, 0, [item(8, VALUE, key="k")]))
    assert half.fit(walk(whole)) is Fit.OVERLAPS
    rest = cut(whole, walk(whole), half)
    half.add(walk(rest))
    assert half.clocks == {1: 3}


def test_nothing_stands_before_what_is_under_a_key() -> None:
    known = _knows((1, 0, [item(8, VALUE, key="k"), item(8, VALUE)]))
    assert "key" in _refused((2, 0, [item(8, VALUE, right=(1, 0))]), before=known)
    assert "key" in _refused((2, 0, [item(8, VALUE, left=(1, 1), right=(1, 0))]), before=known)
    assert "key" in _refused((2, 0, [text("a", left=(1, 1), right=(1, 0))]), before=known)
    assert _refused((2, 0, [item(8, VALUE, left=(1, 0), right=(1, 1))]), before=known)


def test_a_format_mark_under_a_key_is_refused() -> None:
    mark = b"\x01b\x04true"
    assert "key" in _refused((1, 0, [item(6, mark, key="k")]))
    known = _knows((1, 0, [item(8, VALUE, key="k")]))
    assert "key" in _refused((2, 0, [item(6, mark, left=(1, 0))]), before=known)


# Neighbours


def test_what_was_deleted_is_no_excuse_to_stand_between_two_types() -> None:
    """An engine may split the item, and every whole document would be refused from then on."""
    known = _knows(
        (1, 0, [shared_type(TEXT), item(1, number(2), parent=(1, 0)), text("a", parent="other")])
    )
    assert "different" in _refused((2, 0, [text("b", left=(1, 2), right=(1, 3))]), before=known)


def test_what_is_between_a_known_item_and_one_that_is_gone_is_welcome() -> None:
    known = _knows((1, 0, [shared_type(TEXT), text("ab", parent=(1, 0)), b"\x00" + number(2)]))
    for place in ({"left": (1, 2), "right": (1, 3)}, {"left": (1, 4), "right": (1, 1)}):
        twin = known.copy()
        twin.add(walk(update((2, 0, [text("x", **place)]))))
        assert twin.depth(2, 0) == 1
    twin = known.copy()
    twin.add(walk(update((2, 0, [text("x", left=(1, 3)), text("y", left=(2, 0), right=(1, 4))]))))
    assert twin.depth(2, 1) == 0


def test_nothing_stands_between_an_item_of_a_root_and_one_that_is_gone() -> None:
    """Yjs makes GC of it, yrs shows it; a root cannot be deleted, so no editor has such neighbours.

    Below roots a type may be deleted here, and an item in it be GC only where it came from.
    """
    known = _knows((1, 0, [text("ab"), b"\x00" + number(2)]))
    for place in ({"left": (1, 1), "right": (1, 2)}, {"left": (1, 3), "right": (1, 0)}):
        assert "gone" in _refused((2, 0, [text("x", **place)]), before=known)
        assert "gone" in _refused((2, 0, [text("xy", **place)]), before=known)
        assert "gone" in _refused((1, 4, [shared_type(TEXT, **place)]), before=known)
    both = update((1, 0, [text("ab"), b"\x00" + number(2)]), (2, 0, [text("x", left=(1, 2))]))
    known = Coverage.from_update(both)
    assert "gone" in _refused((2, 1, [text("y", left=(2, 0), right=(1, 0))]), before=known)
    known.add(walk(update((2, 1, [text("y", left=(2, 0), right=(1, 3))]))))


def test_an_item_whose_head_is_known_may_not_name_a_parent_that_is_no_type() -> None:
    """A relay cuts the head off, and the parent with it; a device may be given all of it."""
    known = _knows((1, 0, [text("x")]), (2, 0, [text("y")]))
    assert "shared type" in _refused((2, 0, [text("yz", parent=(1, 0))]), before=known)


def _replica() -> PycrdtReplica:
    return PycrdtReplica(client_id=9, call_soon=lambda fn: fn(), on_local=lambda _: None)
