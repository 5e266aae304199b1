"""Two replicas of one text, with updates on their way between them. Not a test."""

from __future__ import annotations

from collections.abc import Callable

from collab.crdt.pycrdt_engine import PycrdtReplica
from collab.text import Text
from collab.undo import Undo


class Side:
    """One user's replica; ``out`` are its updates that the other does not have."""

    def __init__(self, client_id: int) -> None:
        self.turn: list[Callable[[], None]] = []
        self.out: list[bytes] = []
        self.made = 0
        self.replica = PycrdtReplica(
            client_id=client_id, call_soon=self.turn.append, on_local=self._made
        )
        self.text: Text = self.replica.text("body")
        self.undo = Undo(self.replica, (self.text,), capture_timeout_ms=0)

    def take_from(self, other: Side, count: int | None = None) -> None:
        """Let the first ``count`` updates of the other one arrive."""
        count = len(other.out) if count is None else count
        for update in other.out[:count]:
            self.replica.apply(update)
        del other.out[:count]

    def _made(self, update: bytes) -> None:
        self.made += 1
        self.out.append(update)
