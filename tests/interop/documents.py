"""What is in a document, in the form that documents.mjs gives for Yjs. Not a test."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

import pycrdt


def contents(document: pycrdt.Doc[Any], *, text: str = "text") -> list[Any]:
    """The roots text, array, map and xml: shared types tagged, adjacent runs joined.

    ``text`` is what the first is called.
    """
    return [
        shared(document.get(text, type=pycrdt.Text)),
        shared(document.get("array", type=pycrdt.Array)),
        shared(document.get("map", type=pycrdt.Map)),
        shared(document.get("xml", type=pycrdt.XmlFragment)),
    ]


def shared(value: Any) -> Any:
    """One shared type with all that is in it, or one plain value."""
    match value:
        case pycrdt.XmlElement():
            children = [shared(child) for child in value.children]
            attributes = dict(cast("Iterable[tuple[str, str]]", value.attributes))
            return ["element", value.tag, attributes, children]
        case pycrdt.XmlFragment():
            return ["xml", [shared(child) for child in value.children]]
        case pycrdt.Text() | pycrdt.XmlText():
            return ["text", runs(value.diff())]
        case pycrdt.Array():
            return ["array", [shared(item) for item in value]]
        case pycrdt.Map():
            return ["map", {key: shared(item) for key, item in value.items()}]
    return ["value", plain(value)]


def plain(value: Any) -> Any:
    """A value as JSON has it after a way through JavaScript."""
    match value:
        case bytes() | bytearray():
            return {"bytes": value.hex()}
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case float() if value.is_integer():
            return int(value)
    return value


def runs(diff: list[tuple[Any, dict[str, Any] | None]]) -> list[Any]:
    """Text and embeds with their attributes."""
    joined: list[list[Any]] = []
    for part, attributes in diff:
        marks = {k: plain(v) for k, v in sorted((attributes or {}).items()) if v is not None}
        if not isinstance(part, str):
            joined.append([["embed", plain(part)], marks])
        elif joined and isinstance(joined[-1][0], str) and joined[-1][1] == marks:
            joined[-1][0] += part
        else:
            joined.append([part, marks])
    return joined


def canonical(found: Any) -> str:
    """The same string for the same content."""
    return json.dumps(found, sort_keys=True, ensure_ascii=False)
