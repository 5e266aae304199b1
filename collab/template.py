"""What an empty room starts from, the same on every device."""

from __future__ import annotations

import hashlib
from typing import Final

from collab import limits
from collab.errors import BadUpdate, LocalError, TooLarge
from collab.protocol.update import Coverage

__all__ = ["Template"]


class Template:
    """A Yjs update (v1) that is a whole document, pinned by the SHA-256 of its bytes.

    ``client.room(name, template=…)`` starts a room from it that has nothing on this device. Every
    character of it has one identity, so devices that start from the same bytes, apart and offline,
    merge to one copy. A document that was built again has other identities, and would be there
    twice: build it once, keep the bytes in your program, and pin their digest.

    Raises :class:`LocalError` if the bytes have another digest, are no update that a relay takes,
    or are not complete in themselves; :class:`TooLarge` above ``limits.MAX_UPDATE_BYTES``.
    """

    __slots__ = ("clients", "update")

    def __init__(self, update: bytes, *, sha256: str) -> None:
        actual = hashlib.sha256(update).hexdigest()
        if actual != sha256.lower():
            raise LocalError(
                f"This template's SHA-256 is {actual}, not {sha256}. No room was started from it. "
                f"Was it built anew? Then rooms that started from the old one would hold its "
                f"content twice: keep the bytes that were built once. If a new template is what "
                f"you want, and for new rooms only, pin the new digest."
            )
        if len(update) > limits.MAX_UPDATE_BYTES:
            raise TooLarge(
                f"A template holds at most {limits.MAX_UPDATE_BYTES} bytes, this one has "
                f"{len(update)}. No room was started from it."
            )
        try:
            clocks = Coverage.from_update(update).clocks
        except BadUpdate as error:
            raise LocalError(
                f"This template is not a whole document that a relay would take: {error}. No room "
                f"was started from it. Make it with get_update() of a pycrdt.Doc that has all of "
                f"the content and nothing else."
            ) from error
        if not clocks:
            raise LocalError(
                "This template has no content. No room was started from it. Was get_update() "
                "called before the document was filled?"
            )
        self.update: Final = bytes(update)
        self.clients: Final = frozenset(clocks)  # the client ids that wrote it
