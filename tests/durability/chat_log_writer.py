"""Lanes of a relay's log that are written to until the process is killed: ``… PATH RUN SEED``.

Prints every outcome once it is told. What a slot asks for is decided by its number alone, so that
whoever sends it again after a kill asks for the same.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

from collab import limits
from collab.protocol.messages import SlotOutcome
from collab_server.lanes import LaneKey, TooEarly
from collab_server.log.chat_port import Decision, Offered, Submission, Unjudged
from collab_server.log.sqlite import SqliteLog
from tests.durability.log_writer import open_log

ROOMS = ("one", "two")
LANES = tuple(LaneKey(user, user.encode() * 4, b"e" * 16) for user in ("anas", "bens", "cats"))


def id_of(room: int, lane: int, slot: int) -> bytes:
    """Every seventh message carries the id of the one before it."""
    if slot % 7 == 0:
        slot -= 1
    return bytes([room, lane]) + slot.to_bytes(14, "big")


def body_of(room: int, lane: int, slot: int) -> str:
    """Every fourteenth has another body than the one whose id it carries."""
    if slot % 7 == 0 and slot % 14:
        slot -= 1
    return f"{room}:{lane}:{slot}:" + "x" * (slot % 300)


def code_of(slot: int) -> str:
    """What must become of a slot."""
    if slot % 14 == 0:
        return "conflict"
    if slot % 5 == 0 and slot % 7 and (slot + 1) % 7:
        return "skipped"
    if slot % 11 == 0 and slot % 7 and (slot + 1) % 7:
        return "forbidden"
    return "accepted"


def submission(room_id: int, room: int, lane: int, slot: int, decided: object) -> Submission:
    code = code_of(slot)
    refused = code if code == "forbidden" else None
    offered = Offered(LANES[lane].sub, body_of(room, lane, slot), b"", 5, refused=refused)
    return Submission(
        room_id,
        LANES[lane],
        slot,
        id_of(room, lane, slot),
        slot,
        None if code == "skipped" else offered,
        decided,  # type: ignore[arg-type]
    )


class Writer:
    """One lane in one room, with up to sixteen slots undecided."""

    def __init__(self, log: SqliteLog, room_id: int, room: int, lane: int, last: int) -> None:
        self._log = log
        self._place = (room_id, room, lane)
        self._sent = self._decided = last

    def send(self, dice: random.Random) -> None:
        """Send some more; now and then something again, or before its turn."""
        room_id, room, lane = self._place
        for _ in range(dice.randrange(6)):
            slot = self._sent + 1
            if dice.random() < 0.2 and self._sent:
                slot = max(1, self._sent - dice.randrange(20))
            elif dice.random() < 0.05:
                slot += 1 + dice.randrange(3)
            elif self._sent - self._decided >= limits.LANE_WINDOW:
                return
            else:
                self._sent = slot
            self._log.chat.submit(
                submission(room_id, room, lane, slot, lambda d, slot=slot: self._told(slot, d))
            )

    def _told(self, slot: int, decision: Decision) -> None:
        _, room, lane = self._place
        assert not isinstance(decision, Unjudged)
        if isinstance(decision, TooEarly):
            return
        assert isinstance(decision, SlotOutcome)
        if decision.code != "forgotten":
            print(room, lane, slot, decision.code, decision.seq, decision.message_id.hex())
        self._decided = max(self._decided, slot)


async def main(path: str, run: int, seed: int) -> None:
    dice = random.Random(seed)
    log = await open_log(path, run)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(log.run())
        writers = []
        for room, name in enumerate(ROOMS):
            row = await log.open_room(name, epoch=bytes(16))
            for lane, key in enumerate(LANES):
                state = await log.chat.enter(row.id, key, generation=bytes(16), seq=0, read_upto=0)
                writers.append(Writer(log, row.id, room, lane, state.lane.last))
        print("ready", flush=True)
        while True:
            for writer in writers:
                writer.send(dice)
            if dice.random() < 0.3:
                log.append(1, log.next_offset(), b"u" * dice.randrange(500))
            sys.stdout.flush()
            await asyncio.sleep(dice.choice((0, 0, 0.001)))
            await log.wait_for_room()


if __name__ == "__main__":
    os.setpgid(0, 0)  # a Ctrl-C at the tests is not one of ours
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
