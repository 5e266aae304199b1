"""pycrdt's undo manager, kept away from what would break it.

yrs pops the item before it asks for a transaction, waits for ever for one in ``clear``, and
unhooks itself when it is dropped, or else leaves a hook to freed memory: none of these may
happen while a transaction is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pycrdt import _pycrdt as engine

from collab.errors import Closed, Unsupported

if TYPE_CHECKING:
    from collab.crdt.pycrdt_engine import PycrdtReplica

__all__ = ["PycrdtUndo"]


class PycrdtUndo:
    """An ``UndoStack``. It tracks transactions without an origin: those made on this replica."""

    def __init__(
        self,
        replica: PycrdtReplica,
        scopes: Iterable[tuple[str, Any]],
        capture_timeout_ms: int,
        clock: Callable[[], float],
    ) -> None:
        self._replica = replica
        self._document = replica.document
        self._manager: engine.UndoManager | None = None
        self._step_ms = capture_timeout_ms + 1
        shift = _Shift()
        self._shift = shift
        # The engine keeps this function for as long as it lives: it must not hold the replica.
        self._manager = manager = engine.UndoManager(
            capture_timeout_ms, lambda: int(clock() * 1000) + shift.ms, [], []
        )
        for kind, integrated in scopes:
            expand = getattr(manager, f"expand_scope_{kind}", None)
            if expand is None:
                raise Unsupported(f"undo cannot follow a shared type of kind {kind!r}")
            expand(replica.document._doc, integrated)

    def undo(self) -> bool:
        manager = self._idle()
        return bool(self._replica.edit_outside_transaction(manager.undo))

    def redo(self) -> bool:
        manager = self._idle()
        return bool(self._replica.edit_outside_transaction(manager.redo))

    def can_undo(self) -> bool:
        return self._open().can_undo()

    def can_redo(self) -> bool:
        return self._open().can_redo()

    def clear(self) -> None:
        self._idle().clear_all()
        self.stop_capturing()

    def stop_capturing(self) -> None:
        """The engine ends a step when time has passed, so for it, time passes."""
        self._shift.ms += self._step_ms

    def close(self) -> None:
        manager, self._manager = self._manager, None
        self._document.release(manager)

    def __del__(self) -> None:
        self.close()

    def _open(self) -> engine.UndoManager:
        if self._manager is None:
            raise Closed("this undo stack was closed, or its room was; the document is unchanged")
        return self._manager

    def _idle(self) -> engine.UndoManager:
        manager = self._open()
        if self._replica.in_transaction:
            raise RuntimeError(
                "undo stacks cannot be used inside a transaction; nothing was changed. "
                "Call them after the transaction's block"
            )
        return manager


class _Shift:
    """Milliseconds that the engine's clock is ahead; never 0, which it reads as 'never'."""

    __slots__ = ("ms",)

    def __init__(self) -> None:
        self.ms = 1
