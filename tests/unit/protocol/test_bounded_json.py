from __future__ import annotations

import pytest

from collab.protocol.bounded_json import parse_bounded_json


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "true",
        '""',
        "-1.5e3",
        '"ü\\n"',
        '{"a":[1,{"b":null}]}',
        " [1 , 2] ",
        '"\\ud83d\\ude00"',
    ],
)
def test_json_is_taken(text: str) -> None:
    parse_bounded_json(text)


@pytest.mark.parametrize(
    "text",
    ["", "undefined", "NaN", "-Infinity", "1e999", "1" + "0" * 400, "tru", "[1,]", "{}x", "'a'"],
)
def test_what_is_not_json_to_every_engine_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_bounded_json(text)


@pytest.mark.parametrize(
    "text",
    ['"\\ud800"', '"\\udc00"', '"\\ud800x\\udc00"', '"\\ud800\\ud800\\udc00"', '{"\\uDFFF":1}'],
)
def test_half_a_surrogate_pair_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        parse_bounded_json(text)


def test_an_escaped_backslash_before_u_is_no_surrogate() -> None:
    assert parse_bounded_json('"\\\\ud800"') == "\\ud800"


def test_depth_is_counted_to_the_bound() -> None:
    parse_bounded_json("[" * 64 + "]" * 64)
    with pytest.raises(ValueError, match="deeper than 64"):
        parse_bounded_json("[" * 65 + "]" * 65)
    with pytest.raises(ValueError, match="deeper than 64"):
        parse_bounded_json('{"a":' * 100_000)


def test_brackets_in_strings_and_beside_each_other_are_not_depth() -> None:
    parse_bounded_json('"' + "[" * 1000 + '"')
    parse_bounded_json('["' + '\\"[' * 1000 + '"]')
    parse_bounded_json("[" + ",".join(["[]"] * 1000) + "]")


def test_an_endless_string_is_refused_quickly() -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_bounded_json('["' + "\\" * 200_001 + "[" * 100)
