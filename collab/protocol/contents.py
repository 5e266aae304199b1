"""What does a Yjs v1 update contain? The records that a walk gives, and the format's numbers.

Format: yjs ``src/utils/encoding.js`` and ``src/structs``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = [
    "ANY",
    "ARRAY_REF",
    "BINARY",
    "DELETED",
    "DOC",
    "EMBED",
    "FORMAT",
    "GC",
    "HAS_KEY",
    "HAS_ORIGIN",
    "HAS_RIGHT_ORIGIN",
    "NO_CLIENT",
    "SKIP",
    "STRING",
    "TYPE",
    "Block",
    "Struct",
    "Walk",
]

GC: Final = 0
DELETED: Final = 1
BINARY: Final = 3
STRING: Final = 4
EMBED: Final = 5
FORMAT: Final = 6
TYPE: Final = 7
ANY: Final = 8
DOC: Final = 9
SKIP: Final = 10

HAS_KEY: Final = 0x20  # meant only where there is no neighbour, whose key it would be
HAS_ORIGIN: Final = 0x80
HAS_RIGHT_ORIGIN: Final = 0x40

ARRAY_REF: Final = 0  # the kind of a shared type: its first byte

NO_CLIENT: Final = -1


class Block(NamedTuple):
    """One client's structs in an update: ``data[start:end]`` holds ``struct_count`` of them."""

    client: int
    clock: int
    end_clock: int
    struct_count: int
    start: int
    end: int


class Struct(NamedTuple):
    """One struct, with byte positions; a client of ``NO_CLIENT`` stands for "not given".

    ``content`` is where the content begins, ``start`` and ``end`` enclose the struct.
    """

    client: int
    clock: int
    end_clock: int
    kind: int
    start: int
    content: int
    end: int
    left_client: int
    left_clock: int
    right_client: int
    right_clock: int
    parent_client: int
    parent_clock: int


@dataclass(slots=True)  # not frozen: that would double the cost of walking a keystroke
class Walk:
    """What an update contains. Ranges are half-open, in clocks; nobody changes it.

    ``ranges`` are the real structs, (client, start, end), split where Skips stand between.
    ``needs`` tells what must be known apart from the update itself: client to clock, exclusive.
    ``deletes`` are (client, clock, length), per client ascending and disjoint.
    ``gone`` are the ranges of GC and Deleted structs, ``types`` the ids of shared types, ``arrays``
    those of them that are arrays; ``has_parents`` says that some item names another item as its
    parent, ``leaves_roots`` that, or names a key, or is GC: not all are in lists of root types.
    ``has_skips`` says that there are Skips. ``neighbours`` is (left client, clock, right client,
    clock) of an update that is one plain insert, else None. ``second_halves`` are the ids of the
    second UTF-16 units of characters beyond U+FFFF.
    """

    update: bytes
    ranges: tuple[tuple[int, int, int], ...]
    needs: dict[int, int]
    deletes: tuple[tuple[int, int, int], ...]
    blocks: tuple[Block, ...]
    gone: tuple[tuple[int, int, int], ...] = ()
    types: tuple[tuple[int, int], ...] = ()
    has_parents: bool = False
    has_skips: bool = False
    neighbours: tuple[int, int, int, int] | None = None
    second_halves: tuple[tuple[int, int], ...] = ()
    arrays: tuple[tuple[int, int], ...] = ()
    leaves_roots: bool = False
