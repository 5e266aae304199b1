"""A relay's log in which one room is made and deleted until the process is killed.

``room_deleter PATH RUN SEED`` prints, after each deletion, the number of the life that ended and
the log's head before it. The epoch of a life names its run and number, and so does every update.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

from collab_server.log.sqlite import SqliteLog
from tests.durability.log_writer import open_log

NAME = "fleeting"
BESIDE = "beside"


def epoch_of(run: int, life: int) -> bytes:
    return run.to_bytes(8) + life.to_bytes(8)


async def live(log: SqliteLog, tasks: asyncio.TaskGroup, dice: random.Random, epoch: bytes) -> None:
    """One life of the room, from its making to the moment before its deletion."""
    room = await log.open_room(NAME, epoch=epoch)
    beside = await log.open_room(BESIDE, epoch=bytes(16))
    for _ in range(dice.randrange(1, 30)):
        for room_id in (room.id, beside.id):
            log.append(room_id, log.next_offset(), epoch)
        if dice.random() < 0.2:
            tasks.create_task(log.compact(room.id, epoch, log.head, keep_after=log.head))
        if dice.random() < 0.3:
            await asyncio.sleep(0)


async def main(path: str, run: int, seed: int) -> None:
    dice = random.Random(seed)
    log = await open_log(path, run)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(log.run())
        life = 0
        while True:
            await live(log, tasks, dice, epoch_of(run, life))
            room = await log.find_room(NAME)
            assert room is not None
            head = log.head
            await log.delete_room(room.id, now_ms=life)
            print(life, head, flush=True)
            life += 1


if __name__ == "__main__":
    os.setpgid(0, 0)  # a Ctrl-C at the tests is not one of ours
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
