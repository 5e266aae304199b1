"""Whatever somebody wrote, a terminal obeys none of it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab.terminal import safe

ANYTHING = st.text(st.characters(exclude_categories=())) | st.text(
    st.sampled_from(
        "\x00\x07\x08\t\n\r\x1b[]m;0\x7f\x80\x85\x90\x9b\x9c\xad\u2028\u202e\u2066\ud800a你"
    )
)
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def obeyed(shown: str) -> set[str]:
    """What of it a terminal would act on."""
    return {
        character
        for character in shown
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in TURNING
    }


@given(ANYTHING)
def test_no_text_has_a_control_character_but_its_line_feeds(written: str) -> None:
    assert obeyed(safe.text(written)) <= {"\n"}


@given(ANYTHING)
def test_no_line_and_no_name_has_any(written: str) -> None:
    assert not obeyed(safe.one_line(written))
    shown = safe.name(written)
    assert not obeyed(shown)
    assert not any(unicodedata.category(character) == "Cf" for character in shown)
    assert len(shown) <= 32


@given(st.text(st.characters(categories=["L", "N", "P", "S", "M", "Zs"])))
def test_honest_text_of_every_script_is_left_as_it_is(written: str) -> None:
    assert safe.text(written) == written
    assert safe.one_line(written) == written


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\x1b]52;c;cm0gLXJm\x07", "\\x1b]52;c;cm0gLXJm\\x07"),  # into the clipboard
        ("\x9b31m", "\\x9b31m"),  # the same with one C1 character
        ("safe\rfake", "safe\\x0dfake"),
        ("a\r\nb", "a\nb"),
        ("a\tb", "a    b"),
        ("abc\u202egpj.exe", "abc\\u202egpj.exe"),
        ("👩\u200d🚀", "👩\u200d🚀"),  # a joiner is a part of the picture
        ("\ud800", "\\ud800"),
    ],
)
def test_what_is_dangerous_becomes_visible(written: str, shown: str) -> None:
    assert safe.text(written) == shown


def test_a_long_name_is_cut_and_an_invisible_character_in_it_shown() -> None:
    assert safe.name("x" * 40) == "x" * 31 + "…"
    assert safe.name("ad\u200bmin") == "ad\\u200bmin"
