"""A relay goes away from under many real clients at once: all come back, none hammers or fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

import collab
from collab.connection import Connection
from collab.protocol.backoff import Backoff, BackoffSettings
from collab.testing import relay
from tests.e2e.support import run, until

CLIENTS = 100
SETTINGS = collab.ClientSettings(
    connection=collab.ConnectionSettings(backoff=BackoffSettings(base_s=1.0, cap_s=4.0))
)


def test_a_hundred_clients_lose_their_relay_and_come_back_over_the_jitters_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends: list[float] = []  # of the waits before an attempt, in the loop's time
    waits: list[float] = []
    began: list[float] = []
    wait, attempt = Backoff.wait, Connection._attempt

    def watched_wait(backoff: Backoff, now: float, chance: float) -> float:
        waits.append(wait(backoff, now, chance))
        ends.append(now + waits[-1])
        return waits[-1]

    async def watched_attempt(connection: Connection) -> None:
        began.append(asyncio.get_running_loop().time())
        await attempt(connection)

    async def main() -> None:
        async with relay() as server, AsyncExitStack() as stack:
            clients: list[collab.Client] = []
            for _ in range(CLIENTS):
                client = collab.open(":memory:", relay=server.url, settings=SETTINGS)
                clients.append(await stack.enter_async_context(client))
            rooms = [await client.room("notes") for client in clients[:10]]
            statuses = [client.connection for client in clients]
            assert all(statuses)
            await until(lambda: all(is_live(client) for client in clients))
            seen: list[collab.ConnectionStatus] = []
            for client in clients:
                client.observe(seen.append)
            monkeypatch.setattr(Backoff, "wait", watched_wait)
            monkeypatch.setattr(Connection, "_attempt", watched_attempt)
            async with server.offline():
                for number, room in enumerate(rooms):
                    room.text("body").insert(0, f"[{number}]")
                await until(lambda: len(waits) >= CLIENTS)
            await until(lambda: all(is_live(client) for client in clients))
            # The waits as they were chosen: on a busy machine attempts begin late, and together.
            first = Counter(int(10 * wait_s) for wait_s in waits[:CLIENTS])
            assert max(first.values()) < CLIENTS / 2  # not all at one moment
            assert len(first) >= 6  # but over the whole second
            assert all(
                start >= end for start, end in zip(sorted(began), sorted(ends), strict=False)
            )
            assert collab.State.FAILED not in {status.state for status in seen}
            assert len(began) < 5 * CLIENTS
            for room in rooms:
                await room.wait_synced(20)

    run(main())


def is_live(client: collab.Client) -> bool:
    return client.connection is not None and client.connection.state is collab.State.LIVE
