"""A disk that is full: ``send`` says so, and what comes waits for room."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import collab
from tests.e2e.chat_support import history
from tests.e2e.support import QUICK, Child, run


def test_a_full_disk_raises_in_send_and_the_message_is_not_there(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "a.db"
        async with Child("tests.e2e.client_process", "starve_chat", path, 400_000) as child:
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
