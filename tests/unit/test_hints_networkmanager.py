"""Hints from NetworkManager: a real bus of this test's own, and a NetworkManager that it plays."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import collab
from collab.testing import proxy, relay
from tests.e2e.support import run, until

NEEDS = shutil.which("dbus-daemon") if find_spec("dbus_fast") else None
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or (NEEDS is None and not os.environ.get("CI")),
    reason="NetworkManager is Linux's, and this needs dbus-daemon and dbus-fast",
)

NAME, PATH = "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager"
PROPERTIES = "org.freedesktop.DBus.Properties"
DISCONNECTED, CONNECTING, LOCAL, SITE, GLOBAL = 20, 40, 50, 60, 70
NONE, PORTAL, FULL = 1, 2, 4
CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"""


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[str]:
    """The address of a bus."""
    assert NEEDS is not None, "dbus-daemon or dbus-fast is not installed"
    config, path = tmp_path / "bus.conf", tmp_path / "bus"
    config.write_text(CONFIG.format(path=path))
    command = [NEEDS, f"--config-file={config}", "--nofork", "--print-address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stdout is not None
            yield daemon.stdout.readline().strip()
        finally:
            daemon.kill()


class NetworkManager:
    """What this test plays."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.state = DISCONNECTED
        self.asked = 0

    def answer(self, message: Any) -> Any:
        from dbus_fast import Message, MessageType, Variant

        is_mine = message.message_type is MessageType.METHOD_CALL and message.path == PATH
        if not is_mine or message.member != "Get":
            return None
        self.asked += 1
        assert message.body == [NAME, "State"]
        return Message.new_method_return(message, "v", [Variant("u", self.state)])

    def tell(self, **properties: int) -> None:
        """Say that properties changed."""
        from dbus_fast import Message, Variant

        self.state = properties.get("State", self.state)
        changed = {name: Variant("u", value) for name, value in properties.items()}
        self._connection.send(
            Message.new_signal(PATH, PROPERTIES, "PropertiesChanged", "sa{sv}as",
                               [NAME, changed, []])
        )  # fmt: skip


@asynccontextmanager
async def network_manager(address: str) -> AsyncIterator[NetworkManager]:
    from dbus_fast.aio import MessageBus

    connection = await MessageBus(bus_address=address).connect()
    await connection.request_name(NAME)
    manager = NetworkManager(connection)
    connection.add_message_handler(manager.answer)
    try:
        yield manager
    finally:
        connection.disconnect()
        with suppress(Exception):
            await connection.wait_for_disconnect()


@contextmanager
def watching(address: str) -> Iterator[list[bool]]:
    """The hints that come."""
    from collab.hints_networkmanager import NetworkManagerHints

    hints: list[bool] = []
    task = asyncio.create_task(NetworkManagerHints(bus_address=address).watch(hints.append))
    try:
        yield hints
    finally:
        task.cancel()


def test_the_state_is_told_at_the_start_and_at_every_change(bus: str) -> None:
    async def main() -> None:
        async with network_manager(bus) as manager:
            with watching(bus) as hints:
                await until(lambda: hints == [False])
                for state, is_up in [
                    (CONNECTING, False), (LOCAL, True), (SITE, True), (GLOBAL, True),
                    (DISCONNECTED, False),
                ]:  # fmt: skip
                    count = len(hints)
                    manager.tell(State=state)
                    await until(lambda count=count: len(hints) > count)  # type: ignore[misc]
                    assert hints[-1] is is_up
            await asyncio.sleep(0.01)

    run(main())


def test_a_portal_that_opens_is_a_hint_and_what_says_nothing_of_the_network_is_none(
    bus: str,
) -> None:
    async def main() -> None:
        async with network_manager(bus) as manager:
            manager.state = GLOBAL
            with watching(bus) as hints:
                await until(lambda: hints == [True])
                manager.tell(WirelessEnabled=1)
                manager.tell(Connectivity=FULL)
                await until(lambda: len(hints) == 2)
                await asyncio.sleep(0.05)
                assert hints == [True, True]
            await asyncio.sleep(0.01)

    run(main())


def test_without_a_bus_or_networkmanager_a_client_does_without_hints(
    bus: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from collab.hints_networkmanager import NetworkManagerHints

    async def main() -> None:
        for address in (bus, f"unix:path={tmp_path / 'nowhere'}"):
            caplog.clear()
            hints = NetworkManagerHints(bus_address=address)
            async with (
                relay() as server,
                collab.open(":memory:", relay=server.url, hints=hints) as client,
            ):
                room = await client.room("notes")
                await room.wait_synced(20)
                await until(lambda: "no hints about the network" in caplog.text)

    run(main())


def test_a_client_connects_when_the_network_is_said_to_be_back(bus: str) -> None:
    from collab.hints_networkmanager import NetworkManagerHints
    from collab.protocol.backoff import BackoffSettings

    settings = collab.ClientSettings(
        connection=collab.ConnectionSettings(backoff=BackoffSettings(base_s=0.2, cap_s=600))
    )

    async def main() -> None:
        async with network_manager(bus) as manager, relay() as server, proxy(server.url) as wire:
            wire.refusing = True
            hints = NetworkManagerHints(bus_address=bus)
            async with collab.open(
                ":memory:", relay=wire.url, hints=hints, settings=settings
            ) as client:
                room = await client.room("notes")
                await until(lambda: manager.asked == 1)
                while client.connection is None or not (
                    client.connection.next_attempt is not None and wire.accepted >= 8
                ):
                    await asyncio.sleep(0.01)
                wire.refusing = False
                manager.tell(State=GLOBAL)
                await room.wait_synced(2)

    run(main())
