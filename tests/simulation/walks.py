"""The guard's walk, remembered: in one process many see the same bytes; a walk never changes."""

from __future__ import annotations

from functools import lru_cache

from collab.protocol.update import Walk
from collab.protocol.update import walk as walk_now

__all__ = ["walk"]


@lru_cache(maxsize=4096)
def walk(update: bytes) -> Walk:
    """What the guard finds in ``update``."""
    return walk_now(update)
