"""The editor's screen: the text, the chat beside it, who is here, and how things stand.

1. What happens in the room is shown in a turn of the app's own, once for all that came before it.
2. That something is saved is never on the screen together with an edit that is not.
3. It is left when everything is saved, or when somebody says that they give up what is not. Who
   leaves while the chat gives a line back stays, unless nobody is there to see it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import ClassVar, Final

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding as Key
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Footer

from collab.client import Client
from collab.connection import ConnectionStatus, State
from collab.editor import people
from collab.editor.area import SharedArea
from collab.editor.bars import StandingBar, TopBar
from collab.editor.carets import Paint
from collab.editor.chat_panel import ChatPanel
from collab.editor.driver import chosen_driver, is_terminal_there
from collab.editor.leaving import LeaveScreen, is_saved
from collab.errors import CollabError
from collab.message import Message
from collab.room import Room
from collab.terminal import safe
from collab.terminal.badge import badge
from collab.terminal.conversation import Conversation
from collab.terminal.typed_lines import TypedLines

__all__ = ["EditorApp"]

_COUNT_S: Final = 1.0  # the seconds to the next attempt are counted down
_PATIENCE_S: Final = 0.5  # for the last commit; then it is said what is waited for
_NARROW: Final = 64  # columns; below it the chat is under the text


class EditorApp(App[None]):
    """Shows one text of a room that is open. ``attend`` a conversation first, then run it."""

    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (_NARROW, "-wide")]  # noqa: RUF012 (App's own type)
    BINDINGS: ClassVar[list[BindingType]] = [
        Key("ctrl+q", "quit", "Quit", priority=True),
        Key("ctrl+t", "chat", "Chat", priority=True),
        Key("ctrl+o", "offline", "Offline", priority=True),
        Key("ctrl+r", "reconnect", "Try now", priority=True),
    ]
    CSS = """
    #top { height: 1; background: $panel; }
    #standing { height: auto; max-height: 4; background: $panel; }
    #text { width: 1fr; height: 1fr; border: none; padding: 0; }
    #chat { width: 36%; min-width: 24; border-left: solid $primary; }
    #log { height: 1fr; }
    #field { height: auto; max-height: 5; border: none; border-top: solid $primary; padding: 0; }
    .-narrow #middle { layout: vertical; }
    .-narrow #chat {
        width: 100%; height: 40%; min-height: 4; border-left: none; border-top: solid $primary;
    }
    .-narrow #field { border-top: none; }
    """

    def __init__(self, client: Client, room: Room, text: str, *, is_colourless: bool) -> None:
        super().__init__(chosen_driver(), ansi_color=True if is_colourless else None)
        if is_colourless:
            self.theme = "ansi-dark"
        self._client = client
        self._room = room
        self._text = room.text(text)
        self._lines = TypedLines(self._do)
        self._watching = ExitStack()
        self._is_stale = False  # something has happened that is not shown yet
        self._has_said = True  # something of the chat has changed
        self._wants_to_leave = self._is_leaving = False
        self._given_back = 0  # lines of the chat that were not taken
        self._told: object = None
        paint = Paint(is_colourless=is_colourless)
        self.area: Final = SharedArea(
            self._text,
            room.undo(self._text),
            paint=paint,
            on_change=self._edited,
            on_refused=self._refused,
        )
        self.top: Final = TopBar(f"{safe.name(room.name)} · {safe.name(text)}", paint)
        self.standing: Final = StandingBar(is_colourless=is_colourless)
        self.chat: ChatPanel
        self._conversation: Conversation

    def attend(self, conversation: Conversation) -> None:
        """Show this conversation, whose watcher this is."""
        self._conversation = conversation
        self.chat = ChatPanel(conversation, self._lines.put)

    def working(self) -> AbstractAsyncContextManager[None]:
        """Run it in here: what was typed into the chat with Enter is done, to the end."""
        return self._lines.being_done()

    # The screen

    def compose(self) -> ComposeResult:
        """What is on it."""
        yield self.top
        with Horizontal(id="middle"):
            yield self.area
            yield self.chat
        yield self.standing
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to watch."""
        for subscription in (
            self._text.observe(lambda _: self._stale()),
            self._room.observe(lambda _: self._stale()),
            self._room.presence.observe(lambda _: self._stale()),
        ):
            self._watching.callback(subscription.close)
        self.set_interval(_COUNT_S, self._every_second)
        self._to(self.area)
        self._show()
        if self._wants_to_leave:
            self.leave()

    def on_unmount(self) -> None:
        """Watch no more."""
        self._watching.close()

    def _every_second(self) -> None:
        self._show_standing()
        if not (self.is_headless or is_terminal_there()):
            self.leave()

    def _to(self, widget: Widget) -> None:
        """From the next key on, keys are for this one. (``widget.focus`` takes a turn or more.)"""
        self.screen.set_focus(widget)

    def _stale(self) -> None:
        if not self._is_stale and self.is_running:
            self._is_stale = self.call_later(self._show)

    def _show(self) -> None:
        self._is_stale = False
        self.area.catch_up()
        self.area.show_carets(people.carets(self._room.presence, self._text))
        self.area.read_only = not self._room.status.may_write
        if self._has_said:
            self._has_said = False
            self.chat.show()
        self._show_people()
        self._show_standing()

    def _show_people(self) -> None:
        unread = self._conversation.unread
        notes = ["READ ONLY"] if self.area.read_only else []
        if unread and not self.chat.is_seen:
            notes.append(f"{unread:,} unread")
        self.top.show(people.people(self._room.presence), notes=notes)

    def _show_standing(self) -> None:
        self.standing.show(badge(self._room.status, self._client.connection, time.time()))

    # What the user does

    def _edited(self) -> None:
        """The text or the caret has changed here: said before it is drawn."""
        self._show_standing()
        cursor = people.cursor(*self.area.bound.positions(*self.area.bound.caret))
        if cursor != self._told:
            self._told = cursor
            self._room.presence.set({"cursor": cursor})
        self.area.show_carets(people.carets(self._room.presence, self._text))

    def _refused(self, why: str) -> None:
        self.notify(safe.one_line(why), severity="error", markup=False)

    async def on_event(self, event: events.Event) -> None:
        """Whoever presses a key is in front of the screen, and what is new is on it."""
        await super().on_event(event)
        if isinstance(event, events.Key) and self.chat.is_seen and self._conversation.unread:
            self._lines.aside(self._conversation.seen())

    async def _do(self, line: str) -> None:
        if await self._conversation.do(line):
            self.call_later(self.action_quit)
        self.refreshed()

    def action_chat(self) -> None:
        """To the chat; from there, put it away."""
        if self.screen.focused is self.chat.field:
            self.chat.display = False
            self._to(self.area)
        else:
            self.chat.display = True
            self._to(self.chat.field)
        self._show_people()

    def action_text(self) -> None:
        """Back to the text."""
        self._to(self.area)

    async def action_offline(self) -> None:
        """Work offline, or online again."""
        connection = self._client.connection
        if connection is None:
            self.notify("No relay was given, so everything stays on this device.", markup=False)
        elif connection.state is State.SUSPENDED:
            self._client.resume()
        else:
            self.run_worker(self._suspend())

    async def _suspend(self) -> None:
        try:
            await self._client.suspend()
        except (CollabError, TimeoutError) as error:
            self._refused(str(error))

    def action_reconnect(self) -> None:
        """Try to reach the relay now."""
        self._client.connect()

    def leave(self) -> None:
        """Leave as with the key: a signal came, maybe before there was anything to leave."""
        self._wants_to_leave = True
        if self.is_running:
            self.call_later(self.action_quit)

    async def action_quit(self) -> None:
        """Leave once everything is saved."""
        if not self._is_leaving:
            self._is_leaving = True
            self.run_worker(self._leave(self._given_back))

    async def _leave(self, given_back: int) -> None:
        await self._keys_done()
        await self._lines.done()
        if self._given_back != given_back and (self.is_headless or is_terminal_there()):
            self._is_leaving = False
            self.call_later(self._to, self.chat.field)
            return
        saved = asyncio.create_task(self._room.wait_saved())
        await asyncio.wait([saved], timeout=_PATIENCE_S)
        if is_saved(saved) or await self.push_screen_wait(LeaveScreen(self._room, saved)):
            self.exit()
        saved.cancel()
        self._is_leaving = False

    async def _keys_done(self) -> None:
        """What was typed before the key to leave is on its way to the text, and counts."""
        for widget in (self.area, self.chat.field):
            done = asyncio.Event()
            if widget.call_later(done.set):
                await done.wait()

    # What the conversation tells

    def added(self, message: Message) -> None:
        """See Watcher."""
        self.refreshed()

    def changed(self, message: Message) -> None:
        """See Watcher."""
        self.refreshed()

    def noticed(self, text: str, kind: str) -> None:
        """See Watcher."""
        if kind == "error" and self.is_running and not self.chat.is_seen:
            self.call_later(self._refused, text)
        self.refreshed()

    def connected(self, status: ConnectionStatus) -> None:
        """See Watcher."""
        if self.is_running:
            self.call_later(self._show_standing)

    def refreshed(self) -> None:
        """See Watcher."""
        self._has_said = True
        self._stale()

    def gave_back(self, line: str) -> None:
        """See Watcher."""
        self._given_back += 1
        self.call_later(self.chat.give_back, line)
