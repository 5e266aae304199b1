from __future__ import annotations

import pytest

from collab.protocol.coverage import Coverage, Fit
from collab.protocol.merge import cut, merge
from collab.protocol.walk import walk
from tests.unit.protocol.updates import deletes, item, shared_type, string, text, update


def _merge(*updates: bytes) -> bytes:
    return merge([(data, walk(data)) for data in updates])


def test_one_update_comes_back_as_it_is() -> None:
    data = update((1, 0, [text("a")]))
    assert _merge(data) is data
    with pytest.raises(ValueError, match="nothing"):
        merge([])


def test_structs_are_concatenated_and_deletes_united() -> None:
    merged = _merge(
        update((1, 4, [text("a", left=(1, 3))]), delete_set=deletes((9, [(5, 1)]))),
        update((2, 0, [text("b", left=(1, 4))]), (1, 5, [b"\x00\x02"])),
        b"\x00" + deletes((9, [(4, 1), (8, 1)]), (1, [(4, 1)])),
        update((1, 7, [text("c", left=(2, 0))]), delete_set=deletes((9, [(4, 3)]))),
    )
    assert merged == update(
        (2, 0, [text("b", left=(1, 4))]),
        (1, 4, [text("a", left=(1, 3)), b"\x00\x02", text("c", left=(2, 0))]),
        delete_set=deletes((1, [(4, 1)]), (9, [(4, 3), (8, 1)])),
    )


def test_gaps_overlaps_and_skips_are_not_merged() -> None:
    first = update((1, 0, [text("abc")]))
    for second in (update((1, 4, [text("x")])), update((1, 2, [text("x")]))):
        with pytest.raises(ValueError, match="continues at"):
            _merge(first, second)
    with pytest.raises(ValueError, match="Skips"):
        _merge(first, update((1, 0, [b"\x0a\x03", text("x", left=(1, 2))])))


KNOWN = update((1, 0, [text("a📊b")]), delete_set=deletes((1, [(0, 1)])))


@pytest.mark.parametrize(
    ("data", "rest"),
    [
        (
            update((1, 0, [text("a📊bé!", right=(7, 1))])),
            update((1, 4, [text("é!", left=(1, 3), right=(7, 1))])),
        ),
        (update((1, 3, [text("bc", left=(1, 2))])), update((1, 4, [text("c", left=(1, 3))]))),
        (update((1, 0, [b"\x00\x09"])), update((1, 4, [b"\x00\x05"]))),
        (
            update((1, 0, [item(1, b"\x06", parent=(9, 0), key="k")])),
            update((1, 4, [bytes([0x81 | 0x20]) + b"\x01\x03\x02"])),
        ),
        (
            update((1, 2, [item(8, b"\x03\x7f\x77" + string("é") + b"\x7e", key="k")])),
            update((1, 4, [bytes([0x88 | 0x20]) + b"\x01\x03\x01\x7e"])),
        ),
        (
            update((1, 0, [text("a📊b"), shared_type()]), (2, 0, [text("x")])),
            update((2, 0, [text("x")]), (1, 4, [shared_type()])),
        ),
        (
            update((1, 0, [b"\x0a\x04", text("x", left=(1, 3))])),
            update((1, 4, [text("x", left=(1, 3))])),
        ),
        (
            update((1, 0, [b"\x00\x04"]), delete_set=deletes((1, [(0, 4)]))),
            b"\x00" + deletes((1, [(1, 3)])),
        ),
    ],
)
def test_what_is_known_is_cut_away(data: bytes, rest: bytes) -> None:
    coverage = Coverage.from_update(KNOWN)
    assert cut(data, walk(data), coverage) == rest


def test_what_is_left_is_new() -> None:
    coverage = Coverage.from_update(KNOWN)
    data = update((1, 0, [text("a📊bcd")]), delete_set=deletes((1, [(0, 1), (4, 1)])))
    assert coverage.fit(walk(data)) is Fit.OVERLAPS
    rest = cut(data, walk(data), coverage)
    assert coverage.fit(walk(rest)) is Fit.NEW
    assert rest == update((1, 4, [text("cd", left=(1, 3))]), delete_set=deletes((1, [(4, 1)])))


def test_a_gap_is_not_cut() -> None:
    coverage = Coverage.from_update(KNOWN)
    data = update((1, 3, [text("b", left=(1, 2)), b"\x0a\x02", text("x")]))
    with pytest.raises(ValueError, match="gap from 4 to 6"):
        cut(data, walk(data), coverage)
