from __future__ import annotations

import contextlib

import pytest

from collab.errors import BadUpdate
from collab.limits import MAX_TYPE_DEPTH
from collab.protocol.coverage import Coverage, Fit
from collab.protocol.walk import walk
from tests.unit.protocol.updates import deletes, item, shared_type, text, update


def _of(*updates: bytes) -> Coverage:
    coverage = Coverage()
    for data in updates:
        coverage.add(walk(data))
    return coverage


def _fit(coverage: Coverage, data: bytes) -> Fit:
    return coverage.fit(walk(data))


HELLO = update((1, 0, [text("hello")]))


@pytest.mark.parametrize(
    ("data", "fit"),
    [
        (b"\x00\x00", Fit.NOTHING),
        (HELLO, Fit.NOTHING),
        (update((1, 2, [text("l", left=(1, 1))])), Fit.NOTHING),
        (update((1, 0, [b"\x0a\x09"])), Fit.NOTHING),
        (b"\x00" + deletes((1, [(1, 2)])), Fit.NOTHING),
        (update((1, 5, [text("!", left=(1, 4))])), Fit.NEW),
        (update((2, 0, [text("!", left=(1, 4))])), Fit.NEW),
        (update((2, 0, [text("!")]), delete_set=deletes((2, [(0, 1)]))), Fit.NEW),
        (b"\x00" + deletes((1, [(3, 2)])), Fit.NEW),
        (update((1, 0, [text("hello world")])), Fit.OVERLAPS),
        (update((1, 4, [text("o!", left=(1, 3))])), Fit.OVERLAPS),
        (b"\x00" + deletes((1, [(0, 5)])), Fit.OVERLAPS),
        (update((1, 5, [text("!", left=(1, 4))]), delete_set=deletes((1, [(1, 1)]))), Fit.OVERLAPS),
        (update((1, 0, [b"\x0a\x05", text("!", left=(1, 4))])), Fit.OVERLAPS),
        (update((1, 6, [text("!", left=(1, 4))])), Fit.EARLY),
        (update((2, 1, [text("!")])), Fit.EARLY),
        (update((2, 0, [text("!", left=(1, 5))])), Fit.EARLY),
        (update((2, 0, [text("!", right=(3, 0))])), Fit.EARLY),
        (update((2, 0, [text("!", parent=(3, 0))])), Fit.EARLY),
        (b"\x00" + deletes((1, [(4, 2)])), Fit.EARLY),
        (b"\x00" + deletes((2, [(0, 1)])), Fit.EARLY),
        (update((2, 0, [text("ab"), b"\x0a\x02", text("c")])), Fit.EARLY),
    ],
)
def test_how_an_update_fits(data: bytes, fit: Fit) -> None:
    coverage = _of(HELLO, b"\x00" + deletes((1, [(1, 2)])))
    before = coverage.copy()
    assert _fit(coverage, data) is fit
    if fit is Fit.EARLY:
        with pytest.raises(BadUpdate, match="not there"):
            coverage.add(walk(data))
        assert coverage == before
    else:
        coverage.add(walk(data))
        assert _fit(coverage, data) is Fit.NOTHING
        assert Coverage.from_bytes(coverage.to_bytes()) == coverage


def test_a_copy_does_not_follow() -> None:
    coverage = _of(HELLO)
    twin = coverage.copy()
    twin.add(walk(update((1, 5, [shared_type()]), delete_set=deletes((1, [(0, 1)])))))
    assert coverage == _of(HELLO)
    assert coverage != twin


# --- shared types -------------------------------------------------------------------------------


def _chain(length: int) -> list[bytes]:
    """Small updates, each with a type inside the one before."""
    chain = [update((1, 0, [shared_type()]))]
    chain += [
        update((1, clock, [shared_type(parent=(1, clock - 1))])) for clock in range(1, length)
    ]
    return chain


def test_types_nest_up_to_the_bound_across_updates() -> None:
    coverage = _of(*_chain(MAX_TYPE_DEPTH))
    bottom = MAX_TYPE_DEPTH - 1
    coverage.add(walk(update((1, bottom + 1, [text("x", parent=(1, bottom))]))))
    assert coverage.depth(1, bottom + 1) == MAX_TYPE_DEPTH
    for deeper in (
        shared_type(parent=(1, bottom)),
        shared_type(left=(1, bottom + 1)),
        shared_type(right=(1, bottom + 1)),
    ):
        with pytest.raises(BadUpdate, match="nest deeper than 64"):
            _fit(coverage, update((2, 0, [deeper])))
    again = Coverage.from_bytes(coverage.to_bytes())
    assert again == coverage
    with pytest.raises(BadUpdate, match="nest deeper than 64"):
        again.add(walk(update((2, 0, [shared_type(parent=(1, bottom))]))))
    assert again == coverage


def test_a_chain_in_one_update_or_across_its_clients_is_followed() -> None:
    one = update((1, 0, [shared_type()] + [shared_type(parent=(1, c)) for c in range(100)]))
    with pytest.raises(BadUpdate, match="nest deeper"):
        Coverage.from_update(one)
    low = [shared_type()] + [shared_type(parent=(2, c)) for c in range(40)]
    high = [shared_type(parent=(1, c)) for c in range(41)]
    across = update((2, 0, high), (1, 0, low))
    with pytest.raises(BadUpdate, match="nest deeper"):
        Coverage.from_update(across)


def test_sixty_thousand_levels_are_refused_without_recursion() -> None:
    structs = [shared_type()] + [shared_type(parent=(1, c)) for c in range(60_000)]
    with pytest.raises(BadUpdate, match="nest deeper"):
        Coverage.from_update(update((1, 0, structs)))
    beside = [shared_type()] + [shared_type(left=(1, c)) for c in range(60_000)]
    assert Coverage.from_update(update((1, 0, beside))).clocks == {1: 60_001}


def test_types_beside_each_other_are_not_depth() -> None:
    coverage = _of(*_chain(3))
    structs = [shared_type(parent=(1, 1))] + [shared_type(left=(2, c)) for c in range(200)]
    coverage.add(walk(update((2, 0, structs))))
    assert coverage.depth(2, 200) == 2


def test_an_item_between_two_types_is_refused() -> None:
    coverage = _of(*_chain(3))
    for data in (
        update((2, 0, [text("x", left=(1, 0), right=(1, 1))])),
        update((2, 0, [text("x", left=(1, 0), right=(1, 1)), text("y", left=(2, 0))])),
    ):
        with pytest.raises(BadUpdate, match="different shared types"):
            _fit(coverage, data)


def test_beside_what_is_gone_the_deeper_neighbour_counts() -> None:
    coverage = _of(*_chain(3), update((2, 0, [b"\x00\x02"])))
    coverage.add(walk(update((3, 0, [text("x", left=(2, 0), right=(1, 2))]))))
    assert coverage.depth(3, 0) == 2


def test_a_parent_must_be_a_type_or_gone() -> None:
    coverage = _of(HELLO, update((2, 0, [b"\x00\x02"])), b"\x00" + deletes((1, [(0, 1)])))
    for clock in (0, 3):  # deleted or not: another engine may still have the text
        with pytest.raises(BadUpdate, match=r"parent \(1, \d\) of an item is not a shared type"):
            _fit(coverage, update((3, 0, [text("x", parent=(1, clock))])))
    assert _fit(coverage, update((3, 0, [text("x", parent=(2, 1))]))) is Fit.NEW


def test_the_tail_of_a_known_struct_is_as_deep_as_its_head() -> None:
    coverage = _of(*_chain(2), update((2, 0, [text("ab", parent=(1, 1))])))
    coverage.add(walk(update((2, 0, [text("abcd", parent=(1, 1))]))))
    assert [coverage.depth(2, clock) for clock in range(4)] == [2, 2, 2, 2]


def test_plain_documents_store_no_depth() -> None:
    coverage = _of(HELLO, update((1, 5, [shared_type(), text("x", left=(1, 5))])))
    assert coverage._places == {}
    assert coverage.is_type(1, 5)
    assert not coverage.is_type(1, 6)


# --- between processes --------------------------------------------------------------------------


def test_bytes_of_a_coverage_cut_off_or_changed_never_do_more_than_raise() -> None:
    coverage = _of(
        *_chain(5),
        update((2, 0, [text("a📊b"), b"\x00\x02", item(1, b"\x02")])),
        b"\x00" + deletes((1, [(1, 1), (3, 1)]), (2, [(0, 1)])),
    )
    raw = coverage.to_bytes()
    assert Coverage.from_bytes(raw) == coverage
    for end in range(len(raw)):
        with pytest.raises(BadUpdate):
            Coverage.from_bytes(raw[:end])
    for at in range(len(raw)):
        for value in (0, 1, 127, 128, 255):
            with contextlib.suppress(BadUpdate):
                Coverage.from_bytes(raw[:at] + bytes([value]) + raw[at + 1 :])
    with pytest.raises(BadUpdate, match="follow"):
        Coverage.from_bytes(raw + b"\x00")


def test_an_update_is_judged_again_once_something_was_added() -> None:
    coverage, walked = _of(HELLO), walk(update((1, 5, [text("!", left=(1, 4))])))
    assert coverage.fit(walked) is Fit.NEW
    assert coverage.fit(walked) is Fit.NEW
    coverage.add(walked)
    assert coverage.fit(walked) is Fit.NOTHING
    assert coverage == _of(HELLO, walked.update)


def test_what_was_judged_of_one_update_is_not_taken_for_another() -> None:
    coverage = _of(HELLO)
    first, second = (
        walk(update((client, 0, [text(body, left=(1, 4))])))
        for client, body in ((2, "?"), (3, "twice"))
    )
    assert coverage.fit(first) is coverage.fit(second) is Fit.NEW
    coverage.add(first)
    assert coverage.clocks == {1: 5, 2: 1}
    coverage.add(second)
    assert coverage.clocks == {1: 5, 2: 1, 3: 5}


def test_where_the_new_structs_of_a_judged_update_sit_is_known_when_it_is_added() -> None:
    nested = walk(update((1, 0, [shared_type(2), text("in it", parent=(1, 0))])))
    coverage = Coverage()
    assert coverage.fit(nested) is Fit.NEW
    coverage.add(nested)
    assert (coverage.depth(1, 0), coverage.depth(1, 1)) == (0, 1)
    assert coverage.is_type(1, 0)
