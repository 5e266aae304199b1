"""A client process of the demo: replays a trace into one text of the room, or only reads.

``python -m collab.demo.player '<json of Part>'``. It prints one JSON object a line (``Report``) and
ends, closing its store properly, when its stdin is closed: by the story or by the story's death.

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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import collab
from collab.demo.board import TEXTS
from collab.demo.traces import Edit, load, survived
from collab.protocol.backoff import BackoffSettings
from collab.protocol.ysync import decode_state_vector

ROOM: Final = "demo"
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
    be there. ``rate`` is in edits a second. ``copies`` is a folder for the texts as it leaves them.
    """

    store: str = ""
    relay: str = ""
    copies: str = ""
    text: str | None = None
    trace: str | None = None
    limit: int | None = None
    saved: int = 0
    rate: float = 1000.0


@dataclass(frozen=True, slots=True)
class Report:
    """How a player stands. ``digests`` come when it does not type (any more)."""

    edits: int
    saved: int
    unsent: int
    state: str
    synced: bool
    resumed: bool = False  # the first report of a life: the edits that its disk gave back
    digests: dict[str, str] = field(default_factory=dict)
    clocks: str = ""
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
        self._changed = asyncio.Event()
        room.observe(lambda _event: self._changed.set())

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

    async def _resume(self, name: str) -> bool:
        text = str(self._room.text(name))
        count = await asyncio.to_thread(survived, self._trace, text, at_least=self._part.saved)
        if count is None:
            self._report(
                lost=f"{self._part.saved} edits were reported as saved, and the {len(text)} "
                f"characters that the disk gave back are not what they or more of them leave"
            )
            return False
        self._done = self._saved = count
        return True

    async def _type(self, name: str) -> None:
        text = self._room.text(name)
        started, before, total = time.monotonic(), self._done, len(self._trace)
        while self._done < total:
            due = before + int((time.monotonic() - started) * self._part.rate)
            until = min(total, due, self._done + _TURN_EDITS)
            for index, deleted, inserted in self._trace[self._done : until]:
                text.replace(index, deleted, inserted)
            self._done = max(self._done, until)
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
            self._report(digests=self._digests(), clocks=self._clocks())
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._changed.wait()

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
    ) -> None:
        status, connection = self._room.status, self._client.connection
        self._say(
            Report(
                edits=self._done,
                saved=self._saved,
                unsent=status.pending_updates,
                state="" if connection is None else str(connection.state),
                synced=status.synced,
                resumed=resumed,
                lost=lost,
                digests=digests or {},
                clocks=clocks,
            )
        )

    def leave_copies(self) -> None:
        """Write each text to a file, for whoever compares them."""
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
        player.leave_copies()


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
