"""The guard against real documents: what engines write is taken, understood and put together."""

from __future__ import annotations

import random
from typing import Any

import pycrdt
import pytest

from collab.errors import BadUpdate
from collab.protocol.coverage import Coverage, Fit
from collab.protocol.merge import cut, merge
from collab.protocol.walk import structs_of, walk
from collab.protocol.ysync import decode_state_vector
from tests.property.guard_documents import history

SEEDS = range(40)


def _content(document: pycrdt.Doc[Any]) -> list[object]:
    return [
        document.get("text", type=pycrdt.Text).diff(),
        document.get("array", type=pycrdt.Array).to_py(),
        document.get("map", type=pycrdt.Map).to_py(),
        _xml(document.get("xml", type=pycrdt.XmlFragment)),
    ]


def _xml(node: Any) -> object:
    """An engine writes attributes in no order of its own."""
    if isinstance(node, pycrdt.XmlText):
        return str(node)
    attributes: Any = node.attributes if isinstance(node, pycrdt.XmlElement) else {}
    return dict(attributes), [_xml(child) for child in node.children]


def _log_of(updates: list[bytes]) -> tuple[list[bytes], list[Coverage]]:
    """What a relay would append, and its coverage before each."""
    coverage, log, before = Coverage(), [], []
    for data in updates:
        fit = coverage.fit(walk(data))
        assert fit is not Fit.EARLY
        if fit is Fit.OVERLAPS:
            data = cut(data, walk(data), coverage)
            assert coverage.fit(walk(data)) is Fit.NEW
        if fit is not Fit.NOTHING:
            before.append(coverage.copy())
            log.append(data)
            coverage.add(walk(data))
    return log, [*before, coverage]


@pytest.mark.parametrize("seed", SEEDS)
def test_increments_and_whole_documents_tell_the_same(seed: int) -> None:
    updates, team = history(seed)
    coverage = _log_of(updates)[1][-1]
    for writer in team:
        assert decode_state_vector(writer.document.get_state()) == coverage.clocks
        assert decode_state_vector(coverage.state_vector()) == coverage.clocks
        whole = Coverage.from_update(writer.document.get_update())
        assert whole.clocks == coverage.clocks
        for client, runs in coverage._deletes.items():
            # more is deleted in a replica: of two values set at once, the one that lost
            assert all(whole._deletes[client].covers(*run) for run in runs)
        for client, end in coverage.clocks.items():
            for clock in range(end):
                if not whole.is_gone(client, clock):
                    assert whole.depth(client, clock) == coverage.depth(client, clock)
                    assert whole.is_type(client, clock) == coverage.is_type(client, clock)
        for one in (whole, coverage):
            assert Coverage.from_bytes(one.to_bytes()) == one


@pytest.mark.parametrize("seed", SEEDS)
def test_an_update_twice_is_nothing_and_before_its_time_early(seed: int) -> None:
    updates, _ = history(seed, steps=40)
    log, coverages = _log_of(updates)
    for at, data in enumerate(log):
        assert coverages[at + 1].fit(walk(data)) is Fit.NOTHING
        assert coverages[-1].fit(walk(data)) is Fit.NOTHING
    known = Coverage()
    for data in log:
        if walk(data).needs or any(start for _, start, _ in walk(data).ranges):
            assert known.fit(walk(data)) is Fit.EARLY
            with pytest.raises(BadUpdate):
                known.add(walk(data))
    assert known == Coverage()


@pytest.mark.parametrize("seed", SEEDS)
def test_merged_runs_make_the_same_document(seed: int) -> None:
    updates, team = history(seed)
    log, coverages = _log_of(updates)
    rng = random.Random(seed)
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    coverage = Coverage()
    at = 0
    while at < len(log):
        run = log[at : at + rng.randrange(1, 40)]
        at += len(run)
        merged = merge([(data, walk(data)) for data in run])
        theirs = pycrdt.merge_updates(*run)
        assert _ids(merged) == _ids(theirs)
        assert set(walk(merged).deletes) == set(walk(theirs).deletes)
        document.apply_update(merged)
        assert coverage.fit(walk(merged)) is Fit.NEW
        coverage.add(walk(merged))
    assert coverage.clocks == coverages[-1].clocks
    assert coverage._deletes == coverages[-1]._deletes
    assert coverage._places == coverages[-1]._places
    assert _content(document) == _content(team[0].document)


def _ids(data: bytes) -> list[tuple[int, ...]]:
    return [(*struct[:4], *struct[7:]) for struct in structs_of(data)]


@pytest.mark.parametrize("seed", SEEDS)
def test_merged_text_has_the_bytes_that_the_engine_gives(seed: int) -> None:
    log: list[bytes] = []
    rng = random.Random(seed)
    documents: list[pycrdt.Doc[Any]] = [pycrdt.Doc(client_id=c) for c in (5, 2**32 - 1, 2**40)]
    subscriptions = [d.observe(lambda event: log.append(event.update)) for d in documents]
    for _ in range(150):
        document = rng.choice(documents)
        text = document.get("text", type=pycrdt.Text)
        if len(text) > 3 and rng.random() < 0.3:
            at = rng.randrange(len(text) - 2)
            del text[at : at + 2]
        else:
            text.insert(rng.randrange(len(text) + 1), rng.choice("abc"))
    del subscriptions
    coverage, run = Coverage(), []
    for data in log:
        if coverage.fit(walk(data)) is Fit.NEW:
            coverage.add(walk(data))
            run.append(data)
    for size in (2, 10, len(run)):
        merged = merge([(data, walk(data)) for data in run[:size]])
        assert merged == pycrdt.merge_updates(*run[:size])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_whole_document_cut_to_what_is_new_completes_any_prefix(seed: int) -> None:
    updates, team = history(seed)
    log, coverages = _log_of(updates)
    rng = random.Random(seed)
    whole = team[-1].document.get_update()
    for _ in range(5):
        at = rng.randrange(len(log))
        document: pycrdt.Doc[Any] = pycrdt.Doc()
        for data in log[:at]:
            document.apply_update(data)
        assert coverages[at].fit(walk(whole)) in (Fit.OVERLAPS, Fit.NEW)
        rest = cut(whole, walk(whole), coverages[at])
        assert coverages[at].fit(walk(rest)) is Fit.NEW
        assert len(rest) <= len(whole)
        document.apply_update(rest)
        assert _content(document) == _content(team[0].document)
        assert decode_state_vector(document.get_state()) == coverages[-1].clocks


@pytest.mark.parametrize("seed", range(4))
def test_no_real_update_reads_as_a_shorter_one(seed: int) -> None:
    updates, team = history(seed, steps=30)
    for data in [*updates, team[0].document.get_update()]:
        for end in range(len(data)):
            with pytest.raises(BadUpdate):
                walk(data[:end])


def test_differences_against_any_state_are_taken() -> None:
    updates, team = history(99)
    log, coverages = _log_of(updates)
    for at in range(0, len(log), 7):
        difference = team[0].document.get_update(coverages[at].state_vector())
        assert coverages[at].fit(walk(difference)) in (Fit.NEW, Fit.OVERLAPS)
        coverages[at].add(walk(difference))
        assert coverages[at].clocks == coverages[-1].clocks
