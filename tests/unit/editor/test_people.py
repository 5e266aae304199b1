"""Who is here: what others set in presence is checked, and is what web editors read and write."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from collab.editor import people
from collab.editor.people import Caret, Person
from collab.presence import Presence
from tests.unit.editor.replicas import Side

PAGE = Path(__file__).parents[3] / "examples" / "notebook" / "src" / "people.ts"
BODY = {"tname": "body", "assoc": 0}
EVIL = "\x1b]0;owned\x07\u202e"


class Present:
    """Presence as it is read: others' states, and this user's."""

    def __init__(self, *others: Mapping[str, Any], me: Mapping[str, Any] | None = None) -> None:
        self._others = {number: dict(state) for number, state in enumerate(others, 10)}
        self._me = me
        self.awareness = self

    def others(self) -> dict[int, dict[str, Any]]:
        return self._others

    def get_local_state(self) -> Mapping[str, Any] | None:
        return self._me


def present(*others: Mapping[str, Any], me: Mapping[str, Any] | None = None) -> Presence:
    return cast(Presence, Present(*others, me=me))


def test_the_colours_are_those_of_the_notebooks_page() -> None:
    found = re.search(r"const COLOURS = (\[[^\]]*\])", PAGE.read_text())
    assert found is not None
    assert list(people.COLOURS) == json.loads(found[1])


@pytest.mark.parametrize(
    ("name", "number"),
    # What the page's colourNumberOf answers in a browser.
    [("Ada", 6), ("Ben", 3), ("小明", 7), ("🦊 Fox", 1), ("", 0)],
)
def test_a_name_has_the_same_colour_everywhere(name: str, number: int) -> None:
    assert people.colour_of(name) == number


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("  Ada \n Lovelace ", "Ada Lovelace"), (f"E{EVIL}ve", "E ]0;owned ve"),
        ("x" * 99, "x" * 40), (None, ""), (7, ""), ({"a": 1}, ""), ("\u200d\u202e", ""),
        ("小明", "小明"),
    ],
)  # fmt: skip
def test_a_name_is_one_line_and_harmless(given: object, name: str) -> None:
    assert people.cleaned(given) == name


def test_everybody_is_listed_this_user_first_and_nobody_without_a_name() -> None:
    evil = {"name": f"A{EVIL}"}
    others: list[dict[str, Any]] = [
        {"user": {"name": "Zoe"}},
        {"user": 5},
        {},
        {"name": EVIL},
        {"user": evil},
    ]
    found = people.people(present(*others, me={"user": {"name": "Me"}}))
    names = ["Me", "A ]0;owned", "Somebody", "Somebody", "Zoe", "]0;owned"]
    assert [person.name for person in found] == names
    assert [person.is_me for person in found] == [True, *[False] * 5]
    assert found[4] == Person("Zoe", people.colour_of("Zoe"), False)


def test_what_is_told_of_this_user_is_what_web_editors_read() -> None:
    told = people.user(f"Ada{EVIL}")
    assert told["name"] == "Ada ]0;owned"
    assert re.fullmatch("#[0-9a-f]{6}", told["color"])
    assert told["colorLight"] == told["color"] + "33"
    side = Side(1)
    side.text.insert(0, "abc")
    at = people.cursor(side.text.relative_position(1), side.text.relative_position(3, "before"))
    assert at == {
        "anchor": {"tname": "body", "item": {"client": 1, "clock": 1}, "assoc": 0},
        "head": {"tname": "body", "item": {"client": 1, "clock": 2}, "assoc": -1},
    }


def test_carets_are_where_yjs_puts_them() -> None:
    side = Side(1)
    side.text.insert(0, "a👍c")
    item = {"type": None, "tname": "body", "item": {"client": 1, "clock": 1}, "assoc": 0}
    end = {"type": None, "tname": "body", "item": None, "assoc": 0}
    user = {"name": "Ada", "color": "#123456"}
    found = people.carets(
        present({"user": user, "cursor": {"anchor": item, "head": end}}), side.text
    )
    assert found == [Caret("Ada", people.colour_of("Ada"), 1, 3)]


@pytest.mark.parametrize(
    "cursor",
    [
        None, 5, "x", [], {}, {"anchor": None, "head": None}, {"anchor": {}, "head": {}},
        {"anchor": {"tname": "other", "assoc": 0}, "head": {"tname": "other", "assoc": 0}},
        {"anchor": {"tname": "body", "assoc": "x"}, "head": {"tname": "body", "assoc": 0}},
        {"anchor": BODY, "head": {"tname": "body", "item": {"client": -1, "clock": 0}}},
        {"anchor": BODY, "head": {"tname": "body", "item": {"client": 8, "clock": 0}}},
    ],
)  # fmt: skip
def test_what_is_no_caret_in_this_text_is_not_shown(cursor: object) -> None:
    side = Side(1)
    side.text.insert(0, "abc")
    assert people.carets(present({"user": {"name": "Eve"}, "cursor": cursor}), side.text) == []


def test_a_crowd_is_not_drawn_without_end() -> None:
    side = Side(1)
    place = {"tname": "body", "assoc": 0}
    crowd = [{"cursor": {"anchor": place, "head": place}} for _ in range(1_000)]
    assert len(people.carets(present(*crowd), side.text)) == 64
