"""Is this JSON text something that every engine can parse, and no deeper than allowed?

CPython's parser recurses, and takes more than JSON: ``NaN``, numbers beyond a double, escapes of
half a surrogate pair. The engines' parsers refuse these, and an update that one side takes and
the other refuses would split a room. So the depth is counted without recursion first, and what
only Python would take is refused.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final, NoReturn

from collab.limits import MAX_JSON_DEPTH

__all__ = ["parse_bounded_json"]

# Format marks are nearly always one of these.
_COMMON: Final[dict[str, object]] = {"null": None, "true": True, "false": False, '""': ""}

# Left to right, a string is one token and so is an escape inside it: no backtracking.
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


def parse_bounded_json(text: str, max_depth: int = MAX_JSON_DEPTH) -> object:
    """Parse JSON (RFC 8259) that nests at most ``max_depth`` arrays and objects.

    Numbers come back as floats. Raises ``ValueError`` that says what is wrong.
    """
    if text in _COMMON:
        return _COMMON[text]
    if text.count("[") + text.count("{") > max_depth:
        _check_depth(text, max_depth)
    try:
        value: object = _DECODER.decode(text)
    except RecursionError:  # pragma: no cover - the depth check comes first
        raise ValueError("nests too deeply") from None
    if "\\u" in text:
        _check_surrogates(text)
    return value


def _check_depth(text: str, max_depth: int) -> None:
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        mark = text[match.start()]
        if mark in "[{":
            depth += 1
            if depth > max_depth:
                raise ValueError(f"nests deeper than {max_depth}")
        elif mark in "]}":
            depth -= 1


def _check_surrogates(text: str) -> None:
    """Half a surrogate pair cannot be written as UTF-8: serde_json refuses it, Python does not."""
    awaited_at = -1  # where the low half must start
    for match in _ESCAPE.finditer(text):
        unit = int(match[1], 16) if match[1] else 0
        is_low = 0xDC00 <= unit <= 0xDFFF
        if (awaited_at >= 0) != is_low or (is_low and match.start() != awaited_at):
            raise ValueError("escapes half a surrogate pair")
        awaited_at = match.end() if 0xD800 <= unit <= 0xDBFF else -1
    if awaited_at >= 0:
        raise ValueError("escapes half a surrogate pair")


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("has a number that no double holds")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"has {name}, which is not JSON")


_DECODER: Final = json.JSONDecoder(parse_float=_number, parse_int=_number, parse_constant=_constant)
