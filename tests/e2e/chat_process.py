"""Chat programs that the tests kill or starve: ``chat_process PROGRAM PATH ARGUMENT…``. Not a test.

A program prints a line only for what the client has said is so.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import collab
from tests.e2e.chat_support import history, stored
from tests.e2e.client_process import say
from tests.e2e.support import QUICK


async def send(path: str, url: str, run: str, seed: str) -> None:
    """Send until killed; print each body that ``send`` returned for, and what was accepted."""
    dice = random.Random(int(seed))
    async with collab.open(path, relay=url or None, settings=QUICK) as client:
        room = await client.room("notes")

        async def one(number: int) -> None:
            message = await room.chat.send(f"{run}-{number}", meta={"n": number})
            say("sent", message.body)
            if dice.random() < 0.2:
                await message.wait("accepted")
                say("accepted", message.body)

        number = 0
        while True:
            many = dice.choice((1, 1, 1, 5))
            await asyncio.gather(*(one(number + n) for n in range(many)))
            number += many


async def starve(path: str, limit: str) -> None:
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


PROGRAMS: dict[str, Callable[..., Awaitable[None]]] = {
    program.__name__: program for program in (send, starve)
}


async def main() -> None:
    await PROGRAMS[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    asyncio.run(main())
