"""A network in which somebody else answers for the relay: it is noticed, told nothing, outlived."""

from __future__ import annotations

import asyncio

import pytest

import collab
from collab.protocol.backoff import BackoffSettings
from collab.testing import FaultProxy, Portal, proxy, relay
from tests.e2e.chat_support import history, shows
from tests.e2e.support import ScriptedRelay, reads, run, until
from tests.e2e.tcp import say, tcp_server

LOOK_S = 0.3


def settings(look_s: float = LOOK_S) -> collab.ClientSettings:
    """Attempts that come fast, and looks at a portal that come every ``look_s``."""
    return collab.ClientSettings(
        connection=collab.ConnectionSettings(
            connect_timeout_s=0.4,
            probe_timeout_s=0.4,
            captive_first_s=look_s,
            captive_cap_s=look_s,
            backoff=BackoffSettings(base_s=0.02, cap_s=0.05, attempts_per_hour=100_000),
        )
    )


def state(client: collab.Client) -> collab.State:
    assert client.connection is not None
    return client.connection.state


def told(wire: FaultProxy) -> bytes:
    """All that whoever answered in the relay's place was told."""
    return b"\n".join(wire.asked)


@pytest.mark.parametrize("portal", [Portal.REDIRECT, Portal.HTML, Portal.JSON, Portal.REPLAY])
def test_a_portal_is_captive_learns_nothing_and_its_end_is_seen_at_the_next_look(
    portal: Portal,
) -> None:
    async def main() -> None:
        async with (
            relay() as server,
            proxy(server.url) as wire,
            collab.open(
                ":memory:", relay=wire.url, token="secret-token", settings=settings()
            ) as client,
            collab.open(":memory:", relay=server.url, settings=settings()) as other,
        ):
            room, there = await client.room("secret-room"), await other.room("secret-room")
            await room.wait_synced(20)
            wire.portal = portal
            wire.cut()
            await until(lambda: state(client) is not collab.State.LIVE)
            room.text("body").insert(0, "secret-words")
            message = await room.chat.send("secret-message", meta={"secret": "meta"})
            await until(lambda: state(client) is collab.State.CAPTIVE)
            assert client.connection is not None
            assert "Somebody else answers in the relay's place" in client.connection.reason
            assert client.connection.next_attempt is not None
            looked, passed = len(wire.asked), wire.bytes.copy()
            await until(lambda: len(wire.asked) >= looked + 2)  # it looks again, and again
            assert state(client) is collab.State.CAPTIVE
            # While captive nothing goes out but looks; no attempt, no token, no name, no word.
            assert all(asked.startswith(b"GET /probe?nonce=") for asked in wire.asked[looked:])
            assert b"secret" not in told(wire)
            assert wire.bytes == passed
            assert not room.status.synced
            assert room.status.pending_updates == room.status.pending_messages == 1
            assert message.state is collab.MessageState.QUEUED
            assert str(there.text("body")) == ""
            assert await history(there) == []
            accepted = wire.accepted
            wire.portal = None
            await until(lambda: state(client) is collab.State.LIVE)
            assert wire.accepted - accepted <= 2  # the next look, and the attempt after it
            await room.wait_synced(20)
            await reads(there, "secret-words")
            await shows(there, "secret-message")
            assert await history(room) == ["secret-message"]

    run(main())


def test_where_only_websockets_are_swallowed_it_is_offline_and_says_so() -> None:
    async def main() -> None:
        async with (
            relay() as server,
            proxy(server.url) as wire,
            collab.open(
                ":memory:", relay=wire.url, token="secret-token", settings=settings()
            ) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            states: list[collab.ConnectionStatus] = []
            client.observe(states.append)
            wire.portal = Portal.SWALLOW
            wire.cut()
            await until(lambda: state(client) is not collab.State.LIVE)
            room.text("body").insert(0, "secret-words")
            message = await room.chat.send("secret-message")
            await until(lambda: any("lets no WebSockets through" in one.reason for one in states))
            assert collab.State.CAPTIVE not in {one.state for one in states}
            assert b"secret" not in told(wire)
            assert message.state is collab.MessageState.QUEUED
            wire.portal = None
            await room.wait_synced(20)
            await message.wait("accepted")

    run(main())


def test_a_first_start_behind_a_portal_works_and_sends_nothing() -> None:
    async def main() -> None:
        async with relay() as server, proxy(server.url) as wire:
            wire.portal = Portal.REDIRECT
            async with collab.open(
                ":memory:", relay=wire.url, token="secret-token", settings=settings()
            ) as client:
                room = await client.room("notes")
                room.text("body").insert(0, "secret-words")
                message = await room.chat.send("secret-message")
                await room.wait_saved()
                await until(lambda: state(client) is collab.State.CAPTIVE)
                assert b"secret" not in told(wire)
                assert room.status.state is collab.RoomState.OFFLINE
                assert message.state is collab.MessageState.QUEUED
                wire.portal = None
                await room.wait_synced(20)
                await message.wait("accepted")

    run(main())


def test_portal_done_looks_at_once() -> None:
    async def main() -> None:
        async with (
            relay() as server,
            proxy(server.url) as wire,
            collab.open(":memory:", relay=wire.url, settings=settings(look_s=600)) as client,
        ):
            wire.portal = Portal.HTML
            wire.cut()
            client.connect()
            await until(lambda: state(client) is collab.State.CAPTIVE)
            client.portal_done()  # too early: the user was wrong
            looked = len(wire.asked)
            await until(lambda: len(wire.asked) > looked)
            await asyncio.sleep(0.05)
            assert state(client) is collab.State.CAPTIVE
            wire.portal = None
            client.portal_done()
            await until(lambda: state(client) is collab.State.LIVE, timeout_s=2)

    run(main())


def test_a_portal_after_which_there_is_no_network_at_all_is_offline() -> None:
    async def main() -> None:
        async with (
            relay() as server,
            proxy(server.url) as wire,
            collab.open(":memory:", relay=wire.url, settings=settings()) as client,
        ):
            wire.portal = Portal.REDIRECT
            wire.cut()
            await until(lambda: state(client) is collab.State.CAPTIVE)
            with wire.offline():
                await until(lambda: state(client) is not collab.State.CAPTIVE)
                await until(lambda: state(client) is collab.State.OFFLINE)
                wire.portal = None
            await until(lambda: state(client) is collab.State.LIVE)

    run(main())


def test_a_gateway_that_does_not_pass_the_probe_on_keeps_nobody_out_for_ever() -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as gateway,
            collab.open(":memory:", relay=gateway.url, settings=settings(look_s=0.05)) as client,
        ):
            gateway.answers_probes = False
            visit = await gateway.visit()
            await visit.socket.close(1013, "too much to do")
            await until(lambda: state(client) is collab.State.CAPTIVE)
            await gateway.welcomed()
            await until(lambda: state(client) is collab.State.LIVE)
            assert gateway.probes >= 4

    run(main())


def test_a_relay_that_moved_is_not_followed_with_the_token() -> None:
    """A redirect of the WebSocket itself, to a server that would take it."""

    async def main() -> None:
        async with relay() as elsewhere, proxy(elsewhere.url) as wire:
            seen: list[bytes] = []

            async def move(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                request = await reader.readuntil(b"\r\n\r\n")
                seen.append(request)
                target = wire.url.encode() + request.split(b" ")[1]
                await say(
                    writer,
                    b"HTTP/1.1 307 Moved\r\nLocation: " + target + b"\r\n"
                    b"Content-Length: 0\r\nConnection: close\r\n\r\n",
                )

            async with (
                tcp_server(move) as port,
                collab.open(
                    ":memory:",
                    relay=f"ws://127.0.0.1:{port}",
                    token="secret-token",
                    settings=settings(),
                ) as client,
            ):
                await until(lambda: state(client) is collab.State.CAPTIVE)
                assert wire.accepted == 0
                assert b"secret" not in b"".join(seen)

    run(main())
