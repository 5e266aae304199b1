"""A y-py document of which one transaction is open at a time.

y-py lets transactions nest as strangers: the inner one reports its changes first, although they
build on those of the outer one, and the outer one reports them again. So ``Document`` refuses the
second one. A transaction that was committed still takes edits, and never reports them: nothing
here keeps one beyond its end.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from threading import get_ident
from typing import Any, Final

import y_py

from collab.errors import WrongThread

__all__ = ["Document", "check_thread", "here", "is_panic", "let_go", "weak_callback"]


class _Here(threading.local):
    """Something that this thread has, and no other, not even a later one of the same number."""

    def __init__(self) -> None:
        self.token = object()


_here: Final = _Here()
_left: dict[object, list[object]] = {}  # y-py's objects that wait for their thread to drop them


def here() -> object:
    """This thread's token for ``let_go``; what waits for this thread to drop it goes now."""
    _left.pop(_here.token, None)
    return _here.token


def let_go(objects: list[object], token: object) -> None:
    """Drop y-py's objects in their thread; in others y-py complains, and keeps them for ever."""
    if token is not _here.token:
        _left.setdefault(token, []).extend(objects)
    objects.clear()
    _left.pop(_here.token, None)


class Document(y_py.YDoc):  # type: ignore[misc]  # without types
    """A ``y_py.YDoc`` for every binding made for one; its indices are those of Python strings.

    Raw transactions are synchronous blocks: ``with document.begin_transaction() as txn``. Use
    them for maps and arrays of plain values; y-py merges nested shared types wrongly.
    """

    def __new__(cls, client_id: int) -> Document:
        document: Document = super().__new__(cls, client_id=client_id, offset_kind="utf32")
        return document

    def __init__(self, client_id: int) -> None:
        self.thread = get_ident()
        self.home = here()
        self.ours = 0  # of our own: a transaction, or a remote update being applied
        self.raw = False  # begun by others, not ended
        self.reading = 0  # y-py ends a transaction for many a read, too

    def __del__(self) -> None:
        # An error's traceback can hold this beyond its room, until the collector runs, anywhere.
        if (home := getattr(self, "home", None)) is not None:
            let_go([self], home)

    @property
    def busy(self) -> bool:
        """Whether a transaction is open, ours or a raw one."""
        return self.ours > 0 or self.raw

    def begin_transaction(self) -> y_py.YTransaction:
        """A raw transaction. Raises RuntimeError while another one is open, and WrongThread."""
        self.check_can_begin()
        txn = super().begin_transaction()
        self.raw = True
        return txn

    def begin(self) -> y_py.YTransaction:
        """A transaction of our own; the caller counts it in ``ours``."""
        return super().begin_transaction()

    def transact(self, callback: Callable[[y_py.YTransaction], Any]) -> Any:
        """Call ``callback`` with a raw transaction."""
        with self.begin_transaction() as txn:
            return callback(txn)

    def get_text(self, name: str) -> y_py.YText:
        return self.quietly(super().get_text, name)

    def get_map(self, name: str) -> y_py.YMap:
        return self.quietly(super().get_map, name)

    def get_array(self, name: str) -> y_py.YArray:
        return self.quietly(super().get_array, name)

    def quietly(self, read: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function that only reads, whose end is not that of a transaction."""
        check_thread(self.thread)
        self.reading += 1
        try:
            return read(*arguments)
        finally:
            self.reading -= 1

    def check_can_begin(self) -> None:
        check_thread(self.thread)
        if self.busy:
            raise RuntimeError(
                "another transaction of this document is open, and y-py would report both in the "
                "wrong order; nothing was changed. End it first, or edit later"
            )


def check_thread(thread: int) -> None:
    """Raise WrongThread in any other: y-py would panic."""
    if get_ident() != thread:
        raise WrongThread(
            "a document is edited in the thread of its event loop; nothing was changed. "
            "From another thread, use client.call_soon(fn)"
        )


def weak_callback(method: Callable[[Any], None], report: Callable[[Any], None]) -> Any:
    """A callback for y-py, which keeps it for ever; this one keeps nothing else alive.

    When a raw observer raised, y-py calls the next ones with that error still pending, so that
    the first call in them fails. Here that call takes it away, and it is reported.
    """
    reference = weakref.WeakMethod(method)
    reporting = weakref.WeakMethod(report)

    def call(event: Any) -> None:
        raised: BaseException | None = None
        try:
            target = reference()
        except SystemError as error:
            raised = error.__cause__
            target = reference()
        if target is not None:
            target(event)
        if raised is not None and (tell := reporting()) is not None:
            tell(raised)

    return call


def is_panic(error: BaseException) -> bool:
    """Whether the engine's own code failed; the class cannot be imported."""
    return type(error).__name__ == "PanicException"
