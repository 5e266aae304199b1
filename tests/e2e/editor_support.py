"""The editor in this process, without a terminal, with a real client. Not a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from textual.pilot import Pilot

import collab
from collab.editor import people
from collab.editor.app import EditorApp
from collab.protocol.backoff import BackoffSettings
from collab.terminal.conversation import Conversation
from tests.e2e.support import QUICK, until
from tests.unit.editor.keys import press

# A connection that changes its state every few milliseconds is no screen's daily life.
SETTINGS = replace(
    QUICK,
    connection=replace(
        QUICK.connection,
        backoff=BackoffSettings(base_s=0.2, cap_s=0.4, attempts_per_hour=1_000_000),
    ),
)


@dataclass
class Editor:
    """An editor and what it edits."""

    client: collab.Client
    room: collab.Room
    app: EditorApp
    pilot: Pilot[None]

    @property
    def text(self) -> str:
        """What the room has."""
        return str(self.room.text("body"))

    @property
    def glass(self) -> str:
        """What is to be seen."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in strips)

    async def press(self, *keys: str) -> None:
        """Press keys, and let what they do be done."""
        await press(self.pilot, *keys)

    async def types(self, text: str) -> None:
        """Press the keys of a text."""
        await self.press(*("enter" if letter == "\n" else letter for letter in text))

    async def says(self, line: str) -> None:
        """Type a line into the chat, and go back to the text."""
        self.app.chat.field.focus()
        await self.types(line)
        await self.press("enter", "escape")

    async def shows(self, *wanted: str) -> str:
        """The screen, once it shows all of this."""
        try:
            await until(lambda: all(one in self.glass for one in wanted))
        except AssertionError:
            raise AssertionError(f"{wanted} did not come:\n{self.glass}") from None
        return self.glass

    async def is_high(self, lines: int) -> None:
        """Return once the screen has so many lines: it is laid out anew in a turn of its own."""
        try:
            await until(lambda: len(self.glass.split("\n")) == lines)
        except AssertionError:
            raise AssertionError(f"it has not {lines} lines:\n{self.glass}") from None

    async def hides(self, unwanted: str) -> None:
        """Return once this is not on the screen."""
        try:
            await until(lambda: unwanted not in self.glass)
        except AssertionError:
            raise AssertionError(f"{unwanted} did not go:\n{self.glass}") from None


@asynccontextmanager
async def editing(
    path: Path | str = ":memory:",
    relay: str | None = None,
    *,
    name: str = "Ada",
    token: str | None = None,
    room: str = "plan",
    text: str = "body",
    size: tuple[int, int] = (120, 30),
    is_colourless: bool = False,
) -> AsyncIterator[Editor]:
    """What ``collab edit`` does, but for the terminal."""
    async with collab.open(
        path, relay=relay, token=token, user=people.user(name), settings=SETTINGS
    ) as client:
        opened = await client.room(room)
        app = EditorApp(client, opened, text, is_colourless=is_colourless)
        conversation = Conversation(client, opened, name=name, watcher=app)
        app.attend(conversation)
        await conversation.open(50)
        async with app.working(), app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause()
            yield Editor(client, opened, app, pilot)
        conversation.leave()
