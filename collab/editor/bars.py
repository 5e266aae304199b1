"""The lines above and below the text: who is here, and how things stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.style import Style
from rich.text import Text
from textual.widgets import Static

from collab.editor.carets import Paint
from collab.editor.people import Person
from collab.terminal.badge import Badge

__all__ = ["StandingBar", "TopBar"]

_MOODS: Final = {
    "good": Style(color="black", bgcolor="green", bold=True),
    "busy": Style(color="black", bgcolor="cyan", bold=True),
    "away": Style(color="black", bgcolor="yellow", bold=True),
    "captive": Style(color="white", bgcolor="magenta", bold=True),
    "bad": Style(color="white", bgcolor="red", bold=True),
}


class TopBar(Static):
    """The room, who is here, and what is unread."""

    def __init__(self, title: str, paint: Paint) -> None:
        super().__init__(id="top")
        self._title = title
        self._shown: tuple[Sequence[Person], Sequence[str]] | None = None
        self._paint = paint

    def show(self, everybody: Sequence[Person], *, notes: Sequence[str]) -> None:
        """``notes`` go first: they are what must not be cut off."""
        if (everybody, notes) == self._shown:
            return
        self._shown = (everybody, notes)
        line = Text(f" {self._title}", style="bold", no_wrap=True, overflow="ellipsis")
        for note in notes:
            line.append("  ")
            line.append(f" {note} ", Style(reverse=True, bold=True))
        for person in everybody:
            line.append("  ● ", self._paint.name(person.colour))
            line.append(f"{person.name} (you)" if person.is_me else person.name, "not bold")
        self.update(line)


class StandingBar(Static):
    """A badge and a line; below them what is wrong, in sentences."""

    def __init__(self, *, is_colourless: bool) -> None:
        super().__init__(id="standing")
        self._is_colourless = is_colourless
        self.badge: Badge | None = None

    def show(self, badge: Badge) -> None:
        """How things stand now."""
        if badge == self.badge:
            return
        self.badge = badge
        style = Style(reverse=True, bold=True) if self._is_colourless else _MOODS[badge.mood]
        text = Text.assemble((f" {badge.label} ", style), " ", badge.text)
        if badge.detail:
            text.append(f"\n{badge.detail}")
        self.update(text)
