"""One socket to the relay: the greeting, then every room's frames, until it is lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from collab import limits
from collab.errors import BadFrame, RemoteError
from collab.protocol import frames
from collab.protocol.backoff import BackoffSettings
from collab.protocol.codec import Reassembly, decode_from_relay, encode
from collab.protocol.outgoing import Outgoing
from collab.room_sync import RoomSync

__all__ = ["ConnectionSettings", "Link", "Lost", "linked"]

E = TypeVar("E", bound=BaseException)


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Times are seconds."""

    connect_timeout_s: float = 10.0
    ping_s: float = 25.0
    silence_s: float = 10.0
    backoff: BackoffSettings = field(default_factory=BackoffSettings)


class Lost(Exception):
    """This attempt is over: the reason, and the relay's close code if it gave one."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


class Link:
    """One welcomed socket.

    The relay knows a room by one channel, however often it is joined. So all that goes up for a
    name goes in order, what is still on its way in parts first, and a second JOIN waits for the
    answer to the first: a LEAVE or an UPDATE that is late would count for the new joining.
    """

    def __init__(
        self,
        socket: ClientConnection,
        welcome: frames.Welcome,
        settings: ConnectionSettings,
        rooms: Callable[[], list[RoomSync]],
    ) -> None:
        self._socket = socket
        self._generation = welcome.generation
        self._settings = settings
        self._rooms = rooms
        self._outgoing = Outgoing()
        self._reassembly = Reassembly(decode_from_relay)
        self._requests = 0
        self._joining: dict[int, RoomSync] = {}
        self._names_joining: set[str] = set()
        self._answered = asyncio.Event()
        self._channels: dict[int, RoomSync] = {}
        self._open: dict[str, RoomSync] = {}
        self._in_order: dict[str, deque[bytes]] = {}  # JOIN and LEAVE of a name
        self._tasks: asyncio.TaskGroup | None = None
        self._ponged = asyncio.Event()
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Speak until the socket or the relay ends it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._join_all()
                tasks.create_task(self._write())
                tasks.create_task(self._ping())
                await self._read()
        except* ConnectionClosed as group:
            raise _lost(_first(group)) from None
        except* (RemoteError, Lost, OSError) as group:
            raise _first(group) from None

    # Rooms

    def _join_all(self) -> None:
        # Not in run(): its frame lives as long as the socket, and would keep the last room alive.
        for room in self._rooms():
            self.start_join(room)

    def start_join(self, room: RoomSync) -> None:
        """Join ``room``; it may take a moment to know what its replica contains."""
        if self._tasks is not None and not room.is_stopped:
            self._tasks.create_task(self._join(room))

    async def _join(self, room: RoomSync) -> None:
        if not await room.prepare():
            return
        while room.name in self._names_joining:
            self._answered.clear()
            await self._answered.wait()
        if room.is_stopped:
            return
        self._requests += 1
        self._joining[self._requests] = room
        self._names_joining.add(room.name)
        self._post_in_order(room.name, room.join(self._requests))

    def _answer_to(self, request: int) -> RoomSync | None:
        """The room that ``request`` joined."""
        room = self._joining.pop(request, None)
        if room is not None:
            self._names_joining.discard(room.name)
            self._answered.set()
        return room

    def leave(self, room: RoomSync) -> None:
        """Close ``room`` at the relay."""
        for channel, joined in list(self._channels.items()):
            if joined is room:
                del self._channels[channel]
                self._open.pop(room.name, None)
                self._post_in_order(room.name, frames.Leave(channel))

    def send(self, frame: frames.Frame) -> None:
        """Queue a control frame."""
        self._post(encode(frame))

    def _post(self, encoded: bytes) -> None:
        if len(encoded) <= limits.MAX_FRAME_BYTES:
            self._outgoing.send(encoded)
        else:
            pieces = [encoded]
            self._outgoing.attach(object(), lambda: pieces.pop() if pieces else None)
        self.wake.set()

    def _post_in_order(self, name: str, frame: frames.Frame) -> None:
        self._in_order.setdefault(name, deque()).append(encode(frame))
        self._outgoing.attach(name, lambda: self._next_of(name))
        self.wake.set()

    def _next_of(self, name: str) -> bytes | None:
        """The next frame that goes up for the room of this name."""
        waiting = self._in_order.get(name)
        if waiting:
            return waiting.popleft()
        room = self._open.get(name)
        if room is not None:
            frame = room.next_frame()
            return None if frame is None else encode(frame)
        if name not in self._names_joining:
            self._in_order.pop(name, None)
            self._outgoing.detach(name)
        return None

    def _next_of_chat(self, name: str) -> bytes | None:
        """The next frame of the chat of this name: beside its document, however long that is."""
        room = self._open.get(name)
        if room is None:
            self._outgoing.detach(("chat", name))
            return None
        frame = room.chat.next_frame()
        return None if frame is None else encode(frame)

    def _next_of_live(self, name: str) -> bytes | None:
        """The next call or broadcast of the room of this name."""
        room = self._open.get(name)
        if room is None:
            self._outgoing.detach(("live", name))
            return None
        return room.live.next_frame()

    # The socket

    async def _read(self) -> None:
        while True:
            frame: frames.Frame | None = decode_from_relay(await _receive(self._socket))
            if isinstance(frame, frames.Part):
                frame = self._reassembly.add(frame)
            if frame is not None:
                await self._handle(frame)

    async def _handle(self, frame: frames.Frame) -> None:
        match frame:
            case frames.Pong():
                self._ponged.set()
            case frames.Joined():
                room = self._answer_to(frame.request)
                if room is None or room.is_stopped:
                    self.send(frames.Leave(frame.channel))
                    return
                self._channels[frame.channel] = self._open[room.name] = room
                await room.receive(frame, self._generation)
                name = room.name
                self._outgoing.attach(("chat", name), lambda: self._next_of_chat(name))
                self._outgoing.attach(("live", name), lambda: self._next_of_live(name))
                self.wake.set()
            case frames.Denied():
                await self._refused_room(self._answer_to(frame.request), frame)
            case frames.Left():
                await self._refused_room(self._channels.pop(frame.channel, None), frame)
            case (
                frames.Updates(channel=channel)
                | frames.Difference(channel=channel)
                | frames.Ack(channel=channel)
                | frames.Resync(channel=channel)
                | frames.Refused(channel=channel)
                | frames.Awareness(channel=channel)
            ):
                room = self._channels.get(channel)
                if room is not None:
                    await room.receive(frame, self._generation)
                    self.wake.set()
            case (
                frames.Entered(channel=channel)
                | frames.Outcome(channel=channel)
                | frames.Expected(channel=channel)
                | frames.Messages(channel=channel)
                | frames.Page(channel=channel)
                | frames.Receipts(channel=channel)
                | frames.Changed(channel=channel)
                | frames.Members(channel=channel)
                | frames.Verdicts(channel=channel)
            ):
                room = self._channels.get(channel)
                if room is not None:
                    await room.chat.receive(frame)
            case frames.Broadcast(channel=channel) | frames.Answer(channel=channel):
                room = self._channels.get(channel)
                if room is not None:
                    room.live.receive(frame)
            case _:
                raise BadFrame(f"{type(frame).__name__} is not allowed now")

    async def _refused_room(
        self, room: RoomSync | None, frame: frames.Denied | frames.Left
    ) -> None:
        if room is None:
            return
        self._open.pop(room.name, None)
        await room.receive(frame, self._generation)
        if frames.is_transient(frame.code) and self._tasks is not None:
            self._tasks.create_task(self._join_later(room))

    async def _join_later(self, room: RoomSync) -> None:
        await asyncio.sleep(room.backoff.wait(time.monotonic(), random.random()))
        await self._join(room)

    async def _write(self) -> None:
        while True:
            self.wake.clear()
            while (data := self._outgoing.next()) is not None:
                await self._socket.send(data)
            await self.wake.wait()

    async def _ping(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(self._settings.ping_s)
            number += 1
            self._ponged.clear()
            self.send(frames.Ping(number))
            try:
                async with asyncio.timeout(self._settings.silence_s):
                    await self._ponged.wait()
            except TimeoutError:
                raise Lost("the relay stopped answering") from None


@asynccontextmanager
async def linked(
    url: str, hello: frames.Hello, settings: ConnectionSettings, rooms: Callable[[], list[RoomSync]]
) -> AsyncIterator[Link]:
    """A socket on which the relay has answered ``hello`` with its nonce. Raises :class:`Lost`."""
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            socket = await connect(
                url,
                subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
                compression=None,
                max_size=limits.MAX_FRAME_BYTES,
                ping_interval=None,
                open_timeout=None,
                close_timeout=2,
                user_agent_header=None,
            )
    except (OSError, WebSocketException, TimeoutError) as error:
        raise Lost(f"{type(error).__name__}: {error}".rstrip(": ")) from error
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            await socket.send(encode(hello))
            welcome = decode_from_relay(await _receive(socket))
        if not isinstance(welcome, frames.Welcome) or welcome.nonce != hello.nonce:
            raise BadFrame("the relay did not echo this attempt's nonce")
        yield Link(socket, welcome, settings, rooms)
    except ConnectionClosed as closed:
        raise _lost(closed) from None
    except TimeoutError:
        raise Lost("the relay did not answer in time") from None
    finally:
        await socket.close()


def _lost(closed: ConnectionClosed) -> Lost:
    if closed.rcvd is not None:
        return Lost(closed.rcvd.reason or f"closed with {closed.rcvd.code}", closed.rcvd.code)
    return Lost("the connection was cut")


def _first(group: BaseExceptionGroup[E]) -> E:
    error: BaseExceptionGroup[E] | E = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _receive(socket: ClientConnection) -> bytes:
    data = await socket.recv()
    if not isinstance(data, bytes):
        raise BadFrame("frames are binary")
    return data
