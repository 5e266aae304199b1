"""How a program reads all that a hostile writer may have touched. Not a test."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

import pycrdt

from collab.text import Text

__all__ = ["Readable", "read_all"]


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
