"""The chat beside the text: what was said, and a field to type into."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding as Key
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets.text_area import Edit, EditResult

from collab.editor.area import PlainArea, typed
from collab.terminal.conversation import Conversation
from collab.terminal.transcript_view import TranscriptView

__all__ = ["ChatField", "ChatPanel"]

_WHEEL_LINES: Final = 3

# Of the classes that ``folding`` names; the same looks as in ``collab chat``.
_STYLES: Final = {
    "mine.lead": "green",
    "theirs.lead": "cyan",
    "notice": "bright_black",
    "error": "red",
    "gap": "yellow",
    "unread": "red",
    "state": "bright_black",
    "state.queued": "yellow",
    "state.sending": "yellow",
    "state.rejected": "red",
    "state.expired": "red",
    "state.stalled": "red",
}


def _style(name: str) -> Style | str:
    name = name.removeprefix("class:")
    return _STYLES.get(name) or _STYLES.get(name.split(".", 1)[0], "")


class _Log(Widget):
    """The newest lines at the bottom."""

    def __init__(self, conversation: Conversation) -> None:
        super().__init__(id="log")
        self.view = TranscriptView()
        self._conversation = conversation

    def render(self) -> Text:
        """As many lines as there is place for."""
        size = self.content_size
        lines = self.view.lines(self._conversation.transcript, size.width, size.height)
        drawn = Text(no_wrap=True, overflow="crop", end="")
        for number, line in enumerate(lines):
            drawn.append("\n" if number else "")
            for style, piece in line:
                drawn.append(piece, _style(style))
        return drawn

    def on_mouse_scroll_up(self) -> None:
        """Older."""
        self.view.scrolled += _WHEEL_LINES
        self.refresh()

    def on_mouse_scroll_down(self) -> None:
        """Newer."""
        self.view.scrolled = max(0, self.view.scrolled - _WHEEL_LINES)
        self.refresh()


class ChatField(PlainArea):
    """What is typed is said with Enter, or done if it begins with a slash."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Key("escape", "app.text", "Text"),
        Key("pageup", "page(1)", "Older", show=False),
        Key("pagedown", "page(-1)", "Newer", show=False),
    ]

    def __init__(self, take: Callable[[str], bool], page: Callable[[int], None]) -> None:
        super().__init__(id="field")
        self._take = take
        self._page = page
        self.placeholder = "Message, or /help"

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            if self._take(self.text):  # else it stays in the field
                self.clear()

    def edit(self, edit: Edit) -> EditResult:
        """What is pasted has one kind of line end, too."""
        return super().edit(
            Edit(
                typed(edit.text),
                edit.from_location,
                edit.to_location,
                edit.maintain_selection_offset,
            )
        )

    def action_page(self, pages: int) -> None:
        """Look at older messages, or newer ones."""
        self._page(pages)


class ChatPanel(Vertical):
    """The log and the field. ``take`` is called with each line; False: it was not taken."""

    def __init__(self, conversation: Conversation, take: Callable[[str], bool]) -> None:
        super().__init__(id="chat")
        self._conversation = conversation
        self.log_view: Final = _Log(conversation)
        self.field: Final = ChatField(self._said(take), self._paged)

    def compose(self) -> ComposeResult:
        """What is in it."""
        yield self.log_view
        yield self.field

    @property
    def is_seen(self) -> bool:
        """Whether the newest message is on the screen."""
        return self.display and self.log_view.view.scrolled == 0

    def show(self) -> None:
        """Something of the chat has changed."""
        self.log_view.refresh()

    def give_back(self, line: str) -> None:
        """A line was not taken after all; nothing that was typed since is overwritten."""
        if not self.field.text:
            self.field.insert(line)
        else:
            self._conversation.show_not_taken(line)

    def _said(self, take: Callable[[str], bool]) -> Callable[[str], bool]:
        def said(line: str) -> bool:
            self.log_view.view.scrolled = 0
            return take(line)

        return said

    def _paged(self, pages: int) -> None:
        if pages > 0:
            self.log_view.view.up()
        else:
            self.log_view.view.down()
        self.log_view.refresh()
