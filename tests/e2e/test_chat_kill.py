"""SIGKILL at random moments, and a disk that is full: what ``send`` returned for is there, once."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

import collab
from tests.e2e.chat_support import history, stored
from tests.e2e.support import QUICK, Child, run, running

KILLS = 10
SEED = 20_264


def number_of(body: str) -> tuple[int, int]:
    run, _, number = body.partition("-")
    return int(run), int(number)


@pytest.mark.parametrize("connected", [True, False], ids=["online", "offline"])
def test_what_send_returned_for_survives_sigkill_and_arrives_once(
    tmp_path: Path, connected: bool
) -> None:
    path = tmp_path / "a.db"
    dice = random.Random(SEED)
    said: list[str] = []

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _):

            async def kill_one(number: int) -> None:
                async with Child(
                    "tests.e2e.chat_process", "send", path, url if connected else "", number,
                    dice.randrange(1 << 30),
                ) as child:  # fmt: skip
                    lines = [await child.line()]
                    await asyncio.sleep(dice.uniform(0, 0.2))  # the random moment
                    await child.kill()
                    lines += await child.rest()
                sent = [line.split()[1] for line in lines if line.startswith("sent")]
                said.extend(sent)
                assert sent, f"kill {number} of seed {SEED}"
                kept = {value for row in stored(path) for value in row if isinstance(value, str)}
                assert set(said) <= kept, f"kill {number} of seed {SEED}"

            for number in range(KILLS):
                await kill_one(number)
            async with (
                collab.open(path, relay=url, settings=QUICK) as client,
                collab.open(":memory:", relay=url, settings=QUICK) as other,
            ):
                room, fresh = await client.room("notes"), await other.room("notes")
                await room.wait_synced(30)
                await fresh.wait_synced(30)
                arrived = await history(fresh)
                assert len(arrived) == len(set(arrived)), f"seed {SEED}"
                assert set(said) <= set(arrived), f"seed {SEED}"
                # What was on its way to the disk may be there too, but in order.
                assert arrived == sorted(arrived, key=number_of), f"seed {SEED}"
                assert await history(room) == arrived

    run(main())
    assert len(said) > KILLS * 5


def test_a_full_disk_raises_in_send_and_the_message_is_not_there(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "a.db"
        async with Child("tests.e2e.chat_process", "starve", path, 400_000) as child:
            seen = json.loads(await child.line())
            assert await child.ended() == 0
        assert seen["readable"]
        assert seen["sent"] == seen["pending"] == seen["rows"] - 1
        assert seen["error"] == "None"  # who sends is told; the room itself has no trouble
        assert seen["after"] == "room again"
        async with collab.open(path) as client:
            found = await history(await client.room("notes"))
            assert len(found) == seen["rows"]

    run(main())


def test_a_disk_that_is_full_while_messages_come_stores_them_when_there_is_room(
    tmp_path: Path,
) -> None:
    """Nothing is shown that is not stored, and nothing that came is lost."""
    from collab.errors import DiskFull
    from tests.e2e.chatty_relay import ChattyRelay
    from tests.e2e.support import until
    from tests.e2e.test_chat_history import fill, numbered

    async def main() -> None:
        async with (
            ChattyRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            waiting = await room.chat.send("mine")
            await waiting.wait("accepted", 20)
            write = room._chat._ledger._write

            async def refuse(transact: object) -> None:
                raise DiskFull("full")

            room._chat._ledger._write = refuse  # type: ignore[assignment]
            fill(relay, 9)
            relay.model._serve()
            await until(lambda: room.status.error is not None)
            with pytest.raises(collab.DiskFull):
                await room.chat.send("no")
            assert await history(room) == ["mine"]
            assert room.chat.unread == 0
            room._chat._ledger._write = write
            await until(lambda: room.status.error is None)
            await until(lambda: room.chat.unread == 9)
            assert await history(room) == ["mine", *numbered(2, 10)]

    run(main())
