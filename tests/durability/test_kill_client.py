"""A client's process is killed; what ``wait_saved`` returned for is there afterwards."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import collab
from tests.e2e.client_process import tokens
from tests.e2e.support import Child, run

SEED = 20261
KILLS = 10


def test_what_wait_saved_returned_for_survives_sigkill_ten_of_ten(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    path = tmp_path / "notes.db"
    saved: set[str] = set()

    async def kill_one(number: int) -> None:
        async with Child(
            "tests.e2e.client_process", "edit", path, number, dice.randrange(1 << 30)
        ) as child:
            counts = [int(await child.line())]
            await asyncio.sleep(dice.uniform(0, 0.2))  # the random moment
            await child.kill()
            counts += map(int, await child.rest())
        saved.update(f"{number}-{n}" for n in range(counts[-1]))
        async with collab.open(path) as client:
            found = tokens(str((await client.room("notes")).text("body")))
        assert saved <= set(found), f"kill {number} of seed {SEED}"
        assert len(found) == len(set(found)), f"kill {number} of seed {SEED}"
        # What was on its way may have been saved too, but in order and whole.
        mine = sorted(int(token.split("-")[1]) for token in found if token.startswith(f"{number}-"))
        assert mine == list(range(len(mine))), f"kill {number} of seed {SEED}"

    async def main() -> None:
        for number in range(KILLS):
            await kill_one(number)

    run(main())
    assert len(saved) > KILLS * 10


def test_an_edit_that_only_a_snapshot_saved_still_goes_to_the_relay(tmp_path: Path) -> None:
    """Killed between a compaction and the commit of an edit that the snapshot contains."""
    path = tmp_path / "notes.db"

    async def main() -> None:
        async with Child("tests.e2e.client_process", "compact", path, "") as child:
            assert await child.line() == "killed"
            assert await child.ended() == -9
        async with collab.open(path) as client:
            room = await client.room("notes")
            owed = collab.open(":memory:")
            async with owed:
                other = await owed.room("notes")
                for row in room._sync.machine._unacked:
                    other._local.replica.apply(row.data)
                assert str(other.text("body")) == str(room.text("body"))

    run(main())
