"""Rows of a transcript as lines of a screen: styled, and broken where the screen ends. No I/O."""

from __future__ import annotations

from typing import Final

from prompt_toolkit.utils import get_cwidth

from collab.terminal.transcript import Row

__all__ = ["Line", "fold"]

Line = list[tuple[str, str]]
"""Pieces of one line, each with the name of a style."""

_HANGING: Final = 6  # columns that the lines after the first are set in by


def fold(row: Row, width: int) -> list[Line]:
    """``row`` in lines of at most ``width`` columns; a word is broken only if it has to be."""
    match row.kind:
        case "unread":
            return [[("class:unread", f"── {row.body} ".ljust(max(width, 1), "─")[:width])]]
        case "gap" | "notice" | "error" if not row.lead:
            pieces = [(f"class:{row.kind}", row.body)]
        case _:
            pieces = [(f"class:{row.kind}.lead", row.lead + "  "), (f"class:{row.kind}", row.body)]
            if row.tail:
                pieces.append((f"class:state.{row.state}", "  " + row.tail))
    return _broken(pieces, width)


def _broken(pieces: Line, width: int) -> list[Line]:
    hanging = _HANGING if width > 2 * _HANGING else 0
    lines: list[Line] = [[]]
    used = 0

    def next_line() -> None:
        nonlocal used
        lines.append([("", " " * hanging)] if hanging else [])
        used = hanging

    for style, text in pieces:
        for number, paragraph in enumerate(text.split("\n")):
            if number:
                next_line()
            for spaced in _words(paragraph):
                word, size = spaced, get_cwidth(spaced)
                if used + size > width and used > hanging and size <= width - hanging:
                    next_line()
                    word = spaced.lstrip(" ")
                    size = get_cwidth(word)
                for part in [word] if used + size <= width else list(word):
                    columns = get_cwidth(part)
                    if used + columns > width and used > hanging:
                        next_line()
                    lines[-1].append((style, part))
                    used += columns
    return [_joined(line) for line in lines]


def _words(text: str) -> list[str]:
    """``text`` in pieces that begin with their spaces and go together."""
    words, start = [], 0
    for at in range(1, len(text)):
        if text[at] == " " and text[at - 1] != " ":
            words.append(text[start:at])
            start = at
    words.append(text[start:])
    return words


def _joined(line: Line) -> Line:
    result: Line = []
    for style, text in line:
        if result and result[-1][0] == style:
            result[-1] = (style, result[-1][1] + text)
        else:
            result.append((style, text))
    return result
