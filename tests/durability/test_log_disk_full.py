"""A disk that really takes no more: acks wait, and when there is room again nothing is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LIMITED = """
import asyncio, resource, signal, sys
from collab.errors import DiskFull
from tests.durability.log_writer import open_log

UPDATE = b"x" * 1000

async def main(path):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    log = await open_log(path, 1)
    commits = asyncio.create_task(log.run())
    room = await log.open_room("a", epoch=bytes(16))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, unlimited))
    offsets = []
    while log.failing is None:
        offset = log.next_offset()
        log.append(room.id, offset, UPDATE)
        offsets.append(offset)
        await asyncio.sleep(0.0005)
        assert len(offsets) < 10_000
    assert isinstance(log.failing, DiskFull), log.failing
    acked = log.committed
    assert acked < offsets[-1]
    assert [offset for offset, _ in (await log.load(room.id)).updates] == [
        offset for offset in offsets if offset <= acked
    ]
    await asyncio.sleep(0.1)
    assert log.failing is not None
    resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
    while log.committed < offsets[-1]:
        await asyncio.sleep(0.001)
    assert log.failing is None
    await log.close()
    await commits
    log = await open_log(path, 2)
    assert (await log.load(room.id)).updates == [(offset, UPDATE) for offset in offsets]
    await log.close()
    print("nothing lost")

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_log_goes_on_when_a_full_disk_has_room_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "log.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("nothing lost\n", 0), done.stderr
