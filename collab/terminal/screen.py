"""The chat on a terminal that can be redrawn: everything changes in its place, as it happens."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import FormattedTextControl, HSplit, Layout, UIContent, UIControl, Window
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style
from prompt_toolkit.widgets import TextArea

from collab.connection import ConnectionStatus
from collab.message import Message
from collab.terminal import wording
from collab.terminal.conversation import Conversation
from collab.terminal.transcript_view import TranscriptView
from collab.terminal.typed_lines import TypedLines

__all__ = ["Screen"]

_REDRAW_S: Final = 0.02  # at least, between two drawings: a page of messages is one of them
_COUNT_S: Final = 1.0  # the seconds to the next attempt are counted down
_INPUT_LINES: Final = 5

_STYLE: Final = Style.from_dict(
    {
        "mine.lead": "ansigreen",
        "theirs.lead": "ansicyan",
        "notice": "ansibrightblack",
        "error": "ansired",
        "gap": "ansiyellow",
        "unread": "ansired",
        "state": "ansibrightblack",
        "state.queued": "ansiyellow",
        "state.sending": "ansiyellow",
        "state.rejected": "ansired",
        "state.expired": "ansired",
        "state.stalled": "ansired",
        "status": "reverse",
    }
)


class Screen:
    """A window of the transcript, a line that says how things stand, and one to type into.

    ``terminal`` is what to read from and draw to; None: the process's own.
    """

    def __init__(self, terminal: tuple[Input, Output] | None = None) -> None:
        self._conversation: Conversation
        self._lines = TypedLines(self._do)
        self._left = False
        self.not_taken: Final[list[str]] = []  # lines that came back when it was left already
        self._transcript = _TranscriptControl()
        self._field = TextArea(
            prompt="> ",
            multiline=False,
            height=lambda: _field_height(self._field),
            history=InMemoryHistory(),
            accept_handler=self._typed,
        )
        status = FormattedTextControl(self._status)
        body = HSplit(
            [Window(self._transcript), Window(status, height=1, style="class:status"), self._field]
        )
        self._app: Application[None] = Application(
            layout=Layout(body, focused_element=self._field),
            key_bindings=self._keys(),
            style=_STYLE,
            full_screen=True,
            min_redraw_interval=_REDRAW_S,
            refresh_interval=_COUNT_S,
            input=terminal[0] if terminal else None,
            output=terminal[1] if terminal else None,
        )
        self._app.key_processor.after_key_press += self._key_pressed

    async def run(self, conversation: Conversation) -> None:
        """Show it until somebody leaves. What was typed with Enter before that is done first."""
        self._conversation = self._transcript.conversation = conversation
        async with self._lines.being_done():
            with suppress(EOFError, OSError):  # the terminal has gone: that is to leave, too
                await self._app.run_async(self._started, set_exception_handler=False)

    def leave(self) -> None:
        """End it: Ctrl-C, the end of the input, a signal; also before it has begun."""
        self._left = True
        if self._app.is_running and not self._app.is_done:
            self._app.exit()

    def _started(self) -> None:
        if self._left:
            asyncio.get_running_loop().call_soon(self.leave)

    # What the conversation tells

    def added(self, message: Message) -> None:
        """See Watcher."""
        self._app.invalidate()

    def changed(self, message: Message) -> None:
        """See Watcher."""
        self._app.invalidate()

    def noticed(self, text: str, kind: str) -> None:
        """See Watcher."""
        self._app.invalidate()

    def connected(self, status: ConnectionStatus) -> None:
        """See Watcher."""
        self._app.invalidate()

    def refreshed(self) -> None:
        """See Watcher."""
        self._app.invalidate()

    def gave_back(self, line: str) -> None:
        """See Watcher."""
        if self._left:
            self.not_taken.append(line)
        elif not self._field.text:
            self._field.text = line
            self._field.buffer.cursor_position = len(line)
        else:
            self._conversation.show_not_taken(line)

    # What is typed

    def _typed(self, buffer: Buffer) -> bool:
        self._transcript.view.scrolled = 0
        return not self._lines.put(buffer.text)  # what is not taken stays in the field

    async def _do(self, line: str) -> None:
        if await self._conversation.do(line):
            self.leave()
        self._app.invalidate()

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("c-c")
        @keys.add("<sigint>")
        @keys.add("c-d", filter=Condition(lambda: not self._field.text))
        def _leave(event: KeyPressEvent) -> None:
            self.leave()

        @keys.add("pageup")
        def _up(event: KeyPressEvent) -> None:
            self._transcript.view.up()

        @keys.add("pagedown")
        def _down(event: KeyPressEvent) -> None:
            self._transcript.view.down()

        @keys.add("c-l")
        def _redraw(event: KeyPressEvent) -> None:
            event.app.renderer.clear()

        return keys

    def _key_pressed(self, _: object) -> None:
        """Somebody is in front of the screen, and what is new is on it."""
        if self._transcript.view.scrolled == 0 and self._conversation.unread and not self._left:
            self._lines.aside(self._conversation.seen())

    # How it stands

    def _status(self) -> StyleAndTextTuples:
        one = self._conversation
        parts = [
            one.title,
            wording.connection(one.connection, time.time()),
            f"{one.pending:,} to send" if one.pending else "",
            f"{one.unread:,} unread" if one.unread else "",
            "PageDown: newer" if self._transcript.view.scrolled else "",
            one.trouble,
            wording.trouble(one.connection),  # last: it may be longer than the line
        ]
        return [("", " " + " · ".join(part for part in parts if part))]


class _TranscriptControl(UIControl):
    """The newest lines at the bottom."""

    def __init__(self) -> None:
        self.conversation: Conversation | None = None
        self.view = TranscriptView()

    def create_content(self, width: int, height: int) -> UIContent:
        """As many lines as there is place for."""
        transcript = self.conversation.transcript if self.conversation else None
        lines = self.view.lines(transcript, width, height)
        return UIContent(lambda number: list(lines[number]), line_count=height, show_cursor=False)


def _field_height(field: TextArea) -> int:
    return min(_INPUT_LINES, field.text.count("\n") + 1)
