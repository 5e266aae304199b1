"""A disk that really takes no more: outcomes wait, and then come as if nothing had been."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LIMITED = """
import asyncio, resource, signal, sys
from collab.errors import DiskFull
from collab_server.lanes import LaneKey
from collab_server.log.chat_port import Offered, Submission
from tests.durability.log_writer import open_log

LANE = LaneKey("ana", b"a" * 16, b"e" * 16)

async def main(path):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    log = await open_log(path, 1)
    commits = asyncio.create_task(log.run())
    room = await log.open_room("a", epoch=bytes(16))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, unlimited))
    decided, sent = [], 0

    def send():
        nonlocal sent
        sent += 1
        offered = Offered("ana", f"{sent}:" + "x" * 1000, b"", 1)
        log.chat.submit(
            Submission(room.id, LANE, sent, sent.to_bytes(16, "big"), 1, offered, decided.append)
        )

    while log.failing is None:
        send()
        await asyncio.sleep(0.0005)
        assert sent < 10_000
    assert isinstance(log.failing, DiskFull), log.failing
    before = len(decided)
    assert 0 < before < sent
    log.chat.mark(room.id, "ana", delivered_upto=before, read_upto=before)
    for _ in range(20):
        send()
    await asyncio.sleep(0.1)
    assert log.failing is not None and len(decided) == before
    state = await log.chat.enter(room.id, LANE, generation=bytes(16), seq=0, read_upto=0)
    assert (state.head, state.lane.last) == (before, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
    while len(decided) < sent:
        await asyncio.sleep(0.001)
    assert log.failing is None
    assert [(o.lane_seq, o.code, o.seq) for o in decided] == [
        (n, "accepted", n) for n in range(1, sent + 1)
    ]
    await log.close()
    await commits
    log = await open_log(path, 2)
    found = []
    while page := (await log.chat.after(room.id, len(found))).messages:
        found += page
    assert [(m.seq, int.from_bytes(m.id, "big")) for m in found] == [
        (n, n) for n in range(1, sent + 1)
    ]
    assert [(r.user, r.read_upto) for r in await log.chat.receipts(room.id, 9)] == [("ana", before)]
    await log.close()
    print("nothing lost")

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_messages_go_on_when_a_full_disk_has_room_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "log.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("nothing lost\n", 0), done.stderr
