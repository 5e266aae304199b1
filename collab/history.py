"""A stretch of a room's messages, and what is missing of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, overload

from collab.errors import LocalError
from collab.message import Message
from collab.protocol.gaps import Gap
from collab.storage.message_rows import TAIL
from collab.storage.messages import Place

__all__ = ["History", "missing_between", "place_of"]


class History(Sequence[Message]):
    """Messages of a room, oldest first; ``gaps`` are what is missing between and around them."""

    def __init__(self, messages: Sequence[Message], gaps: Sequence[Gap]) -> None:
        self._messages = tuple(messages)
        self.gaps: Final = tuple(gaps)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.gaps

    @overload
    def __getitem__(self, at: int) -> Message: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Message, ...]: ...
    def __getitem__(self, at: int | slice) -> Message | tuple[Message, ...]:
        return self._messages[at]

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    def __repr__(self) -> str:
        return f"<History of {len(self)} messages, {len(self.gaps)} gaps>"


def place_of(of: int | Message, tie: int = 0) -> Place:
    """Where a message stands; ``tie``: where among those at its number a bare number stands."""
    if isinstance(of, Message):
        return of._row.place, of._row.tie
    if type(of) is not int or not 0 <= of < TAIL:
        raise LocalError(f"A message's number is an integer from 0; {of!r:.80} is not.")
    return of, tie


def missing_between(
    gaps: Sequence[Gap], low: Place, high: Place, reach: int | None, *, newest: bool
) -> list[Gap]:
    """The gaps between two places, as far as what is here reaches from one of the ends."""
    first, last = low[0] + 1, high[0] - (high[1] <= 0)
    if reach is not None:
        first, last = (max(first, reach), last) if newest else (first, min(last, reach))
    return [
        Gap(max(gap.low, first), min(gap.high, last), gap.lost)
        for gap in gaps
        if gap.low <= last and gap.high >= first
    ]
