"""A replica on y-py: flat documents and texts, without undo and relative positions.

y-py has had no release since 2023 and none for Python 3.13 and newer. Bytes reach it only after
the guard and ``ypy_bounds`` have walked them, whoever the caller is. Known limits:

- A document whose texts were asked for is never freed by y-py, even when nothing refers to it: a
  closed room costs its size until the process ends. Replica, texts and callbacks are freed.
- After a panic, or an update that y-py gave up in the middle, nothing is known of the document,
  so the replica raises from then on. What was saved is on the disk, and pycrdt opens it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any, Final, NoReturn

import y_py

from collab.crdt.pycrdt_engine import PycrdtReplica
from collab.crdt.replica import CallSoon, UndoStack
from collab.crdt.values import check_string
from collab.crdt.ypy_bounds import MAX_CLIENT_ID, check_fits, check_holds
from collab.crdt.ypy_document import (
    Document,
    check_thread,
    here,
    is_panic,
    let_go,
    weak_callback,
)
from collab.crdt.ypy_text import YpyText, unsupported
from collab.errors import BadUpdate, Closed, CollabError, Unsupported
from collab.protocol.update import (
    Coverage,
    cut,
    decode_state_vector,
    encode_state_vector,
    walk,
)
from collab.text import Text

__all__ = ["YpyReplica"]

_EMPTY: Final = b"\x00\x00"  # the update of a transaction that changed nothing


class YpyReplica:
    """One copy of a document, in the thread that made it.

    ``client_id``: a random 32-bit number that is in nobody's state vector. ``call_soon`` runs a
    function on the event loop's next turn and may be called from any thread. ``on_local`` gets
    the bytes of each local update; what it raises goes to ``call_soon``.
    """

    def __init__(
        self, *, client_id: int, call_soon: CallSoon, on_local: Callable[[bytes], None]
    ) -> None:
        if not 0 <= client_id <= MAX_CLIENT_ID:
            raise ValueError(f"y-py holds client ids of 32 bits, and {client_id} is none")
        self._document = Document(client_id)
        self._thread = get_ident()
        self._client_id = client_id
        self.call_soon = call_soon
        self._on_local = on_local
        self._texts: dict[str, tuple[YpyText, Text]] = {}
        self._waiting: list[Callable[[], None]] = []
        self._clocks: dict[int, int] = {}  # a state vector that may lag behind
        self._txn: y_py.YTransaction | None = None
        self._closed = False
        self._broken: CollabError | None = None
        self.applying = False  # a remote update is being applied
        self.origin: object = None  # of the open (or committing) transaction
        self.changes = 0  # transactions that changed something, remote ones too
        self._document.observe_after_transaction(weak_callback(self.transaction_ended, self.report))
        # y-py's objects must go in their own thread, and the collector may run in any.
        self._engine_objects: list[object] = [self._document]
        self._finalizer = weakref.finalize(self, let_go, self._engine_objects, here())
        self._finalizer.atexit = False

    # --- what it is ------------------------------------------------------------------------------

    @property
    def document(self) -> Any:
        """The engine's ``y_py.YDoc``; raw edits of it are reported like any other."""
        self.check()
        return self._document

    @property
    def client_id(self) -> int:
        return self._client_id

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open: ours, or a raw one of y-py."""
        return not self._closed and self._document.busy

    def check_thread(self) -> None:
        check_thread(self._thread)

    def check(self) -> None:
        """Raise WrongThread, Closed, or what ended the engine."""
        check_thread(self._thread)
        if self._closed:
            raise Closed("the room of this document was closed; open it again")
        if self._broken is not None:
            raise self._broken

    # --- transactions ----------------------------------------------------------------------------

    @contextmanager
    def transaction(self, origin: object = None) -> Iterator[None]:
        """One synchronous block, one update at its end; a nested block joins the outer one.

        ``origin`` comes back in ``TextChanged.origin``; a nested one is ignored. An exception
        leaves the block, and what was edited before it stays: nothing is rolled back. Raw
        transactions of y-py cannot join: RuntimeError if one is open, or is begun inside.
        """
        self.check()
        if self._txn is not None:
            yield
            return
        document = self._document
        document.check_can_begin()
        txn = self._txn = document.begin()
        document.ours += 1
        self.origin = origin
        try:
            yield
        finally:
            self._txn = None
            try:
                txn.commit()
            except BaseException as error:
                self._failed(error)
                raise
            finally:
                self._ended()

    @contextmanager
    def editing(self) -> Iterator[y_py.YTransaction]:
        """The open transaction, or one of its own, for one edit whose arguments were checked."""
        with self.transaction():
            assert self._txn is not None
            try:
                yield self._txn
            except BaseException as error:
                self._failed(error)
                raise

    def call_when_idle(self, fn: Callable[[], None]) -> None:
        if self.in_transaction:
            self._waiting.append(fn)
        else:
            fn()

    # --- updates ---------------------------------------------------------------------------------

    def apply(self, update: bytes) -> None:
        """Apply a remote update; ``on_local`` does not see it.

        Raises BadUpdate if the guard refuses it, or something is missing that it needs;
        Unsupported if y-py cannot hold it (see ``ypy_bounds``); RuntimeError inside a
        transaction: queue it with ``call_when_idle``. The document is then as it was.
        """
        self.check()
        document = self._document
        if document.busy:
            raise RuntimeError("a remote update waits until the open transaction has ended")
        try:
            walked = walk(update)
            check_holds(walked)
            try:
                check_fits(walked, self._clocks)
            except BadUpdate:
                self._clocks = decode_state_vector(self.state_vector())
                check_fits(walked, self._clocks)
        except BadUpdate as error:
            raise BadUpdate(
                f"an update from outside could not be applied; this document keeps what it had: "
                f"{error}"
            ) from error
        if walked.has_skips:
            update = cut(update, walked, Coverage.from_update(self.snapshot()))
        document.ours += 1
        self.applying = True
        try:
            y_py.apply_update(document, update)
        except SystemError as error:  # a raw observer raised; the update is in
            self.report(error)
        except BaseException as error:
            raise self._broke(error) from error
        finally:
            self.applying = False
            self._ended()
        clocks = self._clocks
        for client, _, end in walked.ranges:
            if end > clocks.get(client, 0):
                clocks[client] = end

    def state_vector(self) -> bytes:
        """Yjs' encoding of what this replica has seen (it does not cover deletions)."""
        return self._read(y_py.encode_state_vector)

    def difference(self, state_vector: bytes) -> bytes:
        """What a replica at ``state_vector`` lacks, with every deletion. Raises BadUpdate."""
        self.check()
        clocks = decode_state_vector(state_vector)
        # Cut off to 32 bits, an id would be somebody else's. Nothing here is of such a client.
        clocks = {client: clock for client, clock in clocks.items() if client <= MAX_CLIENT_ID}
        return self._read(y_py.encode_state_as_update, encode_state_vector(clocks))

    def snapshot(self) -> bytes:
        """The whole document as one update."""
        return self._read(y_py.encode_state_as_update)

    @staticmethod
    def merge(updates: Sequence[bytes]) -> bytes:
        """One update that says what all of them say. Raises BadUpdate. y-py has no such thing."""
        return PycrdtReplica.merge(updates)

    # --- what is in it ---------------------------------------------------------------------------

    def text(self, name_or_nested: Any) -> Text:
        """The ``Text`` of a root's name. Raises Unsupported for a ``y_py.YText``: it has none."""
        self.check()
        if isinstance(name_or_nested, y_py.YText):
            raise unsupported("a text that is given as a y_py.YText, not by its name,")
        if not isinstance(name_or_nested, str):
            raise TypeError(f"a text is named by a str, not {name_or_nested!r}")
        found = self._texts.get(name_or_nested)
        if found is None:
            check_string(name_or_nested, "a text's name")
            shared = self._document.get_text(name_or_nested)
            self._engine_objects.append(shared)
            mapped = YpyText(self, shared, name_or_nested)
            found = (mapped, Text(self, mapped, self.call_soon))
            self._texts[name_or_nested] = found
        return found[1]

    def undo(
        self, scopes: Iterable[Any], capture_timeout_ms: int, clock: Callable[[], float]
    ) -> UndoStack:
        """Raises Unsupported."""
        self.check()
        raise unsupported("undo")

    def close(self) -> None:
        """Let go of the document. Texts of it raise Closed from now."""
        if self._closed:
            return
        check_thread(self._thread)
        if self._document.busy:
            raise RuntimeError("a document is closed after its open transaction, not inside it")
        self._closed = True
        for shared, _ in self._texts.values():
            shared.close()
        self._waiting.clear()
        del self._document
        self._finalizer()

    # --- inside ----------------------------------------------------------------------------------

    def _read(self, read: Callable[..., bytes], *arguments: bytes) -> bytes:
        self.check()
        try:
            return bytes(self._document.quietly(read, self._document, *arguments))
        except BaseException as error:
            self._failed(error)
            raise

    def _failed(self, error: BaseException) -> None:
        """Believe nothing after a panic, and let none through: it would end the event loop."""
        if is_panic(error):
            raise self._broke(error) from error

    def _broke(self, error: BaseException) -> CollabError:
        self._broken = Unsupported(
            f"y-py failed ({error}), so this room cannot be used any more. What was saved is on "
            "the disk: open it again, with engine='pycrdt'"
        )
        return self._broken

    def report(self, error: BaseException) -> None:
        """An error that has nobody to be raised to."""

        def fail() -> NoReturn:
            raise error

        self.call_soon(fail)

    def transaction_ended(self, event: Any) -> None:
        """y-py ended a transaction. Must not raise: y-py would break on it."""
        try:
            if self._closed or self._document.reading:
                return
            document = self._document
            if not document.ours and document.raw:
                document.raw = False
                self._schedule_waiting()
            if self.applying:
                self.changes += 1
                return
            update = bytes(event.get_update())
            if update != _EMPTY:
                self.changes += 1
                self._on_local(update)
                if not document.ours:
                    _check_raw(update)
        except Exception as error:  # noqa: BLE001 - reported to the loop, a task's root
            self.report(error)

    def _ended(self) -> None:
        """A transaction of ours is over."""
        self._document.ours -= 1
        self.origin = None
        self._schedule_waiting()

    def _schedule_waiting(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for fn in waiting:
                self.call_soon(lambda fn=fn: self.call_when_idle(fn))  # type: ignore[misc]


def _check_raw(update: bytes) -> None:
    """Tell a program that its own raw edit made what y-py does not merge rightly."""
    try:
        check_holds(walk(update))
    except CollabError as error:
        raise Unsupported(
            "a raw edit made what y-py cannot hold (shared types inside others, ids above 32 "
            "bits). It was saved and is sent, but y-py will not open this room again; "
            "engine='pycrdt' does"
        ) from error
