"""Random causal histories of devices with different engines, in a process of their own. Not a test.

``python -m tests.property.engine_histories FIRST COUNT [told]`` plays the histories of these seeds,
says what went wrong on a line each, and "done" at the end: y-py can end the process. With ``told``
a line of JSON says of each what its log and its content are.
"""

from __future__ import annotations

import json
import random
import sys
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pycrdt

from collab.protocol.update import Coverage, walk
from collab.text import TextChanged
from tests.contract.engines import Device
from tests.interop.documents import canonical, contents

WORDS = [
    "a",
    "hello ",
    "你",
    "好世界",
    "é",
    "𝄞",
    "👩\u200d👩\u200d👧",
    "\U0010ffff",
    "\uffff",
    "e\u0301",
    "\n",
]
MARKS: list[dict[str, Any]] = [{"b": True}, {"b": None}, {"link": {"to": ["x", 1.5, None]}}]
VALUES: list[Any] = [1, -3, 2**40, 1.5, True, None, "text 你", [1, {"k": None}], {"a": "ü"}]
ENGINES = ["pycrdt", "y-py", "y-py", "pycrdt"]


class Author(Device):
    """A device, how far it has read the log, and the string that its events give."""

    def __init__(self, engine: str, client_id: int) -> None:
        super().__init__(engine, client_id)
        self.engine = engine
        self.read = 0
        self.replayed = ""
        self.text.observe(self._follow)

    def _follow(self, event: TextChanged) -> None:
        self.replayed = event.apply_to(self.replayed)

    def edit(self, rng: random.Random) -> None:
        """Up to three edits in one transaction, or a raw one of the map and the array."""
        if rng.random() < 0.15:
            self._edit_raw(rng)
            return
        with self.replica.transaction():
            for _ in range(rng.choice([1, 1, 1, 3])):
                self._edit_text(rng)

    def _edit_text(self, rng: random.Random) -> None:
        at = rng.randint(0, len(self.text))
        length = min(rng.randint(0, 5), len(self.text) - at)
        kind = rng.random()
        if kind < 0.5:
            self.text.insert(at, rng.choice(WORDS), rng.choice([None, None, *MARKS]))
        elif kind < 0.75:
            self.text.delete(at, length)
        elif kind < 0.85:
            self.text.format(at, length, rng.choice(MARKS))
        elif kind < 0.92:
            self.text.replace(at, length, rng.choice(WORDS))
        else:
            self.text.insert_embed(at, {"image": rng.choice(WORDS)}, rng.choice([None, *MARKS]))

    def _edit_raw(self, rng: random.Random) -> None:
        document: Any = self.replica.document
        key, value = rng.choice("xyz"), rng.choice(VALUES)
        if self.engine == "pycrdt":
            array = document.get("array", type=pycrdt.Array)
            document.get("map", type=pycrdt.Map)[key] = value
            with document.transaction():
                array.insert(rng.randint(0, len(array)), value)
                del array[rng.randrange(len(array))]
            array.append(value)
        else:
            array = document.get_array("array")
            with document.begin_transaction() as txn:
                document.get_map("map").set(txn, key, value)
            with document.begin_transaction() as txn:
                array.insert(txn, rng.randint(0, len(array)), value)
                array.delete(txn, rng.randrange(len(array)))
            with document.begin_transaction() as txn:
                array.append(txn, value)

    def take(self, update: bytes) -> None:
        walk(update)
        self.replica.apply(update)

    def content(self) -> tuple[object, ...]:
        """All that is in the document, as one and the same reader understands its snapshot."""
        reader: pycrdt.Doc[Any] = pycrdt.Doc()
        reader.apply_update(self.replica.snapshot())
        return (
            reader.get("body", type=pycrdt.Text).diff(),
            reader.get("map", type=pycrdt.Map).to_py(),
            reader.get("array", type=pycrdt.Array).to_py(),
            Coverage.from_update(self.replica.snapshot()).clocks,
        )


Log = list[tuple[Author, bytes]]


def play(seed: int, log: Log) -> Iterator[str]:
    """What went wrong. All updates are put into ``log``."""
    rng = random.Random(seed)
    authors = [Author(engine, rng.getrandbits(32)) for engine in ENGINES[: rng.randint(2, 4)]]
    for _ in range(rng.randint(4, 24)):
        author = rng.choice(authors)
        kind = rng.random()
        if kind < 0.6:
            author.edit(rng)
            log += [(author, update) for update in author.sent]
            author.sent.clear()
        elif kind < 0.85:
            _catch_up(author, log)
        else:
            other = rng.choice(authors)
            author.take(other.replica.difference(author.replica.state_vector()))
        author.run()
        if author.replayed != str(author.text) or len(author.text) != len(str(author.text)):
            yield f"events give {author.replayed!r}, the text is {str(author.text)!r}"
    for author in authors:
        _catch_up(author, log)
        if errors := author.run():
            yield f"{errors}"
    contents = [author.content() for author in authors]
    if any(content != contents[0] for content in contents):
        yield f"contents differ: {contents}"
    if len({str(author.text) for author in authors}) != 1:
        yield f"texts differ: {[str(author.text) for author in authors]}"


def told(log: Log) -> str:
    """A history for another engine to read; pycrdt reads what y-py has."""
    reader: pycrdt.Doc[Any] = pycrdt.Doc()
    reader.apply_update(
        next((each for each, _ in log if each.engine == "y-py"), log[0][0]).replica.snapshot()
    )
    updates = [b64encode(update).decode() for _, update in log]
    return json.dumps({"log": updates, "content": canonical(contents(reader, text="body"))})


def _catch_up(author: Author, log: Log) -> None:
    for writer, update in log[author.read :]:
        if writer is not author:
            author.take(update)
    author.read = len(log)


if __name__ == "__main__":
    first, count = map(int, sys.argv[1:3])
    for number in range(first, first + count):
        log: Log = []
        for problem in play(number, log):
            print(f"seed {number}: {problem}", flush=True)
        if sys.argv[3:] == ["told"] and log:
            print(told(log), flush=True)
    print("done", flush=True)
