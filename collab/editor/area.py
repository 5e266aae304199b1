"""Text on the screen: Textual's text area, bound to a shared text.

``edit`` is the one way by which the user's keys change anything: it catches up with the text first,
changes the text, then what is shown. What others write comes in by ``catch_up``. The history is the
room's, so that undo takes back only what this user wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, Final

from rich.text import Text as Drawn
from textual import events
from textual.binding import Binding as Key
from textual.binding import BindingType
from textual.geometry import Offset, Region
from textual.strip import Strip
from textual.widgets import TextArea
from textual.widgets.text_area import (
    DocumentNavigator,
    Edit,
    EditResult,
    Location,
    Selection,
    WrappedDocument,
)

from collab.editor import steps
from collab.editor.binding import Binding, Change
from collab.editor.carets import Paint, PlacedCarets, span_of_caret
from collab.editor.lines import TextLines
from collab.editor.people import Caret
from collab.errors import CollabError
from collab.text import Text
from collab.undo import Undo

__all__ = ["PlainArea", "SharedArea", "typed"]

_HALF_OF_A_PAIR: Final = re.compile("[\ud800-\udfff]")


def typed(text: str) -> str:
    """What keys or the clipboard gave, as text that everybody can have: one kind of line end."""
    ends = text.replace("\r\n", "\n").replace("\r", "\n")
    return _HALF_OF_A_PAIR.sub("\ufffd", ends)


class PlainArea(TextArea):
    """A text area that shows nothing which a terminal would obey, and keeps every character."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Key("ctrl+home", "to_the_start", "Beginning", show=False),
        Key("ctrl+end", "to_the_end", "End", show=False),
    ]

    def __init__(self, text: str = "", *, id: str | None = None) -> None:
        super().__init__(
            id=id, tab_behavior="indent", highlight_cursor_line=False, max_checkpoints=100
        )
        self.indent_type = "tabs"
        self.lines: Final = TextLines(text)
        self.document = self.lines
        self.wrapped_document = WrappedDocument(self.document, tab_width=self.indent_width)
        self.navigator = DocumentNavigator(self.wrapped_document)

    async def _on_key(self, event: events.Key) -> None:
        """What a key is bound to is done in its turn.

        Textual lets a key go up to the app and does then what it is bound to, behind the letters
        that were typed after it: somebody who types faster than the screen is drawn would find
        "teh", Backspace, Backspace, "he" as "tehh".
        """
        for key in self._bindings.key_to_bindings.get(event.key, ()):
            if await self.app.run_action(key.action, self):
                event.stop()
                event.prevent_default()
                return

    def get_cursor_left_location(self) -> Location:
        """One character to the left, as people count them; Backspace deletes from there."""
        row, column = self.cursor_location
        if not column:
            return super().get_cursor_left_location()
        return row, steps.before(self.lines[row], column)

    def get_cursor_right_location(self) -> Location:
        """One character to the right, as people count them; Delete deletes up to there."""
        row, column = self.cursor_location
        line = self.lines[row]
        if column >= len(line):
            return super().get_cursor_right_location()
        return row, steps.after(line, column)

    def action_to_the_start(self) -> None:
        """To the beginning of the text."""
        self.move_cursor(self.lines.start)

    def action_to_the_end(self) -> None:
        """To the end of the text."""
        self.move_cursor(self.lines.end)


class SharedArea(PlainArea):
    """See the module.

    ``on_change`` is called when the text or the caret has changed, before anything is drawn;
    ``on_refused`` with what kept an edit of the user from being made: nothing was changed then.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Key("ctrl+z,super+z", "undo", "Undo"),
        Key("ctrl+y,super+y", "redo", "Redo"),
    ]

    def __init__(
        self,
        text: Text,
        undo: Undo,
        *,
        paint: Paint,
        on_change: Callable[[], None],
        on_refused: Callable[[str], None],
    ) -> None:
        self._bound: Binding | None = None  # what is set before it is, is nobody's act
        self._is_editing = False
        self._is_following = False
        bound = Binding(text)
        super().__init__(bound.seen, id="text")
        self._undo = undo
        self._carets = PlacedCarets(paint)
        self._named: dict[int, list[Caret]] = {}  # by the row that they are in
        self._shown: tuple[list[Caret], str] = ([], "")
        self._on_change = on_change
        self._on_refused = on_refused
        self.bound: Final = bound
        self._bound = bound

    # What the user does

    def edit(self, edit: Edit) -> EditResult:
        """Change the text, then what is shown; a refused edit changes neither."""
        start, end = self.lines.index(edit.top), self.lines.index(edit.bottom)
        change = self._follow()
        if change is not None:  # it came in this very turn
            start, end = change.move(start), change.move(end)
        text = typed(edit.text)
        try:
            self.bound.edit(start, end - start, text)
        except (CollabError, ValueError) as error:
            self._on_refused(str(error))
            return EditResult(self.selection.end, "")
        self._is_editing = True
        try:
            result = self._show(Change(start, end - start, text), edit.maintain_selection_offset)
        finally:
            self._is_editing = False
        self._moved()
        return result

    def undo(self) -> None:
        """Take back this user's last step."""
        self._step(self._undo.undo)

    def redo(self) -> None:
        """Bring back what was undone last."""
        self._step(self._undo.redo)

    def _step(self, step: Callable[[], bool]) -> None:
        if self.read_only:
            return
        self._follow()
        step()
        change = self._follow()
        if change is not None:
            self.move_cursor(self.lines.location(change.end))

    def watch_selection(self, before: Selection, selection: Selection) -> None:
        """The caret has moved; it stays where it is now, whatever others write."""
        if self._bound is None or self._is_editing or self._is_following:
            return
        if before != selection:
            self._undo.stop_capturing()
        self._moved()

    def _moved(self) -> None:
        start, end = self.selection
        self.bound.hold(self.lines.index(start), self.lines.index(end))
        self._on_change()

    # What others do

    def catch_up(self) -> None:
        """Show the text as it is now."""
        if self._follow() is not None:
            self._on_change()

    def _follow(self) -> Change | None:
        """The caret stays beside its characters, and what is on the screen where it is."""
        index, row = self._view()
        change = self.bound.catch_up()
        if change is None:
            return None
        self._is_following = True
        try:
            self._show(change, keep_selection=True)
            anchor, head = self.bound.caret
            self.selection = Selection(self.lines.location(anchor), self.lines.location(head))
        finally:
            self._is_following = False
        if self.is_mounted:
            place = self.lines.location(head if index is None else change.move(index))
            y = self.wrapped_document.location_to_offset(place).y - row
            self.scroll_to(y=y, animate=False, force=True, immediate=True)
        return change

    def _view(self) -> tuple[int | None, int]:
        """What stays where it is: the caret (None) if it is to be seen, else the first line.

        And how many rows below the top that is.
        """
        top = self.scroll_offset.y
        row = self.wrapped_document.location_to_offset(self.cursor_location).y - top
        if 0 <= row < max(1, self.size.height):
            return None, row
        return self.lines.index(self.wrapped_document.offset_to_location(Offset(0, top))), 0

    def scroll_cursor_visible(self, center: bool = False, animate: bool = False) -> Offset:
        """Others' edits move the view to nobody's caret."""
        if not self._is_following:
            return super().scroll_cursor_visible(center, animate)
        self._cursor_offset = self.wrapped_document.location_to_offset(self.cursor_location)
        return Offset(0, 0)

    def show_carets(self, carets: list[Caret]) -> None:
        """Where others are now."""
        shown = (carets, self.lines.text)
        if carets == self._shown[0] and (not carets or self.lines.text is self._shown[1]):
            return
        self._shown = shown
        self._carets.put(carets, self.lines)
        self.notify_style_update()  # lines that were drawn are kept
        self.refresh()

    def get_line(self, line_index: int) -> Drawn:
        """One line, with others' carets and selections."""
        line = super().get_line(line_index)
        self._carets.draw(line, line_index, self.background_colors[1])
        row, column = self.cursor_location
        if row == line_index and super()._draw_cursor:
            style = self.get_component_rich_style("text-area--cursor")
            line.spans.append(span_of_caret(line, column, style))
        return line

    @property
    def _draw_cursor(self) -> bool:
        """Not by Textual: it would draw one code point, and tear a joined emoji apart."""
        return False

    def render_lines(self, crop: Region) -> list[Strip]:
        """The rows of a part of the screen."""
        self._named.clear()
        for location, caret in self._carets.heads():
            _, row = self.wrapped_document.location_to_offset(location)
            self._named.setdefault(row, []).append(caret)
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """One row, with the names of those whose carets are in it."""
        strip = super().render_line(y)
        row = y + self.scroll_offset.y
        here = self._named.get(row)
        if not here:
            return strip
        return self._carets.label(strip, here, self._end_of_row(row) + 2, self.rich_style)

    def _end_of_row(self, row: int) -> int:
        """The column after the last character of a row."""
        return self.wrapped_document.location_to_offset(
            self.wrapped_document.offset_to_location(Offset(100_000, row))
        ).x

    # Both

    def _show(self, change: Change, keep_selection: bool) -> EditResult:
        start = self.lines.location(change.index)
        end = self.lines.location(change.index + change.length)
        result = super().edit(Edit(change.text, start, end, keep_selection))
        self.history.clear()  # the room has it, and takes nothing back but this user's own
        return result
