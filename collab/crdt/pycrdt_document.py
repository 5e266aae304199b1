"""A pycrdt document that knows when its transactions begin, end, and are used by others.

``Document`` is a ``pycrdt.Doc`` for every binding made for one. It adds what collab needs and
pycrdt does not tell: which transaction is open, whether pycrdt's own types were used inside it,
and when it is over. The short way through the engine (``create``/``commit``) skips pycrdt's
Python layer, which costs more than a small edit itself.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import pycrdt
from pycrdt import NewTransaction, ReadTransaction, Transaction
from pycrdt import _pycrdt as engine
from pycrdt._base import BaseType, process_event

from collab.crdt.pycrdt_array import watch_root_array
from collab.errors import WrongThread

__all__ = ["Document", "TrackedTransaction", "is_panic"]


class _Tracked(Transaction):
    """Counts how often others entered it while it was open."""

    _doc: Document
    uses = 0
    thread = 0
    user_origin: object = None

    def __enter__(self, _acquire_transaction: bool = True) -> Any:
        if self._txn is not None:
            self.uses += 1
            return super().__enter__(_acquire_transaction)
        entered = super().__enter__(_acquire_transaction)
        self.thread = get_ident()
        if self._origin_hash is not None:
            self.user_origin = self._doc._origins.get(self._origin_hash)
        self._doc.current = self
        return entered

    def __exit__(self, *exc: Any) -> None:
        try:
            super().__exit__(*exc)
        finally:
            if self._txn is None:
                self._doc.current = None
                self._doc.transaction_ended()


class TrackedTransaction(_Tracked):
    """What ``Document.transaction`` gives."""


class TrackedNewTransaction(_Tracked, NewTransaction):
    """What ``Document.new_transaction`` gives."""


class Document(pycrdt.Doc[Any]):
    """A ``pycrdt.Doc`` with the bookkeeping of a replica."""

    def __init__(self, client_id: int) -> None:
        super().__init__(client_id=client_id)
        self.current: _Tracked | None = None  # open, or now committing
        self.applying = False  # a remote update is being applied
        self.direct = False  # a transaction of ours is open that pycrdt's Python layer ignores
        self.graveyard: list[object] = []  # engine objects that must not go in a transaction
        self.on_end: Callable[[], None] | None = None
        self.on_error: Callable[[BaseException], None] | None = None
        self.foreign_updates = 0  # applied so far: after one, an array may hold text
        self._root_arrays: dict[str, _RootArray] = {}

    def transaction(self, origin: Any = None) -> Transaction:
        if self._txn is not None:
            return super().transaction(origin)
        return TrackedTransaction(self, origin=origin)

    def new_transaction(self, origin: Any = None, timeout: float | None = None) -> NewTransaction:
        return TrackedNewTransaction(self, origin=origin, timeout=timeout)

    def apply_update(self, update: bytes) -> None:
        self.foreign_updates += 1
        super().apply_update(update)

    def __setitem__(self, key: str, value: Any) -> None:
        """What ``get`` uses too."""
        super().__setitem__(key, value)
        self._watch(key, value)

    @property
    def _roots(self) -> dict[str, Any]:
        roots: dict[str, Any] = super()._roots
        for name, value in roots.items():
            self._watch(name, value)
        return roots

    def _watch(self, name: str, value: Any) -> None:
        if not isinstance(value, pycrdt.Array):
            return
        root = self._root_arrays.get(name)
        if root is None:
            with self.transaction() as opened:
                assert opened._txn is not None
                as_text = self._doc.get_or_insert_text(opened._txn, name)
            root = self._root_arrays[name] = _RootArray(self, as_text)
        watch_root_array(value, name, root.holds_text)

    @property
    def user_origin(self) -> object:
        """What the open (or committing) transaction was given as its origin."""
        return None if self.current is None else self.current.user_origin

    @property
    def busy(self) -> bool:
        """Whether a transaction is open: of ours, of pycrdt, or an observer's."""
        return self.direct or self._txn is not None or self.current is not None

    def release(self, engine_object: object) -> None:
        """Let go of an engine object now or, if a transaction is open, when it has ended."""
        if self.busy:
            self.graveyard.append(engine_object)

    def transaction_ended(self) -> None:
        if self.graveyard and not self.busy:
            self.graveyard.clear()
        if self.on_end is not None:
            self.on_end()

    def report(self, error: BaseException) -> None:
        """An error that has nobody to be raised to."""
        if self.on_error is not None:
            self.on_error(error)

    def create(self) -> engine.Transaction:
        """Open a transaction that only ``commit`` ends; pycrdt's own types cannot join it."""
        try:
            txn = self._doc.create_transaction()
        except RuntimeError as error:
            raise RuntimeError(
                "the document is being changed or its observers are running, so it cannot be "
                "changed now; observe the text with room.text(...).observe, or edit later"
            ) from error
        self.direct = True
        return txn

    def commit(self, txn: engine.Transaction) -> None:
        """End a transaction of ``create``. Raises, like pycrdt, what pycrdt's observers raised."""
        try:
            txn.commit()
        finally:
            self.direct = False
            txn.drop()
            if self.graveyard or self.on_end is not None:
                self.transaction_ended()
        if self._exceptions:
            errors = tuple(self._exceptions)
            self._exceptions.clear()
            raise ExceptionGroup("Observer callback error", errors)

    @contextmanager
    def reading(self, *, write: bool = False) -> Iterator[engine.Transaction]:
        """The engine's transaction to read in: the open one, or one of its own.

        ``write`` refuses the transactions of observers, in which the engine panics when asked
        for more than content.
        """
        joined = self._txn
        if joined is None:
            txn = self.create()
            try:
                yield txn
            finally:
                self.commit(txn)
            return
        self.check_joinable(joined, write=write)
        assert joined._txn is not None
        yield joined._txn

    def check_joinable(self, joined: Transaction, *, write: bool) -> None:
        if isinstance(joined, ReadTransaction):
            if write:
                raise RuntimeError(
                    "an observer of pycrdt cannot change the document; observe the text with "
                    "room.text(...).observe, whose callbacks may"
                )
        elif isinstance(joined, _Tracked) and joined.thread != get_ident():
            raise WrongThread(
                "another thread is editing this document; nothing was changed. Let it use "
                "client.call_soon(fn) instead"
            )

    @staticmethod
    def check_embeddable(shared: engine.Text, value: BaseType) -> None:
        """Raise ValueError for a type that is in a document, TypeError for one that cannot be."""
        if value.is_integrated:
            raise ValueError("this shared type is in a document already; nothing was changed")
        if not hasattr(shared, f"insert_{value.type_name}_prelim"):
            raise TypeError(
                f"a text cannot hold a {type(value).__name__}; it takes Text, Array and Map. "
                "Nothing was changed"
            )

    def embed_type(
        self,
        shared: engine.Text,
        txn: engine.Transaction,
        offset: int,
        value: BaseType,
        items: Any,
    ) -> None:
        """Put a shared type that is in no document yet into a text, as pycrdt does."""
        insert = getattr(shared, f"insert_{value.type_name}_prelim")
        prelim = value._integrate(self, insert(txn, offset, items))
        value._init(prelim)

    def wrap(self, value: Any) -> Any:
        """A value of an event with pycrdt's types in place of the engine's."""
        return process_event(value, self)


class _RootArray:
    """Whether there is text in the root that a program uses as an array; kept until it can change.

    ``as_text`` is the engine's view of that root as a text: it has what was put in as text alone.
    """

    def __init__(self, document: Document, as_text: engine.Text) -> None:
        self._document = weakref.ref(document)
        self._as_text = as_text
        self._read_at = -1  # how many foreign updates there were
        self._holds_text = False

    def holds_text(self) -> bool:
        document = self._document()
        if document is None:
            return False
        # What holds text is read each time: the user may be removing it.
        if self._holds_text or self._read_at != document.foreign_updates:
            self._read_at = document.foreign_updates
            with document.transaction() as opened:
                assert opened._txn is not None
                self._holds_text = bool(self._as_text.get_string(opened._txn))
        return self._holds_text


def is_panic(error: BaseException) -> bool:
    """Whether the engine's own code failed; the class cannot be imported."""
    return type(error).__name__ == "PanicException"
