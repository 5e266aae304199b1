"""A device's connection: attempts, the handshake, joins, as in ``collab.connection``."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from collab.protocol import frames
from collab.protocol.backoff import Backoff
from collab.protocol.codec import decode_from_relay, encode
from collab.protocol.document_sync import Phase
from collab.protocol.outgoing import Outgoing
from tests.simulation.network import Wire
from tests.simulation.world import Life, Violation

if TYPE_CHECKING:
    from tests.simulation.device import Device, DeviceRoom

CONNECT_TIMEOUT_S = 10.0
PING_S = 25.0
SILENCE_S = 10.0
RESET_AFTER_S = 30.0
_COPIES = {"device file cloned", "device file put back"}


class Connection:
    """The one reconnect task of a device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._world = device.world
        self._backoff = Backoff(device.plan.backoff)
        self._is_copied = False  # somebody else uses a copy of the file
        self._wire: Wire | None = None
        self._link: _Link | None = None
        self._attempt = Life()  # what belongs to this attempt or link

    def wake(self) -> None:
        """A room may have something to send."""
        if self._link is not None:
            self._link.write_soon()

    def join(self, room: DeviceRoom) -> None:
        """Open ``room`` at the relay, now or at the next connection."""
        if self._link is not None:
            self._link.start_join(room)

    def forget(self, room: DeviceRoom) -> None:
        """Close ``room`` at the relay."""
        if self._link is not None:
            self._link.leave(room)

    def attempt(self) -> None:
        """Take another device id if need be, and connect."""
        device, world = self._device, self._world
        self._attempt = life = Life()
        self._backoff.started(world.now)
        if not self._is_copied:
            self._ask_number()
            return
        device_id = world.rng.randbytes(16)

        def renewed(_: None) -> None:
            world.count("device id renewed")
            self._is_copied = False
            if life.alive:
                self._ask_number()

        device.disk.write(
            device.life,
            lambda file: file.renew(device_id),
            renewed,
            lambda: self._lost("the disk is full"),
        )

    def _ask_number(self) -> None:
        device, life = self._device, self._attempt
        at_least = max(0, int((self._world.now + device.clock + 1_000_000) * 1000))

        def numbered(number: int) -> None:
            if life.alive:
                self._dial(number)

        device.disk.write(
            device.life,
            lambda file: file.next_connection_number(at_least),
            numbered,
            lambda: self._lost("the disk is full"),
        )

    def _dial(self, number: int) -> None:
        device, world = self._device, self._world
        wire = self._wire = device.network.connect(device.number)
        if wire is None:
            self._lost("nobody listens")
            return
        nonce = world.rng.randbytes(16)
        life = self._attempt
        wire.down.on_close = lambda code: self._lost("closed", code)

        def welcomed(data: bytes) -> None:
            welcome = decode_from_relay(data)
            if not isinstance(welcome, frames.Welcome) or welcome.nonce != nonce:
                raise Violation(f"the relay answered HELLO with {welcome}")
            self._welcome(wire, welcome)

        wire.down.on_frame = welcomed
        hello = frames.Hello(frames.VERSION, nonce, device.disk.state.device_id, number, None)
        wire.up.send(encode(hello))

        def give_up() -> None:
            if life.alive and self._link is None:
                self._lost("no WELCOME in time")

        world.after(CONNECT_TIMEOUT_S, give_up, device.life)

    def _welcome(self, wire: Wire, welcome: frames.Welcome) -> None:
        device, world, life = self._device, self._world, self._attempt
        world.note("device %d is welcome", device.number)
        link = self._link = _Link(device, wire, welcome.generation, life)
        wire.down.on_frame = link.receive
        wire.up.on_space = link.write_soon
        welcomed_at = world.now

        def be_silent() -> None:
            if life.alive and not link.ponged:
                self._lost("the relay stopped answering")

        def ping() -> None:
            if not life.alive:
                return
            if world.now - welcomed_at > RESET_AFTER_S:
                self._backoff.reset()
            link.ponged = False
            link.post(frames.Ping(1))
            world.after(SILENCE_S, be_silent, device.life)
            world.after(PING_S + SILENCE_S, ping, device.life)

        world.after(PING_S, ping, device.life)
        for room in list(device.rooms.values()):
            link.start_join(room)

    def _lost(self, reason: str, code: int = 0) -> None:
        if not self._attempt.alive:
            return
        device, world = self._device, self._world
        world.note("device %d lost its connection: %s %s", device.number, reason, code or "")
        self.abandon()
        for room in device.rooms.values():
            room.sync.detach()
        if code == frames.Close.FENCED:
            if not _COPIES & world.happened.keys():
                raise Violation(f"device {device.number} was fenced, and nobody copied its file")
            self._is_copied = True
            world.after(0.0, self.attempt, device.life)
            return
        if frames.is_permanent(code):
            raise Violation(f"the relay closed with {code}")
        world.after(self._backoff.wait(world.now, world.rng.random()), self.attempt, device.life)

    def abandon(self) -> None:
        """This attempt, or this connection, is over for the device."""
        self._attempt.end()
        wire, self._wire, self._link = self._wire, None, None
        if wire is not None:
            rng = self._world.rng
            wire.device_leaves(rng.choice((0.0, 0.0, 1.0, 40.0)))


class _Link:
    """One welcomed socket."""

    def __init__(self, device: Device, wire: Wire, generation: bytes, life: Life) -> None:
        self._device = device
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
        self.ponged = True

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
        self._post_in_order(room.name, room.sync.join(self._requests, room.name))

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
            frame = room.sync.next_frame()
            return None if frame is None else encode(frame)
        if name not in self._names_joining:
            self._in_order.pop(name, None)
            self._outgoing.detach(name)
        return None

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
            up.send(data)

    # Reading

    def receive(self, data: bytes) -> None:
        """A frame came."""
        frame = decode_from_relay(data)
        match frame:
            case frames.Pong():
                self.ponged = True
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
            case _:
                raise Violation(f"the relay sent {frame}")
        room.receive(frame, self._generation)
        self.write_soon()

    def _come_back(self, room: DeviceRoom, code: str) -> None:
        """Join a room again that was refused for now."""
        if not frames.is_transient(code):
            return
        world = self._device.world
        world.count("room refused for now")
        pause = room.backoff.wait(world.now, world.rng.random())
        world.after(pause, lambda: self._join(room), self._device.life)
