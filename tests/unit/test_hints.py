"""Hints about the network: what a source may do, and what a client makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

import collab
from collab.hints import HintSource
from collab.protocol.backoff import BackoffSettings
from collab.testing import proxy, relay
from tests.e2e.support import run, until

SLOW = collab.ClientSettings(
    connection=collab.ConnectionSettings(backoff=BackoffSettings(base_s=0.1, cap_s=600))
)


class Switch:
    """A source that a test turns."""

    def __init__(self) -> None:
        self.hint: Callable[[bool], object] = lambda up: None
        self.is_watched = False

    async def watch(self, hint: Callable[[bool], object]) -> None:
        self.hint, self.is_watched = hint, True
        try:
            await asyncio.Event().wait()
        finally:
            self.is_watched = False


class Broken:
    """A source that cannot watch here."""

    async def watch(self, hint: Callable[[bool], object]) -> None:
        raise OSError("no radio")


class Silent:
    """A source that has nothing to say here, and says so by returning."""

    async def watch(self, hint: Callable[[bool], object]) -> None:
        return


def test_a_source_is_watched_as_long_as_the_client_runs() -> None:
    switch = Switch()

    async def main() -> None:
        async with relay() as server, collab.open(":memory:", relay=server.url, hints=switch):
            await until(lambda: switch.is_watched)
        assert not switch.is_watched

    run(main())


def test_up_begins_an_attempt_soon_though_the_next_one_was_far_away() -> None:
    switch = Switch()

    async def main() -> None:
        async with relay() as server, proxy(server.url) as wire:
            wire.refusing = True
            async with collab.open(
                ":memory:", relay=wire.url, hints=switch, settings=SLOW
            ) as client:
                room = await client.room("notes")
                await until(lambda: wire.accepted >= 12)  # the waits have grown
                wire.refusing = False
                switch.hint(True)
                await room.wait_synced(2)

    run(main())


def test_a_hint_that_lies_sends_nothing_and_breaks_nothing() -> None:
    switch = Switch()

    async def main() -> None:
        async with (
            relay() as server,
            collab.open(":memory:", relay=server.url, hints=switch) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            states: list[collab.ConnectionStatus] = []
            client.observe(states.append)
            for up in (False, False, True, False):
                switch.hint(up)
                room.text("body").append("x")
                await room.wait_synced(20)
            assert states == []  # the relay answered each time it was asked

    run(main())


@pytest.mark.parametrize("source", [Broken(), Silent()], ids=["broken", "silent"])
def test_a_source_that_cannot_watch_costs_only_the_hints(
    source: HintSource, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with (
            relay() as server,
            collab.open(":memory:", relay=server.url, hints=source) as client,
        ):
            await (await client.room("notes")).wait_synced(20)

    run(main())
    assert ("no radio" in caplog.text) == isinstance(source, Broken)
