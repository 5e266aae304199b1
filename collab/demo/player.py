"""A client process of the demo: replays a trace into one text of the room, or only reads.

``python -m collab.demo.player '<json of Part>'``. It prints one JSON object a line (``Report``) and
ends, closing its store properly, when its stdin is closed: by the story or by the story's death.

Beside its typing it sends messages (``talk``): each when so many edits are made, in their order.

It keeps no note of how far it got; its document is the note. Edits are saved in the order in which
they were typed, so what a kill leaves is what some beginning of the trace leaves, and comparing the
text tells which (``traces.survived``). A counter in the document, written with each edit, would say
so too; but then the text itself would go unchecked, and each of its characters would become an item
of its own. A text that no beginning explains, or only one shorter than what was reported as saved,
is a bug of the engine, and ends the demo.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import collab
from collab.demo import talk
from collab.demo.board import TEXTS
from collab.demo.traces import Edit, load, survived
from collab.protocol.backoff import BackoffSettings
from collab.protocol.ysync import decode_state_vector

ROOM: Final = "demo"
MESSAGES: Final = "messages.json"
_TICK_S: Final = 0.05  # between reports
_STROKE_S: Final = 0.005  # the typist's rhythm
_TURN_EDITS: Final = 100  # at most so many before the event loop has its turn: some milliseconds

# A demo does not want to wait as politely as a real client does.
_SETTINGS: Final = collab.ClientSettings(
    connection=collab.ConnectionSettings(
        backoff=BackoffSettings(base_s=0.1, cap_s=1.0, attempts_per_hour=100_000)
    )
)


@dataclass(frozen=True, slots=True)
class Part:
    """What a player is to do. ``text`` and ``trace`` are None for one that only reads.

    ``saved`` is how many edits it has reported as saved in an earlier life: at least these must
    be there; ``said`` is the same of messages, of which it is to send ``messages``. ``rate`` is in
    edits a second. ``copies`` is a folder for what it has in the end. ``name`` is its own.
    """

    name: str = ""

    store: str = ""
    relay: str = ""
    copies: str = ""
    text: str | None = None
    trace: str | None = None
    limit: int | None = None
    saved: int = 0
    messages: int = 0
    said: int = 0
    rate: float = 1000.0


@dataclass(frozen=True, slots=True)
class Report:
    """How a player stands. ``digests`` come when it does not type (any more).

    ``said`` are its messages up to this number on its disk, ``repeated`` those that an earlier life
    had sent, and this one sent again; ``accepted`` those that the relay has.
    """

    edits: int
    saved: int
    unsent: int
    state: str
    synced: bool
    said: int = 0
    repeated: int = 0
    accepted: int = 0
    resumed: bool = False  # the first report of a life: the edits that its disk gave back
    digests: dict[str, str] = field(default_factory=dict)
    clocks: str = ""
    chat: str = ""  # a digest of the messages that it has
    lost: str = ""  # what is wrong with what its disk gave back


class Player:
    """One life of a client."""

    def __init__(
        self,
        part: Part,
        client: collab.Client,
        room: collab.Room,
        say: Callable[[Report], object],
    ) -> None:
        self._part = part
        self._say = say
        self._client = client
        self._room = room
        self._trace: list[Edit] = []
        self._done = 0
        self._saved = 0
        self._sent: list[collab.Message] = []
        self._repeated = 0
        self._earlier: frozenset[uuid.UUID] = frozenset()  # ids that the disk gave back
        self._typed = asyncio.Event()
        self._changed = asyncio.Event()
        room.observe(lambda _event: self._changed.set())
        room.chat.observe(lambda _event: self._changed.set())

    async def play(self) -> None:
        """Resume, type to the end, and then report until cancelled."""
        part = self._part
        if part.trace is not None and part.text is not None:
            self._trace = (await asyncio.to_thread(load, part.trace, part.limit)).edits
            if not await self._resume(part.text):
                return
        self._report(resumed=True)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._note_saved())
            tasks.create_task(self._keep_reporting())
            if part.text is not None:
                tasks.create_task(self._type(part.text))
                tasks.create_task(self._talk())

    async def _resume(self, name: str) -> bool:
        text = str(self._room.text(name))
        count = await asyncio.to_thread(survived, self._trace, text, at_least=self._part.saved)
        if count is None:
            self._report(
                lost=f"{self._part.saved} edits were reported as saved, and the {len(text)} "
                f"characters that the disk gave back are not what they or more of them leave"
            )
            return False
        self._earlier = frozenset(m.id for m in await self._room.chat.history(talk.ALL))
        lost = [number for number in range(1, self._part.said + 1) if not self._had_said(number)]
        if lost:
            self._report(lost=f"messages {lost} were reported as saved, and are not on the disk")
            return False
        self._done = self._saved = count
        return True

    def _had_said(self, number: int) -> bool:
        return talk.message_id(self._part.name, number) in self._earlier

    async def _talk(self) -> None:
        """Say all that is due, from the first message on, whatever an earlier life has said."""
        part, total = self._part, len(self._trace)
        for number in range(1, part.messages + 1):
            while self._done < talk.due(number, part.messages, total):
                self._typed.clear()
                await self._typed.wait()
            body, name = talk.body(part.name, number), talk.message_id(part.name, number)
            self._sent.append(await self._room.chat.send(body, id=name))
            self._repeated += self._had_said(number)
        self._changed.set()

    async def _type(self, name: str) -> None:
        text = self._room.text(name)
        started, before, total = time.monotonic(), self._done, len(self._trace)
        while self._done < total:
            due = before + int((time.monotonic() - started) * self._part.rate)
            until = min(total, due, self._done + _TURN_EDITS)
            for index, deleted, inserted in self._trace[self._done : until]:
                text.replace(index, deleted, inserted)
            self._done = max(self._done, until)
            self._typed.set()
            await asyncio.sleep(0 if due > self._done else _STROKE_S)
        self._report()

    async def _note_saved(self) -> None:
        while True:
            done = self._done
            await self._room.wait_saved()
            self._saved = done
            await asyncio.sleep(_TICK_S)

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            if self._done < len(self._trace):
                self._report()
                continue
            self._changed.clear()
            chat = digest(talk.dump(await self._heard()).encode())
            self._report(digests=self._digests(), clocks=self._clocks(), chat=chat)
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._changed.wait()

    async def _heard(self) -> list[talk.Said]:
        return talk.said(await self._room.chat.history(talk.ALL))

    def _digests(self) -> dict[str, str]:
        return {name: digest(str(self._room.text(name)).encode()) for name in TEXTS}

    def _clocks(self) -> str:
        vector = decode_state_vector(self._room.document.get_state())
        return digest(json.dumps(sorted(vector.items())).encode())

    def _report(
        self,
        *,
        resumed: bool = False,
        lost: str = "",
        digests: dict[str, str] | None = None,
        clocks: str = "",
        chat: str = "",
    ) -> None:
        status, connection = self._room.status, self._client.connection
        self._say(
            Report(
                edits=self._done,
                saved=self._saved,
                unsent=status.pending_updates,
                state="" if connection is None else str(connection.state),
                synced=status.synced,
                said=len(self._sent),
                repeated=self._repeated,
                accepted=sum(message.seq is not None for message in self._sent),
                resumed=resumed,
                lost=lost,
                digests=digests or {},
                clocks=clocks,
                chat=chat,
            )
        )

    async def leave_copies(self) -> None:
        """Write each text and all messages to files, for whoever compares them."""
        messages = talk.dump(await self._heard())
        (Path(self._part.copies) / MESSAGES).write_text(messages, encoding="utf-8")
        for name in TEXTS:
            path = Path(self._part.copies) / f"{name}.txt"
            path.write_text(str(self._room.text(name)), encoding="utf-8", newline="")


def digest(data: bytes) -> str:
    """sha256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _print(report: Report) -> None:
    print(json.dumps(asdict(report)), flush=True)


async def perform(part: Part) -> None:
    """A whole life, until stdin is closed."""
    async with collab.open(part.store, relay=part.relay, settings=_SETTINGS) as client:
        player = Player(part, client, await client.room(ROOM), _print)
        playing = asyncio.create_task(player.play())
        leaving = asyncio.create_task(_stdin_closed())
        await asyncio.wait([playing, leaving], return_when=asyncio.FIRST_COMPLETED)
        if playing.done():
            await playing  # raises what it failed with
            await leaving
        playing.cancel()
        await asyncio.wait([playing])
        await player.leave_copies()


async def _stdin_closed() -> None:
    """Return when stdin ends. A thread waits for it: not every event loop can."""
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def wait() -> None:
        while os.read(0, 1):
            pass
        with suppress(RuntimeError):  # the loop may be gone before
            loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=wait, daemon=True).start()
    await closed.wait()


if __name__ == "__main__":
    asyncio.run(perform(Part(**json.loads(sys.argv[1]))))
