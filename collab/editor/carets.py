"""Others' carets, selections and names, drawn into the lines of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.segment import Segment
from rich.style import Style
from rich.text import Span, Text
from textual._cells import cell_len
from textual.color import Color
from textual.strip import Strip
from textual.widgets.text_area import Location

from collab.editor import steps
from collab.editor.lines import TextLines
from collab.editor.people import Caret

__all__ = ["Paint", "PlacedCarets", "span_of_caret"]

_ON_DARK: Final = (
    "#6fb3e0", "#e89465", "#74c285", "#dc83c7", "#a691ee", "#5fbccb", "#ec8a8a", "#cfb04e",
)  # fmt: skip
_SELECTED: Final = 0.3  # how much of the colour a selection has


def span_of_caret(line: Text, column: int, style: Style) -> Span:
    """The whole character behind a caret.

    At the end of the line that is beyond the text: the area adds a space there.
    """
    return Span(column, max(column + 1, steps.after(line.plain, column)), style)


class Paint:
    """The styles of the numbered colours. Without colour, what is others' is told by its lines."""

    def __init__(self, *, is_colourless: bool) -> None:
        self._is_colourless = is_colourless

    def name(self, colour: int) -> Style:
        """Of a person's name."""
        return Style(bold=True) if self._is_colourless else Style(color=_ON_DARK[colour])

    def caret(self, colour: int) -> Style:
        """Of the character that a caret is in front of."""
        if self._is_colourless:
            return Style(reverse=True, underline=True)
        return Style(color="black", bgcolor=_ON_DARK[colour])

    def selection(self, colour: int, background: Color) -> Style:
        """Of what somebody has selected."""
        if self._is_colourless:
            return Style(underline=True)
        return Style(bgcolor=background.blend(Color.parse(_ON_DARK[colour]), _SELECTED).rich_color)


@dataclass(frozen=True, slots=True)
class _Placed:
    caret: Caret
    top: Location
    bottom: Location
    head: Location


class PlacedCarets:
    """Carets by line and character, for the text as it is now."""

    def __init__(self, paint: Paint) -> None:
        self._paint = paint
        self._placed: list[_Placed] = []

    def put(self, carets: Sequence[Caret], lines: TextLines) -> None:
        """Where they are from now on."""
        self._placed = []
        for caret in carets:
            anchor, head = lines.location(caret.anchor), lines.location(caret.head)
            self._placed.append(_Placed(caret, min(anchor, head), max(anchor, head), head))

    def draw(self, line: Text, row: int, background: Color) -> None:
        """Into one line, which is as long as its text."""
        for one in self._placed:
            if one.top[0] <= row <= one.bottom[0] and one.top != one.bottom:
                start = one.top[1] if row == one.top[0] else 0
                end = one.bottom[1] if row == one.bottom[0] else len(line) + 1
                style = self._paint.selection(one.caret.colour, background)
                line.spans.append(Span(start, end, style))
        for one in self._placed:
            if one.head[0] == row:
                style = self._paint.caret(one.caret.colour)
                line.spans.append(span_of_caret(line, one.head[1], style))

    def heads(self) -> list[tuple[Location, Caret]]:
        """Where each caret is."""
        return [(one.head, one.caret) for one in self._placed]

    def label(self, strip: Strip, carets: Sequence[Caret], column: int, base: Style) -> Strip:
        """Write names at ``column`` of a row, as far as there is place for them."""
        width = strip.cell_length
        pieces: list[Segment] = []
        end = column
        for caret in carets:
            said = f"◂ {caret.name} "
            if end + cell_len(said) > width:
                break
            pieces.append(Segment(said, base + self._paint.name(caret.colour)))
            end += cell_len(said)
        if not pieces:
            return strip
        return Strip.join([strip.crop(0, column), Strip(pieces), strip.crop(end, width)])
