"""What a chat's screen holds: messages in their order, gaps, the unread mark, and notices.

No I/O. It is told what there is and says which rows that makes; how rows look and where they break
is ``screen``'s and ``plain``'s.

1. A message is shown once, where its room has it, however often it changes its place.
2. Own messages that wait, or ended, have a number for as long as the session: people name them by
   it. A number is never given to another message.
3. A notice stays after what was last when it came.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from collab.protocol.gaps import Gap
from collab.protocol.message_state import MessageState
from collab.terminal import safe, wording

__all__ = ["KEPT", "Row", "Shown", "Transcript"]

KEPT: Final = 5_000  # messages; older ones are on the disk, and /more brings them again

_SLACK: Final = 100  # so many more before the oldest go: not a sort for each that comes

Place = tuple[int, int]


class Shown(Protocol):
    """What is needed of a message: :class:`collab.Message` is one."""

    @property
    def body(self) -> str: ...
    @property
    def meta(self) -> dict[str, Any]: ...
    @property
    def sender(self) -> str | None: ...
    @property
    def is_mine(self) -> bool: ...
    @property
    def is_system(self) -> bool: ...
    @property
    def sent_at(self) -> float: ...
    @property
    def seq(self) -> int | None: ...
    @property
    def state(self) -> MessageState: ...
    @property
    def replaced(self) -> bool: ...
    @property
    def code(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def read_by(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One paragraph: ``lead`` (time and name), ``body`` of one line or several, ``tail``.

    ``kind`` is "mine", "theirs", "gap", "unread", "notice" or "error", ``state`` that of a message
    of ours. All of it is harmless for a terminal.
    """

    kind: str
    body: str
    lead: str = ""
    tail: str = ""
    state: str = ""


@dataclass(slots=True)
class _Notice:
    text: str
    kind: str
    after: Shown | None


class Transcript:
    """See the module. Times of day are shown in the zone of the process."""

    def __init__(self, *, kept: int = KEPT) -> None:
        self.gaps: tuple[Gap, ...] = ()
        self.has_older = False  # whether this disk has messages before the first one here
        self.first_unread: Shown | None = None
        self._kept = kept
        self._places: dict[Shown, Place] = {}
        self._order: list[Shown] | None = []
        self._numbers: dict[Shown, int] = {}
        self._given = 0
        self._notices: list[_Notice] = []

    # What is told

    def put(self, message: Shown, place: Place) -> None:
        """A message is there, or has changed, and stands at ``place`` now."""
        if self._places.get(message) != place:
            self._places[message] = place
            self._order = None
        if message.is_mine and not wording.is_in_log(message) and message not in self._numbers:
            self._given += 1
            self._numbers[message] = self._given

    def notice(self, text: str, kind: str = "notice") -> None:
        """Say something that is no message, after what is last now."""
        last = self.messages[-1] if self._places else None
        self._notices.append(_Notice(text, kind, last))
        if len(self._notices) > self._kept:
            del self._notices[0]

    def trim(self) -> None:
        """Let go of the oldest messages beyond what is kept; they are on the disk."""
        if len(self._places) <= self._kept + _SLACK:
            return
        for message in self.messages[: -self._kept]:
            del self._places[message]
            self._numbers.pop(message, None)
            self._order = None
            self.has_older = True

    def mark_unread(self, count: int) -> None:
        """The newest ``count`` messages of others were not read yet: the mark goes before them."""
        self.first_unread = None
        for message in reversed(self.messages):
            if count < 1:
                break
            if not message.is_mine and not message.is_system:
                self.first_unread = message
                count -= 1

    # What can be asked

    @property
    def messages(self) -> Sequence[Shown]:
        """All messages, in the order of the room."""
        if self._order is None:
            self._order = sorted(self._places, key=self._places.__getitem__)
        return self._order

    @property
    def lowest(self) -> Place | None:
        """Where the oldest message here stands."""
        return self._places[self.messages[0]] if self._places else None

    def number(self, message: Shown) -> int | None:
        """The number of an own message that waited or ended in this session."""
        return self._numbers.get(message)

    def numbered(self, number: int) -> Shown | None:
        """The message that has this number."""
        return next((one for one, given in self._numbers.items() if given == number), None)

    def newest(self, *states: MessageState) -> Shown | None:
        """The newest message of ours in one of these states."""
        mine = (one for one in reversed(self.messages) if one.is_mine and one.state in states)
        return next(mine, None)

    def next_gap(self) -> Gap | None:
        """The newest gap among what is shown that the relay could fill."""
        return next((gap for gap in reversed(self._gaps_shown()) if not gap.lost), None)

    def is_in_reach(self, message: Shown, place: Place) -> bool:
        """Whether it belongs to what is shown: here already, or not before it."""
        lowest = self.lowest
        return message in self._places or not self.has_older or lowest is None or place > lowest

    # What is shown

    def rows_backwards(self) -> Iterator[Row]:
        """All rows, the newest first: a screen takes as many as it has place for."""
        after: dict[Shown | None, list[_Notice]] = {}
        for notice in self._notices:
            where = notice.after if notice.after in self._places else None
            after.setdefault(where, []).append(notice)
        gaps = self._gaps_shown()
        for message in reversed(self.messages):
            yield from map(_notice_row, reversed(after.get(message, [])))
            place = self._places[message]
            while gaps and gaps[-1].low > place[0]:  # it is newer than this message
                yield _gap_row(gaps.pop())
            yield self.row(message)
            if message is self.first_unread:
                yield Row("unread", "new")
        yield from map(_notice_row, reversed(after.get(None, [])))
        while gaps:
            yield _gap_row(gaps.pop())
        if self.has_older:
            yield Row("gap", "… older messages are on this disk; /more to show them")

    def _gaps_shown(self) -> list[Gap]:
        """What is missing before the first message here belongs to what is not shown yet."""
        lowest = self.lowest
        if not self.has_older or lowest is None:
            return list(self.gaps)
        return [gap for gap in self.gaps if gap.low > lowest[0]]

    def row(self, message: Shown) -> Row:
        """One message."""
        at = time.strftime("%H:%M", time.localtime(message.sent_at))
        who = wording.sender(message)
        kind = "notice" if message.is_system else "mine" if message.is_mine else "theirs"
        tail = wording.standing(message, self.number(message))
        state = str(message.state) if message.is_mine else ""
        return Row(kind, safe.text(message.body), f"{at} {who}", tail, state)


def _notice_row(notice: _Notice) -> Row:
    return Row(notice.kind, notice.text)


def _gap_row(gap: Gap) -> Row:
    return Row("gap", wording.gap(gap))
