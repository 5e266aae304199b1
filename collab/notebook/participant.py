"""A sample participant: somebody to try the notebook with while nobody else is there.

A client like any other: it shows itself in presence, greets who comes, answers in the chat, and now
and then writes a line into a cell of its own.

1. It writes only while somebody is there to see it, and its cell stays small: an open browser tab
   left alone for a week does not fill a disk.
2. It answers people, never another sample participant, and each message once.
3. A cell of its own that somebody deleted is not made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from collab.chat_events import ChatEvent, MessageAdded
from collab.errors import OfflineError
from collab.message import Message
from collab.notebook.document import Notebook
from collab.notebook.requests import is_kernel
from collab.room import Room

__all__ = ["NAME", "take_part"]

NAME: Final = "Robin (sample)"

_SAMPLE: Final = "sample"  # in the metadata of its cell and in the meta of its messages
_LEVEL_S: Final = (
    5.0  # how long to wait for what the relay has, before the notebook is taken for new
)
_MAX_CHARACTERS: Final = 400
_KEY_S: Final = (0.06, 0.18)
_REST_S: Final = (12.0, 25.0)
_THINK_S: Final = (0.8, 1.8)

_WELCOME: Final = """# A notebook for several people

Whatever you write is on your disk first and then with everybody else. Open this page in a second
window, or in another browser, and write in both.

- Switch *Work offline* on, at the foot: everything goes on. The bar says what waits.
- Reload the page while it is offline. It is all there.
- Switch it off again, and both come together.
"""
_CODE: Final = """# Run this with Shift+Enter; `collab demo --kernel` starts somebody who runs code.
squares = [n * n for n in range(10)]
sum(squares)"""
_NOTES: Final = "**Notes of a sample participant.** Write in here too; nothing gets lost.\n"

_LINES: Final = (
    "- I am a small Python program, and this is typed key by key.",
    "- Two people can write in one line; try it in this one.",
    "- Undo takes back your own edits, never mine.",
    "- Open the saved file in Jupyter: it is an ordinary .ipynb.",
    "- Take me offline? Only yourself: that is the switch at the foot.",
)
_ANSWERS: Final = (
    "I am only a small program, but I read you.",
    "Noted. Nobody had to press save.",
    "If you switch to working offline and write again, I get it once you are back: once, in order.",
)

Pause = Callable[[float], Awaitable[None]]


async def take_part(room: Room, rng: random.Random, *, pause: Pause = asyncio.sleep) -> None:
    """Take part in ``room`` until cancelled. ``pause`` waits for seconds."""
    with contextlib.suppress(TimeoutError, OfflineError):
        await room.wait_synced(_LEVEL_S)
    await _Participant(room, rng, pause).run()


class _Participant:
    def __init__(self, room: Room, rng: random.Random, pause: Pause) -> None:
        self._room = room
        self._notebook = Notebook(room)
        self._rng = rng
        self._pause = pause
        self._heard: asyncio.Queue[Message] = asyncio.Queue()
        self._moved = asyncio.Event()
        self._greeted: set[str] = set()
        self._said = 0

    async def run(self) -> None:
        room = self._room
        room.presence.set({"user": {"name": NAME}})
        if self._notebook.is_fresh:
            self._welcome()
        subscriptions = [
            room.chat.observe(self._chat_changed),
            room.presence.observe(lambda _: self._moved.set()),
        ]
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._greet_forever())
                tasks.create_task(self._answer_forever())
                tasks.create_task(self._write_forever())
        finally:
            for subscription in subscriptions:
                subscription.close()

    def _welcome(self) -> None:
        notebook = self._notebook
        with self._room.transaction():
            notebook.add_cell("markdown", _WELCOME, index=0)
            notebook.source(notebook.cells[1].id).insert(0, _CODE)
            notebook.add_cell("markdown", _NOTES, metadata={_SAMPLE: True})

    # --- who is here -----------------------------------------------------------------------------

    def _people(self) -> list[str]:
        """The names of the others, as they give them; a kernel is nobody to talk to."""
        found = []
        for state in self._room.presence.others().values():
            user = state.get("user")
            name = user.get("name") if isinstance(user, dict) else None
            if not is_kernel(state) and isinstance(name, str) and name and name != NAME:
                found.append(name[:40])
        return found

    async def _someone(self) -> list[str]:
        """Wait until somebody is here."""
        while not (people := self._people()):
            self._moved.clear()
            await self._moved.wait()
        return people

    # --- talking ---------------------------------------------------------------------------------

    def _chat_changed(self, event: ChatEvent) -> None:
        if not isinstance(event, MessageAdded):
            return
        message = event.message
        if not (message.is_mine or message.is_system or message.meta.get(_SAMPLE)):
            self._heard.put_nowait(message)

    async def _greet_forever(self) -> None:
        while True:
            new = [name for name in await self._someone() if name not in self._greeted]
            if new and not self._greeted:
                await self._pause(self._rng.uniform(*_THINK_S))
                await self._say(
                    "Hello! I am a sample participant, a Python program. Write something here, or "
                    "in my cell."
                )
            self._greeted.update(new)
            self._moved.clear()
            await self._moved.wait()

    async def _answer_forever(self) -> None:
        while True:
            message = await self._heard.get()
            await self._pause(self._rng.uniform(*_THINK_S))
            await self._room.chat.mark_read(message)
            if self._heard.empty():  # of several that came at once the last is answered
                await self._say(self._answer(message.body))

    def _answer(self, body: str) -> str:
        if "offline" in body.lower():
            return "Try it: switch to working offline, write, reload the page, and come back."
        self._said += 1
        return _ANSWERS[(self._said - 1) % len(_ANSWERS)]

    async def _say(self, body: str) -> None:
        await self._room.chat.send(body, meta={"name": NAME, _SAMPLE: True})

    # --- writing ---------------------------------------------------------------------------------

    async def _write_forever(self) -> None:
        while True:
            for line in _LINES:
                await self._someone()
                await self._pause(self._rng.uniform(*_REST_S))
                await self._write(line + "\n")
                self._room.presence.set({"cursor": None, "cell": None})

    async def _write(self, line: str) -> None:
        """Type a line at the end of its own cell, and take the oldest line away for it."""
        for number, character in enumerate(line):
            cell = next((one for one in self._notebook.cells if one.metadata.get(_SAMPLE)), None)
            if cell is None or not self._people():
                return
            text = self._notebook.source(cell.id)
            body = str(text)
            if number == 0 and len(body) > _MAX_CHARACTERS and body.count("\n") > 2:
                second = body.index("\n") + 1  # the first line says whose notes they are
                text.delete(second, body.index("\n", second) + 1 - second)
            text.insert(len(text), character)
            self._show(cell.id, text)
            await self._pause(self._rng.uniform(*_KEY_S))

    def _show(self, cell_id: str, text: Any) -> None:
        at = text.relative_position(len(text)).to_json()
        self._room.presence.set({"cell": cell_id, "cursor": {"anchor": at, "head": at}})
