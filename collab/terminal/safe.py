"""What others wrote, made harmless for a terminal.

Invariant: what comes out has no control character but the line feeds of :func:`text`, and nothing
that turns the direction of the rest of a line round. So nobody's message, name or room name can
move the cursor, set a title, write into the clipboard or pass for something else of this screen.
"""

from __future__ import annotations

import unicodedata
from typing import Final

__all__ = ["is_harmless", "name", "one_line", "text"]

_NAME_CHARACTERS: Final = 32  # a longer name pushes what was said off the screen

# Embeddings, overrides and isolates, which reach over what is written next, and the line ends
# that are none to us. Marks (U+200E, U+200F) and joiners are a part of honest text.
_TURNING: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")
_TAB: Final = "    "


def text(value: str) -> str:
    """Text of several lines: their ends stay, all else that a terminal obeys becomes visible."""
    ends = value.replace("\r\n", "\n").replace("\t", _TAB)
    return "".join(c if c == "\n" or is_harmless(c) else _visible(c) for c in ends)


def one_line(value: str) -> str:
    """Text that has one line on the screen, whatever is in it."""
    return "".join(c if is_harmless(c) else _visible(c) for c in value.replace("\t", _TAB))


def name(value: str) -> str:
    """A name: one line, nothing invisible, not endless."""
    seen = "".join(
        c if is_harmless(c) and unicodedata.category(c) != "Cf" else _visible(c)
        for c in value.strip()
    )
    return seen if len(seen) <= _NAME_CHARACTERS else seen[: _NAME_CHARACTERS - 1] + "…"


def is_harmless(character: str) -> bool:
    """Whether a terminal does nothing but show it. A tab and a line feed are not."""
    # Cc: C0, DEL and C1; Cs: half of a pair, which no terminal's encoding can carry.
    return (
        unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        and character not in _TURNING
    )


def _visible(character: str) -> str:
    code = ord(character)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else (f"\\U{code:08x}")
    )
