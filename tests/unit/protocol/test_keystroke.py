from __future__ import annotations

import itertools

import pytest

from collab.errors import BadUpdate
from collab.protocol.contents import Walk
from collab.protocol.keystroke import MAX_KEYSTROKE_BYTES, walk_keystroke
from collab.protocol.walk import _walk_any
from tests.unit.protocol.updates import deletes, text, update

IDS = [(7, 3), (300, 200), (2**32 - 1, 70_000), (2**53 - 1, 2**30)]


def _slow(data: bytes) -> Walk:
    """The general walk; it knows no ``neighbours``."""
    found = _walk_any(data, None)
    quick = walk_keystroke(data)
    assert quick is not None
    found.neighbours = quick.neighbours
    return found


@pytest.mark.parametrize("words", ["a", "é", "📊", "hello", "a📊b", "x" * 127, "\x00", "\n"])
def test_an_insert_reads_as_in_the_general_walk(words: str) -> None:
    for left, right in itertools.product([None, *IDS], repeat=2):
        if left == right:  # neither, or one twice: that is refused
            continue
        for client, clock in [(7, 4), (300, 2**21), (2**53 - 1, 2**30 + 1)]:
            data = update((client, clock, [text(words, left=left, right=right)]))
            assert len(data) <= MAX_KEYSTROKE_BYTES
            assert walk_keystroke(data) == _slow(data)


def test_a_delete_reads_as_in_the_general_walk() -> None:
    for client, clock in IDS:
        for length in (1, 200, 2**20):
            data = b"\x00" + deletes((client, [(clock, length)]))
            assert walk_keystroke(data) == _slow(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00",
        update((1, 0, [text("a")])),
        update((1, 1, [text("a" * 128, left=(1, 0))])),
        update((1, 1, [text("a", left=(1, 0)), text("b", left=(1, 1))])),
        update((1, 1, [text("a", left=(1, 0))]), delete_set=deletes((1, [(0, 1)]))),
        update((1, 1, [text("a", left=(1, 0))])) + b"\x00",
        b"\x00" + deletes((1, [(0, 1), (2, 1)])),
        b"\x00" + deletes((1, [(0, 1)]), (2, [(0, 1)])),
    ],
)
def test_anything_else_is_left_to_the_general_walk(data: bytes) -> None:
    assert walk_keystroke(data) is None


@pytest.mark.parametrize(
    "data",
    [
        update((1, 1, [text("a", left=(1, 1))])),
        update((1, 1, [text("a", right=(1, 2))])),
        update((1, 1, [text(b"\x80", left=(1, 0))])),
        update((1, 2**31 - 1, [text("a", left=(1, 0))])),
        update((1, 1, [text("a", left=(2, 2**31))])),
        update((1, 1, [text("a", left=(1, 0), right=(1, 0))])),
        update((1, 1, [text("ab", left=(2**40, 7), right=(2**40, 7))])),
        b"\x00" + deletes((1, [(0, 0)])),
        b"\x00" + deletes((1, [(2**31 - 1, 1)])),
        b"\x00\x01" + b"\xff" * 7 + b"\x7f" + b"\x01\x00\x01",
    ],
)
def test_both_walks_refuse_the_same(data: bytes) -> None:
    with pytest.raises(BadUpdate):
        walk_keystroke(data)
    with pytest.raises(BadUpdate):
        _walk_any(data, None)
