"""HTTP proxies: one that the program names carries everything; the environment's carry nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import collab
from collab.testing import relay
from tests.e2e.support import QUICK, run, until
from tests.e2e.tcp import forward, tcp_server


@asynccontextmanager
async def http_proxy() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A proxy's address, and the first lines of what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0])
        method, target, _ = asked[-1].split(b" ")
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            await forward(reader, writer, target.decode())
        else:
            address = target.removeprefix(b"http://").partition(b"/")[0]
            first = head.replace(b"http://" + address, b"", 1)
            await forward(reader, writer, address.decode(), first)

    async with tcp_server(serve) as port:
        yield f"http://127.0.0.1:{port}", asked


def test_the_environments_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with relay() as server, http_proxy() as (address, asked):
            for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "HTTPS_PROXY"):
                monkeypatch.setenv(name, address)
            async with collab.open(":memory:", relay=server.url, settings=QUICK) as client:
                await (await client.room("notes")).wait_synced(20)
                async with server.offline():  # and probed
                    states: list[collab.State] = []
                    client.observe(lambda status: states.append(status.state))
                    await until(lambda: states.count(collab.State.PROBING) > 2)
            assert asked == []

    run(main())


def test_a_proxy_that_the_program_names_carries_the_socket_and_the_probe() -> None:
    async def main() -> None:
        async with relay() as server, http_proxy() as (address, asked):
            settings = collab.ClientSettings(
                connection=collab.ConnectionSettings(
                    proxy=address, backoff=QUICK.connection.backoff
                )
            )
            async with collab.open(":memory:", relay=server.url, settings=settings) as client:
                await (await client.room("notes")).wait_synced(20)
                host = server.url.removeprefix("ws://").encode()
                assert asked == [b"CONNECT " + host + b" HTTP/1.1"]
                async with server.offline():
                    await until(lambda: any(b"/probe?nonce=" in line for line in asked))

    run(main())
