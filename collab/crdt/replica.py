"""The port between collab and a CRDT engine: what a room needs of its copy of the document.

Engines are imported in ``collab.crdt`` alone. Everything here speaks in *indices*: places in
Python strings, where an embed counts as one. How an engine counts (bytes, UTF-16 units) stays
inside its adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import pycrdt

    from collab.text import Text

__all__ = [
    "EMBED",
    "Anchor",
    "Assoc",
    "Attributes",
    "CallSoon",
    "Delete",
    "Delta",
    "Insert",
    "Op",
    "OpenAnchor",
    "Replica",
    "Retain",
    "SharedText",
    "UndoStack",
]

EMBED: Final = "\ufffc"  # how an embed reads in a string: Unicode's object replacement character

Attributes: TypeAlias = Mapping[str, Any]
CallSoon: TypeAlias = Callable[[Callable[[], None]], object]
Assoc: TypeAlias = Literal["after", "before"]


@dataclass(frozen=True, slots=True)
class Retain:
    """Keep ``length`` characters; with ``attributes``, format them (None removes one)."""

    length: int
    attributes: Attributes | None = None


@dataclass(frozen=True, slots=True)
class Insert:
    """Insert a string, or one embed: any JSON value, or a nested shared type.

    ``embed`` tells them apart; a string that is an embed is possible in foreign documents.
    """

    content: Any
    attributes: Attributes | None = None
    embed: bool = False

    @property
    def text(self) -> str:
        """What a string of the document shows for it: an embed reads as U+FFFC."""
        return EMBED if self.embed else str(self.content)


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete ``length`` characters."""

    length: int


Op: TypeAlias = Retain | Insert | Delete
Delta: TypeAlias = tuple[Op, ...]


@dataclass(frozen=True, slots=True)
class OpenAnchor:
    """An end of a text: its start (``before``) or its end (``after``), whatever comes."""

    assoc: Assoc


@dataclass(frozen=True, slots=True)
class Anchor:
    """A place beside one character, named by Yjs' ID of it (clocks count UTF-16 units)."""

    client: int
    clock: int
    assoc: Assoc


class SharedText(Protocol):
    """One text of an engine, in indices. The caller has checked arguments and thread."""

    on_delta: Callable[[Delta, bool, object], None] | None
    """Called in the engine's commit with (delta, local, origin); None costs nothing."""

    @property
    def identity(self) -> tuple[str] | tuple[int, int]:
        """The root's name, or the (client, clock) that made the nested type."""

    def length(self) -> int: ...
    def read(self) -> str: ...
    def insert(self, index: int, text: str, attributes: Attributes | None) -> None: ...
    def embed(self, index: int, value: Any, attributes: Attributes | None) -> None: ...
    def delete(self, index: int, length: int) -> None: ...
    def replace(self, index: int, length: int, text: str) -> None: ...
    def format(self, index: int, length: int, attributes: Attributes) -> None: ...
    def watch(self) -> None:
        """Make deltas exact from now on: called when ``on_delta`` is set."""

    def anchor(self, index: int, assoc: Assoc) -> Anchor | OpenAnchor: ...
    def resolve(self, anchor: Anchor | OpenAnchor) -> int | None:
        """The index of an anchor now, or None when this replica does not have its character."""


class UndoStack(Protocol):
    """What one user can take back."""

    def undo(self) -> bool: ...
    def redo(self) -> bool: ...
    def can_undo(self) -> bool: ...
    def can_redo(self) -> bool: ...
    def clear(self) -> None: ...
    def stop_capturing(self) -> None: ...
    def close(self) -> None: ...


class Replica(Protocol):
    """One copy of a room's document.

    ``on_local`` (an argument of the constructors) gets the update of every local transaction
    that changed something, synchronously at its end, and never those of ``apply``.
    ``call_soon`` (another) runs a function on the event loop's next turn, from any thread, and
    reports what the function raises to the loop's exception handler.
    """

    @property
    def client_id(self) -> int: ...

    @property
    def document(self) -> pycrdt.Doc[Any]:
        """The engine's own document (pycrdt's, or ``y_py.YDoc`` with that engine).

        Raw edits of it are reported like any other.
        """

    @property
    def in_transaction(self) -> bool: ...

    @property
    def closed(self) -> bool: ...

    def call_when_idle(self, fn: Callable[[], None]) -> None:
        """Call ``fn`` now if no transaction is open, else on the loop after it ended."""

    def transaction(self, origin: object = None) -> AbstractContextManager[None]:
        """One synchronous block, one update at its end; nested blocks join the outer one."""

    def apply(self, update: bytes) -> None:
        """Apply a remote update.

        Raises BadUpdate; Unsupported if this engine cannot hold it; RuntimeError inside a
        transaction.
        """

    def state_vector(self) -> bytes: ...
    def difference(self, state_vector: bytes) -> bytes: ...
    def snapshot(self) -> bytes: ...
    @staticmethod
    def merge(updates: Sequence[bytes]) -> bytes: ...
    def text(self, name_or_nested: Any) -> Text: ...
    def undo(
        self, scopes: Iterable[Any], capture_timeout_ms: int, clock: Callable[[], float]
    ) -> UndoStack: ...
    def check_thread(self) -> None:
        """Raise WrongThread outside the thread in which this replica was made."""

    def close(self) -> None: ...
