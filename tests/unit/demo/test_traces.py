"""Traces are read as their authors typed them, and a text tells how far it got."""

from __future__ import annotations

import json

import pytest

from collab.demo import traces
from collab.demo.traces import Edit, load, parse, replay, survived

EDITS = [Edit(0, 0, "你"), Edit(1, 0, "o"), Edit(1, 1, ""), Edit(1, 0, "!"), Edit(0, 1, "hello")]


def packed(start: str = "", end: str = "hello!") -> bytes:
    transactions = [{"patches": [list(edit)]} for edit in EDITS]
    return json.dumps({"startContent": start, "endContent": end, "txns": transactions}).encode()


@pytest.mark.parametrize(
    ("name", "count", "length"),
    [(traces.PAPER, 259_778, 104_852), (traces.POST, 21_447, 31_510)],
)
def test_the_packaged_traces_end_in_what_their_authors_ended_with(
    name: str, count: int, length: int
) -> None:
    trace = load(name)
    assert len(trace.edits) == count
    assert len(trace.end) == length
    assert replay(trace.edits) == trace.end


def test_the_end_of_a_whole_trace_is_the_recorded_one() -> None:
    assert parse("", packed(end="as recorded")).end == "as recorded"
    assert parse("", packed(end="as recorded"), len(EDITS)).end == "as recorded"


def test_the_end_of_a_part_is_what_a_plain_string_gives() -> None:
    part = parse("", packed(), 4)
    assert part.edits == EDITS[:4]
    assert part.end == "你!"


def test_what_a_trace_starts_with_is_its_first_edit() -> None:
    assert parse("", packed(start="abc"), 1).end == "abc"


@pytest.mark.parametrize(
    ("text", "at_least", "count"),
    [
        ("", 0, 0),
        ("你", 0, 1),
        ("你", 1, 1),
        ("你", 2, 3),  # a letter was typed and deleted again
        ("hello!", 0, 5),
        ("hello!", 5, 5),
    ],
)
def test_a_text_tells_the_fewest_edits_that_leave_it(text: str, at_least: int, count: int) -> None:
    assert survived(EDITS, text, at_least=at_least) == count


@pytest.mark.parametrize(("text", "at_least"), [("你", 4), ("你o", 3), ("hellO!", 0), ("x", 0)])
def test_a_text_that_no_long_enough_beginning_leaves_is_nothing(text: str, at_least: int) -> None:
    assert survived(EDITS, text, at_least=at_least) is None
