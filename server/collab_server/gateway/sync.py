"""``/sync``: one WebSocket of our own protocol, many rooms on it."""

from __future__ import annotations

import asyncio
import time

from starlette.websockets import WebSocket, WebSocketDisconnect

from collab import limits
from collab.errors import BadFrame, UnsupportedVersion
from collab.protocol import frames
from collab.protocol.codec import Reassembly, decode_from_client
from collab.protocol.frames import Access, Close
from collab_server.auth import User, user_of_device
from collab_server.gateway.connection import Closing, Shared, allow, close, ending_of, send
from collab_server.gateway.rooms import ConnectionRooms

__all__ = ["SyncConnection"]


class SyncConnection:
    """One client's socket, from HELLO to its close.

    One task reads, one writes. The reading task waits whenever answers or acks pile up.
    """

    def __init__(self, socket: WebSocket, shared: Shared) -> None:
        self._socket = socket
        self._shared = shared
        self._rooms: ConnectionRooms | None = None  # None until WELCOME
        self._listens_since: float | None = None  # when it began to wait for the next frame
        self._reassembly = Reassembly(decode_from_client)
        self._wake = asyncio.Event()
        self._sent = asyncio.Event()
        self._closing: asyncio.Future[Closing] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Serve the socket until either side ends it."""
        try:
            await close(self._socket, await ending_of(self._run()))
        finally:
            self.ended.set()

    async def _run(self) -> None:
        shared = self._shared
        shared.connections.add(self)
        key: tuple[str, bytes] | None = None
        try:
            hello, user = await self._hello()
            key = (user.sub, hello.device)
            shared.fence.enter(key, hello.connection, self)
            await self._serve(hello, user)
        finally:
            shared.connections.discard(self)
            if key is not None:
                shared.fence.leave(key, self)
            if self._rooms is not None:
                self._rooms.end()

    def close(self, code: int, reason: str) -> None:
        """Ask the connection to end, from outside."""
        if not self._closing.done():
            self._closing.set_result(Closing(code, reason))

    def role_changed(self, room_id: int, sub: str, access: Access) -> None:
        """This user may now do this in this room: act on it, if he has it open here."""
        if self._rooms is not None:
            self._rooms.role_changed(room_id, sub, access)

    # The beginning

    async def _hello(self) -> tuple[frames.Hello, User]:
        shared = self._shared
        try:
            async with asyncio.timeout(shared.settings.hello_timeout_s):
                data = await self._receive()
                if len(data) > limits.MAX_HELLO_BYTES:
                    raise BadFrame("the first frame is too long")
                hello = decode_from_client(data)
                if not isinstance(hello, frames.Hello):
                    raise BadFrame("the first frame must be HELLO")
                if hello.version != frames.VERSION:
                    raise UnsupportedVersion(
                        f"this relay speaks version {frames.VERSION} of the protocol"
                    )
                user = await shared.rights.authenticate(hello.token, self._socket)
                if user is not None and shared.rights.by_device:
                    user = user_of_device(hello.device)
        except TimeoutError:
            raise Closing(Close.SLOW_HELLO, "no HELLO in time") from None
        if user is None:
            raise Closing(Close.UNAUTHENTICATED, "this token is not accepted")
        allow(self._socket, limits.MAX_FRAME_BYTES)
        return hello, user

    async def _serve(self, hello: frames.Hello, user: User) -> None:
        shared, log = self._shared, self._shared.log
        async with asyncio.TaskGroup() as tasks:
            self._rooms = rooms = ConnectionRooms(
                shared,
                user,
                hello.device,
                tasks=tasks,
                wake=self._wake.set,
                progress=self._progress,
            )
            rooms.answer(frames.Welcome(frames.VERSION, hello.nonce, log.relay_id, log.generation))
            tasks.create_task(self._write(rooms))
            tasks.create_task(self._read(rooms))
            tasks.create_task(self._watch_silence())
            tasks.create_task(rooms.recheck())
            raise await self._closing

    # Reading

    async def _receive(self) -> bytes:
        message = await self._socket.receive()
        if message["type"] != "websocket.receive":
            raise WebSocketDisconnect(message.get("code", Close.GOING_AWAY))
        data = message.get("bytes")
        if not isinstance(data, bytes):
            raise BadFrame("frames are binary")
        return data

    async def _read(self, rooms: ConnectionRooms) -> None:
        while True:
            self._listens_since = time.monotonic()
            data = await self._receive()
            self._listens_since = None
            frame: frames.Frame | None = decode_from_client(data)
            if isinstance(frame, frames.Part):
                frame = self._reassembly.add(frame)
            if isinstance(frame, frames.Ping):
                rooms.answer(frames.Pong(frame.number))
            elif frame is not None:
                await rooms.handle(frame)
            while rooms.is_full:
                await self._progress()

    async def _watch_silence(self) -> None:
        """End a connection on which nothing comes. While it is not read from that is no fault."""
        idle_s = self._shared.settings.idle_timeout_s
        while True:
            # A timeout around each frame would cost more than to decode a short one.
            since = self._listens_since
            rest_s = idle_s if since is None else since + idle_s - time.monotonic()
            if rest_s <= 0:
                raise Closing(Close.IDLE, "nothing came for too long")
            await asyncio.sleep(rest_s)

    # Writing

    async def _write(self, rooms: ConnectionRooms) -> None:
        while True:
            self._wake.clear()
            while (data := rooms.next()) is not None:
                await send(self._socket, data)
                self._sent.set()
            self._sent.set()
            await self._wake.wait()

    async def _progress(self) -> None:
        """Wait until something of what piles up was sent."""
        self._sent.clear()
        await self._sent.wait()
