"""Updates as authors on bare engines make them, well-formed and not. Not a test."""

from __future__ import annotations

import random
from typing import Any

import pycrdt

from collab.protocol.ysync import write_var_bytes, write_var_string, write_var_uint


class Author:
    """One replica that keeps the update of each of its edits."""

    def __init__(self, client_id: int) -> None:
        self.document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=client_id)
        self.text = self.document.get("body", type=pycrdt.Text)
        self.updates: list[bytes] = []
        self._subscription = self.document.observe(lambda event: self.updates.append(event.update))

    def insert(self, index: int, text: str) -> bytes:
        self.text.insert(index, text)
        return self.updates[-1]

    def scribble(self, dice: random.Random, count: int) -> list[bytes]:
        """``count`` edits at random places, each an insertion at least; their updates."""
        before = len(self.updates)
        for _ in range(count):
            size = len(str(self.text))
            at = dice.randrange(size + 1)
            with self.document.transaction():
                if at < size and size > 4 and dice.random() < 0.3:
                    del self.text[at : at + 1]
                self.text.insert(at, dice.choice("abcdefgh"))
        return self.updates[before:]

    def take(self, updates: list[bytes]) -> None:
        """Apply somebody else's updates; they are not kept."""
        before = len(self.updates)
        for update in updates:
            self.document.apply_update(update)
        del self.updates[before:]

    def all(self) -> bytes:
        return self.document.get_update()

    def since(self, state_vector: bytes) -> bytes:
        return self.document.get_update(state_vector)


def text_of(*updates: bytes) -> str:
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    text = document.get("body", type=pycrdt.Text)
    for update in updates:
        document.apply_update(update)
    return str(text)


def array_bomb(levels: int = 40_000) -> bytes:
    """80 KB that end a process in the engine: arrays within arrays, in one value."""
    out = bytearray()
    for number in (1, 1, 1, 0):  # one client, one struct, client 1, clock 0
        write_var_uint(out, number)
    out.append(0x08)  # ContentAny, no neighbours
    write_var_uint(out, 1)  # the parent is a root
    write_var_string(out, "body")
    write_var_uint(out, 1)  # one value
    out += bytes((117, 1)) * levels  # an array of one
    out.append(126)  # null
    write_var_uint(out, 0)  # no deletes
    return bytes(out)


def not_utf8() -> bytes:
    """A text whose bytes are not UTF-8."""
    out = bytearray()
    for number in (1, 1, 1, 0):
        write_var_uint(out, number)
    out.append(0x04)  # ContentString
    write_var_uint(out, 1)
    write_var_string(out, "body")
    write_var_bytes(out, b"\xff\xfe")
    write_var_uint(out, 0)
    return bytes(out)


def damaged() -> dict[str, bytes]:
    """Updates that must not reach an engine."""
    good = Author(7).insert(0, "good text")
    return {
        "empty": b"",
        "truncated": good[:-3],
        "followed by more": good + b"\0",
        "garbage": bytes(random.Random(1).randrange(256) for _ in range(200)),
        "nested": array_bomb(),
        "not UTF-8": not_utf8(),
        "a count beyond its bytes": b"\xff\xff\xff\xff\x07",
    }
