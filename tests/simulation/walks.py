"""The guard's walk, remembered: in one process many see the same bytes; a walk never changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from unittest import mock

from collab.protocol import walk as walk_module
from collab.protocol.contents import Struct
from collab.protocol.update import Walk
from collab.protocol.update import walk as walk_now

__all__ = ["remembered", "walk"]

_walk_any = walk_module._walk_any


@lru_cache(maxsize=4096)
def walk(update: bytes) -> Walk:
    """What the guard finds in ``update``."""
    return walk_now(update)


@lru_cache(maxsize=4096)
def _walk_of(update: bytes) -> Walk:
    return _walk_any(update, None)


@lru_cache(maxsize=1024)
def _structs_of(update: bytes) -> tuple[Walk, list[Struct]]:
    structs: list[Struct] = []
    return _walk_any(update, structs), structs


def _remember(update: bytes, structs: list[Struct] | None) -> Walk:
    if structs is None:
        return _walk_of(update)
    walked, found = _structs_of(update)
    structs += found
    return walked


@contextmanager
def remembered() -> Iterator[None]:
    """While this lasts, relay and devices remember too what they have walked."""
    with mock.patch.object(walk_module, "_walk_any", _remember):
        yield
