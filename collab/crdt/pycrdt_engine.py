"""A replica on pycrdt."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any, Final, NoReturn

import pycrdt
from pycrdt import _pycrdt as engine
from pycrdt._base import BaseType

from collab.crdt.pycrdt_anchor import deleted_ranges, identity_of
from collab.crdt.pycrdt_document import Document, is_panic
from collab.crdt.pycrdt_text import PycrdtText
from collab.crdt.pycrdt_undo import PycrdtUndo
from collab.crdt.replica import CallSoon
from collab.crdt.values import check_string
from collab.errors import BadUpdate, Closed, WrongThread
from collab.text import Text

__all__ = ["REMOTE", "PycrdtReplica"]

REMOTE: Final = "collab.remote"  # the origin that pycrdt's observers see on remote updates
_REMOTE_HASH: Final = 0x636F6C6C61622E72656D6F7465  # no 64-bit hash of a user's origin is this
_MERGE_GROUP: Final = 32  # merging 20,000 at once costs 18 times as much for each


class PycrdtReplica:
    """One copy of a document, in the thread that made it.

    ``client_id``: a random 32-bit number that is in nobody's state vector. ``call_soon`` runs a
    function on the event loop's next turn and may be called from any thread. ``on_local`` gets
    the bytes of each local update; what it raises goes to ``call_soon``.
    """

    def __init__(
        self, *, client_id: int, call_soon: CallSoon, on_local: Callable[[bytes], None]
    ) -> None:
        self._document = Document(client_id)
        self._document._origins[_REMOTE_HASH] = REMOTE
        self._thread = get_ident()
        self._call_soon = call_soon
        self._on_local = on_local
        self._texts: dict[tuple[Any, ...], tuple[PycrdtText, Text]] = {}
        self._names: dict[str, Text] = {}
        self._nested: dict[tuple[int, int], PycrdtText] = {}
        self._undos: weakref.WeakSet[PycrdtUndo] = weakref.WeakSet()
        self._waiting: list[Callable[[], None]] = []
        self._depth = 0
        self._closed = False
        self._document.on_error = self._report
        self._subscription = self._document._doc.observe(_weak_callback(self))

    # --- what it is ------------------------------------------------------------------------------

    @property
    def document(self) -> Document:
        return self._document

    @property
    def client_id(self) -> int:
        return self._document.client_id

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open: ours, a raw one of pycrdt, or an observer's."""
        return self._document.busy

    def check_thread(self) -> None:
        if get_ident() != self._thread:
            raise WrongThread(
                "a document is edited in the thread of its event loop; nothing was changed. "
                "From another thread, use client.call_soon(fn)"
            )

    # --- transactions ----------------------------------------------------------------------------

    @contextmanager
    def transaction(self, origin: object = None) -> Iterator[None]:
        """One synchronous block, one update at its end; a nested block joins the outer one.

        ``origin`` comes back in ``TextChanged.origin``; a nested one is ignored. An exception
        leaves the block, and what was edited before it stays: nothing is rolled back.
        """
        self._check()
        document = self._document
        if document._txn is not None:
            document.check_joinable(document._txn, write=True)
            yield
            return
        if document.direct:
            document.create()  # raises: observers are running
        outer = document.transaction()
        with outer:
            if document.current is not None:
                document.current.user_origin = origin
            yield

    def call_when_idle(self, fn: Callable[[], None]) -> None:
        if not self.in_transaction:
            fn()
            return
        self._waiting.append(fn)
        self._document.on_end = _weak_method(self._schedule_waiting)

    def edit_outside_transaction(self, edit: Callable[[], bool]) -> bool:
        """Run an engine function that opens a transaction of its own."""
        self._check()
        document = self._document
        document.direct = True
        try:
            changed = edit()
        finally:
            document.direct = False
            document.transaction_ended()
        self._raise_observers_errors()
        return changed

    # --- updates ---------------------------------------------------------------------------------

    def apply(self, update: bytes) -> None:
        """Apply a remote update; undo never reverts it, and ``on_local`` does not see it.

        Raises BadUpdate (the engine refused it; an update that the guard let through should
        never), and RuntimeError inside a transaction: queue it with ``call_when_idle``.
        """
        self._check()
        document = self._document
        if self.in_transaction:
            raise RuntimeError("a remote update waits until the open transaction has ended")
        document.applying = True
        document.foreign_updates += 1
        txn = document._doc.create_transaction_with_origin(_REMOTE_HASH)
        document.direct = True
        try:
            try:
                document._doc.apply_update(txn, update)
                txn.commit()
            finally:
                txn.drop()
        except BaseException as error:
            self._refuse(error, "an update from outside could not be applied")
            raise
        finally:
            document.applying = document.direct = False
            document.transaction_ended()
        try:
            self._raise_observers_errors()
        except ExceptionGroup as errors:
            self._report(errors)

    def state_vector(self) -> bytes:
        """Yjs' encoding of what this replica has seen (it does not cover deletions)."""
        self._check()
        with self._document.reading(write=True) as txn:
            return self._document._doc.get_state(txn)

    def difference(self, state_vector: bytes) -> bytes:
        """What a replica at ``state_vector`` lacks, with every deletion. Raises BadUpdate."""
        self._check()
        with self._document.reading(write=True) as txn:
            try:
                return self._document._doc.get_update(txn, state_vector)
            except BaseException as error:
                self._refuse(error, "a state vector from outside could not be read")
                raise

    def snapshot(self) -> bytes:
        """The whole document as one update."""
        return self.difference(b"\x00")

    @staticmethod
    def merge(updates: Sequence[bytes]) -> bytes:
        """One update that says what all of them say. Raises BadUpdate."""
        level = list(updates)
        if not level:
            return b"\x00\x00"
        try:
            while len(level) > 1:
                level = [
                    engine.merge_updates(tuple(level[i : i + _MERGE_GROUP]))
                    for i in range(0, len(level), _MERGE_GROUP)
                ]
        except BaseException as error:
            if is_panic(error) or isinstance(error, ValueError):
                raise BadUpdate(f"updates could not be merged: {error}") from error
            raise
        return level[0]

    # --- what is in it ---------------------------------------------------------------------------

    def text(self, name_or_nested: str | pycrdt.Text) -> Text:
        """The ``Text`` of a root's name, or of a ``pycrdt.Text`` that is in this document."""
        self._check()
        if isinstance(name_or_nested, str):
            found = self._names.get(name_or_nested)
            return self._root(name_or_nested) if found is None else found
        if not isinstance(name_or_nested, pycrdt.Text):
            raise TypeError(
                f"a text is named by a str or given as a pycrdt.Text, not {name_or_nested!r}"
            )
        if not name_or_nested.is_integrated or name_or_nested.doc is not self._document:
            raise ValueError("this pycrdt.Text is not part of the room's document")
        shared: engine.Text = name_or_nested.integrated
        with self._document.reading(write=True) as txn:
            identity = identity_of(shared, txn)
        if isinstance(identity[0], str):
            return self.text(identity[0])
        return self._add(shared, identity)

    def undo(
        self,
        scopes: Iterable[Text | BaseType],
        capture_timeout_ms: int = 500,
        clock: Callable[[], float] = time.monotonic,
    ) -> PycrdtUndo:
        """An undo stack of this user's edits in ``scopes``; ``clock`` gives seconds."""
        self._check()
        followed: list[tuple[str, Any]] = []
        for scope in scopes:
            if isinstance(scope, Text):
                entry = self._texts.get(scope.identity)
                if entry is None or entry[1] is not scope:
                    raise ValueError("undo was given a text of another room")
                followed.append(("text", entry[0].shared))
            elif scope.is_integrated and scope.doc is self._document:
                followed.append((scope.type_name, scope.integrated))
            else:
                raise ValueError("undo was given a shared type that is not in the room's document")
        undo = PycrdtUndo(self, followed, capture_timeout_ms, clock)
        self._undos.add(undo)
        return undo

    def close(self) -> None:
        """Let go of the document, so that it can be freed. Texts of it raise Closed from now."""
        if self._closed:
            return
        if self._document.busy:
            raise RuntimeError("a document is closed after its open transaction, not inside it")
        for undo in tuple(self._undos):
            undo.close()
        self._closed = True
        for shared, _ in self._texts.values():
            shared.close()
        self._subscription.drop()
        self._waiting.clear()
        self._document.on_end = self._document.on_error = None

    # --- inside ----------------------------------------------------------------------------------

    def _check(self) -> None:
        self.check_thread()
        if self._closed:
            raise Closed("the room of this document was closed; open it again")

    def _root(self, name: str) -> Text:
        check_string(name, "a text's name")
        with self._document.reading(write=True) as txn:
            shared = self._document._doc.get_or_insert_text(txn, name)
        text = self._names[name] = self._add(shared, (name,))
        return text

    def _add(self, shared: engine.Text, identity: tuple[str] | tuple[int, int]) -> Text:
        entry = self._texts.get(identity)
        if entry is None:
            mapped = PycrdtText(self._document, shared, identity)
            entry = self._texts[identity] = (mapped, Text(self, mapped, self._call_soon))
            if len(identity) == 2:
                self._nested[identity] = mapped
        return entry[1]

    def _refuse(self, error: BaseException, what: str) -> None:
        """Raise BadUpdate if the engine refused, or failed at, what came from outside."""
        for shared, _ in self._texts.values():
            shared.invalidate()
        if is_panic(error) or isinstance(error, (ValueError, RuntimeError)):
            raise BadUpdate(f"{what}; this document keeps what it had: {error}") from error

    def _raise_observers_errors(self) -> None:
        pending = self._document._exceptions
        if pending:
            errors = tuple(pending)
            pending.clear()
            raise ExceptionGroup("Observer callback error", errors)

    def _report(self, error: BaseException) -> None:
        def fail() -> NoReturn:
            raise error

        self._call_soon(fail)

    def changed(self, event: Any) -> None:
        """The engine's event at the end of a transaction that changed something."""
        try:
            if self._nested:
                self._bury(event.delete_set)
            if self._document.applying:
                return
            update: bytes = event.update
            if get_ident() == self._thread:
                self._on_local(update)
            else:
                self._call_soon(lambda: self._on_local(update))
        except Exception as error:  # noqa: BLE001 - reported to the loop, a task's root
            self._report(error)

    def _bury(self, delete_set: bytes) -> None:
        """Never touch a deleted nested text again: the engine may free it."""
        for client, clock, length in deleted_ranges(delete_set):
            for identity in [i for i in self._nested if i[0] == client]:
                if clock <= identity[1] < clock + length:
                    self._nested.pop(identity).die()
                    del self._texts[identity]

    def _schedule_waiting(self) -> None:
        if self._waiting:
            self._document.on_end = None
            waiting, self._waiting = self._waiting, []
            for fn in waiting:
                self._call_soon(lambda fn=fn: self.call_when_idle(fn))  # type: ignore[misc]


def _weak_callback(replica: PycrdtReplica) -> Callable[[Any], None]:
    """pycrdt may keep a callback for ever (pycrdt#421); this one keeps nothing alive."""
    reference = weakref.ref(replica)

    def changed(event: Any) -> None:
        target = reference()
        if target is not None:
            target.changed(event)

    return changed


def _weak_method(method: Callable[[], None]) -> Callable[[], None]:
    reference = weakref.WeakMethod(method)

    def call() -> None:
        target = reference()
        if target is not None:
            target()

    return call
