"""Where a caret stops in a line: before what a reader takes for one character.

A letter and its marks are one, and so are a joined emoji and a flag. The rules are a short form of
those of Unicode (UAX 29), without the jamo of Hangul, which come composed from every keyboard.
"""

from __future__ import annotations

import unicodedata
from typing import Final

__all__ = ["after", "before"]

_JOINER: Final = "\u200d"
_FAR: Final = 64  # code points that one character has at most, for us


def before(line: str, column: int) -> int:
    """The stop before ``column``; 0 at the beginning."""
    least = max(0, column - _FAR)
    column -= 1
    while column > least and _continues(line, column):
        column -= 1
    return max(0, column)


def after(line: str, column: int) -> int:
    """The stop after ``column``; the line's length at the end."""
    most = min(len(line), column + _FAR)
    column += 1
    while column < most and _continues(line, column):
        column += 1
    return min(column, len(line))


def _continues(line: str, column: int) -> bool:
    """Whether the code point at ``column`` belongs to the character before it."""
    point, previous = line[column], line[column - 1]
    if point.isascii():
        return False
    if point == _JOINER or unicodedata.category(point) in ("Mn", "Me", "Mc"):
        return True
    if _is_tone(point) or "\U000e0020" <= point <= "\U000e007f":  # tags: flags of regions
        return True
    if previous == _JOINER:
        return unicodedata.category(point) == "So"  # else the joiner was for the writing
    return _is_regional(point) and _regionals_before(line, column) % 2 == 1


def _is_tone(point: str) -> bool:
    return "\U0001f3fb" <= point <= "\U0001f3ff"


def _is_regional(point: str) -> bool:
    return "\U0001f1e6" <= point <= "\U0001f1ff"


def _regionals_before(line: str, column: int) -> int:
    start = column
    while start > max(0, column - _FAR) and _is_regional(line[start - 1]):
        start -= 1
    return column - start
