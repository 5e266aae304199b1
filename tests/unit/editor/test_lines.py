"""Lines of a text: every character kept, none shown that a terminal would obey."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab.editor.lines import TextLines
from collab.terminal import safe

ENDS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
pieces = st.one_of(
    st.sampled_from([*ENDS, "\n", "\t", "\x1b[2J", "é", "日本"]), st.text(max_size=4)
)
texts = st.lists(pieces, max_size=8).map("".join)
edits = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), texts), max_size=6)


@given(texts, edits)
def test_a_text_is_what_a_string_is_after_the_same_edits(
    start: str, changes: list[tuple[float, float, str]]
) -> None:
    text, lines = start, TextLines(start)
    for one, other, new in changes:
        first, last = sorted(int(at * len(text)) for at in (one, other))
        result = lines.replace_range(lines.location(last), lines.location(first), new)
        assert result.replaced_text == text[first:last]
        text = text[:first] + new + text[last:]
        assert lines.index(result.end_location) == first + len(new)
    assert lines.text == text
    assert lines.lines == TextLines(text).lines
    assert [len(line) for line in lines.lines] == [len(line) for line in text.split("\n")]
    assert lines.line_count == text.count("\n") + 1
    assert lines.get_text_range(lines.start, lines.end) == text


@given(texts)
def test_every_index_is_one_place_and_places_are_in_order(text: str) -> None:
    lines = TextLines(text)
    places = [lines.location(index) for index in range(len(text) + 1)]
    assert [lines.index(place) for place in places] == list(range(len(text) + 1))
    assert all(one < other for one, other in pairwise(places))
    assert (places[0], places[-1]) == (lines.start, lines.end)
    row, column = lines.end
    assert lines.index((row, column + 7)) == lines.index((row + 1, 0)) == len(text)


@given(texts)
def test_nothing_is_shown_that_a_terminal_obeys(text: str) -> None:
    for line in TextLines(text).lines:
        assert all(c == "\t" or safe.is_harmless(c) for c in line)


@pytest.mark.parametrize(
    ("character", "shown"),
    [
        ("\x1b", "␛"), ("\r", "␍"), ("\0", "␀"), ("\x7f", "␡"), ("\x9b", "\ufffd"),
        ("\u202e", "\ufffd"), ("\u2028", "\ufffd"), ("\t", "\t"), ("\u200d", "\u200d"),
        ("日", "日"), ("\ufffc", "\ufffc"), ("😀", "😀"),
    ],
)  # fmt: skip
def test_what_a_terminal_obeys_is_shown_as_a_picture(character: str, shown: str) -> None:
    lines = TextLines(f"a{character}b\nc")
    assert lines[0] == f"a{shown}b"
    assert lines.text == f"a{character}b\nc"
