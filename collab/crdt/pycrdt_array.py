"""A root array of the engine that refuses to be read while there is text in it.

A writer can put text under the name that a program uses for an array; no editor does. What kind a
root is only its reader knows, so the guard cannot refuse that. yrs 0.28 counts the characters of
such text where it should count bytes, and ``array[i]``, ``to_py()``, ``str()`` or ``del array[i]``
then loop for ever, holding the GIL. Arrays inside other types need no check: for them the guard
knows the kind (``protocol/placement.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pycrdt

from collab.errors import Unsupported

__all__ = ["watch_root_array"]


def watch_root_array(array: pycrdt.Array[Any], name: str, holds_text: Callable[[], bool]) -> None:
    """Make ``array``, the root of this name, raise ``Unsupported`` whenever ``holds_text()``."""
    array.__dict__["_collab_watch"] = (name, holds_text)
    if not isinstance(array, _Watched):
        array.__class__ = _watched(type(array))


class _Watched(pycrdt.Array[Any]):
    """pycrdt asks ``integrated`` for the engine's array before everything that it does with it."""

    @property
    def integrated(self) -> Any:
        name, holds_text = self.__dict__["_collab_watch"]
        if holds_text():
            raise Unsupported(
                f"somebody put text into the array {name!r}, and the engine would read it for "
                "ever; nothing was changed. What else the document holds is not concerned: keep "
                "the array under another name"
            )
        return super().integrated


@lru_cache(maxsize=64)
def _watched(kind: type[pycrdt.Array[Any]]) -> type[pycrdt.Array[Any]]:
    return type(kind.__name__, (_Watched, kind), {"__module__": kind.__module__})
