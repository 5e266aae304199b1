"""A relay whose chat is the model of ``tests.property.chat_relay``, over real sockets. Not a test.

It refuses, forgets, is put back and drops its oldest messages as the test says. Its documents are
empty for ever: updates are acked and forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from collab.protocol import frames
from collab.protocol.codec import decode_from_client
from tests.e2e.support import ScriptedRelay, Speaker, joined
from tests.property.chat_relay import Reader, RelayModel

CHAT = (frames.Enter, frames.Send, frames.Skip, frames.Fetch, frames.Mark)


class ChattyRelay(ScriptedRelay):
    """One room, named anything. ``received`` are the chat's frames in the order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.model = RelayModel()
        self.received: list[frames.Frame] = []
        self.quiet: set[type[frames.Frame]] = set()  # kinds that it does not answer
        self.user = ""  # who everybody is; else each device is a user of its own
        self._sockets: set[ServerConnection] = set()
        self._down = False

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def cut(self) -> None:
        """Cut every connection, without a goodbye."""
        for socket in list(self._sockets):
            socket.transport.abort()
            await socket.wait_closed()

    @asynccontextmanager
    async def offline(self) -> AsyncIterator[None]:
        """While the block runs nobody gets in."""
        self._down = True
        await self.cut()
        try:
            yield
        finally:
            self._down = False

    async def _visit(self, socket: ServerConnection) -> None:
        if self._down:
            socket.transport.abort()
            return
        self.attempts += 1
        self._sockets.add(socket)
        try:
            with contextlib.suppress(ConnectionClosed, AssertionError):
                await self._speak(Speaker(socket, decode_from_client, chats=True))
        finally:
            self._sockets.discard(socket)

    async def _speak(self, speaker: Speaker) -> None:
        hello = await speaker.expect(frames.Hello)
        generation = self.model.generation
        await speaker.send(frames.Welcome(frames.VERSION, hello.nonce, b"r" * 16, generation))
        user = self.user or hello.device.hex()[:8]
        reader = self.model.connect(user, hello.device.hex())
        pushing = asyncio.create_task(self._push(speaker, reader))
        try:
            while True:
                frame = await _receive(speaker)
                match frame:
                    case frames.Join():
                        answer = joined(frame, channel=0, state_vector=b"\0")
                        await speaker.send(answer, frames.Difference(0, 0, b"\0\0"))
                    case frames.Update() | frames.Offer():
                        await speaker.send(frames.Ack(0, frame.number, 0))
                    case frames.Ping():
                        await speaker.send(frames.Pong(frame.number))
                    case _ if isinstance(frame, CHAT):
                        self.received.append(frame)
                        if type(frame) not in self.quiet:
                            self.model.receive(reader, frame)
        finally:
            pushing.cancel()

    async def _push(self, speaker: Speaker, reader: Reader) -> None:
        while True:
            while reader.down:
                await speaker.send(reader.down.popleft())
            await asyncio.sleep(0.001)


async def _receive(speaker: Speaker) -> frames.Frame:
    """The next frame, however long it takes."""
    data = await speaker.socket.recv()
    assert isinstance(data, bytes)
    return speaker.decode(data, len(data))
