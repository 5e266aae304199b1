"""A caret stops before what a reader takes for one character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab.editor import steps

PARTS = [
    "a",
    " ",
    "é",
    "e\u0301",
    "日",
    "क\u093f",
    "👍🏽",
    "👩\u200d👩\u200d👧",
    "🇩🇪",
    "🏴\U000e0067\U000e007f",
]
PARTS += ["❤\ufe0f", "\u05d0\u05b8", "1\ufe0f\u20e3", "𝄞"]


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=12))
def test_steps_go_from_character_to_character_both_ways(parts: list[str]) -> None:
    line = "".join(parts)
    stops = [0]
    for part in parts:
        stops.append(stops[-1] + len(part))
    there = [0]
    while there[-1] < len(line):
        there.append(steps.after(line, there[-1]))
    back = [len(line)]
    while back[-1] > 0:
        back.append(steps.before(line, back[-1]))
    assert there == stops
    assert back[::-1] == stops


@given(st.text(max_size=30), st.integers(0, 30))
def test_a_step_always_goes_on_and_never_out_of_the_line(line: str, column: int) -> None:
    column = min(column, len(line))
    assert steps.after(line, column) == column == len(line) or column < steps.after(
        line, column
    ) <= len(line)
    assert steps.before(line, column) == column == 0 or 0 <= steps.before(line, column) < column


@pytest.mark.parametrize("line", ["\u0301" * 500, "🇩" * 500, "a" + "\u200d" * 500])
def test_what_never_ends_is_cut(line: str) -> None:
    assert steps.after(line, 0) <= 64
    assert steps.before(line, len(line)) >= len(line) - 65
