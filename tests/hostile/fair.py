"""Logs whose items stand where an editor could have put them, and are odd in every other way.

An editor puts an item between two that are next to each other in *its* replica, deleted ones
counted. Here writers know more or less of each other and do just that; but they put anything
anywhere: format marks into arrays, types into types, values under every key, and they delete what
they like. Who stands where is kept by the list algorithm of Yjs (``Item.integrate``), one clock at
a time; no engine is asked. Not a test.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from collab.errors import BadUpdate
from collab.protocol.update import Coverage, Fit, cut, walk
from tests.hostile.generator import Adversary, Forger
from tests.unit.protocol.updates import deletes, item, update

__all__ = ["ROOTS", "crafted_log", "fair_log", "logged"]

ROOTS: Final = ("text", "array", "map", "xml")
_KEYS: Final = ("k", "ключ")
_CLIENTS: Final = (3, 9, 2**31, 2**32 - 1, 2**53 - 1)
_FORMAT: Final = 6
_TYPE: Final = 7

Id = tuple[int, int]
Place = tuple[str | Id, str | None]  # a root's name or a type's id, and a key


def logged(updates: list[bytes], coverage: Coverage | None = None) -> list[bytes]:
    """What a relay's log takes of updates that are sent to it in this order."""
    coverage = coverage or Coverage()
    log: list[bytes] = []
    for data in updates:
        try:
            walked = walk(data)
            fit = coverage.fit(walked)
        except BadUpdate:
            continue
        if fit is Fit.OVERLAPS:
            data = cut(data, walked, coverage)
            walked = walk(data)
        if fit in (Fit.NEW, Fit.OVERLAPS):
            coverage.add(walked)
            log.append(data)
    return log


def crafted_log(seed: str, count: int) -> list[bytes]:
    """A log of an ``Adversary``, whose items stand anywhere."""
    adversary = Adversary(random.Random(seed))
    coverage = Coverage()
    log: list[bytes] = []
    while len(log) < count:
        log += logged([adversary.send(coverage.clocks)], coverage)
    return log


def fair_log(seed: str, steps: int, writers: int = 4) -> list[bytes]:
    """A log of ``writers`` who know more or less of each other."""
    rng = random.Random(seed)
    lists = _Lists()
    team = [_Writer(client) for client in rng.sample(_CLIENTS, writers)]
    sent = [rng.choice(team).act(rng, lists) for _ in range(steps)]
    return logged(sent)


@dataclass(frozen=True, slots=True)
class _Node:
    id: Id
    left: Id | None
    right: Id | None


class _Lists:
    """Every list with all that was ever in it, one node per clock."""

    def __init__(self) -> None:
        self.nodes: dict[Place, list[_Node]] = {}
        self.types: list[Id] = []
        self.ends: dict[int, int] = {}
        self.views: list[dict[int, int]] = []  # what authors knew, after each of their items

    def insert(self, place: Place, node: _Node) -> None:
        """Put a node where every replica that knows its neighbours would."""
        nodes = self.nodes.setdefault(place, [])
        at = {known.id: number for number, known in enumerate(nodes)}
        target = after = 0 if node.left is None else at[node.left] + 1
        end = len(nodes) if node.right is None else at[node.right]
        passed: set[Id] = set()
        conflicting: set[Id] = set()
        while after < end:
            other = nodes[after]
            passed.add(other.id)
            conflicting.add(other.id)
            after += 1
            if other.left == node.left:
                if other.id[0] < node.id[0]:
                    target = after
                    conflicting.clear()
                elif other.right == node.right:
                    break
            elif other.left is None or other.left not in passed:
                break
            elif other.left not in conflicting:
                target = after
                conflicting.clear()
        nodes.insert(target, node)


@dataclass
class _Writer:
    client: int
    view: dict[int, int] = field(default_factory=dict)  # how far it knows each client

    def act(self, rng: random.Random, lists: _Lists) -> bytes:
        """Learn something, perhaps, and then say something."""
        if lists.views and rng.random() < 0.5:
            for client, clock in rng.choice(lists.views).items():
                self.view[client] = max(clock, self.view.get(client, 0))
        if self.view and rng.random() < 0.2:
            return self._delete(rng)
        return self._insert(rng, lists)

    def _delete(self, rng: random.Random) -> bytes:
        client, end = rng.choice(list(self.view.items()))
        start = rng.randrange(end)
        return update(delete_set=deletes((client, [(start, rng.randrange(end - start) + 1)])))

    def _insert(self, rng: random.Random, lists: _Lists) -> bytes:
        clock = lists.ends.get(self.client, 0)
        self.view[self.client] = clock
        name, key = place = self._place(rng, lists)
        kind, content, length = Forger(rng, {}, lies=0)._content()
        while key is not None and (kind == _FORMAT or length > 1):
            kind, content, length = Forger(rng, {}, lies=0)._content()
        here = [node.id for node in lists.nodes.get(place, ()) if self._knows(node.id)]
        at = len(here) if key is not None else rng.randrange(len(here) + 1)
        left = here[at - 1] if at else None
        right = here[at] if at < len(here) else None
        named = key if left is None and right is None else None
        data = item(kind, content, left=left, right=right, parent=name, key=named)
        for offset in range(length):
            before = (self.client, clock + offset - 1) if offset else left
            lists.insert(place, _Node((self.client, clock + offset), before, right))
        if kind == _TYPE:
            lists.types.append((self.client, clock))
        self.view[self.client] = lists.ends[self.client] = clock + length
        lists.views.append(dict(self.view))
        return update((self.client, clock, [data]))

    def _place(self, rng: random.Random, lists: _Lists) -> Place:
        known = [made for made in lists.types if self._knows(made)]
        name = rng.choice(known) if known and rng.random() < 0.5 else rng.choice(ROOTS)
        return name, rng.choice(_KEYS) if rng.random() < 0.25 else None

    def _knows(self, known: Id) -> bool:
        return known[1] < self.view.get(known[0], 0)
