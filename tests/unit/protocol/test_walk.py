from __future__ import annotations

import pytest

from collab.errors import BadUpdate
from collab.limits import MAX_CLOCK
from collab.protocol.contents import ANY, GC, STRING, TYPE, Walk
from collab.protocol.walk import structs_of, walk
from tests.unit.protocol.updates import deletes, item, number, shared_type, string, text, update

SKIP_3 = b"\x0a\x03"
GC_3 = b"\x00\x03"


def test_an_empty_update_has_nothing() -> None:
    assert walk(b"\x00\x00") == Walk(b"\x00\x00", (), {}, (), ())


def test_ranges_needs_and_deletes_are_told() -> None:
    data = update(
        (9, 4, [text("héllo", left=(9, 3), right=(2, 7)), text("x", left=(5, 1))]),
        (5, 0, [text("ab"), text("c", right=(2, 3))]),
        delete_set=deletes((9, [(0, 2), (4, 1)]), (2, [(6, 1)])),
    )
    found = walk(data)
    assert found.ranges == ((9, 4, 10), (5, 0, 3))
    assert found.needs == {2: 8}
    assert found.deletes == ((9, 0, 2), (9, 4, 1), (2, 6, 1))
    assert [block[:4] for block in found.blocks] == [(9, 4, 10, 2), (5, 0, 3, 2)]
    assert [data[block.start : block.end] for block in found.blocks] == [
        text("héllo", left=(9, 3), right=(2, 7)) + text("x", left=(5, 1)),
        text("ab") + text("c", right=(2, 3)),
    ]


def test_skips_split_ranges_and_what_they_leave_out_is_needed() -> None:
    data = update((1, 0, [GC_3, SKIP_3, GC_3]), (2, 0, [text("a", left=(1, 8)), SKIP_3]))
    assert walk(data).ranges == ((1, 0, 3), (1, 6, 9), (2, 0, 1))
    assert walk(data).has_skips
    assert walk(data).needs == {}
    assert walk(update((2, 0, [text("a", left=(1, 5)), SKIP_3]), (3, 0, [GC_3]))).needs == {1: 6}
    late = update((2, 0, [text("a"), SKIP_3]), (3, 0, [text("b", left=(2, 2))]))
    assert walk(late).needs == {2: 3}


def test_clocks_count_utf16_units() -> None:
    assert walk(update((1, 0, [text("a📊你")]))).ranges == ((1, 0, 4),)
    assert walk(update((1, 5, [text("📊", left=(1, 4))]))).ranges == ((1, 5, 7),)
    assert walk(update((1, 5, [text("x📊y📊", left=(1, 4))]))).second_halves == ((1, 7), (1, 10))


def test_every_kind_of_content_is_walked() -> None:
    structs = [
        GC_3,
        item(1, number(2)),
        item(3, string(b"\xff\xfe")),
        text("abc"),
        item(5, string('{"a":1}')),
        item(6, string("bold") + string("true")),
        *[shared_type(ref) for ref in (0, 1, 2, 4, 6)],
        item(7, b"\x03" + string("p")),
        item(8, b"\x02\x7f\x75\x01\x7e", key="k"),
        item(9, string("guid") + b"\x76\x00"),
        text("in", parent=(1, 20)),
    ]
    found = walk(update((1, 10, structs)))
    assert found.ranges == ((1, 10, 32),)
    assert found.gone == ((1, 10, 13), (1, 13, 15))
    assert found.types == tuple((1, clock) for clock in range(21, 27))
    assert found.has_parents
    assert found.needs == {}


def test_structs_are_listed_with_their_bytes() -> None:
    data = update((1, 0, [GC_3, SKIP_3, text("ab", left=(1, 5), right=(7, 2))]))
    gone, string_ = structs_of(data)
    assert (gone.kind, gone.clock, gone.end_clock) == (GC, 0, 3)
    assert (string_.kind, string_.clock, string_.end_clock) == (STRING, 6, 8)
    assert string_[7:11] == (1, 5, 7, 2)
    assert data[string_.start : string_.end] == text("ab", left=(1, 5), right=(7, 2))
    assert data[string_.content : string_.end] == string("ab")


ONE = text("a")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "cut off"),
        (b"\x00", "cut off"),
        (b"\x00\x00\x00", "1 bytes follow"),
        (update((1, 0, [ONE])) + b"\x00", "1 bytes follow"),
        (number(2**50) + b"\x00", "clients are announced"),
        (number(2**52) + number(1) * 20, "clients are announced"),
        (b"\x01" + number(2**50) + b"\x01\x00" + ONE + b"\x00", "structs are announced"),
        (b"\x01\x00\x01\x00\x00\x00\x00", "0 structs are announced"),
        (update((1, 0, [ONE]), (1, 1, [ONE])), "client 1 comes twice"),
        (update((1, 0, [ONE]), delete_set=deletes((1, [(0, 1)]), (1, [(0, 1)]))), "two lists"),
        (update((1, 0, [item(2, b"\x01" + string("1"))])), "ContentJSON"),
        (update((1, 0, [item(11, b"\x00\x00")])), "unknown kind 0x0b"),
        (update((1, 0, [item(0x14, string("a"))])), "unknown kind 0x14"),
        (update((1, 0, [b"\x80\x01\x00\x03"])), "unknown kind|later one"),
        (update((1, 0, [b"\x80\x02\x00\x03"])), "unknown kind 0x80"),
        (update((1, 0, [b"\x04\x02\x01\x01\x01a"])), "neither name nor id"),
        (update((1, 0, [shared_type(5)])), "XmlHook"),
        (update((1, 0, [shared_type(7)])), "unknown kind 7"),
        (update((1, 0, [shared_type(15)])), "unknown kind 15"),
        (update((1, 0, [item(9, string("guid") + b"\x7f")])), "are no map"),
        (update((1, 0, [text("")])), "is empty"),
        (update((1, 0, [item(8, b"\x00")])), "is empty"),
        (update((1, 0, [item(1, b"\x00")])), "is empty"),
        (update((1, 0, [b"\x00\x00"])), "is empty"),
        (update((1, 0, [b"\x0a\x00"])), "is empty"),
        (update((1, 0, [text(b"\xff")])), "not UTF-8"),
        (update((1, 1, [text(b"\xff", left=(1, 0))])), "not UTF-8"),
        (update((1, 1, [text(b"\xff\xfe", left=(1, 0))])), "not UTF-8"),
        (update((1, 0, [item(5, string("NaN"))])), "JSON at offset"),
        (update((1, 0, [item(6, string("b") + string("[" * 70))])), "deeper than 64"),
        (update((1, 0, [item(8, b"\x01" + b"\x75\x01" * 65 + b"\x7f")])), "deeper than 64"),
        (update((1, 0, [item(8, number(2**33) + b"\x7f")])), "values are announced"),
        (update((1, 0, [b"\x00" + number(MAX_CLOCK + 1)])), "above clock"),
        (update((1, MAX_CLOCK, [ONE])), "above clock"),
        (update((1, MAX_CLOCK, [text("a", left=(1, 0))])), "above"),
        (update((1, 1, [text("a", left=(2, MAX_CLOCK))])), "above|refers"),
        (update((1, 0, [text("a", left=(1, 0))])), "exist before|later one"),
        (update((1, 5, [text("a", right=(1, 5))])), "exist before|later one"),
        (update((1, 0, [ONE, text("a", parent=(1, 1))])), "later one"),
        (update((1, 1, [text("a", left=(1, 0), right=(1, 0))])), "itself"),
        (update((1, 1, [item(8, b"\x01\x7f", left=(2**40, 9), right=(2**40, 9))])), "itself"),
        (update((1, 0, [text("a", left=(2, 0))]), (2, 0, [text("b", left=(1, 0))])), "circle"),
        (b"\x00" + deletes((1, [(0, 0)])), "empty"),
        (b"\x00" + deletes((1, [(5, 1), (0, 1)])), "out of order"),
        (b"\x00" + deletes((1, [(0, 5), (4, 1)])), "out of order"),
        (b"\x00" + deletes((1, [(MAX_CLOCK, 1)])), "above"),
        (b"\x00" + deletes((1, [(0, 1), (MAX_CLOCK, 1)])), "above"),
        (b"\x00" + b"\x01\x01" + number(2**40) + b"\x00\x01", "ranges are announced"),
        (b"\x00" + number(2**40) + b"\x00\x01", "with deletes are announced"),
    ],
)
def test_what_must_not_reach_an_engine_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(BadUpdate, match=complaint):
        walk(data)


def test_numbers_have_one_form() -> None:
    for data in (b"\x80\x00\x00", b"\x01\x01\x81\x00\x00" + ONE + b"\x00"):
        with pytest.raises(BadUpdate):
            walk(data)
    long_length = b"\x84\x01\x00\x81\x00a"
    with pytest.raises(BadUpdate):
        walk(update((1, 1, [long_length])))


def test_client_ids_of_every_size_are_told_apart() -> None:
    ids = [0, 127, 128, 2**28 - 1, 2**28, 2**32 - 1, 2**35 - 1, 2**35, 2**53 - 1]
    for client in ids:
        structs = [text("a", left=(other, 3), right=(other, 9)) for other in ids if other != client]
        found = walk(update((client, 1, structs)))
        assert found.needs == {other: 10 for other in ids if other != client}
    with pytest.raises(BadUpdate, match="2\\^53"):
        walk(b"\x01\x01" + b"\xff" * 7 + b"\x10" + b"\x00" + ONE + b"\x00")


def test_no_update_reads_as_a_shorter_one() -> None:
    data = update(
        (2**40, 3, [text("ab", left=(1, 0)), item(ANY, b"\x01\x77" + string("é"), key="k")]),
        (300, 0, [shared_type(1), item(TYPE, b"\x03" + string("p"), parent=(300, 0)), GC_3]),
        delete_set=deletes((1, [(0, 300), (400, 2)])),
    )
    walk(data)
    for end in range(len(data)):
        with pytest.raises(BadUpdate):
            walk(data[:end])
