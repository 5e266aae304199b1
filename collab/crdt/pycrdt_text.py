"""One pycrdt text in Python indices.

pycrdt counts UTF-8 bytes, in arguments and in events, and one for an embed. Rules:

1. While every character is one byte (ASCII and embeds), index and offset are equal and nothing
   is kept but the length. The first wider character makes a ``TextIndex``.
2. Between transactions the length and the index describe the engine's text, or ``_stale`` is
   set and the next use reads the text anew.
3. Edits made here change the index as they are made. Other changes of the text (remote, undo,
   raw pycrdt) change it when the engine's event comes, at the end of their transaction.
4. In a transaction that others can edit too, each use here first looks whether pycrdt was used
   since the last one, and then reads the text anew.
5. An event's delta speaks of the text before the transaction. It is read only for observers or
   for a change that was not made here.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import pycrdt
from pycrdt import _pycrdt as engine
from pycrdt._base import BaseType

from collab.crdt.pycrdt_anchor import anchor_at, index_of, knows
from collab.crdt.pycrdt_content import inserts, read_content
from collab.crdt.pycrdt_document import is_panic
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
from collab.crdt.text_index import EMBED_MARK, TextIndex, utf8_length
from collab.crdt.values import check_value
from collab.errors import Closed, Unsupported

if TYPE_CHECKING:
    from collab.crdt.pycrdt_document import Document
    from collab.crdt.replica import Assoc

__all__ = ["PycrdtText"]

_MAX_UNREAD: Final = 64  # deltas read for nobody; then it is cheaper to read the text once


class PycrdtText:
    """A ``SharedText`` over one integrated text of a ``Document``."""

    def __init__(self, document: Document, shared: engine.Text, identity: tuple[Any, ...]) -> None:
        self._document = document
        self._engine = document._doc
        self._shared = self.shared = shared
        self.identity = identity
        self.on_delta: Callable[[Delta, bool, object], None] | None = None
        self._length = 0  # in characters
        self._index: TextIndex | None = None
        self._stale = True
        self._opaque = False  # holds content that no text type shows: offsets cannot be known
        self._unread = 0  # foreign deltas since the last use
        self._dead = False
        # The open transaction, as far as this text is concerned.
        self._own = False  # edited here
        self._joined: pycrdt.Transaction | None = None
        self._seen_uses: int | None = 0
        self._before: TextIndex | None = None  # with _own: the text at its start
        self._before_length = 0
        self._subscription = shared.observe(_weak_callback(self))

    # --- what the port asks ----------------------------------------------------------------------

    def length(self) -> int:
        if self._document._txn is not None or self._stale or self._dead:
            if isinstance(self._document._txn, pycrdt.ReadTransaction):
                return len(self._peek())
            self._refresh()
        self._unread = 0
        return self._length

    def read(self) -> str:
        if isinstance(self._document._txn, pycrdt.ReadTransaction):
            return self._peek()
        self._refresh()
        if self._index is not None:
            return str(self._index)
        return self._peek()

    def _peek(self) -> str:
        """The engine's text, without touching what we know: it may be in the middle of a commit."""
        if self._dead:
            self._refresh()
        with self._document.reading() as txn:
            return read_content(self._shared, txn)[0].replace(EMBED_MARK, EMBED)

    def insert(self, index: int, text: str, attributes: Attributes | None) -> None:
        txn = self._begin()
        try:
            offset = self._index_insert(txn, index, text)
            if attributes is None:
                self._shared.insert(txn, offset, text)
            else:
                self._shared.insert(txn, offset, text, iter(attributes.items()))
        except BaseException as error:
            self._failed(error)
            raise
        finally:
            self._end(txn)

    def delete(self, index: int, length: int) -> None:
        txn = self._begin()
        try:
            offset, size = self._index_delete(index, length)
            self._shared.remove_range(txn, offset, size)
        except BaseException as error:
            self._failed(error)
            raise
        finally:
            self._end(txn)

    def replace(self, index: int, length: int, text: str) -> None:
        txn = self._begin()
        try:
            offset, size = self._index_delete(index, length)
            self._shared.remove_range(txn, offset, size)
            offset = self._index_insert(txn, index, text)
            self._shared.insert(txn, offset, text)
        except BaseException as error:
            self._failed(error)
            raise
        finally:
            self._end(txn)

    def embed(self, index: int, value: Any, attributes: Attributes | None) -> None:
        nested = isinstance(value, BaseType)
        if nested:
            self._document.check_embeddable(self._shared, value)
        else:
            check_value(value)
        if nested and self._document._txn is None:  # pycrdt fills it in a transaction it can join
            with self._document.transaction():
                self.embed(index, value, attributes)
            return
        txn = self._begin()
        items = None if attributes is None else iter(attributes.items())
        try:
            offset = self._index_insert(txn, index, EMBED_MARK)
            if nested:
                self._document.embed_type(self._shared, txn, offset, value, items)
                self._seen_uses = getattr(self._joined, "uses", None)
            else:
                self._shared.insert_embed(txn, offset, value, items)
        except BaseException as error:
            self._failed(error)
            raise
        finally:
            self._end(txn)

    def format(self, index: int, length: int, attributes: Attributes) -> None:
        txn = self._begin()
        try:
            if self._index is None:
                offset, size = index, length
            else:
                offset = self._index.offset(index)
                size = self._index.offset(index + length) - offset
            self._shared.format(txn, offset, size, iter(attributes.items()))
        except BaseException as error:
            self._failed(error)
            raise
        finally:
            self._end(txn)

    def watch(self) -> None:
        """Deltas need the text as it was before a change, so it must be known now."""
        self._refresh()

    def anchor(self, index: int, assoc: Assoc) -> Anchor | OpenAnchor:
        self._refresh(write=True)
        with self._document.reading(write=True) as txn:
            return anchor_at(self._shared, txn, self._index, self._length, index, assoc=assoc)

    def resolve(self, anchor: Anchor | OpenAnchor) -> int | None:
        if self._dead:
            return None
        self._refresh(write=True)
        if isinstance(anchor, OpenAnchor):
            return self._length if anchor.assoc == "after" else 0
        with self._document.reading(write=True) as txn:
            if not knows(self._engine.get_state(txn), anchor):
                return None
            try:
                index = index_of(self._shared, txn, self._index, anchor)
            except BaseException as error:
                if is_panic(error):  # the engine forgot the character: its type was deleted
                    return None
                raise
            return index if index <= self._length else None

    # --- for the replica -------------------------------------------------------------------------

    def die(self) -> None:
        """The nested type was deleted: the engine may free it, so it is never used again."""
        self._dead = True

    def invalidate(self) -> None:
        """The engine failed in the middle of something; believe nothing."""
        self._stale = True

    def close(self) -> None:
        self.on_delta = None
        self._dead = True
        self._subscription.drop()

    # --- one edit --------------------------------------------------------------------------------

    def _begin(self) -> engine.Transaction:
        """The transaction to edit in: the open one, or a new one that _end commits."""
        document = self._document
        if document._txn is not None or self._stale or self._dead:
            self._refresh(write=True)
        if self._opaque:
            raise Unsupported(
                "this text holds content of another kind of shared type, so places in it "
                "cannot be known; nothing was changed"
            )
        joined = document._txn
        if joined is None:
            txn = document.create()
            self._joined = None
            self._note_own()
        else:
            assert joined._txn is not None
            txn = joined._txn
            self._note_own()
        self._unread = 0
        return txn

    def _end(self, txn: engine.Transaction) -> None:
        if self._document._txn is None:
            try:
                self._document.commit(txn)
            finally:
                self._own = False
                self._before = None

    def _failed(self, error: BaseException) -> None:
        """Believe nothing, and let no panic through: it is no Exception and would end the loop."""
        self._stale = True
        if is_panic(error):
            raise RuntimeError(f"the engine failed at an edit: {error}") from error

    def _note_own(self) -> None:
        """From here to the end of the transaction the index runs ahead of the engine's event."""
        if not self._own:
            self._own = True
            if self.on_delta is not None or self._joined is not None:
                self._before = None if self._index is None else self._index.copy()
                self._before_length = self._length

    def _index_insert(self, txn: engine.Transaction, index: int, text: str) -> int:
        size = utf8_length(text)
        known = self._index
        if known is None:
            if size == len(text):
                self._length += size
                return index
            known = self._index = TextIndex(read_content(self._shared, txn)[0])
        offset = known.insert(index, text, size)
        self._length = known.length
        return offset

    def _index_delete(self, index: int, length: int) -> tuple[int, int]:
        self._length -= length
        if self._index is None:
            return index, length
        return self._index.delete(index, length)

    # --- knowing the engine's text ---------------------------------------------------------------

    def _refresh(self, *, write: bool = False) -> None:
        """Make length and index describe the engine's text now."""
        if self._dead:
            raise Closed(
                "This text was deleted from the document, or its room was closed; nothing was "
                "changed. Open the room again with client.room(name), or take another text of it."
            )
        document = self._document
        self._unread = 0
        joined = document._txn
        if joined is None:
            if self._stale:
                with document.reading() as txn:
                    self._rebuild(txn)
            return
        document.check_joinable(joined, write=write)
        if joined is not self._joined:
            self._own = False
            self._joined = joined
            self._seen_uses = 0
        uses = getattr(joined, "uses", None)
        if self._stale or uses is None or uses != self._seen_uses:
            self._note_own()
            self._seen_uses = uses
            assert joined._txn is not None
            self._rebuild(joined._txn)

    def _rebuild(self, txn: engine.Transaction) -> None:
        text, self._opaque = read_content(self._shared, txn)
        self._length = len(text)
        self._index = None if utf8_length(text) == len(text) else TextIndex(text)
        self._stale = False

    # --- the engine's events ---------------------------------------------------------------------

    def changed(self, event: Any) -> None:
        """The engine's event, inside its commit. Must not raise, or the engine loses the rest."""
        try:
            if self._own and self._joined is self._document.current:
                self._own_change(event)
            else:
                self._foreign_change(event)
        except Exception as error:  # noqa: BLE001 - reported to the loop, a task's root
            self._stale = True
            self._document.report(error)

    def _own_change(self, event: Any) -> None:
        before, self._before = self._before, None
        self._own = False
        joined, self._joined = self._joined, None
        if joined is not None and getattr(joined, "uses", None) != self._seen_uses:
            self._stale = True  # pycrdt was used after our last look
        if self.on_delta is not None:
            delta = self._delta(event, before, self._before_length)
            self._emit(self._coarse(event, self._before_length) if delta is None else delta)
            if self._stale:
                self._rebuild(event.transaction)

    def _foreign_change(self, event: Any) -> None:
        self._own = False
        if self.on_delta is None:
            self._unread += 1
            if self._stale or self._unread > _MAX_UNREAD:
                self._stale = True
                return
        before = self._length
        delta = None if self._stale else self._delta(event, self._index, before)
        if delta is None:
            self._rebuild(event.transaction)
            delta = self._coarse(event, before)
        else:
            self._replay(delta, event)
        if self.on_delta is not None:
            self._emit(delta)

    def _emit(self, delta: Delta) -> None:
        if delta and self.on_delta is not None:
            self.on_delta(delta, not self._document.applying, self._document.user_origin)

    def _delta(self, event: Any, before: TextIndex | None, length: int) -> Delta | None:
        """The event's delta in indices of the text before it: ``before``, or ``length`` bytes.

        None if its bytes do not add up: an embed of a foreign document that is a string looks
        like text in a delta, and other kinds of content are not in it at all.
        """
        ops: list[Op] = []
        offset = index = 0
        size = length if before is None else before.size
        for op in event.delta:
            attributes = op.get("attributes")
            if "insert" in op:
                content = op["insert"]
                if isinstance(content, str):
                    ops.append(Insert(content, attributes))
                    size += utf8_length(content)
                else:
                    ops.append(Insert(self._document.wrap(content), attributes, embed=True))
                    size += 1
                continue
            deleting = "delete" in op
            count = op["delete"] if deleting else op["retain"]
            if deleting:
                size -= count
            if before is not None:
                offset += count
                stop = before.index(offset)
                count, index = stop - index, stop
            ops.append(Delete(count) if deleting else Retain(count, attributes))
        return tuple(ops) if size == self._shared.len(event.transaction) else None

    def _coarse(self, event: Any, before: int) -> Delta:
        """A delta that is right when the event's is not: everything goes, and comes anew."""
        content = read_content(self._shared, event.transaction)[0]
        return (*([Delete(before)] if before else []), *inserts(content))

    def _replay(self, delta: Delta, event: Any) -> None:
        """Do to the index what the engine did to the text."""
        index = 0
        for op in delta:
            match op:
                case Retain(length):
                    index += length
                case Delete(length):
                    self._index_delete(index, length)
                case Insert(content, _, embed):
                    text = EMBED_MARK if embed else content
                    if self._index is None and utf8_length(text) != len(text):
                        self._rebuild(event.transaction)
                        return
                    self._index_insert(event.transaction, index, text)
                    index += len(text)


def _weak_callback(text: PycrdtText) -> Callable[[Any], None]:
    """pycrdt may keep a callback for ever (pycrdt#421); this one keeps nothing alive."""
    reference = weakref.ref(text)

    def changed(event: Any) -> None:
        target = reference()
        if target is not None:
            target.changed(event)

    return changed
