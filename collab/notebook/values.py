"""Which JSON values a document takes, and what is done to text that it would not take.

A shared document holds more than JSON and less than Python: whole numbers up to 2^53 (JavaScript's
floats), text that UTF-8 can carry, and values that nest as deep as the guard lets through.
"""

from __future__ import annotations

import math
from typing import Any, Final, TypeAlias

__all__ = ["MAX_WHOLE", "Json", "check_value", "clean_text"]

Json: TypeAlias = Any
"""What ``json.loads`` gives: dict, list, str, int, float, bool or None."""

MAX_DEPTH: Final = 48  # the guard's 64, less the types that a value lies in, less some room
MAX_WHOLE: Final = 2**53 - 1  # beyond it floats are not exact


def check_value(value: Json, depth: int = 0) -> None:
    """Raise ValueError, with the reason, if a document could not hold exactly this."""
    if depth > MAX_DEPTH:
        raise ValueError(f"a value nests deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"a key is no text: {key!r}")  # noqa: TRY004 (one kind, for callers)
            check_value(key, depth)
            check_value(inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_value(inner, depth + 1)
    elif isinstance(value, str):
        if clean_text(value) != value:
            raise ValueError(f"text is not valid Unicode: {value[:40]!r}")
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        if abs(value) > MAX_WHOLE:
            raise ValueError(f"the number {value} is beyond 2^53 and would not stay exact")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a number that JSON knows")
    else:
        raise ValueError(f"a {type(value).__name__} is no JSON value")


def clean_text(text: str) -> str:
    """The text with a mark in place of what UTF-8 cannot carry (halves of surrogate pairs)."""
    return text.encode("utf-8", "replace").decode()
