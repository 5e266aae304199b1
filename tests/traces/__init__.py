"""Real editing histories, by Python string positions (josephg/editing-traces, CC BY 4.0)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collab.crdt.engines import make_replica
from collab.crdt.replica import Replica

_HERE = Path(__file__).parent
_DEMO = _HERE.parent.parent / "collab" / "demo" / "traces"

Patch = tuple[int, int, str]  # position, characters deleted, text inserted


def _read(path: Path) -> dict[str, Any]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        trace: dict[str, Any] = json.load(file)
    return trace


def sequential(name: str) -> tuple[list[Patch], str]:
    """The patches of one author's history, and the text that they end in."""
    trace = _read(_DEMO / f"{name}.json.gz")
    patches = [(at, deleted, text) for txn in trace["txns"] for at, deleted, text in txn["patches"]]
    return patches, trace["endContent"]


@dataclass(frozen=True, slots=True)
class Concurrent:
    """What each author of a concurrent history sent, in order, and the text they all end in."""

    updates: list[list[bytes]]
    end: str


def concurrent(name: str, root: str) -> Concurrent:
    """Each author's updates, made in a document of its own that had just what its parents had."""
    trace = _read(_HERE / f"{name}.json.gz")
    updates: list[list[bytes]] = [[] for _ in range(trace["numAgents"])]
    replicas = [_replica(number, sent) for number, sent in enumerate(updates)]
    texts = [replica.text(root) for replica in replicas]
    place: list[tuple[int, int]] = []  # of each transaction: its author, how many updates by then
    seen: list[list[int]] = [[0] * len(updates) for _ in updates]
    known: list[list[int]] = []  # of each transaction: how many updates of each author it has
    for txn in trace["txns"]:
        author = txn["agent"]
        wanted = [0] * len(updates)
        for parent in txn["parents"]:
            wanted = [max(pair) for pair in zip(wanted, known[parent], strict=True)]
        for other, count in _missing(seen[author], wanted, author):
            replicas[author].apply(updates[other][count])
        seen[author] = [max(pair) for pair in zip(seen[author], wanted, strict=True)]
        with replicas[author].transaction():
            for position, deleted, text in txn["patches"]:
                texts[author].replace(position, deleted, text)
        wanted[author] = len(updates[author])
        seen[author][author] = wanted[author]
        known.append(wanted)
        place.append((author, wanted[author]))
    return Concurrent(updates, trace["endContent"])


def _missing(seen: list[int], wanted: list[int], author: int) -> Iterator[tuple[int, int]]:
    for other, (have, want) in enumerate(zip(seen, wanted, strict=True)):
        if other != author:
            for count in range(have, want):
                yield other, count


def _replica(number: int, sent: list[bytes]) -> Replica:
    return make_replica(number + 1, call_soon=lambda fn: fn(), on_local=sent.append)
