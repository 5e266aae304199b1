"""The real programs that the kill loops kill: clients that edit or chat, and a relay. Not a test.

A program prints a line only for what it was told is safe: ``saved RUN N`` says that ``wait_saved``
covered the first N tokens of this run, ``synced RUN N`` that ``wait_synced`` did; ``sent RUN N``
that ``send`` returned for the first N messages of this run, ``accepted BODY SEQ`` that a message
was shown as accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import collab
from collab import limits
from collab_server.app import Relay
from collab_server.serving import served
from collab_server.settings import Settings
from tests.durability.mortal import die
from tests.e2e.client_process import SCRIPTS
from tests.e2e.support import QUICK

__all__ = ["DEVICES", "PROGRAMS", "Tell", "chats_of", "edit_a_little", "talk", "tell_accepted"]

Tell = Callable[..., None]
DEVICES: Final = "ab"  # each in two chats: four lanes

_COMPACT_FROM_BYTES: Final = 1_500  # every few edits, until the document is large


def _say(*words: object) -> None:
    """A line, whole or not at all."""
    os.write(sys.stdout.fileno(), (" ".join(map(str, words)) + "\n").encode())


def _die_in(alive_s: str) -> None:
    if alive_s:
        threading.Timer(float(alive_s), die).start()


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


def chats_of(name: str) -> tuple[str, str]:
    """The rooms in which both devices chat."""
    return f"{name}, first", f"{name}, second"


async def talk(room: collab.Room, run: str, tell: Tell) -> None:
    """Send a run of messages without end, one by one and several at once."""
    dice = random.Random(run)
    number = 0
    while True:
        upto = number + dice.choice((1, 1, 1, 5))
        await asyncio.gather(*(room.chat.send(f"{run}-{n}") for n in range(number, upto)))
        number = upto
        tell("sent", run, number)
        await asyncio.sleep(dice.uniform(0, 0.02))  # so much do they have to say


def tell_accepted(room: collab.Room, tell: Tell) -> None:
    """Tell of each message of this device that is shown as accepted."""

    def take(event: collab.ChatEvent) -> None:
        if isinstance(event, collab.MessageChanged) and event.message.is_mine and event.message.seq:
            tell("accepted", event.message.body, event.message.seq)

    room.chat.observe(take)


async def chatter(folder: str, url: str, name: str, run: str, alive_s: str = "") -> None:
    """Two devices in two rooms, each now online, now offline, its file closed in between.

    With ``alive_s`` the program dies so long after a device began to talk.
    """
    async with asyncio.TaskGroup() as devices:
        for device in DEVICES:
            path = Path(folder, f"{device}.db")
            devices.create_task(_chat(path, url, chats_of(name), f"{run}.{device}", alive_s))


async def _chat(path: Path, url: str, names: Sequence[str], run: str, alive_s: str) -> None:
    dice = random.Random(run)
    for life in count():
        relay = url if dice.random() < 0.8 else None
        async with collab.open(path, relay=relay, settings=QUICK) as device:
            rooms = [await device.room(name) for name in names]
            for room in rooms:
                tell_accepted(room, _say)
            if life == 0:
                _die_in(alive_s)
            talks = (talk(room, f"{run}{n}.{life}", _say) for n, room in enumerate(rooms))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(dice.uniform(0.1, 0.6)):
                    await asyncio.gather(*talks)


async def relay(data: str, alive_s: str = "") -> None:
    """Serve, and compact often. With ``alive_s`` it dies so long after it began to serve."""
    settings = Settings(
        data=Path(data), port=0, open=True, compact_from_bytes=_COMPACT_FROM_BYTES
    )  # fmt: skip
    async with served(Relay(settings), settings) as url:
        _say("relay:", url)
        _die_in(alive_s)
        await asyncio.Event().wait()


PROGRAMS: Final[dict[str, Callable[..., Coroutine[Any, Any, None]]]] = {
    program.__name__: program for program in (client, chatter, relay)
}
