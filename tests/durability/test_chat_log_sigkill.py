"""A relay's log of messages is killed at random moments, also inside of commits.

Among what is accepted here are slots that are skipped, refused and in conflict, and frames out of
turn. Whole programs that send are killed in ``chat_kill_loops``.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

from collab.protocol.messages import LoggedMessage
from collab_server.log.sqlite import SqliteLog
from tests.durability.chat_log_writer import (
    LANES,
    ROOMS,
    body_of,
    code_of,
    id_of,
    submission,
)
from tests.durability.log_writer import generation, open_log

SEED = 20260202
KILLS = 10

Told = dict[tuple[int, int, int], tuple[str, int, str]]  # room, lane, slot: code, seq, id


def _run_and_kill(path: Path, run: int, alive_s: float) -> list[list[str]]:
    """The outcomes that the killed writer had told."""
    command = [sys.executable, "-m", "tests.durability.chat_log_writer", str(path), str(run)]
    writer = subprocess.Popen([*command, str(SEED + run)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer.stdout as lines:
        assert lines.readline() == "ready\n"
        time.sleep(alive_s)
        writer.kill()
        rest = lines.read()
    writer.wait()
    return [line.split() for line in rest.rpartition("\n")[0].splitlines()]


async def _read_all(log: SqliteLog, room_id: int) -> list[LoggedMessage]:
    found: list[LoggedMessage] = []
    while page := (await log.chat.after(room_id, len(found))).messages:
        found += page
    return found


def test_an_outcome_that_was_told_survives_sigkill_and_no_message_is_doubled_or_out_of_order(
    tmp_path: Path,
) -> None:
    dice = random.Random(SEED)
    path = tmp_path / "log.db"
    told: Told = {}
    survived: dict[str, list[LoggedMessage]] = {name: [] for name in ROOMS}

    def remember(lines: list[list[str]], run: int) -> None:
        for room, lane, slot, code, seq, message_id in lines:
            key, outcome = (int(room), int(lane), int(slot)), (code, int(seq), message_id)
            assert told.setdefault(key, outcome) == outcome, f"seed {SEED}, run {run}: {key}"

    async def examine_lane(
        log: SqliteLog, room_id: int, room: int, lane: int, log_of_room: list[LoggedMessage]
    ) -> None:
        state = await log.chat.enter(room_id, LANES[lane], generation=bytes(16), seq=0, read_upto=0)
        mine = {slot: outcome for (r, n, slot), outcome in told.items() if (r, n) == (room, lane)}
        assert state.lane.last >= max(mine, default=0)
        for slot, (code, seq, message_id) in mine.items():
            assert code == code_of(slot)
            assert bytes.fromhex(message_id) == id_of(room, lane, slot)
            assert (seq > 0) == (code == "accepted")
            if seq:
                logged = log_of_room[seq - 1]
                assert (logged.seq, logged.id) == (seq, id_of(room, lane, slot))
                assert logged.body == body_of(room, lane, slot)
        for outcome in state.lane.outcomes:
            assert mine.get(outcome.lane_seq, (outcome.code,))[0] == outcome.code
            again: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            log.chat.submit(submission(room_id, room, lane, outcome.lane_seq, again.set_result))
            assert await again == outcome

    async def examine(run: int, lines: list[list[str]]) -> None:
        remember(lines, run)
        log = await open_log(str(path), 1000 + run)
        commits = asyncio.create_task(log.run())
        for room, name in enumerate(ROOMS):
            row = await log.find_room(name)
            assert row is not None
            found = await _read_all(log, row.id)
            assert [message.seq for message in found] == list(range(1, len(found) + 1))
            assert len({message.id for message in found}) == len(found)
            assert found[: len(survived[name])] == survived[name]
            survived[name] = found
            for lane, key in enumerate(LANES):
                slots = [
                    int.from_bytes(message.id[2:], "big")
                    for message in found
                    if message.sender == key.sub
                ]
                assert all(earlier < later for earlier, later in pairwise(slots))
                await examine_lane(log, row.id, room, lane, found)
            place = (generation(run), len(found))
            state = await log.chat.enter(
                row.id, LANES[0], generation=place[0], seq=place[1], read_upto=0
            )
            assert (state.good, state.head) == (True, len(found))
        await log.close()
        await commits

    for run in range(KILLS):
        lines = _run_and_kill(path, run, dice.uniform(0.02, 0.25))
        asyncio.run(examine(run, lines))
    assert len(told) > 500
    assert {code for code, _, _ in told.values()} == {
        "accepted", "skipped", "forbidden", "conflict",
    }  # fmt: skip
