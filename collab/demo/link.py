"""A client's network, in the demo's hands: a TCP forwarder that can be cut, and counts bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

_CHUNK: Final = 64 * 1024


class Link:
    """Listens for one client and forwards to the relay, wherever that is now.

    While it is cut, what is open is closed without a farewell, and what comes is turned away.
    Its own address stays the same for ever, so nobody can take the port in the meantime.
    """

    def __init__(self) -> None:
        self.target: tuple[str, int] | None = None  # None: no relay is running
        self.bytes_up = 0
        self.bytes_down = 0
        self._is_cut = False
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen, on a port that the system chooses."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        """The relay's address as the client sees it."""
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Take the network away."""
        self._is_cut = True
        for writer in list(self._open):
            writer.transport.abort()

    def heal(self) -> None:
        """Give it back; the client has to come by itself."""
        self._is_cut = False

    async def close(self) -> None:
        """Stop listening and end what is open."""
        self.cut()
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer: asyncio.StreamWriter | None = None
        self._open.add(writer)
        try:
            if self._is_cut or self.target is None:
                return
            far_reader, far_writer = await asyncio.open_connection(*self.target)
            self._open.add(far_writer)
            if self._is_cut:
                return
            up = asyncio.create_task(_pump(reader, far_writer, self._count_up))
            down = asyncio.create_task(_pump(far_reader, writer, self._count_down))
            try:
                await asyncio.gather(up, down)
            finally:
                up.cancel()
                down.cancel()
        except OSError:
            pass  # either side went away; so does the other
        finally:
            for side in (writer, far_writer):
                if side is not None:
                    self._open.discard(side)
                    side.transport.abort()

    def _count_up(self, size: int) -> None:
        self.bytes_up += size

    def _count_down(self, size: int) -> None:
        self.bytes_down += size


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[int], None]
) -> None:
    while data := await reader.read(_CHUNK):
        count(len(data))
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
