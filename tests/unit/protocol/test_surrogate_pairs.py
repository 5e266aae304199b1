from __future__ import annotations

import pytest

from collab.errors import BadUpdate
from collab.protocol.coverage import Coverage, Fit
from collab.protocol.walk import walk
from tests.unit.protocol.updates import deletes, text, update

PAIR = update((1, 0, [text("a📊b")]))  # clocks: a 0, 📊 1 and 2, b 3


@pytest.mark.parametrize(
    "data",
    [
        update((2, 0, [text("x", left=(1, 1))])),
        update((2, 0, [text("x", right=(1, 2))])),
        update((2, 0, [text("x"), text("y", left=(1, 1), right=(1, 2))])),
        b"\x00" + deletes((1, [(1, 1)])),
        b"\x00" + deletes((1, [(2, 2)])),
        b"\x00" + deletes((1, [(0, 2)])),
    ],
)
def test_half_a_character_is_refused(data: bytes) -> None:
    coverage = Coverage.from_update(PAIR)
    with pytest.raises(BadUpdate, match="character"):
        coverage.fit(walk(data))
    with pytest.raises(BadUpdate, match="character"):
        Coverage.from_bytes(coverage.to_bytes()).add(walk(data))


@pytest.mark.parametrize(
    "data",
    [
        update((2, 0, [text("x", left=(1, 0), right=(1, 1))])),
        update((2, 0, [text("x", left=(1, 2), right=(1, 3))])),
        b"\x00" + deletes((1, [(1, 2)])),
        b"\x00" + deletes((1, [(0, 1), (3, 1)])),
    ],
)
def test_whole_characters_are_anyones(data: bytes) -> None:
    assert Coverage.from_update(PAIR).fit(walk(data)) is Fit.NEW


def test_half_a_character_of_the_update_itself_is_refused() -> None:
    both = update((1, 0, [text("📊"), text("x", left=(1, 0))]))
    with pytest.raises(BadUpdate, match="inside a character"):
        Coverage.from_update(both)
    with pytest.raises(BadUpdate, match="half a character"):
        Coverage.from_update(PAIR[:-1] + deletes((1, [(1, 1)])))


def test_a_character_across_what_is_known_is_refused() -> None:
    coverage = Coverage.from_update(update((1, 0, [text("ab")])))
    with pytest.raises(BadUpdate, match="known as something else"):
        coverage.fit(walk(PAIR))
