"""A relay dies right before, or right after, the commit of a message, and nobody is told."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from collab.protocol.messages import SlotOutcome
from collab_server.lanes import LaneKey
from collab_server.log.chat_port import Decision, Offered, Submission
from tests.durability.log_writer import generation, open_log

LANE = LaneKey("ana", b"a" * 16, b"e" * 16)

DYING = """
import asyncio, os, signal, sqlite3, sys
from collab_server.log.sqlite import SqliteLog
from tests.durability.test_chat_log_kill_at_commit import message

armed = False

class Dying(sqlite3.Connection):
    def execute(self, sql, *parameters):
        at_stake = sql == "COMMIT" and armed
        if at_stake and sys.argv[2] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = super().execute(sql, *parameters)
        if at_stake:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

async def main(path):
    global armed
    log = await SqliteLog.open(
        path, generation=bytes(15) + b"1", relay_id=bytes(16), now_ms=0,
        factory=lambda name: sqlite3.connect(name, factory=Dying),
    )
    running = asyncio.create_task(log.run())
    room = await log.open_room("a", epoch=bytes(16))
    armed = True
    log.chat.submit(message(room.id, lambda decision: print(decision, flush=True)))
    log.append(room.id, log.next_offset(), b"in the same commit")
    await running

asyncio.run(main(sys.argv[1]))
"""


def message(room_id: int, decided: object) -> Submission:
    offered = Offered("ana", "hello", b"", 1)
    return Submission(room_id, LANE, 1, b"m" * 16, 1, offered, decided)  # type: ignore[arg-type]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_message_whose_commit_nobody_saw_is_sent_again_and_is_there_once(
    tmp_path: Path, when: str
) -> None:
    path = tmp_path / "log.db"
    command = [sys.executable, "-c", DYING, str(path), when]
    died = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, ""), died.stderr

    async def main() -> None:
        log = await open_log(str(path), 2)
        commits = asyncio.create_task(log.run())
        row = await log.find_room("a")
        assert row is not None
        state = await log.chat.enter(row.id, LANE, generation=generation(2), seq=0, read_upto=0)
        survived = when == "after"
        assert (state.lane.last, state.head) == ((1, 1) if survived else (0, 0))
        updates = (await log.load(row.id)).updates
        assert [data for _, data in updates] == [b"in the same commit"] * survived
        outcome: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        log.chat.submit(message(row.id, outcome.set_result))
        assert await outcome == SlotOutcome(1, b"m" * 16, "accepted", 1)
        assert len((await log.chat.after(row.id, 0)).messages) == 1
        await log.close()
        await commits

    asyncio.run(main())
