"""Replicas that have the same updates have the same content, whatever is in the updates.

That holds wherever items stand as an editor puts them: between two that are next to each other in
what their author knew. Of items that do not, no engine that is made like Yjs can promise it, and
the updates do not tell; the last tests say how far it goes then.
"""

from __future__ import annotations

import asyncio
import random
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pycrdt
import pytest

from collab.crdt.server_replica import ServerReplica
from collab.errors import BadUpdate
from collab.protocol.clock_runs import ClockRuns
from collab.protocol.update import Coverage, Fit, cut, decode_state_vector, merge, walk
from tests.hostile.fair import ROOTS, crafted_log, fair_log, logged
from tests.hostile.reading import contents_as_anything, document_of
from tests.interop.node import need_node, running_node
from tests.property.guard_documents import history
from tests.unit.protocol.updates import item, text, update

FAIR_LOGS = 150
HISTORIES = 60
CRAFTED_LOGS = 40
ORDERED_LOGS = 1_000

Item = tuple[int, int, tuple[int, int] | None, tuple[int, int] | None]  # client, clock, neighbours


def _merged(rng: random.Random, log: list[bytes]) -> list[bytes]:
    """The log in runs, as readers that fall behind a little are sent it."""
    runs, at = [], 0
    while at < len(log):
        size = rng.randrange(1, 12)
        runs.append(merge([(data, walk(data)) for data in log[at : at + size]]))
        at += size
    return runs


def _coverage(log: list[bytes]) -> Coverage:
    coverage = Coverage()
    for data in log:
        coverage.add(walk(data))
    return coverage


def _shuffled(rng: random.Random, log: list[bytes]) -> list[bytes]:
    """The log in another causal order."""
    coverage, shuffled = Coverage(), list[bytes]()
    waiting = list(log)
    while waiting:
        rng.shuffle(waiting)
        early = [data for data in waiting if coverage.fit(walk(data)) is Fit.EARLY]
        shuffled += logged([data for data in waiting if data not in early], coverage)
        waiting = early
    return shuffled


def _ways(seed: str, log: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """The same updates as a device may come by them."""
    rng = random.Random(seed)
    worker = ServerReplica()
    worker.apply(log)
    snapshot = worker.snapshot()
    yield "a snapshot of the worker, which had the log at once", [snapshot]
    yield "a snapshot of a device, which had it one by one", [document_of(log).get_update()]
    yield "runs of the log", _merged(rng, log)
    yield "the whole log as one", [merge([(data, walk(data)) for data in log])]
    for _ in range(2):
        at = rng.randrange(len(log))
        known = log[:at]
        part = document_of(known)
        yield f"{at}, then a difference", [*known, worker.difference(part.get_state())]
        yield f"a snapshot after {at}, then the log", [part.get_update(), *log[at:]]
        coverage, whole = _coverage(known), walk(snapshot)
        if coverage.fit(whole) is Fit.OVERLAPS:
            yield f"{at}, then what is new in a snapshot", [*known, cut(snapshot, whole, coverage)]
        yield "another causal order", _shuffled(rng, log)


def test_content_of_every_kind_is_the_same_however_the_updates_arrive() -> None:
    filled = 0
    for number in range(FAIR_LOGS):
        seed = f"fair {number}"
        found = _one_content(seed, fair_log(seed, steps=10 + number % 40))
        filled += sum(len(content) > len('["text", []]') for content in found.values())
    assert filled > 4 * FAIR_LOGS


def test_what_editors_write_reads_the_same_however_it_arrives() -> None:
    for number in range(HISTORIES):
        updates, team = history(number, steps=8 + number % 60, writers=2 + number % 3)
        found = _one_content(f"history {number}", logged(updates))
        for writer in team:
            assert contents_as_anything([writer.document.get_update()], ROOTS) == found


def _one_content(seed: str, log: list[bytes]) -> dict[tuple[str, str], str]:
    """What the log comes to, in whatever way it comes."""
    expected = contents_as_anything(log, ROOTS)
    clocks = decode_state_vector(document_of(log).get_state())
    for way, updates in _ways(seed, log):
        assert contents_as_anything(updates, ROOTS) == expected, f"seed {seed!r}: {way}"
        assert decode_state_vector(document_of(updates).get_state()) == clocks, (seed, way)
    return expected


@pytest.mark.parametrize("number", range(CRAFTED_LOGS))
def test_a_snapshot_tells_what_the_log_told_but_for_what_is_gone_in_it(number: int) -> None:
    """And no update that fits the log is refused where the snapshot was loaded.

    More is deleted in a snapshot: what was in a deleted type, or under a key and overwritten. More
    is gone: what was in types. Nothing else differs.
    """
    seed = f"crafted {number}"
    log = crafted_log(seed, 120)
    coverage = _coverage(log)
    assert _coverage(_merged(random.Random(seed), log)) == coverage, f"seed {seed!r}"
    snapshot = Coverage.from_update(document_of(log).get_update())
    assert snapshot.clocks == coverage.clocks, f"seed {seed!r}"
    for client in coverage.clocks:
        for of_log, of_snapshot in (
            (coverage._deletes, snapshot._deletes), (coverage._gone, snapshot._gone),
        ):  # fmt: skip
            runs = of_snapshot.get(client, ClockRuns())
            assert all(runs.covers(*run) for run in of_log.get(client, ())), f"seed {seed!r}"
        edges = {
            clock
            for one in (coverage, snapshot)
            for start, end, _ in one._places.get(client, ())
            for clock in (start, end - 1)
        } | set(coverage._types.get(client, ()))
        for clock in edges:
            if not snapshot.is_gone(client, clock):
                for ask in ("place", "is_type", "is_array"):
                    told, found = (getattr(one, ask)(client, clock) for one in (coverage, snapshot))
                    assert told == found, f"seed {seed!r}: {ask} of {client, clock}"
    at = random.Random(seed).randrange(1, len(log))
    loaded = Coverage.from_update(document_of(log[:at]).get_update())
    for data in log[at:]:
        assert loaded.fit(walk(data)) is not Fit.EARLY, f"seed {seed!r}"
        loaded.add(walk(data))


def _anywhere(rng: random.Random, size: int) -> list[Item]:
    """Items of three clients, each between any two that are known, or none.

    Not after one and before an earlier one of the same client: where both are in one block of an
    engine, its place depends on how that is cut up, in Yjs and in yrs.
    """
    items: list[Item] = []
    clocks: dict[int, int] = {}
    for _ in range(size):
        client = rng.randrange(1, 4)
        clock = clocks.get(client, 0)
        clocks[client] = clock + 1
        known = [one[:2] for one in items]
        left, right = (rng.choice(known) if known and rng.random() < 0.6 else None for _ in "lr")
        if left and right and left[0] == right[0] and left >= right:
            right = None
        items.append((client, clock, left, right))
    return items


def _log(items: list[Item]) -> list[bytes]:
    return [
        update((client, clock, [text("abcdefghij"[at], left=left, right=right, parent="text")]))
        for at, (client, clock, left, right) in enumerate(items)
    ]


def _read(log: list[bytes]) -> str:
    return str(document_of(log).get("text", type=pycrdt.Text))


# Neither "d" nor "c" is next to what "e" stands beside, and its author had made "d" itself.
OVERLOOKING: list[Item] = [
    (2, 0, None, None), (2, 1, (2, 0), None), (1, 0, (2, 0), None), (3, 0, None, (1, 0)),
    (3, 1, (2, 0), None),
]  # fmt: skip


def test_items_that_overlook_what_their_author_knew_read_differently_in_another_order() -> None:
    """A limit of every engine made like Yjs. If this fails, ARCHITECTURE.md can lose a line."""
    log = _log(OVERLOOKING)
    assert logged(log) == log
    other = [log[0], log[2], log[3], log[4], log[1]]
    assert logged(other) == other
    assert _read(log) != _read(other)
    assert _read([document_of(log).get_update()]) in (_read(log), _read(other))


def test_between_an_item_and_itself_an_engine_puts_it_here_or_there() -> None:
    """Why the guard refuses it. When this fails, it need not any more."""
    values = item(8, b"\x03\x7d\x01\x7d\x02\x7d\x03", parent="array")
    inside = item(8, b"\x01\x7d\x09", left=(1, 2), right=(1, 2))
    log = [update((1, 0, [values])), update((1, 3, [inside]))]
    with pytest.raises(BadUpdate, match="itself"):
        walk(log[1])
    one = document_of(log)
    other = document_of([one.get_update()])
    one_reads, other_reads = (
        document.get("array", type=pycrdt.Array).to_py() for document in (one, other)
    )
    assert one_reads != other_reads


def test_yjs_puts_items_that_stand_anywhere_into_the_order_of_our_engine() -> None:
    need_node()

    async def main() -> None:
        seeds = [f"order {number}" for number in range(ORDERED_LOGS)]
        async with running_node("oracle.mjs") as node:
            for seed in seeds:
                log = logged(_log(_anywhere(random.Random(seed), 9)))
                asked = [[b64encode(data).decode() for data in log]]
                nothing: dict[str, Any] = {"known": [], "later": [], "seed": 0, "steps": 0}
                answer = await node.ask({"logs": asked, "client": 77} | nothing)
                [_, runs], *_ = answer["read"][0]["contents"]
                assert "".join(run for run, _ in runs) == _read(log), f"seed {seed!r}"

    asyncio.run(main())
