"""Do Yjs and our engine, guard, merge and cut read the same histories the same way?"""

from __future__ import annotations

import asyncio
import json
import random
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

import pycrdt
import pytest

from collab.protocol.update import Coverage, Fit, cut, merge, walk
from tests.contract.engines import needs_ypy
from tests.e2e.support import Child
from tests.interop.documents import canonical, contents
from tests.interop.node import Node, running_node
from tests.property.guard_documents import history

HISTORIES = 1_000
FIRST = 1_000  # of those by two engines: test_engines_agree has those before it
YJS_CLIENT = 4_294_967_291  # no client id of a history


@dataclass(frozen=True)
class Case:
    """One history in the ways in which a log can give it, and what it comes to."""

    seed: int
    log: list[bytes]
    logs: dict[str, list[bytes]]
    expected: str


def case(seed: int) -> Case:
    """A history of three writers with undo; some of it merged, some of it sent twice and cut."""
    rng = random.Random(seed)
    updates, writers = history(seed, steps=rng.randrange(4, 28))
    log = accepted(Coverage(), updates)
    return Case(
        seed,
        log,
        {"as written": updates, "as the log has it": log, "merged": merged(rng, log),
         "merged by the engine": [pycrdt.merge_updates(*log)] if len(log) > 1 else log,
         "sent twice and cut": overlapping(rng, log)},
        canonical(contents(writers[0].document)),
    )  # fmt: skip


def accepted(coverage: Coverage, updates: list[bytes]) -> list[bytes]:
    """What a relay's log takes of updates that come in causal order."""
    log = []
    for update in updates:
        walked = walk(update)
        fit = coverage.fit(walked)
        assert fit is not Fit.EARLY
        if fit is Fit.OVERLAPS:
            update = cut(update, walked, coverage)
            walked = walk(update)
        if fit is not Fit.NOTHING:
            log.append(update)
            coverage.add(walked)
    return log


def merged(rng: random.Random, log: list[bytes]) -> list[bytes]:
    """The log in runs of random length."""
    runs, at = [], 0
    while at < len(log):
        until = at + rng.randrange(1, 12)
        runs.append(merge([(update, walk(update)) for update in log[at:until]]))
        at = until
    return runs


def overlapping(rng: random.Random, log: list[bytes]) -> list[bytes]:
    """The log's beginning, then updates that begin before its end, cut to what is new."""
    at = rng.randrange(len(log) + 1)
    coverage = Coverage()
    for update in log[:at]:
        coverage.add(walk(update))
    taken, rest = log[:at], log[at:]
    while rest:
        more = rng.randrange(1, 8)
        again = log[rng.randrange(at + 1) : at + more]
        taken += accepted(coverage, [pycrdt.merge_updates(*again)] if len(again) > 1 else again)
        at, rest = at + more, rest[more:]
    return taken


def texts(updates: list[bytes]) -> list[str]:
    return [b64encode(update).decode() for update in updates]


def check_what_yjs_reads(one: Case, answers: list[dict[str, Any]]) -> None:
    for name, answer in zip(one.logs, answers, strict=True):
        assert not answer["pending"], (one.seed, name)
        assert canonical(answer["contents"]) == one.expected, (one.seed, name)


def check_what_yjs_wrote(one: Case, known: int, written: dict[str, Any]) -> int:
    """The guard lets all of it through, and the engine comes to the same; how much it was."""
    coverage = Coverage()
    replica: pycrdt.Doc[Any] = pycrdt.Doc()
    emitted: dict[int, list[bytes]] = {}
    for learnt, update in written["emitted"]:
        emitted.setdefault(known + learnt, []).append(b64decode(update))
    for at in range(len(one.log) + 1):
        ours, theirs = one.log[max(at - 1, 0) : at], emitted.get(at, [])
        taken = accepted(coverage, ours)
        assert accepted(coverage, theirs) == theirs, one.seed
        for update in taken + theirs:
            replica.apply_update(update)
    expected = canonical(written["contents"])
    assert canonical(contents(replica)) == expected, one.seed
    whole = b64decode(written["whole"])
    assert Coverage.from_update(whole).clocks == coverage.clocks, one.seed
    fresh: pycrdt.Doc[Any] = pycrdt.Doc()
    fresh.apply_update(whole)
    assert canonical(contents(fresh)) == expected, one.seed
    return len(written["emitted"])


async def try_one(node: Node, seed: int) -> int:
    one = case(seed)
    known = random.Random(-seed).randrange(len(one.log) + 1)
    answer = await node.ask(
        {
            "logs": [texts(log) for log in one.logs.values()],
            "client": YJS_CLIENT,
            "known": texts(one.log[:known]),
            "later": texts(one.log[known:]),
            "seed": seed,
            "steps": 8,
        }
    )
    check_what_yjs_reads(one, answer["read"])
    return check_what_yjs_wrote(one, known, answer["written"])


@pytest.mark.timeout(400)
def test_yjs_and_our_engine_come_to_the_same_content_of_every_history() -> None:
    async def main() -> None:
        async with running_node("oracle.mjs") as node:
            emitted = [await try_one(node, seed) for seed in range(HISTORIES)]
        assert sum(emitted) > 5 * HISTORIES

    asyncio.run(main())


@needs_ypy
@pytest.mark.timeout(400)
def test_yjs_comes_to_the_content_that_pycrdt_and_ypy_agree_on() -> None:
    """Flat documents, which is all that y-py holds, written by devices of both engines."""

    async def main() -> None:
        count, updates = 0, 0
        async with (
            running_node("oracle.mjs") as node,
            Child("tests.property.engine_histories", FIRST, HISTORIES, "told") as child,
        ):
            while (line := await child.line()) != "done":
                assert not line.startswith("seed"), line
                told = json.loads(line)
                answer = await node.ask({"logs": [told["log"]], "text": "body"})
                (found,) = answer["read"]
                assert not found["pending"], f"history {count}"
                assert canonical(found["contents"]) == told["content"], f"history {count}"
                count += 1
                updates += len(told["log"])
        assert count >= HISTORIES * 0.95  # in some, nobody happens to write
        assert updates > 5 * HISTORIES

    asyncio.run(main())
