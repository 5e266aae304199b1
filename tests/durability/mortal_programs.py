"""The real programs that the kill loops kill: a client that edits, and a relay. Not a test.

A program prints a line only for what it was told is safe: ``saved RUN N`` says that ``wait_saved``
covered the first N tokens of this run, ``synced RUN N`` that ``wait_synced`` did.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import collab
from collab import limits
from collab_server.app import Relay
from collab_server.serving import served
from collab_server.settings import Settings
from tests.e2e.client_process import SCRIPTS
from tests.e2e.support import QUICK

__all__ = ["PROGRAMS", "edit_a_little"]

_COMPACT_FROM_BYTES: Final = 1_500  # every few edits, until the document is large


def _say(*words: object) -> None:
    """A line, whole or not at all."""
    os.write(sys.stdout.fileno(), (" ".join(map(str, words)) + "\n").encode())


def edit_a_little(dice: random.Random, text: collab.Text, run: str, number: int) -> int:
    """Insert some tokens of a run, each whole and for good, and text that may go again.

    Returns the number of the next token.
    """
    for _ in range(dice.randrange(1, 12)):
        text.insert(dice.choice((0, len(text))), f"[{run}-{number}]")
        number += 1
        filler = dice.choice(SCRIPTS) * dice.randrange(1, 20)
        text.insert(len(text), filler)
        if dice.random() < 0.8:
            text.delete(len(text) - len(filler), len(filler))
    return number


async def client(path: str, url: str, name: str, run: str) -> None:
    """Edit a room, now online, now offline, closing and opening the file in between."""
    vars(limits)["COMPACT_FROM_BYTES"] = _COMPACT_FROM_BYTES
    dice = random.Random(run)
    number = 0
    while True:
        online = dice.random() < 0.6  # what is owed outweighs its snapshot only offline
        relay = url if online else None
        async with collab.open(path, relay=relay, settings=QUICK) as device:
            room = await device.room(name)
            for _ in range(dice.randrange(1, 12)):
                number = edit_a_little(dice, room.text("body"), run, number)
                await room.wait_saved()
                _say("saved", run, number)
                if online and dice.random() < 0.4:
                    await room.wait_synced(20)
                    _say("synced", run, number)


async def relay(data: str) -> None:
    """Serve, and compact often."""
    settings = Settings(
        data=Path(data), port=0, open=True, compact_from_bytes=_COMPACT_FROM_BYTES
    )  # fmt: skip
    async with served(Relay(settings), settings) as url:
        _say("relay:", url)
        await asyncio.Event().wait()


PROGRAMS: Final[dict[str, Callable[..., Coroutine[Any, Any, None]]]] = {
    program.__name__: program for program in (client, relay)
}
