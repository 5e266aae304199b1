"""Places that stay: between indices and Yjs' IDs of characters.

An ID's clock counts UTF-16 units. pycrdt computes with UTF-8 bytes inside a block of text as if
they were such units, in both directions, so its answers are right only where a block begins, or
where all is ASCII. Deleting zero bytes splits a block and changes nothing else: that is how a
block is made to begin where we need an exact answer.

Known limit: when undo restores deleted text, yrs leads a place inside the restored run to the
run's start (it drops the offset that Yjs carries along).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pycrdt import _pycrdt as engine

from collab.crdt.replica import Anchor, OpenAnchor

if TYPE_CHECKING:
    from collab.crdt.replica import Assoc
    from collab.crdt.text_index import TextIndex

__all__ = ["anchor_at", "deleted_ranges", "identity_of", "index_of", "knows"]

_AFTER = 0
_BEFORE = -1
_FAR = 64  # units to walk before it pays to split once more


def identity_of(shared: engine.Text, txn: engine.Transaction) -> tuple[str] | tuple[int, int]:
    """The name of a root, or the ID of the item that holds a nested type."""
    scope = json.loads(shared.sticky_index(txn, 0, _BEFORE).to_json_string())  # type: ignore[attr-defined]
    if "tname" in scope:
        return (str(scope["tname"]),)
    return (int(scope["type"]["client"]), int(scope["type"]["clock"]))


def anchor_at(
    shared: engine.Text,
    txn: engine.Transaction,
    known: TextIndex | None,
    length: int,
    index: int,
    *,
    assoc: Assoc,
) -> Anchor | OpenAnchor:
    """The anchor of an index in [0, length]. ``known`` is None where all is one byte."""
    if assoc == "after":
        if index == length:
            return OpenAnchor("after")
    elif index == 0:
        return OpenAnchor("before")
    else:
        index -= 1
    offset = index
    if known is not None:
        offset = known.offset(index)
        shared.remove_range(txn, offset, 0)
    sticky = shared.sticky_index(txn, offset, _AFTER)  # type: ignore[attr-defined]
    item = json.loads(sticky.to_json_string())["item"]
    clock = int(item["clock"])
    if assoc == "before" and known is not None and known.slice(index, index + 1) > "\uffff":
        clock += 1
    return Anchor(int(item["client"]), clock, assoc)


def index_of(
    shared: engine.Text, txn: engine.Transaction, known: TextIndex | None, anchor: Anchor
) -> int:
    """The index of an anchor whose character this replica knows."""
    found = _resolve(txn, anchor, _AFTER)
    alive = _resolve(txn, anchor, _BEFORE) == found + 1
    if known is not None and alive:
        index = known.index(found)
        start = known.offset(index)
        shared.remove_range(txn, start, 0)
        units = _resolve(txn, anchor, _AFTER) - start
        if units:
            index += _characters(known.slice(index, index + units), units)
            if units > _FAR:
                shared.remove_range(txn, known.offset(index), 0)
        found = index
    elif known is not None:
        found = known.index(found)
    return found + 1 if alive and anchor.assoc == "before" else found


def knows(state_vector: bytes, anchor: Anchor) -> bool:
    """Whether a replica at this state vector has the anchor's character."""
    numbers = _numbers(state_vector)
    for _ in range(next(numbers)):
        client, clock = next(numbers), next(numbers)
        if client == anchor.client:
            return anchor.clock < clock
    return False


def deleted_ranges(delete_set: bytes) -> Iterator[tuple[int, int, int]]:
    """(client, clock, length) of each range in the engine's encoding of a delete set."""
    numbers = _numbers(delete_set)
    for _ in range(next(numbers)):
        client, ranges = next(numbers), next(numbers)
        for _ in range(ranges):
            yield client, next(numbers), next(numbers)


def _numbers(data: bytes) -> Iterator[int]:
    """The lib0 variable-length integers of what our own engine wrote."""
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0


def _resolve(txn: engine.Transaction, anchor: Anchor, assoc: int) -> int:
    sticky = engine.get_sticky_index_from_json_string(
        f'{{"item":{{"client":{anchor.client},"clock":{anchor.clock}}},"assoc":{assoc}}}'
    )
    return sticky.get_offset(txn)


def _characters(text: str, units: int) -> int:
    """Whole characters in the first ``units`` UTF-16 units."""
    if max(text) <= "\uffff":
        return units
    count = 0
    for char in text:
        units -= 2 if char > "\uffff" else 1
        if units < 0:
            break
        count += 1
    return count
