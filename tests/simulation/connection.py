"""A device's connection: the machine of ``collab.protocol.connection_state``, on the simulator's
heap of events instead of sockets and timers, as in ``collab.connection``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collab.protocol import frames
from collab.protocol.codec import decode_from_relay, encode
from collab.protocol.connection_state import (
    ConnectionMachine,
    Errand,
    Meaning,
    State,
    Timers,
    meaning_of,
)
from tests.simulation.link import Link
from tests.simulation.network import Wire
from tests.simulation.world import Life, Violation

if TYPE_CHECKING:
    from tests.simulation.device import Device, DeviceRoom

USERS_PATIENCE_S: Final = 5.0  # after a permanent close somebody calls connect()
_COPIES: Final = {"device file cloned", "device file put back"}


class Connection:
    """Drives the machine of one device, as ``collab.connection`` does."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._world = device.world
        timers = Timers(backoff=device.plan.backoff, captive_first_s=2.0, captive_cap_s=8.0)
        self._machine = ConnectionMachine(timers)
        self._doing = -1  # the turn that is being carried out
        self._alarm: float | None = None  # when the machine's deadline is looked at next
        self._wire: Wire | None = None
        self._link: Link | None = None
        self._errand = Life()  # what belongs to it ends with it
        self.is_asleep = False  # the program is suspended: nothing of it has a timer

    # What rooms ask for

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

    def levels(self) -> None:
        """Some room's state changed: perhaps all are caught up."""
        rooms = self._device.rooms.values()
        if self._machine.state is State.SYNCING and all(room.is_caught_up for room in rooms):
            self._machine.caught_up(self._world.now)
            self.settle()

    # What the program and the system say

    def start(self) -> None:
        """The program has begun."""
        self.settle()

    def suspend(self) -> None:
        """The program goes to sleep."""
        self._machine.suspend(self._world.now)
        self.settle()

    def resume(self) -> None:
        """The program is in the foreground again."""
        self._machine.resume(self._world.now, self._world.rng.random())
        self.settle()

    def moment(self, seconds: float) -> None:
        """The program has a moment of so many seconds, and then sleeps on."""
        self._machine.sync_once(self._world.now, self._world.rng.random())
        self.settle()

        def over() -> None:
            self._machine.synced_once(self._world.now)
            self.settle()

        self._world.after(seconds, over, self._device.life)

    def hint(self, *, up: bool) -> None:
        """The system says, rightly or not, whether there is a network."""
        self._machine.hint(self._world.now, self._world.rng.random(), up=up)
        self.settle()

    # The machine

    def settle(self) -> None:
        """The machine may have changed: set its alarm, and do its errand."""
        machine, world = self._machine, self._world
        if machine.turn != self._doing:
            self._doing = machine.turn
            self._end_errand()
            world.note("device %d is %s", self._device.number, machine.state)
            match machine.errand:
                case Errand.DIAL:
                    self._attempt()
                case Errand.PROBE:
                    self._probe()
                case Errand.REST if machine.state is State.FAILED:
                    pause = USERS_PATIENCE_S * (0.5 + world.rng.random())
                    world.after(pause, self._user_acts, self._device.life)
            self._sleep_or_wake()
        deadline = machine.next_deadline()
        if deadline is not None and (self._alarm is None or deadline < self._alarm):
            self._alarm = max(deadline, world.now)
            world.after(self._alarm - world.now, self._due, self._device.life)

    def _sleep_or_wake(self) -> None:
        is_asleep = self._machine.state is State.SUSPENDED
        if is_asleep is not self.is_asleep:
            self.is_asleep = is_asleep
            for room in self._device.rooms.values():
                if room.chat is not None:
                    room.chat.look()

    def _due(self) -> None:
        self._alarm = None
        ping = self._machine.due(self._world.now, self._world.rng.random())
        if ping is not None and self._link is not None:
            self._link.post(frames.Ping(ping))
        self.settle()

    def _user_acts(self) -> None:
        self._machine.connect(self._world.now, self._world.rng.random())
        self.settle()

    def abandon(self) -> None:
        """The program is dead."""
        self._end_errand()

    def _end_errand(self) -> None:
        self._errand.end()
        self._errand = Life()
        wire, self._wire, self._link = self._wire, None, None
        if wire is not None:
            wire.device_leaves(self._world.rng.choice((0.0, 0.0, 1.0, 40.0)))
            for room in self._device.rooms.values():
                room.detach()

    def _lost(self, turn: int, meaning: Meaning, reason: str, code: int = 0) -> None:
        world = self._world
        world.note("device %d lost its connection: %s %s", self._device.number, reason, code or "")
        if meaning is Meaning.PERMANENT:
            raise Violation(f"the relay closed with {code}")
        if meaning is Meaning.ANOTHER and not _COPIES & world.happened.keys():
            number = self._device.number
            raise Violation(f"device {number} was fenced, and nobody copied its file")
        self._machine.lost(turn, meaning, reason, world.now, world.rng.random())
        self.settle()

    # Errands

    def _probe(self) -> None:
        world, network, turn = self._world, self._device.network, self._doing
        answer = network.probe(self._device.number)
        world.count(f"probe: {'no answer' if answer is None else answer.name.lower()}")
        if answer is None:
            return  # the machine does not wait for ever

        def answered() -> None:
            self._machine.probed(turn, answer, "a probe", world.now, world.rng.random())
            self.settle()

        world.after(self._device.plan.latency, answered, self._errand)

    def _attempt(self) -> None:
        """Take another device id if need be, and connect."""
        device, turn, life = self._device, self._doing, self._errand
        if not self._machine.is_copied:
            self._ask_number()
            return
        device_id = self._world.rng.randbytes(16)

        def renewed(_: None) -> None:
            self._world.count("device id renewed")
            self._machine.renewed()
            if life.alive:
                self._ask_number()

        device.disk.write(
            device.life,
            lambda file: file.renew(device_id),
            renewed,
            lambda: self._lost(turn, Meaning.UNTRIED, "the disk is full"),
        )

    def _ask_number(self) -> None:
        device, world, turn, life = self._device, self._world, self._doing, self._errand
        at_least = max(0, int((world.now + device.clock + 1_000_000) * 1000))

        def numbered(number: int) -> None:
            if life.alive:
                self._machine.dialing(turn, world.now)
                self._dial(number)
                self.settle()

        device.disk.write(
            device.life,
            lambda file: file.next_connection_number(at_least),
            numbered,
            lambda: self._lost(turn, Meaning.UNTRIED, "the disk is full"),
        )

    def _dial(self, number: int) -> None:
        device, world, turn = self._device, self._world, self._doing
        wire = self._wire = device.network.connect(device.number)
        if wire is None:
            self._lost(turn, Meaning.TRANSIENT, "nobody listens")
            return
        nonce = world.rng.randbytes(16)
        wire.down.on_close = lambda code: self._lost(turn, meaning_of(code), "closed", code)

        def welcomed(data: bytes) -> None:
            welcome = decode_from_relay(data)
            if not isinstance(welcome, frames.Welcome) or welcome.nonce != nonce:
                raise Violation(f"the relay answered HELLO with {welcome}")
            if self._machine.welcomed(turn, world.now):
                self._welcome(wire, welcome)
                self.settle()

        wire.down.on_frame = welcomed
        hello = frames.Hello(
            frames.VERSION, nonce, device.disk.state.device_id, number, device.user
        )
        wire.up.send(encode(hello))

    def _welcome(self, wire: Wire, welcome: frames.Welcome) -> None:
        device = self._device
        link = self._link = Link(device, wire, welcome.generation, self._errand, self._machine)

        def receive(data: bytes) -> None:
            link.receive(data)
            self.levels()
            self.settle()

        wire.down.on_frame = receive
        wire.up.on_space = link.write_soon
        for room in list(device.rooms.values()):
            link.start_join(room)
