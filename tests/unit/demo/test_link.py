"""A link carries bytes and counts them, until it is cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from collab.demo.link import Link


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await main

    asyncio.run(bounded())


@asynccontextmanager
async def shouting_relay() -> AsyncIterator[Link]:
    """A link to a server that answers each line in capitals, twice."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(line.upper() * 2)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    link = Link()
    link.target = server.sockets[0].getsockname()
    await link.start()
    try:
        yield link
    finally:
        await link.close()
        server.close()


async def call(link: Link) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = link.url.removeprefix("ws://").rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def hangs_up(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


def test_bytes_are_carried_and_counted_each_way() -> None:
    async def main() -> None:
        async with shouting_relay() as link:
            reader, writer = await call(link)
            writer.write(b"abc\n")
            assert await reader.readexactly(8) == b"ABC\nABC\n"
            assert (link.bytes_up, link.bytes_down) == (4, 8)
            writer.close()

    run(main())


def test_the_end_of_one_side_reaches_the_other() -> None:
    async def main() -> None:
        async with shouting_relay() as link:
            reader, writer = await call(link)
            writer.write(b"bye\n")
            writer.write_eof()
            assert await reader.read() == b"BYE\nBYE\n"
            writer.close()

    run(main())


def test_a_cut_ends_what_is_open_and_turns_away_what_comes_until_it_is_healed() -> None:
    async def main() -> None:
        async with shouting_relay() as link:
            reader, writer = await call(link)
            writer.write(b"abc\n")
            await reader.readexactly(8)
            link.cut()
            assert await hangs_up(reader)
            writer.close()
            reader, writer = await call(link)
            assert await hangs_up(reader)
            writer.close()
            assert link.bytes_up == 4
            link.heal()
            reader, writer = await call(link)
            writer.write(b"d\n")
            assert await reader.readexactly(4) == b"D\nD\n"
            writer.close()

    run(main())


def test_without_a_relay_it_hangs_up() -> None:
    async def main() -> None:
        link = Link()
        await link.start()
        reader, writer = await call(link)
        assert await hangs_up(reader)
        writer.close()
        await link.close()

    run(main())
