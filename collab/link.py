"""One socket to the relay: the greeting, then every room's frames, until it is lost."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from collab import limits
from collab.errors import BadFrame, RemoteError
from collab.presence import Presence, renew_forever
from collab.protocol import frames
from collab.protocol.codec import Reassembly, decode_from_relay, encode
from collab.protocol.connection_state import Timers
from collab.protocol.outgoing import Outgoing
from collab.relay_socket import Lost, RelaySocket, opened
from collab.room_sync import RoomSync
from collab.route import Route

__all__ = ["ConnectionSettings", "Link", "Lost", "greet", "linked"]

E = TypeVar("E", bound=BaseException)

_ON_THE_WAY: Final = 0  # the number of a PING between two pieces; those of the machine are above


@dataclass(frozen=True, slots=True)
class ConnectionSettings(Timers):
    """How a device keeps its connection; times are seconds, see :class:`Timers`.

    ``proxy`` is the ``http://`` address of a proxy for the WebSocket and the probe; the
    environment's proxies are never used. ``tls`` replaces the system's certificates and rules.
    """

    proxy: str | None = None
    tls: ssl.SSLContext | None = None


class Link:
    """One welcomed socket.

    The relay knows a room by one channel, however often it is joined. So all that goes up for a
    name goes in order, what is still on its way in parts first, and a second JOIN waits for the
    answer to the first: a LEAVE or an UPDATE that is late would count for the new joining.
    """

    def __init__(
        self,
        socket: RelaySocket,
        welcome: frames.Welcome,
        rooms: Callable[[], list[RoomSync]],
        on_pong: Callable[[int], object],
    ) -> None:
        self._socket = socket
        self._generation = welcome.generation
        self._rooms = rooms
        self._on_pong = on_pong
        self._sent_since_ping = 0
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
        self.wake = asyncio.Event()
        self.is_busy = False  # with a frame that came: what comes after it waits

    async def run(self) -> None:
        """Speak until the socket or the relay ends it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._join_all()
                tasks.create_task(self._write())
                tasks.create_task(renew_forever(self._presences))
                await self._read()
        except* (RemoteError, Lost, OSError) as group:
            raise _first(group) from None

    # Rooms

    def _join_all(self) -> None:
        # Not in run(): its frame lives as long as the socket, and would keep the last room alive.
        for room in self._rooms():
            self.start_join(room)

    def _presences(self) -> list[Presence]:
        return [room.presence for room in self._rooms()]

    def start_join(self, room: RoomSync) -> None:
        """Join ``room``; it may take a moment to know what its replica contains."""
        if not room.is_stopped:
            self._start(self._join(room))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` while the socket lives; one that is being closed leaves it to the next."""
        try:
            if self._tasks is not None:
                self._tasks.create_task(work)
                return
        except RuntimeError:  # the tasks are ending, or over, and the goodbye takes its time
            pass
        work.close()

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
            data = await self._socket.receive()
            self.is_busy = True
            frame: frames.Frame | None = decode_from_relay(data)
            if isinstance(frame, frames.Part):
                frame = self._take_part(frame)
            if frame is not None:
                await self._handle(frame)
            self.is_busy = False

    def _take_part(self, part: frames.Part) -> frames.Frame | None:
        whole = self._reassembly.add(part)
        arriving = self._reassembly.arriving(part.stream) if whole is None else None
        if arriving is not None and (room := self._channels.get(arriving[0])) is not None:
            room.arriving(*arriving[1:])
        return whole

    async def _handle(self, frame: frames.Frame) -> None:
        match frame:
            case frames.Pong():
                self._on_pong(frame.number)
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
        if frames.is_transient(frame.code):
            self._start(self._join_later(room))

    async def _join_later(self, room: RoomSync) -> None:
        await asyncio.sleep(room.backoff.wait(time.monotonic(), random.random()))
        await self._join(room)

    async def _write(self) -> None:
        while True:
            self.wake.clear()
            while (data := self._outgoing.next()) is not None:
                await self._socket.send(data)
                self._sent_since_ping += len(data)
                if self._sent_since_ping >= limits.PART_BYTES:
                    # On a thin line the next real PING waits behind megabytes in the system's
                    # buffers. The answers to these show meanwhile that they drain.
                    self.ping(_ON_THE_WAY)
            await self.wake.wait()

    def ping(self, number: int) -> None:
        """Ask the relay's application for a sign of life."""
        self._sent_since_ping = 0
        self.send(frames.Ping(number))

    def abort(self) -> None:
        """Leave without a goodbye."""
        self._socket.abort()


@asynccontextmanager
async def linked(
    route: Route,
    hello: frames.Hello,
    rooms: Callable[[], list[RoomSync]],
    *,
    on_bytes: Callable[[], object],
    on_pong: Callable[[int], object],
) -> AsyncIterator[Link]:
    """A socket on which the relay has answered ``hello`` with its nonce. Raises :class:`Lost`.

    ``on_bytes`` is called whenever bytes come, ``on_pong`` with the number of a PONG. The caller
    bounds the time.
    """
    async with opened(route, on_bytes) as socket:
        yield Link(socket, await greet(socket, hello), rooms, on_pong)


async def greet(socket: RelaySocket, hello: frames.Hello) -> frames.Welcome:
    """Send ``hello``; the relay's WELCOME. Raises :class:`BadFrame` if it is not the relay's."""
    await socket.send(encode(hello))
    welcome = decode_from_relay(await socket.receive())
    if not isinstance(welcome, frames.Welcome) or welcome.nonce != hello.nonce:
        raise BadFrame("what answered did not echo this attempt's nonce: it is not the relay")
    return welcome


def _first(group: BaseExceptionGroup[E]) -> E:
    error: BaseExceptionGroup[E] | E = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
