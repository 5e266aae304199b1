"""No line is wider than the screen, nothing is lost, and words stay whole where they can."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from collab.terminal.folding import fold
from collab.terminal.transcript import Row


def folded(body: str, width: int, **more: str) -> list[str]:
    return ["".join(text for _, text in line) for line in fold(Row("theirs", body, **more), width)]


def test_words_go_to_the_next_line_whole_and_set_in() -> None:
    assert folded("see section two of the plan", 20, lead="12:00 ada") == [
        "12:00 ada  see",
        "      section two of",
        "      the plan",
    ]


def test_a_word_that_no_line_holds_is_broken() -> None:
    assert folded("x" * 30, 20, lead="a") == ["a  " + "x" * 17, "      " + "x" * 13]


def test_its_own_lines_stay_and_the_standing_comes_last() -> None:
    assert folded("one\n\nthree", 40, lead="a", tail="[queued]") == [
        "a  one",
        "      ",
        "      three  [queued]",
    ]


def test_styles_say_who_wrote_and_how_it_stands() -> None:
    row = Row("mine", "hi", "12:00 you", "[queued]", "queued")
    (line,) = fold(row, 80)
    assert line == [
        ("class:mine.lead", "12:00 you  "),
        ("class:mine", "hi"),
        ("class:state.queued", "  [queued]"),
    ]


def test_the_unread_mark_is_as_wide_as_the_screen() -> None:
    assert fold(Row("unread", "new"), 12) == [[("class:unread", "── new ─────")]]


BODIES = st.text(st.sampled_from("ab  \n你好😀e\u0301"), max_size=60)


@given(BODIES, st.integers(2, 60))
def test_no_line_is_too_wide_and_nothing_but_spaces_is_lost(body: str, width: int) -> None:
    lines = folded(body, width)
    assert all(get_cwidth(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == body.replace(" ", "").replace("\n", "")
