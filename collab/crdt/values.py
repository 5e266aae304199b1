"""Which values a document can hold: checked before an engine sees them, since engines panic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from collab.errors import TooLarge
from collab.limits import MAX_VALUE_DEPTH

__all__ = ["check_attributes", "check_string", "check_value"]

_MAX_INTEGER: Final = 2**63  # beyond it pycrdt panics; beyond 2**53 JavaScript rounds


def check_string(text: object, what: str) -> None:
    """Raise TypeError if it is no string, ValueError if it holds half a surrogate pair."""
    if not isinstance(text, str):
        raise TypeError(f"{what} is a str, not {text!r}; nothing was changed")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{what} holds half of a surrogate pair at {error.start}, which is not a "
                "character; nothing was changed"
            ) from None


def check_attributes(attributes: Mapping[str, Any]) -> None:
    """Raise what ``check_value`` raises, for formatting attributes."""
    if not isinstance(attributes, Mapping):
        raise TypeError(f"attributes are a mapping, not {attributes!r}; nothing was changed")
    check_value(attributes)


def check_value(value: object, depth: int = 0) -> None:
    """Raise TypeError, ValueError or TooLarge (a ValueError) if it is not a JSON value."""
    if depth > MAX_VALUE_DEPTH:
        raise TooLarge(f"a value is nested more than {MAX_VALUE_DEPTH} deep; nothing was changed")
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        check_string(value, "a value")
    elif isinstance(value, int):
        if not -_MAX_INTEGER <= value < _MAX_INTEGER:
            raise ValueError("an integer does not fit into 64 bits; nothing was changed")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"JSON has no number {value!r}; nothing was changed")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            check_string(key, "a key")
            check_value(inner, depth + 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            check_value(inner, depth + 1)
    else:
        raise TypeError(f"not a JSON value: {value!r}; nothing was changed")
