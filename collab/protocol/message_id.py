"""Ids of messages: UUIDs of version 7 (RFC 9562), made of arguments."""

from __future__ import annotations

from typing import Final

__all__ = ["RANDOM_BYTES", "make_id"]

RANDOM_BYTES: Final = 10


def make_id(unix_ms: int, randomness: bytes) -> bytes:
    """A UUIDv7 of this time and these ``RANDOM_BYTES``.

    Nothing is derived from its time or order: a wrong clock does no harm.
    """
    if len(randomness) != RANDOM_BYTES:
        raise ValueError(f"an id takes {RANDOM_BYTES} random bytes, not {len(randomness)}")
    made = bytearray((unix_ms & (1 << 48) - 1).to_bytes(6, "big") + randomness)
    made[6] = made[6] & 0x0F | 0x70  # the version
    made[8] = made[8] & 0x3F | 0x80  # the variant
    return bytes(made)
