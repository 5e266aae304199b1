"""The text on the screen is the shared text, whoever edits, and nobody moves anybody's caret."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual import events
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets.text_area import Selection

from collab.editor.area import SharedArea, typed
from collab.editor.carets import Paint
from collab.editor.people import Caret
from collab.errors import Closed
from tests.unit.editor.keys import press
from tests.unit.editor.replicas import Side

PARTS = ["a", "Z ", "\n", "\0", "\t", "é", "e\u0301", "你", "好世界", "\u200d", "\x1b[2J", "\u2028"]
PARTS += ["👩\u200d👩\u200d👧", "𝄞", "\U0010ffff", "العربية", "\x85", "x" * 40]
words = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=3)), max_size=4).map("".join)
fractions = st.floats(0, 1, exclude_max=True)
KEYS = ["enter", "tab", "backspace", "delete", "left", "right", "up", "down", "home", "end"]
KEYS += ["shift+left", "shift+down", "ctrl+w", "ctrl+k", "ctrl+u", "ctrl+x", "ctrl+v", "ctrl+z"]
KEYS += ["ctrl+y", "f7", "ctrl+shift+k", "pageup", "pagedown", "a", "日", "👍", "(", "é"]
acts = st.one_of(
    st.tuples(st.just("key"), st.sampled_from(KEYS)),
    st.tuples(st.just("paste"), words),
    st.tuples(st.just("other"), st.tuples(fractions, st.integers(0, 9), words)),
    st.tuples(st.just("come"), st.integers(1, 3)),
    st.tuples(st.just("go"), st.integers(1, 3)),
    st.tuples(st.just("show"), st.none()),
)


@dataclass
class Screen:
    """One area in an app of its own, and another user's replica."""

    side: Side
    other: Side
    area: SharedArea
    pilot: Pilot[None]
    refusals: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    async def press(self, *keys: str) -> None:
        await press(self.pilot, *keys)

    def theirs(self, index: int, length: int, text: str) -> None:
        """The other one, who has all that is here, edits; it comes here."""
        self.other.take_from(self.side)
        self.other.text.replace(index, length, text)
        self.side.take_from(self.other)

    def drawn(self) -> list[str]:
        """The rows as they are on the screen."""
        return [self.area.render_line(y).text.rstrip() for y in range(self.area.size.height)]


@asynccontextmanager
async def screen(text: str = "", size: tuple[int, int] = (40, 10)) -> AsyncIterator[Screen]:
    side, other = Side(1), Side(2)
    side.text.insert(0, text)
    side.undo.clear()
    refusals: list[str] = []
    changes: list[str] = []
    area = SharedArea(
        side.text,
        side.undo,
        paint=Paint(is_colourless=False),
        on_change=lambda: changes.append(str(side.text)),
        on_refused=refusals.append,
    )

    class Alone(App[None]):
        CSS = "#text { border: none; padding: 0; }"

        def compose(self) -> ComposeResult:
            yield area

    async with Alone().run_test(size=size) as pilot:
        area.focus()
        await pilot.pause()
        yield Screen(side, other, area, pilot, refusals, changes)


def alone(test: Callable[[Screen], Awaitable[None]], text: str = "", **more: object) -> None:
    async def main() -> None:
        async with screen(text, **more) as one:  # type: ignore[arg-type]
            await test(one)

    asyncio.run(main())


@given(st.lists(acts, max_size=25))
@settings(max_examples=25)
def test_whatever_is_pressed_and_whatever_comes_the_screen_shows_the_text(
    todo: list[tuple[str, object]],
) -> None:
    async def main(one: Screen) -> None:
        area, side, other = one.area, one.side, one.other
        for act, given_ in todo:
            match act, given_:
                case "key", str(key):
                    await one.press(key)
                    area.catch_up()
                case "paste", str(text):
                    area.app.copy_to_clipboard(text)
                    await one.press("ctrl+v")
                    area.catch_up()
                case "other", (float(at), int(length), str(text)):
                    index = int(at * (len(other.text) + 1))
                    other.text.replace(index, min(length, len(other.text) - index), typed(text))
                    continue
                case "come", int(count):
                    side.take_from(other, count)
                    continue  # and the next key meets a text that the screen does not show yet
                case "go", int(count):
                    other.take_from(side, count)
                case "show", _:
                    area.catch_up()
            if act != "go":
                assert area.text == area.bound.seen == str(side.text)
                assert tuple(map(area.lines.index, area.selection)) == area.bound.caret
        side.take_from(other)
        other.take_from(side)
        area.catch_up()
        assert area.text == str(side.text) == str(other.text)
        assert area.wrapped_document.height == len(area.wrapped_document._offset_to_line_info)
        assert not one.refusals

    alone(main, "The quick\tbrown 🦊\r\njumps over 狗\n")


def test_keys_are_updates_of_one_character() -> None:
    async def main(one: Screen) -> None:
        made = one.side.made
        await one.press("ctrl+end", *"日👍x", "enter")
        assert str(one.side.text) == "abc日👍x\n"
        assert one.side.made == made + 4
        assert max(map(len, one.side.out[-4:])) < 40

    alone(main, "abc")


def test_a_pasted_text_replaces_the_selection_by_what_differs() -> None:
    async def main(one: Screen) -> None:
        one.area.selection = Selection((0, 0), (0, 9))
        one.area.app.copy_to_clipboard("The quack")
        await one.press("ctrl+v")
        assert str(one.side.text) == "The quack brown"
        assert len(one.side.out[-1]) < 40
        assert one.area.cursor_location == (0, 9)

    alone(main, "The quick brown")


def test_line_ends_of_the_clipboard_become_one_kind_and_those_of_others_stay() -> None:
    async def main(one: Screen) -> None:
        one.area.app.post_message(events.Paste("a\r\nb\rc\ud800"))
        await one.pilot.pause()
        assert str(one.side.text) == "a\nb\nc\ufffdold\r\nlines\r"
        one.theirs(0, 0, "new\r\n")
        one.area.catch_up()
        assert one.area.text == str(one.side.text) == "new\r\na\nb\nc\ufffdold\r\nlines\r"
        assert one.drawn()[:6] == ["new␍", "a", "b", "c\ufffdold␍", "lines␍", ""]

    alone(main, "old\r\nlines\r")


@pytest.mark.parametrize("keys", [("ctrl+shift+k",), ("f7", "delete"), ("ctrl+u",), ("ctrl+w",)])
def test_keys_that_delete_much_delete_that_from_the_text(keys: tuple[str, ...]) -> None:
    async def main(one: Screen) -> None:
        await one.press("end", *keys)
        assert one.area.text == str(one.side.text)
        assert len(str(one.side.text)) < len("first line\nsecond")

    alone(main, "first line\nsecond")


def test_keys_that_come_faster_than_they_are_done_are_done_in_their_order() -> None:
    async def main(one: Screen) -> None:
        for key in ("t", "e", "h", "backspace", "left", "h", "end", "ctrl+z", "ctrl+y", "tab", "!"):
            one.area.app.post_message(events.Key(key, key if len(key) == 1 else None))
        await one.pilot.pause()
        await one.pilot.pause()
        assert str(one.side.text) == one.area.text == "th\t!e"

    alone(main)


def test_undo_takes_back_only_ones_own_and_goes_there() -> None:
    async def main(one: Screen) -> None:
        await one.press(*"mine")
        one.theirs(4, 0, " theirs\n")
        one.area.catch_up()
        await one.press("ctrl+end", "ctrl+z", "ctrl+z")
        assert str(one.side.text) == "mi theirs\nold"
        assert one.area.cursor_location == (0, 2)
        await one.press("ctrl+y", "ctrl+y", "ctrl+y")
        assert str(one.side.text) == one.area.text == "mine theirs\nold"
        await one.press(*["ctrl+z"] * 9)
        assert str(one.side.text) == one.area.text == " theirs\nold"

    alone(main, "old")


def test_what_others_write_at_the_caret_does_not_part_what_is_typed() -> None:
    async def main(one: Screen) -> None:
        await one.press(*"ab")
        one.theirs(2, 0, "THEIRS")
        one.area.catch_up()
        one.theirs(0, 0, "x\ny")
        await one.press(*"cd")  # and the last one is not shown yet
        assert str(one.side.text) == one.area.text == "x\nyabcdTHEIRS"
        assert one.area.cursor_location == (1, 5)

    alone(main)


def test_a_selection_stays_on_its_words() -> None:
    async def main(one: Screen) -> None:
        one.area.selection = Selection((0, 7), (0, 4))
        one.theirs(0, 3, "1\n2\n3 ")
        one.theirs(10, 0, "!")
        one.area.catch_up()
        assert one.area.selected_text == "two"
        assert one.area.selection.start > one.area.selection.end

    alone(main, "one two three")


def lines(count: int) -> str:
    return "".join(f"line {number}\n" for number in range(count))


def test_the_view_stays_where_it_is_when_others_write_above_it() -> None:
    async def main(one: Screen) -> None:
        area = one.area
        # The caret is on the screen: its row stays.
        area.move_cursor((50, 3))
        await one.pilot.pause()
        row = one.drawn().index("line 50")
        one.theirs(0, 0, lines(7) + "long " * 40 + "\n")
        area.catch_up()
        await one.pilot.pause()
        assert one.drawn().index("line 50") == row
        assert area.document[area.cursor_location[0]] == "line 50"
        # It is not: the first row stays.
        area.scroll_to(y=10, animate=False, immediate=True)
        await one.pilot.pause()
        first = one.drawn()[0]
        one.theirs(0, 5, "\n\n\n")
        area.catch_up()
        await one.pilot.pause()
        assert one.drawn()[0] == first
        assert area.document[area.cursor_location[0]] == "line 50"

    alone(main, lines(100))


def test_what_others_write_below_moves_nothing() -> None:
    async def main(one: Screen) -> None:
        one.area.move_cursor((50, 3))
        await one.pilot.pause()
        before, at = one.drawn(), one.area.scroll_offset
        one.theirs(len(str(one.side.text)), 0, lines(9))
        one.area.catch_up()
        await one.pilot.pause()
        assert (one.drawn(), one.area.scroll_offset) == (before, at)

    alone(main, lines(100))


def test_read_only_takes_no_key_and_shows_what_comes() -> None:
    async def main(one: Screen) -> None:
        await one.press("m")
        one.area.read_only = True
        made = one.side.made
        for keys in (
            ["x"],
            ["enter"],
            ["backspace"],
            ["ctrl+k"],
            ["ctrl+x"],
            ["ctrl+z"],
            ["ctrl+v"],
        ):
            await one.press(*keys)
        assert one.side.made == made
        one.theirs(0, 0, "come ")
        one.area.catch_up()
        assert one.area.text == "come mold"

    alone(main, "old")


def test_an_edit_that_is_refused_is_told_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(one: Screen) -> None:
        def refuse(*_: object) -> None:
            raise Closed("The room was closed.")

        monkeypatch.setattr(one.side.text, "replace", refuse)
        await one.press("x", "delete")
        assert one.refusals == ["The room was closed."] * 2
        assert one.area.text == str(one.side.text) == "old"

    alone(main, "old")


def test_what_is_told_of_a_change_is_told_when_the_text_has_it() -> None:
    async def main(one: Screen) -> None:
        one.changes.clear()
        await one.press("x")
        assert one.changes == ["x"]
        one.theirs(0, 0, "y")
        one.area.catch_up()
        assert one.changes == ["x", "yx"]
        one.area.catch_up()
        assert one.changes == ["x", "yx"]

    alone(main)


def test_others_carets_are_in_their_colour_with_their_names_beside_the_line() -> None:
    async def main(one: Screen) -> None:
        ada, ben = Caret("Ada", 2, 7, 7), Caret("Ben", 5, 1, 3)
        one.area.show_carets([ada, ben])
        await one.pilot.pause()
        assert one.drawn()[:2] == ["你好abc  ◂ Ben", "x  ◂ Ada"]
        strip = one.area.render_line(0)
        paint = Paint(is_colourless=False)
        coloured = {s.text for s in strip if s.style and s.style.bgcolor == paint.caret(5).bgcolor}
        assert coloured == {"b"}
        selected = paint.selection(5, one.area.background_colors[1]).bgcolor
        assert {s.text for s in strip if s.style and s.style.bgcolor == selected} == {"好a"}
        at_the_end = [
            s
            for s in one.area.render_line(1)
            if s.style and s.style.bgcolor == paint.caret(2).bgcolor
        ]
        assert [s.text for s in at_the_end] == [" "]
        one.area.show_carets([])
        await one.pilot.pause()
        assert one.drawn()[:2] == ["你好abc", "x"]

    alone(main, "你好abc\nx")


def test_a_caret_is_drawn_on_a_whole_character() -> None:
    async def main(one: Screen) -> None:
        own = one.area.get_component_rich_style("text-area--cursor").bgcolor

        def drawn(y: int) -> list[str]:
            return [s.text for s in one.area.render_line(y) if s.style and s.style.bgcolor == own]

        assert drawn(0) == ["👩\u200d👧"]
        assert one.area.render_line(0).cell_length == one.area.size.width
        await one.press("right")
        assert drawn(0) == ["a"]
        await one.press("end")
        assert drawn(0) == [" "]
        await one.press("down")
        assert (drawn(0), drawn(1)) == ([], [" "])

    alone(main, "👩\u200d👧a\n")


def test_carets_move_with_the_lines_and_a_name_without_place_is_left_out() -> None:
    async def main(one: Screen) -> None:
        long = [Caret("A name that is as long as the row is wide", 1, 0, 0), Caret("Ben", 5, 1, 1)]
        one.area.show_carets(long[1:])
        one.theirs(0, 1, "\n")
        one.area.catch_up()
        one.area.show_carets(long[1:])  # at the same index, in another line now
        await one.pilot.pause()
        assert one.drawn()[:2] == ["", "bc  ◂ Ben"]
        one.area.show_carets(long)
        await one.pilot.pause()
        assert one.drawn()[:2] == ["", "bc  ◂ Ben"]

    alone(main, "abc")


def test_the_caret_goes_over_whole_characters_and_backspace_takes_them() -> None:
    async def main(one: Screen) -> None:
        await one.press("end", "left", "left", "left")
        assert one.area.cursor_location == (0, 1)
        await one.press("right", "backspace")
        assert str(one.side.text) == "a🇩🇪e\u0301"
        await one.press("delete")
        assert str(one.side.text) == "ae\u0301"

    alone(main, "a👩\u200d👧🇩🇪e\u0301")


def test_every_key_between_two_moves_is_a_step_of_undo() -> None:
    """With the time of a step at rest it is the caret that parts steps."""

    async def main() -> None:
        async with screen() as one:
            from collab.undo import Undo

            one.area._undo = Undo(
                one.side.replica,
                (one.side.text,),
                capture_timeout_ms=500,
                clock=itertools.repeat(1.0).__next__,
            )
            await one.press(*"one", "home", *"two")
            assert str(one.side.text) == "twoone"
            await one.press("ctrl+z")
            assert str(one.side.text) == one.area.text == "one"
            await one.press("ctrl+z")
            assert str(one.side.text) == one.area.text == ""

    asyncio.run(main())
