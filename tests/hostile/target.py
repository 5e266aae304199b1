"""A client whose relay is hostile: ``python -m tests.hostile.target URL ROOM…``. Not a test.

It is in the rooms and in the room "well". Whenever the text of "well" changes it reads everything
in the others, who is present included, and prints a line of JSON: what "well" says, how long
reading took at most, and what errors the other rooms have.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import collab
from tests.e2e.support import QUICK
from tests.hostile.reading import read_all


async def main() -> None:
    url, *names = sys.argv[1:]
    async with collab.open(":memory:", relay=url, settings=QUICK) as client:
        well = await client.room("well")
        rooms = [await client.room(name) for name in names]
        changed = asyncio.Event()
        subscription = well.text("body").observe(lambda _: changed.set())
        while True:
            await changed.wait()
            changed.clear()
            took_s = []
            for room in rooms:
                began = time.monotonic()
                read_all(room)
                json.dumps(room.presence.others())
                took_s.append(time.monotonic() - began)
            errors = [str(room.status.error) for room in rooms if room.status.error is not None]
            told = {"well": str(well.text("body")), "took_s": max(took_s), "errors": errors}
            print(json.dumps(told), flush=True)
    del subscription


if __name__ == "__main__":
    asyncio.run(main())
