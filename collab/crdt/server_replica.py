"""A replica that nobody edits: what the relay's worker asks an engine to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pycrdt import Doc

__all__ = ["ServerReplica"]


class ServerReplica:
    """One document, fed from a log in its order. Without an observer, a tick or a client id of use.

    It trusts what it is fed: the guard has walked it. Raises ``ValueError`` for what the engine
    refuses; a value that ends the process cannot be caught by anybody.
    """

    def __init__(self) -> None:
        self._doc: Doc[Any] = Doc()

    def apply(self, updates: Iterable[bytes]) -> None:
        """Apply updates in one transaction."""
        with self._doc.transaction():
            for update in updates:
                self._doc.apply_update(update)

    def difference(self, state_vector: bytes) -> bytes:
        """What a replica with this state vector (lib0) lacks, and the whole delete set."""
        return self._doc.get_update(state_vector)

    def snapshot(self) -> bytes:
        """All of the document as one update."""
        return self._doc.get_update()

    def state_vector(self) -> bytes:
        """What is in the document (lib0); updates that wait for a predecessor are not."""
        return self._doc.get_state()
