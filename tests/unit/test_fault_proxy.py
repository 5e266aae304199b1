"""A proxy that is as bad as it is told, and no worse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import collab
from collab.protocol import frames
from collab.testing import Direction, FaultProxy, Portal, proxy, relay
from tests.e2e.support import QUICK, reads, run, scripted_client, soon, until

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echoing() -> AsyncIterator[FaultProxy]:
    """A proxy in front of a server that says everything back."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with proxy(f"ws://127.0.0.1:{port}") as wire:
            yield wire
    finally:
        server.close()


@asynccontextmanager
async def dial(wire: FaultProxy) -> AsyncIterator[Ends]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(wire.url.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)  # the transport's own goodbye


async def says(ends: Ends, data: bytes) -> bytes:
    ends[1].write(data)
    return await soon(ends[0].readexactly(len(data)))


def test_without_a_fault_everything_passes_and_is_counted() -> None:
    async def main() -> None:
        async with echoing() as wire, dial(wire) as ends:
            data = bytes(range(256)) * 4096
            assert await says(ends, data) == data
            assert wire.bytes == {Direction.UP: len(data), Direction.DOWN: len(data)}
            assert (wire.accepted, wire.open) == (1, 1)
            ends[1].close()
            await until(lambda: wire.open == 0)

    run(main())


def test_a_cut_ends_what_is_open_and_lets_new_ones_in() -> None:
    async def main() -> None:
        async with echoing() as wire, dial(wire) as ends:
            await says(ends, b"x")
            wire.cut()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await says(ends, b"y")
            async with dial(wire) as others:
                assert await says(others, b"z") == b"z"

    run(main())


def test_a_frozen_connection_is_open_and_silent_until_it_thaws() -> None:
    async def main() -> None:
        async with echoing() as wire, dial(wire) as ends:
            await says(ends, b"x")
            wire.freeze(Direction.DOWN)
            ends[1].write(b"held")
            await until(lambda: wire.bytes[Direction.UP] == 5)
            async with dial(wire) as others:
                assert await says(others, b"passes") == b"passes"
                assert wire.open == 2
            assert not ends[0].at_eof()
            wire.thaw()
            assert await soon(ends[0].readexactly(4)) == b"held"

    run(main())


def test_a_frozen_connection_can_be_cut() -> None:
    async def main() -> None:
        async with echoing() as wire, dial(wire) as ends:
            await says(ends, b"x")
            wire.freeze()
            wire.cut()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await soon(ends[0].readexactly(1))
            await until(lambda: wire.open == 0)

    run(main())


def test_delay_and_throttle_hold_bytes_back_in_their_order() -> None:
    async def main() -> None:
        async with echoing() as wire, dial(wire) as ends:
            await says(ends, b"x")
            wire.delay_s = 0.05
            began = time.monotonic()
            assert await says(ends, b"abc") == b"abc"
            assert time.monotonic() - began >= 0.1
            wire.delay_s, wire.bytes_per_s = 0.0, 100_000.0
            began = time.monotonic()
            data = bytes(range(256)) * 40
            assert await says(ends, data) == data
            assert time.monotonic() - began >= 0.05

    run(main())


def test_corruption_flips_one_bit_of_so_many_pieces() -> None:
    async def main() -> None:
        async with echoing() as wire, dial(wire) as ends:
            wire.corrupt(Direction.UP)
            came = await says(ends, bytes(100))
            assert sum(byte.bit_count() for byte in came) == 1
            assert await says(ends, bytes(100)) == bytes(100)

    run(main())


def test_offline_nothing_connects() -> None:
    async def main() -> None:
        async with echoing() as wire:
            with wire.offline():
                async with dial(wire) as ends:
                    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                        await soon(ends[0].readexactly(1))
            async with dial(wire) as ends:
                assert await says(ends, b"back") == b"back"

    run(main())


async def ask(wire: FaultProxy, path: str) -> bytes:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    async with dial(wire) as (reader, writer):
        writer.write(request.encode())
        return await soon(reader.read())


def test_portals_answer_in_the_relays_place() -> None:
    async def main() -> None:
        async with relay() as server, proxy(server.url) as wire:
            nonces = ["0" * 32, "1" * 32]
            assert nonces[0].encode() in await ask(wire, f"/probe?nonce={nonces[0]}")
            wire.portal = Portal.REDIRECT
            assert b"302" in await ask(wire, f"/probe?nonce={nonces[0]}")
            wire.portal = Portal.HTML
            assert b"<!doctype html>" in await ask(wire, "/anything")
            wire.portal = Portal.JSON
            assert (await ask(wire, f"/probe?nonce={nonces[0]}")).endswith(b'{"status": "ok"}\n')
            wire.portal = Portal.REPLAY
            for nonce in nonces:
                assert nonces[0].encode() in await ask(wire, f"/probe?nonce={nonce}")
            assert b'"status":"ok"' in await ask(wire, "/healthz")
            wire.portal = Portal.SWALLOW
            assert nonces[1].encode() in await ask(wire, f"/probe?nonce={nonces[1]}")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), scripted_client(wire.url):
                    raise AssertionError("an upgrade passed")
            wire.portal = None
            async with scripted_client(wire.url) as client:
                await client.send(frames.Ping(1))
                assert await client.expect(frames.Pong) == frames.Pong(1)

    run(main())


def test_a_client_survives_what_a_bad_network_does_to_its_frames() -> None:
    async def main() -> None:
        async with (
            relay() as server,
            proxy(server.url, seed=3) as wire,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as a,
            collab.open(":memory:", relay=server.url, settings=QUICK) as b,
        ):
            rooms = [await client.room("notes") for client in (a, b)]
            typed = ""
            for turn in range(12):
                rooms[0].text("body").append(f"{turn} ")
                typed += f"{turn} "
                match turn % 3:
                    case 0:
                        wire.cut()
                    case 1:
                        wire.freeze()
                        wire.cut()
                    case 2:
                        with wire.offline():
                            await asyncio.sleep(0)
            await rooms[0].wait_synced(20)
            await reads(rooms[1], typed)

    run(main())
