"""Ranges of a room's messages that are not on this device.

The gaps of a room are a sorted tuple; no two overlap, and neighbours of one kind are one gap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Gap", "Gaps", "add", "is_missing", "lose", "remove"]


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """Messages with ``low`` <= seq <= ``high``; ``lost``: the relay has them no more either."""

    low: int
    high: int
    lost: bool = False


Gaps = tuple[Gap, ...]


def add(gaps: Gaps, low: int, high: int, *, here: Iterable[int] = (), lost: bool = False) -> Gaps:
    """``gaps`` and the range ``low`` to ``high``, without the seqs that are ``here``.

    Where it overlaps what was there, that stays.
    """
    pieces = [Gap(*ends, lost) for ends in _between(low, high, here)]
    for known in gaps:
        pieces = [left for piece in pieces for left in _outside(piece, known.low, known.high)]
    return _normal((*gaps, *pieces))


def remove(gaps: Gaps, low: int, high: int) -> Gaps:
    """``gaps`` without the range ``low`` to ``high``: those messages are here."""
    return _normal(left for gap in gaps for left in _outside(gap, low, high))


def lose(gaps: Gaps, below: int, *, here: Iterable[int] = ()) -> tuple[Gaps, Gaps]:
    """``gaps``, and what of them is lost now: all ``below`` this seq that is not ``here``."""
    seqs = sorted(set(here))
    newly = tuple(
        Gap(*ends, lost=True)
        for gap in gaps
        if not gap.lost and gap.low < below
        for ends in _between(gap.low, min(gap.high, below - 1), seqs)
    )
    kept = tuple(gap for gap in gaps if gap.lost) + tuple(
        Gap(max(gap.low, below), gap.high) for gap in gaps if not gap.lost
    )
    return _normal((*kept, *newly)), newly


def is_missing(gaps: Gaps, seq: int) -> bool:
    """Whether ``seq`` lies in a gap that can still be filled."""
    return any(gap.low <= seq <= gap.high and not gap.lost for gap in gaps)


def _between(low: int, high: int, seqs: Iterable[int]) -> Iterable[tuple[int, int]]:
    """The runs of ``low`` to ``high`` that are free of ``seqs``."""
    for seq in sorted(set(seqs)):
        if low <= seq <= high:
            if low < seq:
                yield low, seq - 1
            low = seq + 1
    if low <= high:
        yield low, high


def _outside(gap: Gap, low: int, high: int) -> Iterable[Gap]:
    if gap.high < low or gap.low > high:
        return (gap,)
    pieces = (Gap(gap.low, low - 1, gap.lost), Gap(high + 1, gap.high, gap.lost))
    return (piece for piece in pieces if piece.low <= piece.high)


def _normal(pieces: Iterable[Gap]) -> Gaps:
    result: list[Gap] = []
    for gap in sorted(piece for piece in pieces if piece.low <= piece.high):
        last = result[-1] if result else None
        if last is not None and last.lost == gap.lost and gap.low <= last.high + 1:
            result[-1] = Gap(last.low, max(last.high, gap.high), last.lost)
        else:
            result.append(gap)
    return tuple(result)
