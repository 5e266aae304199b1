"""A socket that is open and leads nowhere: noticed in time, fenced, and nothing is doubled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import collab
from collab.testing import Direction, proxy
from tests.e2e.chat_support import shows
from tests.e2e.support import QUICK, reads, run, running, until

PING_S, SILENCE_S = 0.3, 0.3
SLACK_S = 5.0  # for a machine that does other things; without PINGs it would be for ever
SETTINGS = collab.ClientSettings(
    connection=collab.ConnectionSettings(
        ping_s=PING_S,
        silence_s=SILENCE_S,
        connect_timeout_s=0.5,
        backoff=QUICK.connection.backoff,
    )
)


@pytest.mark.parametrize("ways", [(), (Direction.UP,), (Direction.DOWN,)], ids=str)
def test_a_half_open_socket_is_noticed_fenced_and_what_it_held_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: tuple[Direction, ...]
) -> None:
    monkeypatch.setattr("collab.relay_socket._GOODBYE_S", 60.0)  # nobody would give it

    async def main() -> None:
        async with (
            running(tmp_path) as (url, app),
            proxy(url) as wire,
            collab.open(":memory:", relay=wire.url, settings=SETTINGS) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            room, there = await client.room("notes"), await other.room("notes")
            room.text("body").insert(0, "start ")
            await room.wait_synced(20)
            await reads(there, "start ")
            states: list[tuple[float, collab.ConnectionStatus]] = []
            client.observe(lambda status: states.append((time.monotonic(), status)))
            wire.freeze(*ways)
            frozen = time.monotonic()
            room.text("body").append("meanwhile ")  # into a pipe that may lead nowhere
            await room.chat.send("meanwhile")
            await until(lambda: states)
            noticed, status = states[0]
            assert status.state is collab.State.OFFLINE
            assert "The relay stopped answering." in status.reason
            assert noticed - frozen < PING_S + SILENCE_S + SLACK_S
            await room.wait_synced(20)  # no goodbye is waited for
            shared = app._shared
            assert shared is not None
            # The relay, too, has let go of the old one: fenced by the new.
            await until(lambda: len(shared.connections) == 2)
            wire.thaw()  # what was held comes late, to nobody
            room.text("body").append("after")
            await room.wait_synced(20)
            await asyncio.sleep(0.05)
            for one in (room, there):
                await reads(one, "start meanwhile after")
                await shows(one, "meanwhile")
            assert len(shared.connections) == 2

    run(main())


def test_silence_is_noticed_while_edits_go_on(tmp_path: Path) -> None:
    """Sending into a dead pipe succeeds for long; only an answer is proof."""

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            proxy(url) as wire,
            collab.open(":memory:", relay=wire.url, settings=SETTINGS) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            wire.freeze()
            wire.refusing = True
            frozen = time.monotonic()
            while client.connection and client.connection.state is collab.State.LIVE:
                room.text("body").append("x")
                await asyncio.sleep(0.01)
                assert time.monotonic() - frozen < PING_S + SILENCE_S + SLACK_S
            wire.refusing = False
            await room.wait_synced(20)

    run(main())


def test_a_thin_line_is_slow_and_not_silent(tmp_path: Path) -> None:
    """A document of ten pings' time comes through one connection, however long a PONG waits."""
    settings = collab.ClientSettings(
        connection=collab.ConnectionSettings(
            ping_s=0.2, silence_s=0.4, backoff=QUICK.connection.backoff
        )
    )

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            proxy(url) as wire,
            collab.open(":memory:", relay=url, settings=QUICK) as writer,
        ):
            room = await writer.room("notes")
            room.text("body").insert(0, "x" * 180_000)  # one frame
            await room.wait_synced(20)
            wire.bytes_per_s = 120_000
            async with collab.open(":memory:", relay=wire.url, settings=settings) as reader:
                there = await reader.room("notes")
                await there.wait_synced(20)
                assert len(there.text("body")) == 180_000
                assert wire.accepted == 1

    run(main())


def test_a_thin_line_up_is_slow_and_not_silent(tmp_path: Path) -> None:
    """The PING waits behind what goes up, in buffers that take seconds to drain."""
    settings = collab.ClientSettings(
        connection=collab.ConnectionSettings(
            ping_s=0.2, silence_s=0.5, backoff=QUICK.connection.backoff
        )
    )

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            proxy(url) as wire,
            collab.open(":memory:", relay=wire.url, settings=settings) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            wire.bytes_per_s = 1_500_000
            room.text("body").insert(0, "x" * 3_000_000)
            await room.wait_synced(20)
            assert wire.accepted == 1

    run(main())


def test_a_program_that_is_busy_with_a_room_does_not_take_the_relay_for_silent(
    tmp_path: Path,
) -> None:
    """What is remote waits for a transaction to end, and what comes after it waits behind it."""

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            proxy(url) as wire,
            collab.open(":memory:", relay=wire.url, settings=SETTINGS) as client,
            collab.open(":memory:", relay=url, settings=QUICK) as other,
        ):
            room, there = await client.room("notes"), await other.room("notes")
            await room.wait_synced(20)
            await there.wait_synced(20)
            with room.transaction():
                there.text("body").insert(0, "from outside")
                await asyncio.sleep(2 * (PING_S + SILENCE_S))
            await reads(room, "from outside")
            assert wire.accepted == 1

    run(main())


def test_a_hint_notices_a_dead_socket_without_waiting_for_the_next_ping(tmp_path: Path) -> None:
    settings = collab.ClientSettings(
        connection=collab.ConnectionSettings(
            ping_s=600, silence_s=0.1, backoff=QUICK.connection.backoff
        )
    )

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            proxy(url) as wire,
            collab.open(":memory:", relay=wire.url, settings=settings) as client,
        ):
            room = await client.room("notes")
            acts: list[Callable[[], None]] = [
                lambda: client.network_hint(up=True),
                lambda: client.network_hint(up=False),
                client.resume,
                client.connect,
            ]
            for number, act in enumerate(acts, 1):
                await room.wait_synced(20)
                await until(lambda: client.connection.state is collab.State.LIVE)  # type: ignore[union-attr]
                act()
                await asyncio.sleep(0.2)
                assert wire.accepted == number  # it is alive, and says so
                wire.freeze()
                act()
                await until(lambda number=number: wire.accepted > number, timeout_s=2)  # type: ignore[misc]

    run(main())
