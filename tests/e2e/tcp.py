"""Plain TCP servers of a test's own, which leave nothing behind. Not a test."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def tcp_server(handle: Handle, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that treats each connection with ``handle`` and then ends it: its port."""
    visits: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other end is gone
        finally:
            writer.transport.abort()

    def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(visit, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in visits:
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        await asyncio.sleep(0)  # the transports' own goodbyes


async def say(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write ``data`` and end in good order."""
    writer.write(data)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, first: bytes = b""
) -> None:
    """Pass everything on to ``target`` ("host:port") and back, ``first`` before it."""
    host, _, port = target.rpartition(":")
    far_reader, far = await asyncio.open_connection(host, int(port))
    try:
        far.write(first)
        await asyncio.gather(_pump(reader, far), _pump(far_reader, writer))
    finally:
        far.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
