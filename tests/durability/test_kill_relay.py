"""A relay's process is killed; what it acknowledged is there afterwards, without the writer."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import collab
from tests.e2e.client_process import SCRIPTS, tokens
from tests.e2e.support import QUICK, reads, relay_process, run, soon

SEED = 20262
KILLS = 10


def test_what_was_acked_survives_sigkill_of_the_relay_without_its_writer_ten_of_ten(
    tmp_path: Path,
) -> None:
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    data = tmp_path / "relay"
    acked: set[str] = set()

    async def write(room: collab.Room, number: int) -> None:
        """Edit without end; what is acked is in ``acked``."""
        text, count = room.text("body"), 0
        while True:
            for _ in range(dice.randrange(1, 10)):
                text.insert(dice.choice((0, len(text))), f"[{number}-{count}]")
                count += 1
                filler = dice.choice(SCRIPTS) * dice.randrange(1, 5)
                text.insert(len(text), filler)
                text.delete(len(text) - len(filler), len(filler))
            if dice.random() < 0.5:
                await room.wait_synced()
            else:
                await room.wait_saved()
                while room.status.pending_updates:
                    await asyncio.sleep(0)
            acked.update(f"{number}-{n}" for n in range(count))

    async def fresh(url: str) -> set[str]:
        async with collab.open(":memory:", relay=url, settings=QUICK) as client:
            room = await client.room("notes")
            await room.wait_synced(20)
            found = tokens(str(room.text("body")))
            assert len(found) == len(set(found))
            return set(found)

    async def main() -> None:
        for number in range(KILLS):
            path = tmp_path / f"writer-{number}.db"
            async with relay_process(data) as (relay, url):
                assert acked <= await fresh(url), f"kill {number} of seed {SEED}"
                async with collab.open(path, relay=url, settings=QUICK) as writer:
                    room = await writer.room("notes")
                    await soon(room.wait_synced())
                    before = len(acked)
                    writing = asyncio.create_task(write(room, number))
                    while len(acked) == before:
                        await asyncio.sleep(0)
                    await asyncio.sleep(dice.uniform(0, 0.15))  # the random moment
                    await relay.kill()
                    writing.cancel()
                    await asyncio.wait([writing])
            for file in tmp_path.glob(f"writer-{number}.db*"):
                file.unlink()
        async with relay_process(data) as (_, url):
            assert acked <= await fresh(url), f"the last kill of seed {SEED}"

    run(main())
    assert len(acked) > KILLS * 10


def test_sigterm_commits_what_was_shown_and_ends_in_time(tmp_path: Path) -> None:
    data = tmp_path / "relay"
    expected = "".join(reversed([f"[{number}]" for number in range(300)]))

    async def main() -> None:
        async with (
            relay_process(data) as (relay, url),
            collab.open(":memory:", relay=url, settings=QUICK) as writer,
            collab.open(":memory:", relay=url, settings=QUICK) as reader,
        ):
            room, seen = await writer.room("notes"), await reader.room("notes")
            await room.wait_synced(20)
            await seen.wait_synced(20)
            for number in range(300):
                room.text("body").insert(0, f"[{number}]")
                await asyncio.sleep(0)
            await reads(seen, expected)
            relay.terminate()
            assert await asyncio.wait_for(relay.ended(), 10) == 0
        async with (
            relay_process(data) as (_, url),
            collab.open(":memory:", relay=url, settings=QUICK) as fresh,
        ):
            await reads(await fresh.room("notes"), expected)

    run(main())
