"""A client that is killed: ``engine_client ENGINE PATH RELAY RUN``. Not a test.

It types tokens at random places, and prints how many of them are saved.
"""

from __future__ import annotations

import asyncio
import random
import sys

import collab
from tests.e2e.client_process import say
from tests.e2e.support import QUICK


async def main(engine: str, path: str, url: str, run: str) -> None:
    dice = random.Random(run)
    async with collab.open(path, relay=url, engine=engine, settings=QUICK) as client:
        room = await client.room("notes")
        text = room.text("body")
        number = 0
        while True:
            for _ in range(dice.randrange(1, 10)):
                text.insert(0 if dice.random() < 0.5 else len(text), f"[{run}-{number}]")
                number += 1
                filler = dice.choice(["abc", "你好𝄞", "é\u0301"])
                text.append(filler)
                if dice.random() < 0.5:
                    text.delete(len(text) - len(filler), len(filler))
            await room.wait_saved()
            say(number)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
