"""Undo takes back one's own work, whatever others do meanwhile."""

from __future__ import annotations

import random
from pathlib import Path

import collab
from tests.e2e.support import QUICK, reads, run, running, until

SEED = 20265


def test_undo_leaves_what_others_wrote_in_between(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as one,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            here, there = await one.room("notes"), await other.room("notes")
            mine, theirs = here.text("body"), there.text("body")
            undo = here.undo(mine, capture_timeout_ms=0)
            mine.insert(0, "[你好]")
            await here.wait_synced(20)
            await reads(there, "[你好]")
            theirs.insert(1, "bob📊")
            await reads(here, "[bob📊你好]")
            mine.insert(len(mine), " tail")
            await reads(there, "[bob📊你好] tail")
            theirs.insert(len(theirs), "!")
            await reads(here, "[bob📊你好] tail!")
            assert undo.undo()
            await reads(there, "[bob📊你好]!")
            assert undo.undo()
            await reads(there, "bob📊!")
            assert not undo.undo()
            assert undo.redo()
            await reads(there, "[bob📊你好]!")
            assert undo.redo()
            await reads(there, "[bob📊你好] tail!")
            theirs_undo = there.undo(theirs)
            assert (
                not theirs_undo.undo()
            )  # what came before it, and what others did, is not its own
            await reads(here, str(theirs))

    run(main())


def test_undoing_everything_of_ones_own_leaves_exactly_the_others_work(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    dice = random.Random(SEED)

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as one,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            here, there = await one.room("notes"), await other.room("notes")
            mine, theirs = here.text("body"), there.text("body")
            undo = here.undo(mine, capture_timeout_ms=0)
            for _ in range(40):
                mine.insert(dice.randrange(len(mine) + 1), "a" * dice.randrange(1, 4))
                theirs.insert(dice.randrange(len(theirs) + 1), "é" * dice.randrange(1, 4))
                if dice.random() < 0.3:
                    await here.wait_synced(20)
                    await there.wait_synced(20)
                    await until(lambda: str(mine) == str(theirs))
            await here.wait_synced(20)
            await there.wait_synced(20)
            await until(lambda: str(mine) == str(theirs))
            others = str(mine).count("é")
            while undo.undo():
                pass
            assert str(mine) == "é" * others
            await reads(there, "é" * others)

    run(main())
