"""Where is character *n* in a text that its engine measures in UTF-8 bytes?

A mirror of the text in pieces of about a thousand characters, each with its counts. A lookup
walks the pieces from the nearest of three known places (start, end, the last lookup), so that
typing costs the same anywhere, and then measures within one piece. Nothing encodes the whole
text again.

An embed is one byte to the engine and one character to Python. In a piece it is a lone
surrogate, which no valid text contains and which ``encode(..., "replace")`` turns into one "?".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from collab.crdt.replica import EMBED

__all__ = ["EMBED_MARK", "TextIndex", "utf8_length"]

EMBED_MARK: Final = "\ud800"

_PIECE: Final = 1024  # characters in a new piece: one measures in about a microsecond
_MAX_PIECE: Final = 2 * _PIECE
_MIN_PIECE: Final = _PIECE // 4  # smaller neighbours are joined


def utf8_length(text: str) -> int:
    """The bytes that an engine counts for ``text``, in which EMBED_MARK stands for embeds."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


class TextIndex:
    """The pieces of one text. Indices and offsets must be within it; callers have checked."""

    __slots__ = ("_at", "_at_index", "_at_offset", "_chars", "_pieces", "_sizes", "length", "size")

    def __init__(self, content: Iterable[str] = ()) -> None:
        text = "".join(content)
        self._pieces = [text[i : i + _PIECE] for i in range(0, len(text), _PIECE)] or [""]
        self._chars = [len(piece) for piece in self._pieces]
        self._sizes = [utf8_length(piece) for piece in self._pieces]
        self.length = len(text)
        self.size = sum(self._sizes)
        self._at = self._at_index = self._at_offset = 0

    def copy(self) -> TextIndex:
        """The same text; pieces are shared, since strings do not change."""
        other = TextIndex.__new__(TextIndex)
        other._pieces = self._pieces.copy()
        other._chars = self._chars.copy()
        other._sizes = self._sizes.copy()
        other.length, other.size = self.length, self.size
        other._at, other._at_index, other._at_offset = self._at, self._at_index, self._at_offset
        return other

    def __str__(self) -> str:
        return "".join(self._pieces).replace(EMBED_MARK, EMBED)

    def slice(self, start: int, stop: int) -> str:
        """Characters [start, stop), with EMBED_MARK for embeds."""
        if start >= stop:
            return ""
        inner = start - self._seek_index(start)
        parts: list[str] = []
        wanted = inner + stop - start
        for piece in self._pieces[self._at :]:
            parts.append(piece)
            wanted -= len(piece)
            if wanted <= 0:
                break
        return "".join(parts)[inner : inner + stop - start]

    def offset(self, index: int) -> int:
        """The byte offset of a character index."""
        inner = index - self._seek_index(index)
        return self._at_offset + self._measure(self._at, inner)

    def index(self, offset: int) -> int:
        """The character index of a byte offset; one inside a character names its start."""
        inner = offset - self._seek_offset(offset)
        at = self._at
        if self._chars[at] != self._sizes[at]:
            inner = _count(self._pieces[at], inner)
        return self._at_index + inner

    def insert(self, index: int, text: str, size: int) -> int:
        """Insert ``text`` of ``size`` bytes; returns the byte offset where it begins."""
        inner = index - self._seek_index(index)
        at = self._at
        offset = self._at_offset + self._measure(at, inner)
        piece = self._pieces[at]
        self._pieces[at] = piece[:inner] + text + piece[inner:]
        self._chars[at] += len(text)
        self._sizes[at] += size
        self.length += len(text)
        self.size += size
        if self._chars[at] > _MAX_PIECE:
            self._split(at)
        return offset

    def delete(self, index: int, length: int) -> tuple[int, int]:
        """Delete characters; returns the byte offset where they began and their bytes."""
        inner = index - self._seek_index(index)
        at = self._at
        offset = self._at_offset + self._measure(at, inner)
        removed = 0
        left = length
        first = at
        while left:
            chars = self._chars[at]
            take = min(left, chars - inner)
            if take == chars:
                removed += self._sizes[at]
                self._pieces[at], self._chars[at], self._sizes[at] = "", 0, 0
            elif take:
                piece = self._pieces[at]
                gone = utf8_length(piece[inner : inner + take])
                self._pieces[at] = piece[:inner] + piece[inner + take :]
                self._chars[at] = chars - take
                self._sizes[at] -= gone
                removed += gone
            left -= take
            at += 1
            inner = 0
        self.length -= length
        self.size -= removed
        if at - first > 1 or self._chars[first] < _MIN_PIECE:
            self._join(first, at)
        return offset, removed

    def _measure(self, at: int, inner: int) -> int:
        """Bytes of the first ``inner`` characters of a piece."""
        chars = self._chars[at]
        if chars == self._sizes[at]:
            return inner
        if inner * 2 <= chars:
            return utf8_length(self._pieces[at][:inner])
        return self._sizes[at] - utf8_length(self._pieces[at][inner:])

    def _seek_index(self, index: int) -> int:
        """Move to the piece that holds ``index`` (an end belongs to the piece before it)."""
        at, start, offset = self._at, self._at_index, self._at_offset
        chars, sizes = self._chars, self._sizes
        if index < start:
            if index < start - index:
                at = start = offset = 0
            else:
                while index < start:
                    at -= 1
                    start -= chars[at]
                    offset -= sizes[at]
        elif self.length - index < index - start:
            at = len(chars) - 1
            start = self.length - chars[at]
            offset = self.size - sizes[at]
            while index < start:
                at -= 1
                start -= chars[at]
                offset -= sizes[at]
        last = len(chars) - 1
        while at < last and index > start + chars[at]:
            start += chars[at]
            offset += sizes[at]
            at += 1
        self._at, self._at_index, self._at_offset = at, start, offset
        return start

    def _seek_offset(self, target: int) -> int:
        """Move to the piece that holds byte ``target``."""
        at, start, offset = self._at, self._at_index, self._at_offset
        chars, sizes = self._chars, self._sizes
        if target < offset and target < offset - target:
            at = start = offset = 0
        elif self.size - target < target - offset:
            at = len(chars) - 1
            start = self.length - chars[at]
            offset = self.size - sizes[at]
        while target < offset:
            at -= 1
            start -= chars[at]
            offset -= sizes[at]
        last = len(chars) - 1
        while at < last and target > offset + sizes[at]:
            start += chars[at]
            offset += sizes[at]
            at += 1
        self._at, self._at_index, self._at_offset = at, start, offset
        return offset

    def _split(self, at: int) -> None:
        text = self._pieces[at]
        parts = [text[i : i + _PIECE] for i in range(0, len(text), _PIECE)]
        self._pieces[at : at + 1] = parts
        self._chars[at : at + 1] = [len(part) for part in parts]
        self._sizes[at : at + 1] = [utf8_length(part) for part in parts]

    def _join(self, first: int, stop: int) -> None:
        """Make one piece of [first, stop) and, if that is still small, its right neighbour."""
        text = "".join(self._pieces[first:stop])
        if len(text) < _MIN_PIECE and stop < len(self._pieces):
            text += self._pieces[stop]
            stop += 1
        if stop - first > 1:
            self._pieces[first:stop] = [text]
            self._chars[first:stop] = [len(text)]
            self._sizes[first:stop] = [utf8_length(text)]
            if len(text) > _MAX_PIECE:
                self._split(first)


def _count(piece: str, size: int) -> int:
    """Whole characters in the first ``size`` bytes of a piece."""
    return len(piece.encode("utf-8", "replace")[:size].decode("utf-8", "ignore"))
