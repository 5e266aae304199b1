"""Clients that the tests kill or starve: ``client_process PROGRAM PATH ARGUMENT…``. Not a test.

A program prints a line only for what the client has said is saved.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import collab
from collab.storage.documents import Documents
from tests.e2e.chat_support import history, stored
from tests.e2e.support import QUICK, until

SCRIPTS = ("abc ", "你好世界", "напр. ", "📊é", "שלום")


def say(*words: object) -> None:
    print(*words, flush=True)


def tokens(text: str) -> list[str]:
    """The numbered tokens of a text that ``edit`` wrote, sorted."""
    return sorted(part.partition("]")[0] for part in text.split("[")[1:])


async def edit(path: str, run: str, seed: str) -> None:
    """Edit at random places until killed; print the count of tokens that ``wait_saved`` covered.

    Each token is inserted whole and never touched again; text around it comes and goes.
    """
    dice = random.Random(int(seed))
    async with collab.open(path) as client:
        room = await client.room("notes")
        text = room.text("body")
        number = 0
        while True:
            for _ in range(dice.randrange(1, 20)):
                text.insert(0 if dice.random() < 0.5 else len(text), f"[{run}-{number}]")
                number += 1
                filler = dice.choice(SCRIPTS) * dice.randrange(1, 30)
                text.insert(len(text), filler)
                if dice.random() < 0.5:
                    text.delete(len(text) - len(filler), len(filler))
            await room.wait_saved()
            say(number)


async def compact(path: str, _argument: str) -> None:
    """Compact while an edit waits for the disk, and be killed before the edit gets there."""
    async with collab.open(path) as client:
        room = await client.room("notes")
        room.text("body").insert(0, "saved ")
        await room.wait_saved()
        client._saver._documents = Never(client._database)
        room.text("body").insert(6, "unsaved ")
        await asyncio.sleep(0)
        compacting = asyncio.create_task(room._local._compact())
        # The store works in order: once this read is answered, what was asked for before is done.
        for _ in range(20):
            await client._documents.rooms()
        compacting.cancel()
        say("killed")
        os.kill(os.getpid(), signal.SIGKILL)


class Never(Documents):
    """A disk that has not answered yet."""

    async def append(self, batches: object) -> list[list[int]]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


async def starve(path: str, limit: str) -> None:
    """Edit until the disk is full, edit on, get room again; print what was seen as JSON.

    ``limit``: bytes that a file may have (RLIMIT_FSIZE), or 0 for a disk that is really small.
    """
    ballast = Path(path).with_name("ballast")
    seen: dict[str, object] = {}

    def make_room() -> None:
        if int(limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        else:
            ballast.unlink()

    if int(limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    else:
        ballast.write_bytes(bytes(128 * 1024))
    events: list[str] = []
    async with collab.open(path, settings=QUICK) as client:
        room = await client.room("notes")

        def take(event: collab.RoomEvent) -> None:
            if isinstance(event, collab.Failed):
                events.append(type(event.error).__name__)
            elif isinstance(event, collab.Recovered):
                events.append("Recovered")

        room.observe(take)
        text = room.text("body")
        number = 0
        while room.status.error is None:
            text.insert(len(text), f"[{number:06}]" + "x" * 900)
            number += 1
            assert number < 5000, "the disk never filled up"
            await until(lambda: room.status.saved or room.status.error is not None)
        seen["error"] = type(room.status.error).__name__
        for _ in range(50):  # nothing of this can be saved, and all of it can be read
            text.insert(len(text), f"[{number:06}]")
            number += 1
        seen["readable"] = tokens(str(text)) == [f"{n:06}" for n in range(number)]
        waiting = asyncio.create_task(room.wait_saved())
        await until(lambda: events)
        seen["saved_while_full"] = waiting.done() or room.status.saved
        make_room()
        await asyncio.wait_for(waiting, 20)
        await until(lambda: len(events) > 1)
        seen["error_after"] = room.status.error
        seen["saved_after"] = room.status.saved
        seen["events"] = events
        seen["count"] = number
    say(json.dumps(seen))


async def starve_chat(path: str, limit: str) -> None:
    """Send until the disk is full, go on, get room again; print what was seen as JSON.

    ``limit``: bytes that a file may have (RLIMIT_FSIZE).
    """
    seen: dict[str, object] = {}
    async with collab.open(path, settings=QUICK) as client:
        room = await client.room("notes")
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
        sent: list[str] = []
        refused = 0
        while refused < 5:
            body = f"{len(sent)}:" + "x" * 3_000
            try:
                await room.chat.send(body)
                sent.append(body)
            except collab.DiskFull:
                refused += 1
            assert len(sent) < 5_000, "the disk never filled up"
        seen["sent"] = len(sent)
        seen["pending"] = room.status.pending_messages
        seen["readable"] = await history(room) == sent
        seen["error"] = repr(room.status.error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        await room.chat.send("room again")
        seen["after"] = (await history(room))[-1]
        seen["rows"] = len(stored(Path(path)))
    say(json.dumps(seen))


async def reconnect_while_full(path: str, url: str) -> None:
    """Lose the relay while the disk takes nothing; the connection must outlive that."""
    async with collab.open(path, relay=url, settings=QUICK) as client:
        room = await client.room("notes")
        await room.wait_synced(20)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        say("full")
        assert client.connection is not None
        states: list[collab.State] = []
        client.observe(lambda status: states.append(status.state))
        await until(lambda: states.count(collab.State.OFFLINE) > 3)
        say("offline", client.connection.reason)
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        room.text("body").insert(0, "back")
        await room.wait_synced(20)
        say("synced")


async def stay(path: str, url: str) -> None:
    """Be in a room until killed."""
    async with collab.open(path, relay=url, user={"name": "Eve"}, settings=QUICK) as client:
        await (await client.room("notes")).wait_synced(20)
        say("here")
        await asyncio.Event().wait()


async def moment(path: str, url: str) -> None:
    """One bounded moment of sync, and the next, until killed."""
    async with collab.open(path, relay=url, settings=QUICK) as client:
        await client.suspend()
        say("begins")
        while True:
            await client.sync_once(deadline=1.0)
            await asyncio.sleep(0.01)


PROGRAMS: dict[str, Callable[..., Awaitable[None]]] = {
    program.__name__: program
    for program in (edit, compact, starve, starve_chat, reconnect_while_full, stay, moment)
}


async def main() -> None:
    await PROGRAMS[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    asyncio.run(main())
