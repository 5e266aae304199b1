"""The chat on a terminal that can be redrawn: everything changes in its place, as it happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

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
from collab.terminal.folding import Line, fold

__all__ = ["Screen"]

_REDRAW_S: Final = 0.02  # at least, between two drawings: a page of messages is one of them
_COUNT_S: Final = 1.0  # the seconds to the next attempt are counted down
_INPUT_LINES: Final = 5
_LINES_WAITING: Final = 100  # typed and not done yet: a slow disk

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
        self._lines: asyncio.Queue[str] = asyncio.Queue(_LINES_WAITING)
        self._aside: set[asyncio.Task[None]] = set()
        self._left = False
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
        doing = asyncio.create_task(self._do_lines())
        try:
            with suppress(EOFError, OSError):  # the terminal has gone: that is to leave, too
                await self._app.run_async(self._started, set_exception_handler=False)
            await self._lines.join()
        finally:
            tasks = [doing, *self._aside]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

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
        if not self._field.text:
            self._field.text = line
            self._field.buffer.cursor_position = len(line)

    # What is typed

    def _typed(self, buffer: Buffer) -> bool:
        line = buffer.text
        self._transcript.scrolled = 0
        try:
            self._lines.put_nowait(line)
        except asyncio.QueueFull:
            return True  # it stays in the field
        return False

    async def _do_lines(self) -> None:
        """One after the other, so that messages are sent in the order in which they were typed."""
        while True:
            line = await self._lines.get()
            try:
                if line.split(maxsplit=1)[:1] == ["/more"]:  # may wait for the relay
                    self._start(self._do(line))
                else:
                    await self._do(line)
            finally:
                self._lines.task_done()

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
            self._transcript.scrolled += self._transcript.page

        @keys.add("pagedown")
        def _down(event: KeyPressEvent) -> None:
            scrolled = self._transcript.scrolled - self._transcript.page
            self._transcript.scrolled = max(0, scrolled)

        @keys.add("c-l")
        def _redraw(event: KeyPressEvent) -> None:
            event.app.renderer.clear()

        return keys

    def _key_pressed(self, _: object) -> None:
        """Somebody is in front of the screen, and what is new is on it."""
        if self._transcript.scrolled == 0 and self._conversation.unread and not self._left:
            self._start(self._conversation.seen())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    # How it stands

    def _status(self) -> StyleAndTextTuples:
        one = self._conversation
        parts = [
            one.title,
            wording.connection(one.connection, time.time()),
            f"{one.pending:,} to send" if one.pending else "",
            f"{one.unread:,} unread" if one.unread else "",
            "PageDown: newer" if self._transcript.scrolled else "",
            one.trouble,
            wording.trouble(one.connection),  # last: it may be longer than the line
        ]
        return [("", " " + " · ".join(part for part in parts if part))]


class _TranscriptControl(UIControl):
    """The newest lines at the bottom; ``scrolled`` lines up from there."""

    def __init__(self) -> None:
        self.conversation: Conversation | None = None
        self.scrolled = 0
        self.page = 1

    def create_content(self, width: int, height: int) -> UIContent:
        """As many lines as there is place for."""
        self.page = max(1, height - 1)
        lines = self._lines(width, height)
        self.scrolled = max(0, min(self.scrolled, len(lines) - height))
        end = len(lines) - self.scrolled
        shown = lines[max(0, end - height) : end]
        blank: list[Line] = [[] for _ in range(height - len(shown))]
        whole = blank + shown

        def line(number: int) -> StyleAndTextTuples:
            return list(whole[number])

        return UIContent(line, line_count=len(whole), show_cursor=False)

    def _lines(self, width: int, height: int) -> list[Line]:
        if self.conversation is None:
            return []
        backwards: list[Line] = []
        for row in self.conversation.transcript.rows_backwards():
            if len(backwards) >= height + self.scrolled:
                break
            backwards.extend(reversed(fold(row, width)))
        return backwards[::-1]


def _field_height(field: TextArea) -> int:
    return min(_INPUT_LINES, field.text.count("\n") + 1)
