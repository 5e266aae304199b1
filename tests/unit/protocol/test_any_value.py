from __future__ import annotations

import pytest

from collab.errors import BadUpdate
from collab.limits import MAX_VALUE_DEPTH
from collab.protocol.any_value import skip_any
from tests.unit.protocol.updates import number, string


def _skip(raw: bytes) -> int:
    return skip_any(b"?" + raw, 1, len(raw) + 1) - 1


@pytest.mark.parametrize(
    "raw",
    [
        b"\x7f",
        b"\x7e",
        b"\x79",
        b"\x78",
        b"\x7d\x40",
        b"\x7d\xbf\xff\xff\xff\xff\xff\xff\x1f",
        b"\x7c" + bytes(4),
        b"\x7b" + bytes(8),
        b"\x7a" + bytes(8),
        b"\x77" + string("ü"),
        b"\x74" + string(b"\xff\x00"),
        b"\x75\x00",
        b"\x76\x00",
        b"\x75\x02\x75\x00\x7f",
        b"\x76\x02" + string("k") + b"\x75\x01\x7e" + string("") + b"\x78",
    ],
)
def test_each_kind_ends_where_it_ends_and_nowhere_before(raw: bytes) -> None:
    assert _skip(raw + b"\x7f") == len(raw)
    for end in range(len(raw)):
        with pytest.raises((BadUpdate, IndexError)):
            _skip(raw[:end])


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"\x00", "unknown tag 0"),
        (b"\x73", "unknown tag 115"),
        (b"\x75" + number(2**50), "too few remain"),
        (b"\x76\x02" + string("a") + b"\x7f", "too few remain"),
        (b"\x74" + number(2**40), "cut off"),
        (b"\x77" + string(b"\xff"), "not UTF-8"),
        (b"\x7d\xbf" + b"\xff" * 6 + b"\x20", "beyond 2"),
        (b"\x7d" + b"\xff" * 100, "beyond 2"),
    ],
)
def test_bad_values_are_refused(raw: bytes, complaint: str) -> None:
    with pytest.raises(BadUpdate, match=complaint):
        _skip(raw)


@pytest.mark.parametrize("level", [b"\x75\x01", b"\x76\x01\x00"])
def test_depth_is_counted_to_the_bound(level: bytes) -> None:
    assert _skip(level * MAX_VALUE_DEPTH + b"\x7f")
    with pytest.raises(BadUpdate, match="nests deeper than 64"):
        _skip(level * (MAX_VALUE_DEPTH + 1) + b"\x7f")
    with pytest.raises(BadUpdate, match="nests deeper than 64"):
        _skip(level * 100_000)
