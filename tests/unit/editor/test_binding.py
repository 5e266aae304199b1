"""A view stays level with its text, and its caret with its character, whatever others do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from collab.editor.binding import Binding, Change, smallest
from collab.text import Delete, Insert, TextChanged
from tests.unit.editor.replicas import Side

words = st.text(st.characters(codec="utf-8"), max_size=6)
fractions = st.floats(0, 1, exclude_max=True)
numbers = st.integers(0, 4)


def unlike() -> Iterator[str]:
    """Characters of every plane, ASCII and controls first, none of them twice."""
    plane = [iter(range(start, start + 0x8000)) for start in range(0, 0x110000, 0x10000)]
    for codes in itertools.cycle(plane):
        yield chr(next(codes))


class Views(RuleBasedStateMachine):
    """Every character is there once, so each can be found again wherever others have put it."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = unlike()
        self.mine, self.other = Side(1), Side(2)
        self.mine.text.observe(lambda _: None)
        self.theirs: set[str] = set()
        self.view = Binding(self.mine.text)
        self.view.hold(0, 0)
        self.before = self.view.seen  # when the caret was put where it is
        self.caret = 0

    def place(self, fraction: float) -> int:
        return int(fraction * (len(self.view.seen) + 1))

    def new(self, count: int) -> str:
        return "".join(itertools.islice(self.letters, count))

    def hold(self, anchor: int, head: int) -> None:
        self.view.hold(anchor, head)
        self.before, self.caret = self.view.seen, head

    @rule(at=fractions, length=numbers, count=numbers)
    def the_user_edits(self, at: float, length: int, count: int) -> None:
        self.view.catch_up()
        start = self.place(at)
        length = min(length, len(self.view.seen) - start)
        made = self.mine.made
        text = self.new(count)
        expected = self.view.seen[:start] + text + self.view.seen[start + length :]
        change = self.view.edit(start, length, text)
        assert self.view.seen == str(self.mine.text) == expected
        assert self.mine.made == made + (change is not None)
        self.hold(start + count, start + count)

    @rule(at=fractions)
    def the_user_moves_the_caret(self, at: float) -> None:
        self.view.catch_up()
        self.hold(self.place(at), self.place(at))

    @rule(at=fractions, length=numbers, count=numbers)
    def the_other_one_edits(self, at: float, length: int, count: int) -> None:
        text = self.other.text
        start = int(at * (len(text) + 1))
        new = self.new(count)
        self.theirs.update(new)
        text.replace(start, min(length, len(text) - start), new)

    @rule(count=st.integers(1, 5))
    def updates_come(self, count: int) -> None:
        self.mine.take_from(self.other, count)

    @rule(count=st.integers(1, 5))
    def updates_go(self, count: int) -> None:
        self.other.take_from(self.mine, count)

    @rule(back=st.booleans())
    def the_user_undoes(self, back: bool) -> None:
        self.view.catch_up()
        there = self.theirs & set(self.view.seen)
        (self.mine.undo.redo if back else self.mine.undo.undo)()
        self.view.catch_up()
        if not back:  # a deletion that is made again may have been of what others wrote
            assert there <= set(self.view.seen)
        self.hold(self.place(0.5), self.place(0.5))

    @rule()
    def it_catches_up(self) -> None:
        before = self.view.seen
        change = self.view.catch_up()
        after = before if change is None else change.apply_to(before)
        assert after == self.view.seen == str(self.mine.text)
        self.the_caret_is_where_it_was()

    def the_caret_is_where_it_was(self) -> None:
        seen, (_, head) = self.view.seen, self.view.caret
        left, right = self.before[: self.caret], self.before[self.caret :]
        if left and left[-1] in seen:
            assert head == seen.index(left[-1]) + 1  # beside what it was typed after
        # Else between what is left of its neighbours.
        assert all(seen.index(c) < head for c in left if c in seen)
        assert all(seen.index(c) >= head for c in right if c in seen)

    @invariant()
    def nothing_comes_back(self) -> None:
        made = self.mine.made
        while self.mine.turn:
            self.mine.turn.pop(0)()
        assert self.mine.made == made

    def teardown(self) -> None:
        self.mine.take_from(self.other)
        self.other.take_from(self.mine)
        self.it_catches_up()
        assert self.view.seen == str(self.other.text)


TestViews = Views.TestCase
TestViews.settings = settings(max_examples=150, stateful_step_count=30)


@given(words, words, words, words)
def test_a_change_leads_from_one_string_to_the_other_and_touches_the_least(
    head: str, tail: str, one: str, other: str
) -> None:
    before, after = head + one + tail, head + other + tail
    change = smallest(before, after)
    if change is None:
        assert before == after
        return
    assert change.apply_to(before) == after
    assert change.length <= len(one)
    assert len(change.text) <= len(other)
    replaced = before[change.index : change.index + change.length]
    assert not (replaced and change.text and replaced[0] == change.text[0])
    assert not (replaced and change.text and replaced[-1] == change.text[-1])


@given(st.integers(0, 20), st.integers(0, 5), words, st.integers(0, 30))
def test_a_place_stays_beside_what_is_left_of_its_neighbours(
    index: int, length: int, text: str, place: int
) -> None:
    moved = Change(index, length, text).move(place)
    if place <= index:
        assert moved == place
    elif place >= index + length:
        assert moved - place == len(text) - length
    else:
        assert moved == index + len(text)


def test_only_what_differs_is_edited_and_in_one_transaction() -> None:
    side = Side(1)
    side.text.insert(0, "The quick 🦊 jumps")
    seen: list[TextChanged] = []
    side.text.observe(seen.append)
    Binding(side.text).edit(4, 13, "quack 🦊 jumped")
    while side.turn:
        side.turn.pop(0)()
    (event,) = seen
    assert str(side.text) == "The quack 🦊 jumped"
    inserted = sum(len(op.text) for op in event.delta if isinstance(op, Insert))
    deleted = sum(op.length for op in event.delta if isinstance(op, Delete))
    assert (inserted, deleted) == (12, 11)


def test_what_others_write_at_the_ends_of_a_selection_is_not_in_it() -> None:
    for anchor, head in ((1, 3), (3, 1)):
        side, other = Side(1), Side(2)
        side.text.insert(0, "abcd")
        other.take_from(side)
        view = Binding(side.text)
        view.hold(anchor, head)
        other.text.insert(3, "X")
        other.text.insert(1, "Y")
        side.take_from(other)
        view.catch_up()
        start, end = sorted(view.caret)
        assert view.seen[start:end] == "bc"
        assert (view.caret[0] < view.caret[1]) == (anchor < head)


def test_an_edit_that_the_text_refuses_changes_nothing() -> None:
    side = Side(1)
    side.text.insert(0, "abc")
    view = Binding(side.text)
    with pytest.raises(ValueError, match="surrogate"):
        view.edit(1, 1, "\ud800")
    assert view.seen == str(side.text) == "abc"
