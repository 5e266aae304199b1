"""Who a device is at a relay that lets everybody in: a name that is made of the device's id."""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["ANYBODY", "user_of_device"]

ANYBODY: Final = "anybody-"
"""How such a name begins."""


def user_of_device(device_id: bytes) -> str:
    """The name: ``anybody-`` and 16 hexadecimal digits, from which the id cannot be told.

    The relay gives it, and the device knows it again: with another id it is the same person under
    another name, which a user whom a token names never is.
    """
    return ANYBODY + hashlib.blake2b(device_id, digest_size=8).hexdigest()
