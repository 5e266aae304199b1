"""Shared text, edited and observed by Python indices.

An index is a place in a Python string, whatever the script: ``text[i]`` is the character that
``insert(i, ...)`` goes in front of. An embed (an image, a mention, a nested shared type) counts
as one and reads as U+FFFC.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any

from collab.crdt.replica import (
    Anchor,
    Assoc,
    Attributes,
    CallSoon,
    Delete,
    Delta,
    Insert,
    OpenAnchor,
    Retain,
)
from collab.crdt.values import check_attributes, check_string
from collab.limits import MAX_CLIENT_ID, MAX_CLOCK

if TYPE_CHECKING:
    from collab.crdt.replica import Replica, SharedText

__all__ = [
    "Delete",
    "Insert",
    "RelativePosition",
    "Retain",
    "Subscription",
    "Text",
    "TextChanged",
]


@dataclass(frozen=True, slots=True)
class TextChanged:
    """What one transaction did to a text.

    ``delta`` leads from the text before it to the text after it; ``local`` is whether it was
    made on this device (an undo is); ``origin`` is what the transaction was given.
    """

    delta: Delta
    local: bool
    origin: object = None

    def apply_to(self, before: str) -> str:
        """The string after the change, given the string before it."""
        parts: list[str] = []
        at = 0
        for op in self.delta:
            match op:
                case Retain(length):
                    parts.append(before[at : at + length])
                    at += length
                case Delete(length):
                    at += length
                case Insert():
                    parts.append(op.text)
        parts.append(before[at:])
        return "".join(parts)


class Subscription:
    """An observer's registration. ``close()`` ends it, for events on their way as well."""

    __slots__ = ("_callback", "_text")

    def __init__(self, text: Text, callback: Callable[[TextChanged], object]) -> None:
        self._text: Text | None = text
        self._callback: Callable[[TextChanged], object] | None = callback

    def close(self) -> None:
        if self._text is not None:
            self._text._forget(self)
            self._text = self._callback = None

    def deliver(self, event: TextChanged) -> None:
        if self._callback is not None:
            self._callback(event)


class Text:
    """One shared text of a room; ``room.text(name)`` gives the same object every time.

    Indices and lengths are in characters of Python strings. Methods that edit raise IndexError
    for a place that does not exist, ValueError for a negative length or a string that is not
    valid Unicode, TypeError for what is no JSON value, and WrongThread outside the event loop's
    thread, always before anything is changed. Each edit is one update, unless
    ``room.transaction()`` gathers several.
    """

    def __init__(self, replica: Replica, shared: SharedText, call_soon: CallSoon) -> None:
        self._replica = replica
        self._shared = shared
        self._call_soon = call_soon
        self._thread = get_ident()
        self._subscriptions: tuple[Subscription, ...] = ()

    @property
    def identity(self) -> tuple[str] | tuple[int, int]:
        """The root's name, or the (client, clock) of the item that holds the nested text."""
        return self._shared.identity

    # --- reading ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        self._check_thread()
        return self._shared.length()

    def __str__(self) -> str:
        self._check_thread()
        return self._shared.read()

    def __getitem__(self, key: int | slice) -> str:
        return str(self)[key]

    def __contains__(self, part: str) -> bool:
        return part in str(self)

    def __repr__(self) -> str:
        return f"<Text {'/'.join(map(str, self.identity))}>"

    # --- editing ---------------------------------------------------------------------------------

    def insert(self, index: int, text: str, attributes: Attributes | None = None) -> None:
        """Insert ``text`` in front of the character at ``index``; ``len(self)`` appends.

        ``attributes`` (JSON values) format it; without them it takes those around it.
        """
        index = self._check_place(index)
        if type(text) is not str or not text.isascii():
            check_string(text, "text")
        if attributes is not None:
            check_attributes(attributes)
        if text:
            self._shared.insert(index, text, attributes)

    def append(self, text: str) -> None:
        """Insert ``text`` at the end."""
        self.insert(len(self), text)

    def insert_embed(self, index: int, value: Any, attributes: Attributes | None = None) -> None:
        """Insert one embed: a JSON value that is not a string, or a new shared type."""
        index = self._check_place(index)
        if value is None or isinstance(value, str):
            raise TypeError(
                "an embed is a JSON object or a new shared type; a string is inserted with "
                "insert(). Nothing was changed"
            )
        if attributes is not None:
            check_attributes(attributes)
        self._shared.embed(index, value, attributes)

    def delete(self, index: int, length: int) -> None:
        """Delete ``length`` characters from ``index``. All of them must exist."""
        index, length = self._check_range(index, length)
        if length:
            self._shared.delete(index, length)

    def replace(self, index: int, length: int, text: str) -> None:
        """Delete ``length`` characters from ``index`` and insert ``text`` there, in one update."""
        index, length = self._check_range(index, length)
        check_string(text, "text")
        if not length:
            self.insert(index, text)
        elif not text:
            self._shared.delete(index, length)
        else:
            self._shared.replace(index, length, text)

    def format(self, index: int, length: int, attributes: Attributes) -> None:
        """Set attributes of ``length`` characters from ``index``; None removes one."""
        index, length = self._check_range(index, length)
        check_attributes(attributes)
        if length and attributes:
            self._shared.format(index, length, attributes)

    def clear(self) -> None:
        """Delete everything."""
        self.delete(0, len(self))

    # --- observing -------------------------------------------------------------------------------

    def observe(self, callback: Callable[[TextChanged], object]) -> Subscription:
        """Call ``callback`` on the event loop after each transaction that changed this text.

        Inside a transaction it begins with what that transaction has done already. Callbacks
        may edit. What one raises goes to the loop's exception handler, and does not
        keep the others from being called.
        """
        self._check_thread()
        if not self._subscriptions:
            self._shared.watch()
            self._shared.on_delta = self._changed
        subscription = Subscription(self, callback)
        self._subscriptions += (subscription,)
        return subscription

    def _forget(self, subscription: Subscription) -> None:
        self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)
        if not self._subscriptions:
            self._shared.on_delta = None

    def _changed(self, delta: Delta, local: bool, origin: object) -> None:
        event = TextChanged(delta, local, origin)
        for subscription in self._subscriptions:
            self._call_soon(lambda deliver=subscription.deliver: deliver(event))  # type: ignore[misc]

    # --- places that stay ------------------------------------------------------------------------

    def relative_position(self, index: int, assoc: Assoc = "after") -> RelativePosition:
        """A place that moves with the text around it: a caret, a comment's end.

        "after" stays with the character at ``index``, "before" with the one in front of it.
        """
        index = self._check_place(index)
        if assoc not in ("after", "before"):
            raise ValueError(f'assoc is "after" or "before", not {assoc!r}')
        return RelativePosition(self, self._shared.anchor(index, assoc))

    def relative_position_from_json(self, data: Mapping[str, Any]) -> RelativePosition:
        """A place in this text from Yjs' JSON. Raises ValueError if it is no such place."""
        return RelativePosition.from_json(self, data)

    # --- checks, before the engine is touched ----------------------------------------------------

    def _check_thread(self) -> None:
        if get_ident() != self._thread:
            self._replica.check_thread()

    def _check_place(self, index: int) -> int:
        if get_ident() != self._thread:
            self._replica.check_thread()
        if type(index) is not int:
            index = operator.index(index)
        length = self._shared.length()
        if not 0 <= index <= length:
            raise IndexError(f"index {index} is not in a text of {length} characters")
        return index

    def _check_range(self, index: int, length: int) -> tuple[int, int]:
        index = self._check_place(index)
        if type(length) is not int:
            length = operator.index(length)
        if length < 0:
            raise ValueError(f"a length cannot be negative: {length}")
        if index + length > self._shared.length():
            raise IndexError(
                f"characters {index} to {index + length} are not all in a text of "
                f"{self._shared.length()}"
            )
        return index, length


class RelativePosition:
    """A place in a text that stays beside its character while the text changes."""

    __slots__ = ("_anchor", "_text")

    def __init__(self, text: Text, anchor: Anchor | OpenAnchor) -> None:
        self._text = text
        self._anchor = anchor

    @property
    def index(self) -> int | None:
        """Where it is now. None when this replica does not have its character (yet, or no more:
        a deleted character leaves its place, unless the text that held it was deleted)."""
        self._text._check_thread()
        return self._text._shared.resolve(self._anchor)

    def to_json(self) -> dict[str, Any]:
        """Yjs' JSON form (``relativePositionToJSON``), for carets shared with other editors."""
        identity = self._text.identity
        data: dict[str, Any] = {}
        if len(identity) == 1:
            data["tname"] = identity[0]
        else:
            data["type"] = {"client": identity[0], "clock": identity[1]}
        if isinstance(self._anchor, Anchor):
            data["item"] = {"client": self._anchor.client, "clock": self._anchor.clock}
        data["assoc"] = 0 if self._anchor.assoc == "after" else -1
        return data

    @classmethod
    def from_json(cls, text: Text, data: Mapping[str, Any]) -> RelativePosition:
        """A place in ``text`` from Yjs' JSON. Raises ValueError if it is no such place."""
        number = data.get("assoc", 0)
        if type(number) is not int:
            raise ValueError(f"assoc of a relative position is a number, not {number!r}")
        assoc: Assoc = "after" if number >= 0 else "before"
        identity = text.identity
        name, nested, item = data.get("tname"), data.get("type"), data.get("item")
        if (name is not None and identity != (name,)) or (
            nested is not None and identity != _read_id(nested)
        ):
            raise ValueError("this relative position belongs to another text")
        if item is not None:
            return cls(text, Anchor(*_read_id(item), assoc))
        if name is None and nested is None:
            raise ValueError("a relative position names a text or a character")
        return cls(text, OpenAnchor(assoc))

    def __repr__(self) -> str:
        return f"<RelativePosition {self._anchor} in {self._text!r}>"


def _read_id(data: Any) -> tuple[int, int]:
    if isinstance(data, Mapping):
        client, clock = data.get("client"), data.get("clock")
        if (
            type(client) is int
            and type(clock) is int
            and 0 <= client <= MAX_CLIENT_ID
            and 0 <= clock <= MAX_CLOCK
        ):
            return client, clock
    raise ValueError(f"not an ID of Yjs: {data!r}")
