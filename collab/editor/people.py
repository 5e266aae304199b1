"""Who is here, and where in the text: what others set in presence, checked, and what we set.

The fields are those of y-protocols and y-codemirror.next: ``user`` with ``name`` and ``color``,
``cursor`` with ``anchor`` and ``head`` as relative positions in Yjs' JSON. So this editor and web
editors see each other. Names are cut and colours are ours, by the name: the same here as in the
notebook's page.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from collab.presence import Presence
from collab.terminal import safe
from collab.text import RelativePosition, Text

__all__ = [
    "COLOURS", "Caret", "Person", "carets", "cleaned", "colour_of", "cursor", "people", "user",
]  # fmt: skip

COLOURS: Final = (
    "#1f77b4", "#b5460f", "#2b8a3e", "#a3328a", "#6741d9", "#0b7285", "#a8071a", "#7a5c00",
)  # fmt: skip

_SOMEBODY: Final = "Somebody"
_NAME_CHARACTERS: Final = 40
_MAX_CARETS: Final = 64  # looked for in the text and drawn: a full room is not what one can follow


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is here. ``name`` is harmless; ``colour`` is the number of one of COLOURS."""

    name: str
    colour: int
    is_me: bool


@dataclass(frozen=True, slots=True)
class Caret:
    """Somebody else's selection, in indices of the text; their caret is at ``head``."""

    name: str
    colour: int
    anchor: int
    head: int


def cleaned(given: object) -> str:
    """A name as everybody shows it: one line, not too long, nothing invisible."""
    if not isinstance(given, str):
        return ""
    spaced = "".join(" " if _is_invisible(letter) else letter for letter in given)
    return " ".join(spaced.split())[:_NAME_CHARACTERS]


def _is_invisible(letter: str) -> bool:
    category = unicodedata.category(letter)
    return category[0] == "C" or category in ("Zl", "Zp")


def colour_of(name: str) -> int:
    """The number of a name's colour: the same for every editor."""
    total = 0
    for letter in name:
        total = (total * 31 + ord(letter)) & 0xFFFFFFFF
    return total % len(COLOURS)


def user(name: str) -> dict[str, str]:
    """What presence says of this user."""
    colour = COLOURS[colour_of(cleaned(name))]
    return {"name": cleaned(name), "color": colour, "colorLight": f"{colour}33"}


def cursor(anchor: RelativePosition, head: RelativePosition) -> dict[str, Any]:
    """What presence says of this user's selection."""
    return {"anchor": anchor.to_json(), "head": head.to_json()}


def people(presence: Presence) -> list[Person]:
    """Everybody who is here, this user first."""
    me = presence.awareness.get_local_state() or {}
    others = [_person(state) for state in presence.others().values()]
    return [_person(me, is_me=True), *sorted(others, key=lambda person: person.name)]


def carets(presence: Presence, text: Text) -> list[Caret]:
    """Others' places in ``text``, as far as the characters that they are beside are here."""
    found = []
    for _, state in sorted(presence.others().items()):
        place = _place(state.get("cursor"), text)
        if place is not None:
            person = _person(state)
            found.append(Caret(person.name, person.colour, *place))
            if len(found) == _MAX_CARETS:
                break
    return found


def _person(state: Mapping[str, Any], *, is_me: bool = False) -> Person:
    given = state.get("user")
    named = given.get("name") if isinstance(given, Mapping) else None
    name = cleaned(named) or cleaned(state.get("name")) or _SOMEBODY
    return Person(safe.name(name), colour_of(name), is_me)


def _place(told: object, text: Text) -> tuple[int, int] | None:
    if not isinstance(told, Mapping):
        return None
    found = []
    for end in (told.get("anchor"), told.get("head")):
        if not isinstance(end, Mapping):
            return None
        try:
            index = text.relative_position_from_json(end).index
        except ValueError:  # of another text, or anything: others may write what they like there
            return None
        if index is None:
            return None
        found.append(index)
    return found[0], found[1]
