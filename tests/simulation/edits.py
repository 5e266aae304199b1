"""The traffic of documents: what programs do to theirs. Another kind of traffic sits beside it."""

from __future__ import annotations

import random
from typing import Any

import pycrdt

from collab.crdt.replica import Replica, UndoStack

WORDS = ["a", "b", "hello ", "你好", "📊", "é\n"]
KEYS = ["x", "y", "z"]


def content(document: pycrdt.Doc[Any]) -> tuple[object, ...]:
    """All that a program can read of what ``Editor`` writes."""
    return (
        str(document.get("body", type=pycrdt.Text)),
        document.get("map", type=pycrdt.Map).to_py(),
        document.get("list", type=pycrdt.Array).to_py(),
    )


class Editor:
    """One program's hands on one replica."""

    def __init__(self, replica: Replica, rng: random.Random, clock: Any) -> None:
        self._replica = replica
        self._rng = rng
        self._clock = clock
        self._undo: UndoStack | None = None

    def edit(self, kind: str) -> None:
        """One edit: one update, or none if there was nothing to do."""
        match kind:
            case "type":
                self._type()
            case "delete":
                self._delete()
            case "map":
                self._map()
            case "array":
                self._array()
            case "together":
                with self._replica.transaction():
                    for act in self._rng.choices([self._type, self._map, self._delete], k=3):
                        act()
            case "undo":
                self._undo_something()

    def _type(self) -> None:
        text = self._replica.text("body")
        size = len(text)
        at = size if self._rng.random() < 0.5 else self._rng.randrange(size + 1)
        text.insert(at, self._rng.choice(WORDS))

    def _delete(self) -> None:
        text = self._replica.text("body")
        size = len(text)
        if size:
            at = self._rng.randrange(size)
            text.delete(at, min(self._rng.choice((1, 1, 3)), size - at))

    def _map(self) -> None:
        shared = self._replica.document.get("map", type=pycrdt.Map)
        key = self._rng.choice(KEYS)
        if key in shared and self._rng.random() < 0.4:
            del shared[key]
        elif self._rng.random() < 0.2:
            shared[key] = pycrdt.Array([1, 2])
        else:
            shared[key] = self._rng.randrange(100)

    def _array(self) -> None:
        shared = self._replica.document.get("list", type=pycrdt.Array)
        size = len(shared)
        if size and self._rng.random() < 0.4:
            del shared[self._rng.randrange(size)]
        else:
            shared.insert(self._rng.randrange(size + 1), self._rng.randrange(100))

    def _undo_something(self) -> None:
        if self._undo is None:
            self._undo = self._replica.undo(
                [self._replica.text("body")], capture_timeout_ms=0, clock=self._clock
            )
        elif self._undo.can_redo() and self._rng.random() < 0.3:
            self._undo.redo()
        elif self._undo.can_undo():
            self._undo.undo()
