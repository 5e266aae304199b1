"""The reconnect task: exactly one, and it ends when it is told to."""

from __future__ import annotations

import asyncio

import pytest

import collab
from collab.connection import Connection
from collab.link import Lost


def test_a_socket_that_is_lost_while_the_client_closes_does_not_keep_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = asyncio.Event()

    async def lost_when_cancelled(self: Connection) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise Lost("the connection was cut") from None

    monkeypatch.setattr(Connection, "_attempt", lost_when_cancelled)

    async def main() -> None:
        client = collab.open(":memory:", relay="ws://127.0.0.1:9")
        await client.start()
        await started.wait()
        async with asyncio.timeout(10):
            await client.close()

    asyncio.run(main())
