"""A message that is lost, doubled, changed or out of order is found, whoever has it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from collab.demo import talk
from collab.demo.talk import Said

SENT = {"A": 3, "B": 2}
RIGHT = [
    Said(seq, talk.message_id(name, number).hex, talk.body(name, number))
    for seq, (name, number) in enumerate([("A", 1), ("B", 1), ("A", 2), ("A", 3), ("B", 2)], 1)
]


def renumbered(messages: list[Said]) -> list[Said]:
    return [Said(seq, message.id, message.body) for seq, message in enumerate(messages, 1)]


def test_what_everybody_has_once_and_in_order_is_right() -> None:
    assert talk.wrongs(SENT, {"A": RIGHT, "B": list(RIGHT), "C": list(RIGHT)}) == []
    assert talk.is_in_order("A", 3, RIGHT)
    assert talk.is_in_order("B", 2, RIGHT)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda heard: heard[:3] + heard[4:], "never got A's messages [3]"),
        (lambda heard: [*heard, heard[0]], "has A's messages [1] more than once"),
        (
            lambda heard: [heard[2], heard[1], heard[0], *heard[3:]],
            "has A's messages in another order: [2, 1, 3]",
        ),
        (
            lambda heard: [Said(1, heard[0].id, "else"), *heard[1:]],
            "has A's messages [1] with another body",
        ),
        (lambda heard: [*heard, Said(6, "00" * 16, "psst")], "that nobody sent: 'psst'"),
    ],
)
def test_what_went_wrong_is_named(
    change: Callable[[list[Said]], list[Said]], complaint: str
) -> None:
    wrong = renumbered(change(list(RIGHT)))
    found = talk.wrongs(SENT, {"A": wrong, "B": wrong, "C": wrong})
    assert len(found) == 3
    assert all(complaint in line for line in found), found


def test_holes_in_the_numbers_are_found() -> None:
    holed = [*RIGHT[:-1], Said(9, RIGHT[-1].id, RIGHT[-1].body)]
    (found,) = talk.wrongs(SENT, {"A": holed})
    assert "A's messages are not numbered from 1 without holes" in found


def test_replicas_that_differ_are_found_even_if_each_is_in_order() -> None:
    other = renumbered([RIGHT[1], RIGHT[0], *RIGHT[2:]])
    assert talk.wrongs(SENT, {"A": RIGHT, "B": other}) == [
        "the replicas have not the same messages under the same numbers"
    ]


def test_a_file_gives_back_what_was_heard() -> None:
    assert talk.load(talk.dump(RIGHT)) == RIGHT


def test_ids_follow_from_writer_and_number_and_are_never_the_same_twice() -> None:
    ids = {talk.message_id(name, number) for name in "AB" for number in range(100)}
    assert len(ids) == 200
    assert talk.message_id("A", 1) == talk.message_id("A", 1)


def test_messages_are_spread_over_all_edits() -> None:
    moments = [talk.due(number, 40, 6000) for number in range(1, 41)]
    assert moments == sorted(set(moments))
    assert moments[0] < 200
    assert 5800 < moments[-1] < 6000
