"""A bad network between a client and its relay: what ``collab.testing.proxy()`` gives you.

A plain TCP forwarder. It knows nothing of WebSockets, except where a ``Portal`` answers in the
relay's place. Faults hold until they are taken back; nothing is random unless you ask for it.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Final, Self

__all__ = ["Direction", "FaultProxy", "Portal"]

_CHUNK: Final = 64 * 1024
_BUFFER: Final = 32 * 1024  # small: what is held back here is held back at its sender
_HEAD_BYTES: Final = 32 * 1024  # of an HTTP request that a portal reads


class Direction(Enum):
    """Which way bytes go."""

    UP = "up"
    DOWN = "down"


class Portal(Enum):
    """Who answers in the relay's place, and how."""

    REDIRECT = "redirect"  # 302 to a login page, for every request
    HTML = "html"  # 200 and a page, for every request
    JSON = "json"  # 200 and JSON that is not the relay's
    REPLAY = "replay"  # a cache: /probe gets the first answer that ever passed, again and again
    SWALLOW = "swallow"  # plain requests pass; an upgrade to a WebSocket is never answered


_PAGE: Final = b"<!doctype html><title>Welcome to the hotel</title><a href=/login>Log in</a>"
_ANSWERS: Final = {
    Portal.REDIRECT: b"HTTP/1.1 302 Found\r\nLocation: http://portal.invalid/login\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n",
    Portal.HTML: b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%s" % (len(_PAGE), _PAGE),
    Portal.JSON: b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n"
    b'Connection: close\r\n\r\n{"status": "ok"}\n',
}


class FaultProxy:
    """Forwards ``url`` to ``target`` (both like ``ws://127.0.0.1:8765``), as badly as it is told.

    1. Bytes of one connection and direction keep their order, whatever the delay.
    2. ``cut`` ends connections without a goodbye; ``freeze`` leaves them open and forwards nothing.
    3. Settings count for what is forwarded from then on; ``freeze`` for connections that exist.
    """

    def __init__(self, target: str, *, seed: int = 0) -> None:
        self.target = target  # may be changed at any time: new connections go there
        self.url = ""
        self.delay_s = 0.0  # each way
        self.bytes_per_s: float | None = None  # of each connection and direction
        self.refusing = False  # new connections are closed at once
        self.hanging = False  # new connections are accepted, and nothing else ever happens
        self.portal: Portal | None = None
        self.accepted = 0  # connections so far
        self.bytes = dict.fromkeys(Direction, 0)  # forwarded so far
        self.asked: list[bytes] = []  # what came from clients while there was a portal
        self._corrupt = dict.fromkeys(Direction, 0)
        self._rng = random.Random(seed)
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._probe_answer: bytes | None = None
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=_CHUNK)
        scheme = self.target.partition("://")[0]
        self.url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- faults ----------------------------------------------------------------------------------

    @property
    def open(self) -> int:
        """How many connections are open now, frozen ones too."""
        return len(self._pairs)

    def cut(self) -> None:
        """End every connection at once, without a goodbye."""
        for pair in list(self._pairs):
            pair.abort()

    def freeze(self, *directions: Direction) -> None:
        """Forward nothing more on the connections that exist, and close none: half-open."""
        for pair in self._pairs:
            for direction in directions or Direction:
                pair.flowing[direction].clear()

    def thaw(self) -> None:
        """Let frozen connections flow again; what waited goes first."""
        for pair in self._pairs:
            for flowing in pair.flowing.values():
                flowing.set()

    @contextmanager
    def offline(self) -> Iterator[None]:
        """While the block runs, there is no network: everything is cut, nothing connects."""
        self.refusing = True
        self.cut()
        try:
            yield
        finally:
            self.refusing = False

    def corrupt(self, direction: Direction, chunks: int = 1) -> None:
        """Flip one bit in each of the next ``chunks`` pieces that go this way."""
        self._corrupt[direction] += chunks

    # --- connections -----------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._serve(reader, _Pair(writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        self._pairs.add(pair)
        try:
            if not self.refusing:
                await self._connect(reader, pair)
        except OSError:
            pass  # either end is gone, which is what this is for
        finally:
            self._pairs.discard(pair)
            pair.abort()

    async def _connect(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        if self.hanging:
            await reader.read()  # until it leaves
            return
        first = b""
        if self.portal is not None:
            first = await _head(reader)
            self.asked.append(first)
            if await self._answer(first, reader, pair.near):
                return
        host, _, port = self.target.partition("://")[2].rpartition(":")
        far_reader, pair.far = await asyncio.open_connection(host.strip("[]"), int(port))
        pair.far.write(first)
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(self._pump(reader, pair, Direction.UP))
            pumps.create_task(self._pump(far_reader, pair, Direction.DOWN))

    async def _answer(
        self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer ``request`` in the relay's place; False if it is to pass."""
        answer = _ANSWERS.get(self.portal) if self.portal is not None else None
        upgrade = re.search(rb"\r\nupgrade: *websocket", request, re.IGNORECASE)
        if self.portal is Portal.SWALLOW and upgrade:
            self.asked.append(await reader.read())
            return True
        if self.portal is Portal.REPLAY and request.startswith(b"GET /probe"):
            if self._probe_answer is None:
                self._probe_answer = await self._ask_once(request)
            answer = self._probe_answer
        elif self.portal is Portal.REPLAY and upgrade:
            return True  # a cache forwards no upgrade
        if answer is None:
            return False
        writer.write(answer)
        await _finish(writer)
        return True

    async def _ask_once(self, request: bytes) -> bytes:
        """The relay's own answer to a request that ends its connection."""
        host, _, port = self.target.partition("://")[2].rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        try:
            head, _, rest = request.partition(b"\r\n\r\n")
            lines = [
                line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")
            ]
            writer.write(b"\r\n".join([*lines, b"Connection: close", b"", rest]))
            return await reader.read()
        finally:
            await _finish(writer)

    async def _pump(self, reader: asyncio.StreamReader, pair: _Pair, direction: Direction) -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=4)
        writer = pair.far if direction is Direction.UP else pair.near
        assert writer is not None

        async def deliver() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(due - loop.time())
                await pair.flowing[direction].wait()
                if not data:
                    break
                if self._corrupt[direction]:
                    self._corrupt[direction] -= 1
                    data = _with_a_flipped_bit(data, self._rng)
                rate = self.bytes_per_s
                size = len(data) if rate is None else max(1, int(rate / 20))
                for start in range(0, len(data), size):
                    piece = data[start : start + size]
                    if rate is not None:
                        await asyncio.sleep(len(piece) / rate)
                    self.bytes[direction] += len(piece)
                    writer.write(piece)
                    await writer.drain()
            await _finish(writer)  # one end has left: so does the other

        delivering = asyncio.create_task(deliver())
        try:
            while True:
                await pair.flowing[direction].wait()
                try:
                    data = await reader.read(_CHUNK)
                except OSError:
                    data = b""
                await queue.put((loop.time() + self.delay_s, data))
                if not data:
                    await delivering
                    return
        except OSError:
            pair.abort()
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)


class _Pair:
    """One client's connection, and ours to the relay for it."""

    def __init__(self, near: asyncio.StreamWriter) -> None:
        self.near = near
        self.far: asyncio.StreamWriter | None = None
        self.flowing = {direction: asyncio.Event() for direction in Direction}
        for flowing in self.flowing.values():
            flowing.set()

    def abort(self) -> None:
        """Drop both at once, and wake who waits for them to flow."""
        for flowing in self.flowing.values():
            flowing.set()
        for writer in (self.near, self.far):
            if writer is not None:
                writer.transport.abort()


async def _finish(writer: asyncio.StreamWriter) -> None:
    """Close, once all that was written is out."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _head(reader: asyncio.StreamReader) -> bytes:
    """A request up to its empty line, and what came with it."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
        data = await reader.read(_CHUNK)
        if not data:
            break
        head += data
    return head


def _with_a_flipped_bit(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]
