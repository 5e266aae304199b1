"""A device's place in a relay's log of a room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Position:
    """An offset, and the run of the relay (its generation, 16 bytes) that gave it."""

    generation: bytes
    offset: int


NOWHERE: Final = Position(bytes(16), 0)
"""No relay ever gives this generation: a join from here always exchanges differences."""
