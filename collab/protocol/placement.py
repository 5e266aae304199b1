"""Where do the structs of one update sit, and may they be there?

Structs refer to each other across clients, so one may have to be placed before another that comes
first in the bytes; a list stands for the stack, and the walk has refused circles.

A *place* is a depth, with ``IN_ARRAY`` added for what is directly in an array and ``KEYED`` for
what is under a key of a map; or it is ``UNKNOWN``: of GC, and of what engines turn into GC because
all that it names is that. What no editor makes, and yrs 0.28 does not survive, is refused:

- Text in an array: yrs counts its characters where it should count bytes, and reading loops.
- A place between two that differ. Whole documents would be refused later: there an engine may
  have split the item, whose tail then stands between its head and the same right neighbour.
- A place between one that is GC and one in the list of a root type. Yjs makes GC of the item, yrs
  puts it into the list. Only what is in a deleted type becomes GC, and roots are never deleted;
  below them a deleted type may hold both, and no engine shows what comes between.
- More than one value at once under a key (unless they come deleted). Who refers to the first of
  them splits the item, and yrs then frees the map under a value that it takes for overwritten.
- A neighbour to the right that is under a key: editors only overwrite, from the left. The item
  would be in a list and under a key, and the map's bookkeeping fails.
- A format mark under a key, which reads as a key without a value.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, Protocol

from collab.errors import BadUpdate
from collab.limits import MAX_TYPE_DEPTH
from collab.protocol.clock_runs import ClockRuns
from collab.protocol.contents import (
    ARRAY_REF,
    DELETED,
    FORMAT,
    GC,
    HAS_KEY,
    NO_CLIENT,
    STRING,
    TYPE,
    Struct,
    Walk,
)

__all__ = [
    "DEPTH",
    "IN_ARRAY",
    "KEYED",
    "UNKNOWN",
    "KnownItems",
    "Placement",
    "check_neighbour",
    "check_text",
    "place_between",
]

DEPTH: Final = 0x7F  # the bits of a place that hold the depth
IN_ARRAY: Final = 0x80
KEYED: Final = 0x100
UNKNOWN: Final = 0x200

_IN_ROOT: Final = 0  # in the list of a root type
_UNPLACED: Final = -1


class KnownItems(Protocol):
    """What is known of the items before the update: a ``Coverage``."""

    clocks: dict[int, int]

    def place(self, client: int, clock: int) -> int: ...
    def is_type(self, client: int, clock: int) -> bool: ...
    def is_array(self, client: int, clock: int) -> bool: ...
    def is_gone(self, client: int, clock: int) -> bool: ...


def place_between(left: int, right: int) -> int:
    """The place of an item whose neighbours have these places; ``BadUpdate`` if they differ."""
    if left == right:
        return left
    if UNKNOWN not in (left, right):
        raise BadUpdate("an item stands between two that are in different shared types")
    place = right if left == UNKNOWN else left
    if place == _IN_ROOT:
        raise BadUpdate("an item stands between one in a root type and one that is gone")
    return place


def check_neighbour(right: int) -> None:
    """Raise ``BadUpdate`` if an item must not stand before one that has this place."""
    if right & KEYED:
        raise BadUpdate("an item stands before one that is under a key")


def check_text(place: int, length: int) -> None:
    """Raise ``BadUpdate`` if text that is not deleted must not have this place."""
    if place & IN_ARRAY:
        raise BadUpdate("text stands in an array, which engines cannot read")
    if place & KEYED and length > 1:
        raise BadUpdate("more than one value stands under a key at once")


class Placement:
    """Places the structs of one update that are new to ``known``."""

    def __init__(self, known: KnownItems, walk: Walk, structs: list[Struct]) -> None:
        self._known = known
        self._update = walk.update
        self._deletes = walk.deletes
        self._structs: dict[int, list[Struct]] = {}
        self._starts: dict[int, list[int]] = {}
        self._places: dict[int, list[int]] = {}
        for struct in structs:
            client = struct.client
            if struct.end_clock > known.clocks.get(client, 0):
                self._structs.setdefault(client, []).append(struct)
                self._starts.setdefault(client, []).append(struct.clock)
                self._places.setdefault(client, []).append(_UNPLACED)

    def place(self) -> list[tuple[int, int, int, int]]:
        """Return (client, start, end, place) of what is deep, per client in order of clocks.

        Raises ``BadUpdate`` if a type would be deeper than allowed, if a parent is no shared
        type, if neighbours have different places, or for what this module refuses.
        """
        deep: list[tuple[int, int, int, int]] = []
        for client, structs in self._structs.items():
            places = self._places[client]
            known = self._known.clocks.get(client, 0)
            for at, struct in enumerate(structs):
                if places[at] == _UNPLACED:
                    self._place_from(client, at)
                place = places[at]
                if place:
                    deep.append((client, max(struct.clock, known), struct.end_clock, place))
        return deep

    def _place_from(self, client: int, at: int) -> None:
        stack = [(client, at)]
        while stack:
            client, at = stack[-1]
            if self._places[client][at] == _UNPLACED:
                before = self._unplaced_reference(self._structs[client][at])
                if before is not None:
                    stack.append(before)
                    continue
                self._places[client][at] = self._place_of(self._structs[client][at])
            stack.pop()

    def _unplaced_reference(self, struct: Struct) -> tuple[int, int] | None:
        for client, clock in (
            (struct.left_client, struct.left_clock),
            (struct.right_client, struct.right_clock),
            (struct.parent_client, struct.parent_clock),
        ):
            if client in self._starts:
                at = self._index(client, clock)
                if at >= 0 and self._places[client][at] == _UNPLACED:
                    return client, at
        return None

    def _index(self, client: int, clock: int) -> int:
        """The place of a new struct in its client's list, or -1 if it is known."""
        starts = self._starts.get(client)
        if starts is None or clock < self._known.clocks.get(client, 0):
            return -1
        return bisect_right(starts, clock) - 1

    def _place_of(self, struct: Struct) -> int:
        """Its place, now that all it refers to is placed."""
        left, left_clock = struct.left_client, struct.left_clock
        right, right_clock = struct.right_client, struct.right_clock
        known = self._known.clocks.get(struct.client, 0)
        if struct.clock < known:  # its head is known, and its tail stands after its head
            left, left_clock = struct.client, known - 1
            if struct.parent_client != NO_CLIENT:  # yrs looks at the parent nevertheless
                self._place_below(struct.parent_client, struct.parent_clock)
        if struct.kind == GC:
            return UNKNOWN
        if left == right == NO_CLIENT:
            if struct.parent_client == NO_CLIENT:
                place = 0
            else:
                place = self._place_below(struct.parent_client, struct.parent_clock)
            if place != UNKNOWN and self._update[struct.start] & HAS_KEY:
                place |= KEYED
        elif left == NO_CLIENT:
            place = self._place_at(right, right_clock)
            check_neighbour(place)
        else:
            place = self._place_at(left, left_clock)
            if right != NO_CLIENT:
                other = self._place_at(right, right_clock)
                check_neighbour(other)
                place = place_between(place, other)
        if place:
            self._check(struct, place, max(struct.clock, known))
        return place

    def _check(self, struct: Struct, place: int, clock: int) -> None:
        """Whether a struct may have a place; what is before ``clock`` is known."""
        kind = struct.kind
        if kind == TYPE:
            if place & DEPTH >= MAX_TYPE_DEPTH:
                raise BadUpdate(f"shared types nest deeper than {MAX_TYPE_DEPTH}")
        elif kind == STRING and place & IN_ARRAY:
            check_text(place, 1)
        elif place & KEYED and kind != DELETED:
            if kind == FORMAT:
                raise BadUpdate("a format mark stands under a key")
            if struct.end_clock - clock > 1 and not self._comes_deleted(struct, clock):
                raise BadUpdate("more than one value stands under a key at once")

    def _comes_deleted(self, struct: Struct, clock: int) -> bool:
        deleted = ClockRuns()
        for client, start, length in self._deletes:
            if client == struct.client:
                deleted.add(start, start + length)
        return deleted.covers(clock, struct.end_clock)

    def _place_at(self, client: int, clock: int) -> int:
        at = self._index(client, clock)
        return self._known.place(client, clock) if at < 0 else self._places[client][at]

    def _is_gone(self, client: int, clock: int) -> bool:
        at = self._index(client, clock)
        if at < 0:
            return self._known.is_gone(client, clock)
        return self._structs[client][at].kind in (GC, DELETED)

    def _place_below(self, client: int, clock: int) -> int:
        """The place of what is in the type with this id."""
        at = self._index(client, clock)
        if at < 0:
            is_type = self._known.is_type(client, clock)
            is_array = is_type and self._known.is_array(client, clock)
        else:
            struct = self._structs[client][at]
            is_type = struct.kind == TYPE
            is_array = is_type and self._update[struct.content] == ARRAY_REF
        if is_type:
            place = self._place_at(client, clock)
            if place == UNKNOWN:
                return UNKNOWN
            depth = (place & DEPTH) + 1
            return depth | IN_ARRAY if is_array else depth
        if self._is_gone(client, clock):
            return UNKNOWN
        raise BadUpdate(f"the parent ({client}, {clock}) of an item is not a shared type")
