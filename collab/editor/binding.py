"""A view of a shared text that is kept level with it, both ways, and a caret that stays in place.

No screen. Whoever shows the text shows ``seen``.

1. ``seen`` differs from the text only between a change of the text and the next ``catch_up``.
2. What comes from the text never goes back to it: ``edit`` alone edits, and only for the user.
3. An edit of the user is one transaction, and touches no character that stays as it was.
4. The caret is held by the characters beside it, not by its index.
"""

from __future__ import annotations

from dataclasses import dataclass

from collab.crdt.replica import Assoc
from collab.text import RelativePosition, Text

__all__ = ["Binding", "Change", "smallest"]


@dataclass(frozen=True, slots=True)
class Change:
    """``length`` characters from ``index`` on become ``text``."""

    index: int
    length: int
    text: str

    @property
    def end(self) -> int:
        """The index after what was inserted."""
        return self.index + len(self.text)

    def apply_to(self, before: str) -> str:
        """The string after the change."""
        return before[: self.index] + self.text + before[self.index + self.length :]

    def move(self, index: int) -> int:
        """Where a place of the string before it is in the one after it."""
        if index <= self.index:
            return index
        if index >= self.index + self.length:
            return index + len(self.text) - self.length
        return self.end


def smallest(before: str, after: str) -> Change | None:
    """The one change that leads from ``before`` to ``after`` and touches the least."""
    if before == after:
        return None
    start = _common(before, after, min(len(before), len(after)))
    rest = min(len(before), len(after)) - start
    end = _common(before[start:][::-1], after[start:][::-1], rest)
    return Change(start, len(before) - start - end, after[start : len(after) - end])


def _common(one: str, other: str, most: int) -> int:
    """How many characters at the beginning are equal; by halves, as slices compare fast."""
    same = 0
    while same < most:
        half = (most - same + 1) // 2
        if one[same : same + half] == other[same : same + half]:
            same += half
        elif half == 1:
            break
        else:
            most = same + half - 1
    return same


class Binding:
    """One text and what is shown of it; see the module."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self.seen = str(text)
        self._caret = (0, 0)  # anchor and head, as indices of ``seen``
        self._held: tuple[RelativePosition, RelativePosition] | None = None

    def edit(self, index: int, length: int, text: str) -> Change | None:
        """The user replaces part of what is shown. Catch up first: indices are of the text now.

        Raises what the text raises; nothing has changed then.
        """
        change = smallest(self.seen[index : index + length], text)
        if change is None:
            return None
        change = Change(index + change.index, change.length, change.text)
        self._text.replace(change.index, change.length, change.text)
        self.seen = change.apply_to(self.seen)
        self._held = None
        return change

    def catch_up(self) -> Change | None:
        """Be level with the text; what that changes of what is shown. The caret stays in place."""
        now = str(self._text)
        change = smallest(self.seen, now)
        if change is None:
            return None
        self.seen = now
        anchor, head = (change.move(index) for index in self._caret)
        if self._held is not None:
            at_anchor, at_head = (position.index for position in self._held)
            anchor = anchor if at_anchor is None else at_anchor
            head = head if at_head is None else at_head
        self._caret = (anchor, head)
        if self._held is None:
            self.hold(anchor, head)
        return change

    def hold(self, anchor: int, head: int) -> None:
        """The user's selection goes from ``anchor`` to ``head``, where the caret is."""
        self._caret = (anchor, head)
        self._held = None
        if str(self._text) == self.seen:  # or the indices are not those of the text
            self._held = self.positions(anchor, head)

    @property
    def caret(self) -> tuple[int, int]:
        """Anchor and head of the user's selection now."""
        return self._caret

    def positions(self, anchor: int, head: int) -> tuple[RelativePosition, RelativePosition]:
        """Anchor and head as places that stay.

        A caret stays with the character before it: what was just typed, so that what two people
        write at one place is not mixed. A selection does not grow by what is written at its ends.
        """
        sides: tuple[Assoc, Assoc] = ("before", "before")
        if anchor != head:
            sides = ("after", "before") if anchor < head else ("before", "after")
        return (
            self._text.relative_position(anchor, sides[0]),
            self._text.relative_position(head, sides[1]),
        )
