"""Undo and redo of this user's own edits; other people's work stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collab.crdt.replica import Replica

__all__ = ["Undo"]


class Undo:
    """One user's undo and redo stacks over one or several shared types.

    Edits within ``capture_timeout_ms`` of each other are one step. Undoing is an edit: it is
    saved, sent and observed like any other. Methods raise RuntimeError inside a transaction and
    WrongThread outside the event loop's thread; ``clock`` gives seconds that never go back.
    """

    def __init__(
        self,
        replica: Replica,
        scopes: Iterable[Any],
        *,
        capture_timeout_ms: int = 500,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        listed = tuple(scopes)
        if not listed:
            raise ValueError("undo needs at least one text or shared type to follow")
        if capture_timeout_ms < 0:
            raise ValueError(f"capture_timeout_ms cannot be negative: {capture_timeout_ms}")
        self._replica = replica
        self._stack = replica.undo(listed, capture_timeout_ms, clock)

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        self._replica.check_thread()
        return self._stack.can_undo()

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to bring back."""
        self._replica.check_thread()
        return self._stack.can_redo()

    def undo(self) -> bool:
        """Take back the last step; False if there was nothing left of it to take back."""
        self._replica.check_thread()
        return self._stack.undo()

    def redo(self) -> bool:
        """Bring back the step that was last undone; False if there was none."""
        self._replica.check_thread()
        return self._stack.redo()

    def clear(self) -> None:
        """Forget all steps. The document stays as it is."""
        self._replica.check_thread()
        self._stack.clear()

    def stop_capturing(self) -> None:
        """Make the next edit begin a new step, however soon it comes."""
        self._replica.check_thread()
        self._stack.stop_capturing()

    def close(self) -> None:
        """Stop following edits, and forget all steps."""
        self._replica.check_thread()
        self._stack.close()
