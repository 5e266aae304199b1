"""A relay's log that is written to until the process is killed: ``log_writer PATH RUN SEED``.

Prints, after each commit, the offset up to which everything is durable. Every update is one line
that names its run and offset; a snapshot is the lines that it stands for.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

from collab_server.log.port import StoredRoom
from collab_server.log.sqlite import SqliteLog

ROOMS = ("plain", "compacted")


def lines_of(stored: StoredRoom) -> list[bytes]:
    """Everything that a room's log holds, in order."""
    return ((stored.snapshot or b"") + b"".join(data for _, data in stored.updates)).splitlines()


def line(run: int, offset: int) -> bytes:
    return b"%d:%d:%s\n" % (run, offset, b"x" * (offset % 50))


def generation(run: int) -> bytes:
    return run.to_bytes(16, "big")


async def open_log(path: str, run: int) -> SqliteLog:
    return await SqliteLog.open(
        path, generation=generation(run), relay_id=bytes(16), now_ms=0, retry_pauses_s=(0.01,)
    )


async def main(path: str, run: int, seed: int) -> None:
    dice = random.Random(seed)
    log = await open_log(path, run)
    log.on_commit(lambda offset, _: print(offset, flush=True))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(log.run())
        ids = [(await log.open_room(name, epoch=bytes(16))).id for name in ROOMS]
        known = b"".join(text + b"\n" for text in lines_of(await log.load(ids[1])))
        compacting: asyncio.Task[bool] | None = None
        while True:
            for _ in range(dice.randrange(30)):
                offset = log.next_offset()
                room = dice.randrange(2)
                log.append(ids[room], offset, line(run, offset))
                if room == 1:
                    known += line(run, offset)
            if dice.random() < 0.1 and (compacting is None or compacting.done()):
                keep_after = log.head - dice.randrange(100)
                compacting = tasks.create_task(
                    log.compact(ids[1], known, log.head, keep_after=keep_after)
                )
            await asyncio.sleep(dice.choice((0, 0, 0.001)))
            await log.wait_for_room()


if __name__ == "__main__":
    os.setpgid(0, 0)  # a Ctrl-C at the tests is not one of ours
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
