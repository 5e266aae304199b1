"""Real histories for the guard's tests: several writers, every kind of content, one log."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pycrdt

WORDS = ["a", "hello ", "你好", "📊", "é", "\n", "x" * 40, "🧑‍🤝‍🧑"]
MARKS: list[dict[str, Any]] = [{"bold": True}, {"bold": None}, {"link": {"href": "x", "n": [1, 2]}}]
VALUES: list[Any] = [
    1,
    -3,
    2**40,
    -(2**52),
    1.5,
    -0.0,
    True,
    False,
    None,
    "text 你",
    b"bytes",
    [1, [2, {"k": None}]],
    {"a": {"b": [1.25, "ü"]}},
]


@dataclass
class Writer:
    """One replica, and how much of the log it has read."""

    document: pycrdt.Doc[Any]
    undo: pycrdt.UndoManager
    log: list[tuple[int, bytes]]
    name: int
    read: int = 0
    applying: bool = False
    subscription: Any = field(default=None, repr=False)

    def write(self, event: pycrdt.TransactionEvent) -> None:
        if not self.applying:
            self.log.append((self.name, event.update))

    def catch_up(self) -> None:
        self.applying = True
        for author, update in self.log[self.read :]:
            if author != self.name:
                self.document.apply_update(update)
        self.read = len(self.log)
        self.applying = False


def history(seed: int, *, steps: int = 120, writers: int = 3) -> tuple[list[bytes], list[Writer]]:
    """A log of updates in causal order, and replicas that have all of it."""
    rng = random.Random(seed)
    log: list[tuple[int, bytes]] = []
    team = [_writer(rng, log, name) for name in range(writers)]
    for _ in range(steps):
        writer = rng.choice(team)
        if rng.random() < 0.4:
            writer.catch_up()
        with writer.document.transaction():
            for _ in range(rng.choice([1, 1, 1, 2, 5])):
                _edit(rng, writer.document)
        if rng.random() < 0.08 and writer.undo.can_undo():
            writer.undo.undo()
        if rng.random() < 0.03 and writer.undo.can_redo():
            writer.undo.redo()
    for writer in team:
        writer.catch_up()
    return [update for _, update in log], team


def _writer(rng: random.Random, log: list[tuple[int, bytes]], name: int) -> Writer:
    # of every size, and no two alike
    client_id = (
        rng.choice([rng.randrange(10), rng.randrange(2**28), rng.randrange(2**49)]) * 10 + name
    )
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=client_id)
    scopes = [
        document.get("text", type=pycrdt.Text),
        document.get("array", type=pycrdt.Array),
        document.get("map", type=pycrdt.Map),
        document.get("xml", type=pycrdt.XmlFragment),
    ]
    undo = pycrdt.UndoManager(scopes=scopes, capture_timeout_millis=0)
    writer = Writer(document, undo, log, name)
    writer.subscription = document.observe(writer.write)
    return writer


def _edit(rng: random.Random, document: pycrdt.Doc[Any]) -> None:
    kind = rng.choice(["text", "text", "text", "array", "map", "xml"])
    if kind == "text":
        _edit_text(rng, document.get("text", type=pycrdt.Text))
    elif kind == "array":
        _edit_array(rng, document.get("array", type=pycrdt.Array))
    elif kind == "map":
        _edit_map(rng, document.get("map", type=pycrdt.Map))
    else:
        _edit_xml(rng, document.get("xml", type=pycrdt.XmlFragment))


def _boundaries(text: str) -> list[int]:
    places = [0]
    for character in text:
        places.append(places[-1] + len(character.encode()))
    return places


def _edit_text(rng: random.Random, text: pycrdt.Text) -> None:
    places = _boundaries(str(text)) if not _has_embeds(text) else [0]
    at = rng.randrange(len(places))
    action = rng.random()
    if action < 0.6 or len(places) == 1:
        text.insert(places[at], rng.choice(WORDS))
    elif action < 0.85:
        end = min(len(places) - 1, at + rng.randrange(1, 6))
        if end > at:
            del text[places[at] : places[end]]
    elif action < 0.95:
        end = min(len(places) - 1, at + rng.randrange(1, 6))
        if end > at:
            text.format(places[at], places[end], rng.choice(MARKS))
    elif rng.random() < 0.3:
        text.insert_embed(places[at], {"image": "a.png", "size": [1, 2]})


def _has_embeds(text: pycrdt.Text) -> bool:
    return any(not isinstance(part, str) for part, _ in text.diff())


def _nested(rng: random.Random) -> Any:
    make: list[Callable[[], Any]] = [
        lambda: pycrdt.Text("nested ü"),
        lambda: pycrdt.Array([1, "two"]),
        lambda: pycrdt.Map({"k": "v", "t": pycrdt.Text("deep")}),
        lambda: pycrdt.Array([pycrdt.Map({"in": pycrdt.Array([1])})]),
    ]
    return rng.choice(make)()


def _edit_array(rng: random.Random, array: pycrdt.Array[Any]) -> None:
    at = rng.randrange(len(array) + 1)
    action = rng.random()
    if action < 0.4 or not len(array):
        array.insert(at, rng.choice(VALUES))
    elif action < 0.5:
        array.insert(at, _nested(rng))
    elif action < 0.7:
        del array[rng.randrange(len(array))]
    else:
        _descend(rng, array[rng.randrange(len(array))])


def _edit_map(rng: random.Random, mapping: pycrdt.Map[Any]) -> None:
    key = rng.choice(["a", "b", "ключ"])
    action = rng.random()
    if action < 0.4:
        mapping[key] = rng.choice(VALUES)
    elif action < 0.55:
        mapping[key] = _nested(rng)
    elif key in mapping:
        if action < 0.7:
            del mapping[key]
        else:
            _descend(rng, mapping[key])


def _descend(rng: random.Random, value: Any) -> None:
    if isinstance(value, pycrdt.Text):
        _edit_text(rng, value)
    elif isinstance(value, pycrdt.Array):
        _edit_array(rng, value)
    elif isinstance(value, pycrdt.Map):
        _edit_map(rng, value)


def _edit_xml(rng: random.Random, parent: Any) -> None:
    children = parent.children
    action = rng.random()
    if action < 0.4 or not len(children):
        element = pycrdt.XmlElement("p", {"class": "é"}, [pycrdt.XmlText("text")])
        children.insert(rng.randrange(len(children) + 1), element)
    elif action < 0.5:
        del children[rng.randrange(len(children))]
    else:
        child = children[rng.randrange(len(children))]
        if isinstance(child, pycrdt.XmlElement):
            if rng.random() < 0.2:
                child.attributes["id"] = rng.choice(["1", "zwei"])
            else:
                _edit_xml(rng, child)
        else:
            child.insert(0, rng.choice(WORDS))
