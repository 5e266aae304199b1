"""The document of the text area: every character of the text, and lines that a terminal may show.

Textual's own document splits lines as ``str.splitlines`` does, at eleven characters, and joins them
with one. Here a line ends with a line feed and with nothing else, so ``text`` is always exactly
what went in. ``lines`` are for the screen: of the same lengths, with a visible character in the
place of each that a terminal would obey.
"""

from __future__ import annotations

from typing import Final, overload

from textual._cells import cell_len
from textual.geometry import Size
from textual.widgets.text_area import DocumentBase, EditResult, Location

from collab.terminal import safe

__all__ = ["TextLines"]

_CONTROL_PICTURES: Final = 0x2400  # U+2400 is the picture of U+0000, and so on
_DELETE: Final = 0x7F
_UNKNOWN: Final = "\ufffd"


def _shown(line: str) -> str:
    if line.isascii() and line.isprintable():
        return line
    return "".join(c if c == "\t" or safe.is_harmless(c) else _picture(c) for c in line)


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(_CONTROL_PICTURES + code)
    return "\u2421" if code == _DELETE else _UNKNOWN


class TextLines(DocumentBase):
    """See the module. A location is a line and a character in it, both from 0."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = [_shown(line) for line in text.split("\n")]

    # Places

    def index(self, location: Location) -> int:
        """The index in the text. A place beyond it is its end."""
        row, column = location
        if row >= len(self._lines):
            return len(self._text)
        return sum(map(len, self._lines[:row])) + row + min(column, len(self._lines[row]))

    def location(self, index: int) -> Location:
        """The line and the character in it."""
        row = self._text.count("\n", 0, index)
        return row, index - (self._text.rfind("\n", 0, index) + 1)

    # What the text area asks

    def replace_range(self, start: Location, end: Location, text: str) -> EditResult:
        """Put ``text`` in the place of what is between the two."""
        (top, bottom) = sorted((start, end))
        first, last = self.index(top), self.index(bottom)
        replaced = self._text[first:last]
        rows = slice(top[0], bottom[0] + 1)
        begin = self._text.rfind("\n", 0, first) + 1
        stop = self._text.find("\n", last)
        tail = self._text[last:] if stop < 0 else self._text[last:stop]
        self._lines[rows] = [
            _shown(line) for line in (self._text[begin:first] + text + tail).split("\n")
        ]
        self._text = self._text[:first] + text + self._text[last:]
        return EditResult(self.location(first + len(text)), replaced)

    @property
    def text(self) -> str:
        """All of it, as it is."""
        return self._text

    @property
    def newline(self) -> str:  # type: ignore[override] # DocumentBase names three that it knows
        """What ends a line."""
        return "\n"

    @property
    def lines(self) -> list[str]:
        """The lines, as they are shown."""
        return self._lines

    def get_line(self, index: int) -> str:
        """One line, as it is shown."""
        return self._lines[index]

    def get_text_range(self, start: Location, end: Location) -> str:
        """What is between the two, as it is."""
        top, bottom = sorted((start, end))
        return self._text[self.index(top) : self.index(bottom)]

    def get_size(self, indent_width: int) -> Size:
        """Columns of the widest line, and lines."""
        widths = (cell_len(line.expandtabs(indent_width)) for line in self._lines)
        return Size(max(widths, default=0), len(self._lines))

    @property
    def line_count(self) -> int:
        """How many lines there are; one at least."""
        return len(self._lines)

    @property
    def start(self) -> Location:
        """The first place."""
        return (0, 0)

    @property
    def end(self) -> Location:
        """The last place."""
        return (len(self._lines) - 1, len(self._lines[-1]))

    @overload
    def __getitem__(self, line_index: int) -> str: ...
    @overload
    def __getitem__(self, line_index: slice) -> list[str]: ...
    def __getitem__(self, line_index: int | slice) -> str | list[str]:
        """A line or several, as they are shown."""
        return self._lines[line_index]
