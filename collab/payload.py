"""What a program gives for a broadcast or a call, packed: whatever raises here has sent nothing."""

from __future__ import annotations

from collab.errors import BadMessage, TooLarge
from collab.protocol.codec import pack_value

__all__ = ["pack_payload"]


def pack_payload(value: object, most_bytes: int, what: str) -> bytes:
    """``value`` as bytes. Raises :class:`BadMessage` and :class:`TooLarge`; ``what`` names it."""
    try:
        packed = pack_value(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadMessage(
            f"msgpack cannot carry this payload of {what}: {error}. Nothing was sent. It carries "
            f"None, booleans, numbers of 64 bits, text, bytes, lists, and dicts of plain keys."
        ) from error
    if len(packed) > most_bytes:
        raise TooLarge(
            f"This payload of {what} has {len(packed)} bytes when packed; at most {most_bytes} are "
            f"allowed. Nothing was sent. Put what is long into the document."
        )
    return packed
