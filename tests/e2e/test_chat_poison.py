"""Real devices at a real relay whose application refuses, fails or hangs: none blocks another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import collab
from collab_server.hooks import Accept, IncomingMessage, Reject, Rewrite, Ruling
from tests.e2e.chat_support import Clocks, history, look, on_clock, shows, watch
from tests.e2e.support import QUICK, run
from tests.e2e.test_chat_relay_hooks import Application, ruled


async def rewritten(message: IncomingMessage) -> Ruling:
    return Rewrite(body=message.body.upper())


def test_a_message_that_the_application_rewrites_is_one_on_its_own_device(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ruled(tmp_path / "relay", rewritten) as (url, _),
            collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            room, theirs = await client.room("notes"), await other.room("notes")
            message = await room.chat.send("hello", meta={"n": 1})
            await message.wait("delivered", 20)
            await shows(theirs, "HELLO")
            await shows(room, "HELLO")
            assert (message.body, message.seq, message.replaced) == ("HELLO", 1, False)
            assert await room.chat.send("hello", id=message.id, meta={"n": 1}) is message
            with pytest.raises(collab.IdConflict):
                await room.chat.send("goodbye", id=message.id, meta={"n": 1})

    run(main())
