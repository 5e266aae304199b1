"""One welcomed socket of a device, with the order of ``collab.link``."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from collab.protocol import frames
from collab.protocol.codec import decode_from_relay, encode
from collab.protocol.connection_state import ConnectionMachine
from collab.protocol.document_sync import Phase
from collab.protocol.outgoing import Outgoing
from tests.simulation.network import Wire
from tests.simulation.world import Life, Violation

if TYPE_CHECKING:
    from tests.simulation.device import Device, DeviceRoom


class Link:
    """One welcomed socket."""

    def __init__(
        self,
        device: Device,
        wire: Wire,
        generation: bytes,
        life: Life,
        machine: ConnectionMachine,
    ) -> None:
        self._device = device
        self._machine = machine
        self._wire = wire
        self._generation = generation
        self._life = life
        self._outgoing = Outgoing()
        self._requests = 0
        self._joining: dict[int, DeviceRoom] = {}
        self._names_joining: set[str] = set()
        self._waiting: list[DeviceRoom] = []
        self._channels: dict[int, DeviceRoom] = {}
        self._open: dict[str, DeviceRoom] = {}
        self._in_order: dict[str, deque[bytes]] = {}
        self._writes_soon = False

    # Rooms

    def start_join(self, room: DeviceRoom) -> None:
        """Join ``room``; it may take a moment to know what its replica contains."""
        if room.sync.phase is not Phase.STOPPED:
            room.prepare(lambda: self._join(room))

    def _join(self, room: DeviceRoom) -> None:
        if not self._life.alive or room.is_closed or room.sync.phase is Phase.STOPPED:
            return
        if room.name in self._names_joining:
            self._waiting.append(room)
            return
        self._requests += 1
        self._joining[self._requests] = room
        self._names_joining.add(room.name)
        self._post_in_order(room.name, room.join(self._requests))

    def _answer_to(self, request: int) -> DeviceRoom:
        room = self._joining.pop(request)
        self._names_joining.discard(room.name)
        waiting, self._waiting = self._waiting, []
        for other in waiting:
            self._join_soon(other)
        return room

    def _join_soon(self, room: DeviceRoom) -> None:
        self._device.world.after(0.0, lambda: self._join(room), self._device.life)

    def leave(self, room: DeviceRoom) -> None:
        """Close ``room`` at the relay."""
        for channel, joined in list(self._channels.items()):
            if joined is room:
                del self._channels[channel]
                self._open.pop(room.name, None)
                self._post_in_order(room.name, frames.Leave(channel))

    # Writing

    def post(self, frame: frames.Frame) -> None:
        """Queue a control frame."""
        self._outgoing.send(encode(frame))
        self.write_soon()

    def _post_in_order(self, name: str, frame: frames.Frame) -> None:
        self._in_order.setdefault(name, deque()).append(encode(frame))
        self._outgoing.attach(name, lambda: self._next_of(name))
        self.write_soon()

    def _next_of(self, name: str) -> bytes | None:
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
        room = self._open.get(name)
        if room is None or room.chat is None:
            self._outgoing.detach(("chat", name))
            return None
        frame = room.chat.next_frame()
        return None if frame is None else encode(frame)

    def write_soon(self) -> None:
        """Write in the next turn."""
        if not self._writes_soon:
            self._writes_soon = True
            self._device.world.after(0.0, self._write, self._device.life)

    def _write(self) -> None:
        self._writes_soon = False
        up = self._wire.up
        while self._life.alive and up.has_space:
            data = self._outgoing.next()
            if data is None:
                return
            if not self._machine.is_linked:
                raise Violation(f"a frame goes up while the device is {self._machine.state}")
            up.send(data)

    # Reading

    def receive(self, data: bytes) -> None:
        """A frame came."""
        now = self._device.world.now
        self._machine.heard(now)
        frame = decode_from_relay(data)
        match frame:
            case frames.Pong():
                self._machine.ponged(frame.number, now)
                return
            case frames.Joined():
                room = self._answer_to(frame.request)
                if room.is_closed:
                    self.post(frames.Leave(frame.channel))
                    return
                self._channels[frame.channel] = self._open[room.name] = room
            case frames.Denied():
                room = self._answer_to(frame.request)
                self._open.pop(room.name, None)
                self._come_back(room, frame.code)
            case frames.Left():
                left = self._channels.pop(frame.channel, None)
                if left is None or left.is_closed:
                    return
                room = left
                self._open.pop(room.name, None)
                self._come_back(room, frame.code)
            case (
                frames.Updates(channel=channel)
                | frames.Difference(channel=channel)
                | frames.Ack(channel=channel)
                | frames.Resync(channel=channel)
            ):
                known = self._channels.get(channel)
                if known is None or known.is_closed:
                    return
                room = known
            case (
                frames.Entered(channel=channel)
                | frames.Outcome(channel=channel)
                | frames.Expected(channel=channel)
                | frames.Messages(channel=channel)
                | frames.Page(channel=channel)
                | frames.Receipts(channel=channel)
                | frames.Members(channel=channel)
            ):
                known = self._channels.get(channel)
                if known is not None and known.chat is not None:
                    known.chat.receive(frame)
                return
            case _:
                raise Violation(f"the relay sent {frame}")
        room.receive(frame, self._generation)
        if isinstance(frame, frames.Joined) and room.chat is not None:
            name = room.name
            self._outgoing.attach(("chat", name), lambda: self._next_of_chat(name))
        self.write_soon()

    def _come_back(self, room: DeviceRoom, code: str) -> None:
        """Join a room again that was refused for now."""
        if not frames.is_transient(code):
            return
        world = self._device.world
        world.count("room refused for now")
        pause = room.backoff.wait(world.now, world.rng.random())
        world.after(pause, lambda: self._join(room), self._device.life)
