"""How a program reads all that a hostile writer may have touched. Not a test."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol

import pycrdt
from pycrdt._base import BaseType

from collab.text import Text
from tests.interop.documents import shared

__all__ = ["Readable", "contents_as_anything", "document_of", "read_all"]


class Readable(Protocol):
    """A room, or the replica in it."""

    @property
    def document(self) -> pycrdt.Doc[Any]: ...
    def text(self, shared: str, /) -> Text: ...


def read_all(of: Readable) -> None:
    """Read every root that the generator writes to.

    It must end. pycrdt may raise, as for XML in a map, and so does an array that holds text; a
    panic of the engine is no ``Exception``.
    """
    document = of.document
    for name in ("text", "body"):
        text = of.text(name)
        len(text)
        str(text)
    with suppress(Exception):
        document.get("map", type=pycrdt.Map).to_py()
    with suppress(Exception):
        document.get("array", type=pycrdt.Array).to_py()
    str(document.get("xml", type=pycrdt.XmlFragment))


def document_of(updates: Iterable[bytes]) -> pycrdt.Doc[Any]:
    """A document that was given these updates one by one."""
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    for update in updates:
        document.apply_update(update)
    return document


def contents_as_anything(updates: list[bytes], roots: Iterable[str]) -> dict[tuple[str, str], str]:
    """What the updates come to: each root read as every kind of type that it could be.

    A root that holds text is not read as an array: that would never end.
    """
    found: dict[tuple[str, str], str] = {}
    for kind in (pycrdt.Text, pycrdt.Map, pycrdt.Array, pycrdt.XmlFragment):
        document = document_of(updates)
        for name in roots:
            if kind is pycrdt.Array and found[name, "str"] != "":
                continue
            root: BaseType = document.get(name, type=kind)
            if kind is pycrdt.Text:
                found[name, "str"] = str(root)
            try:
                found[name, kind.__name__] = _canonical(shared(root))
            except Exception as error:  # of pycrdt, for XML in a map
                found[name, kind.__name__] = type(error).__name__
    return found


def _canonical(found: Any) -> str:
    def other(value: object) -> Any:
        return shared(value) if isinstance(value, BaseType) else type(value).__name__

    # A whole number is an int or a float, by the way it came: yrs writes it in fewer bytes.
    once = json.dumps(found, default=other)
    return json.dumps(json.loads(once, parse_int=float), sort_keys=True)
