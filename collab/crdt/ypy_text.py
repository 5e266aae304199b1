"""One y-py text in Python indices.

y-py counts characters, in arguments and in events, and one for an embed; but its string leaves
embeds out, so a text that has some is read through pycrdt. Deltas are checked by their lengths:
foreign embeds that are strings look like text in them, and what is no text is not in them at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pycrdt
import y_py

from collab.crdt.pycrdt_content import inserts, read_content
from collab.crdt.replica import (
    EMBED,
    Anchor,
    Attributes,
    Delete,
    Delta,
    Insert,
    Op,
    OpenAnchor,
    Retain,
)
from collab.crdt.text_index import EMBED_MARK
from collab.crdt.values import check_value
from collab.crdt.ypy_bounds import plain
from collab.crdt.ypy_document import weak_callback
from collab.errors import Closed, Unsupported

if TYPE_CHECKING:
    from collab.crdt.replica import Assoc
    from collab.crdt.ypy_engine import YpyReplica

__all__ = ["YpyText", "unsupported"]

_SHARED_TYPES = (
    y_py.YText,
    y_py.YArray,
    y_py.YMap,
    y_py.YXmlElement,
    y_py.YXmlText,
    pycrdt.Text,
    pycrdt.Array,
    pycrdt.Map,
    pycrdt.XmlFragment,
    pycrdt.XmlElement,
    pycrdt.XmlText,
    pycrdt.Doc,
)


class YpyText:
    """A ``SharedText`` over a root text of a ``Document``."""

    def __init__(self, replica: YpyReplica, shared: y_py.YText, name: str) -> None:
        self._replica = replica
        self._shared: y_py.YText | None = shared
        self._name = name
        self.identity: tuple[str] = (name,)
        self.on_delta: Callable[[Delta, bool, object], None] | None = None
        self._length: int | None = None  # before the open transaction; None: not known
        self._owed: tuple[int, bool] | None = None  # length before, local: a delta to be found
        self._content: tuple[int, str, bool] | None = None  # at which change; text; opaque
        self._looked = len(str(shared)) == len(shared)  # else: look what is in it before editing
        self._subscription = shared.observe(weak_callback(self.changed, replica.report))
        self.watch()

    # --- what the port asks ----------------------------------------------------------------------

    def length(self) -> int:
        return len(self._open())

    def read(self) -> str:
        shared = self._open()
        text = str(shared)
        if len(text) == len(shared):
            return text
        return self._read_through()[0].replace(EMBED_MARK, EMBED)

    def insert(self, index: int, text: str, attributes: Attributes | None) -> None:
        with self._editing() as txn:
            if attributes is None:
                self._open().insert(txn, index, text)
            else:
                self._open().insert(txn, index, text, plain(attributes))

    def embed(self, index: int, value: Any, attributes: Attributes | None) -> None:
        if isinstance(value, _SHARED_TYPES):
            raise unsupported("a shared type inside a text")
        check_value(value)
        with self._editing() as txn:
            if attributes is None:
                self._open().insert_embed(txn, index, plain(value))
            else:
                self._open().insert_embed(txn, index, plain(value), plain(attributes))

    def delete(self, index: int, length: int) -> None:
        with self._editing() as txn:
            self._open().delete_range(txn, index, length)

    def replace(self, index: int, length: int, text: str) -> None:
        with self._editing() as txn:
            self._open().delete_range(txn, index, length)
            self._open().insert(txn, index, text)

    def format(self, index: int, length: int, attributes: Attributes) -> None:
        with self._editing() as txn:
            self._open().format(txn, index, length, plain(attributes))

    def watch(self) -> None:
        self._length = None if self._replica.in_transaction else len(self._open())

    def anchor(self, index: int, assoc: Assoc) -> Anchor | OpenAnchor:
        raise unsupported("a relative position")

    def resolve(self, anchor: Anchor | OpenAnchor) -> int | None:
        raise unsupported("a relative position")

    # --- for the replica -------------------------------------------------------------------------

    def close(self) -> None:
        self.on_delta = None
        if self._shared is not None:
            self._shared.unobserve(self._subscription)
            self._shared = None

    # --- inside ----------------------------------------------------------------------------------

    def _open(self) -> y_py.YText:
        self._replica.check()
        if self._shared is None:
            raise Closed("the room of this text was closed; open it again")
        return self._shared

    def _editing(self) -> Any:
        if not self._looked:
            if self._read_through()[1]:
                raise Unsupported(
                    "this text holds content of another kind of shared type, so places in it "
                    "cannot be known; nothing was changed"
                )
            self._looked = True
        return self._replica.editing()

    def _read_through(self) -> tuple[str, bool]:
        """The text with EMBED_MARK for embeds, and whether it holds what cannot be placed."""
        changes = self._replica.changes
        counted = not self._replica.in_transaction  # edits of an open one are counted at its end
        if counted and self._content is not None and self._content[0] == changes:
            return self._content[1:]
        document: pycrdt.Doc[Any] = pycrdt.Doc()
        document.apply_update(self._replica.snapshot())
        shared = document.get(self._name, type=pycrdt.Text)
        with document.transaction() as transaction:
            text, opaque = read_content(shared.integrated, transaction._txn)  # type: ignore[arg-type]
        self._content = (changes, text, opaque) if counted else None
        return text, opaque

    # --- the engine's events ---------------------------------------------------------------------

    def changed(self, event: Any) -> None:
        """The engine's event, inside its commit. Must not raise: y-py would break on it."""
        try:
            before, self._length = self._length, len(self._open())
            local = not self._replica.applying
            if self._owed is not None:
                self._owed = self._owed[0], self._owed[1] and local
                return
            delta = _delta(event)
            if before is not None and before + sum(map(_growth, delta)) != self._length:
                self._looked = False
                self._owed = before, local
                self._replica.call_soon(self._find_delta)  # y-py cannot be read in its commit
            elif delta and self.on_delta is not None:
                self.on_delta(delta, local, self._replica.origin)
        except Exception as error:  # noqa: BLE001 - reported to the loop, a task's root
            self._length = None
            self._replica.report(error)

    def _find_delta(self) -> None:
        """Tell observers what the engine's deltas do not: everything goes, and comes anew."""
        if self._replica.in_transaction:
            self._replica.call_when_idle(self._find_delta)
        elif self._owed is not None and self._shared is not None:
            (before, local), self._owed = self._owed, None
            if self.on_delta is not None:
                text = self._read_through()[0]
                self.on_delta((*([Delete(before)] if before else []), *inserts(text)), local, None)


def unsupported(what: str) -> Unsupported:
    """What to raise for what y-py cannot do."""
    return Unsupported(
        f"{what} is more than the engine 'y-py' can do; nothing was changed. Open this file with "
        f"engine='pycrdt', the default"
    )


def _delta(event: Any) -> Delta:
    ops: list[Op] = []
    for op in event.delta:
        attributes = op.get("attributes")
        if "insert" in op:
            content = op["insert"]
            ops.append(Insert(content, attributes, embed=not isinstance(content, str)))
        elif "delete" in op:
            ops.append(Delete(op["delete"]))
        else:
            ops.append(Retain(op["retain"], attributes))
    return tuple(ops)


def _growth(op: Op) -> int:
    match op:
        case Insert():
            return len(op.text)
        case Delete(length):
            return -length
        case Retain():
            return 0
