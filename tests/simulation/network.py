"""Connections that lose, delay and cut, as TCP does: what arrives is a prefix, in order.

A ``Wire`` is one connection: two pipes. Frames of one pipe keep their order; those of different
connections do not. A wire that is cut delivers some of what was on its way, then its end; the two
sides learn of it at different moments, so an old connection may still speak while a new one does.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from collab.protocol.connection_state import Answer
from tests.simulation.world import World

LOST: Final = 0  # the close code of a connection that ended without one


class Pipe:
    """One direction of a connection."""

    __slots__ = (
        "_arrivals", "_scheduled", "_world", "blocked", "dead", "latency", "on_close", "on_frame",
        "on_space", "window",
    )  # fmt: skip

    def __init__(self, world: World, latency: float, window: int) -> None:
        self._world = world
        self._arrivals: deque[tuple[float, bytes | int]] = deque()  # a frame, or a close code
        self._scheduled = False
        self.latency = latency
        self.window = window
        self.blocked = False
        self.dead = False  # its receiver is gone
        self.on_frame: Callable[[bytes], object] = lambda _: None
        self.on_close: Callable[[int], object] = lambda _: None
        self.on_space: Callable[[], object] = lambda: None

    @property
    def has_space(self) -> bool:
        """Whether the sender's socket takes another frame."""
        return len(self._arrivals) < self.window

    def send(self, frame: bytes) -> None:
        """Put a frame on its way."""
        self._put(frame, self.latency * (0.5 + self._world.rng.random()))

    def close(self, code: int = LOST, delay: float = 0.0) -> None:
        """After all that is on its way, the receiver learns that this is over."""
        self._put(code, delay + self.latency)

    def lose(self) -> None:
        """Of what is on its way only a part from the beginning arrives."""
        keep = self._world.rng.randint(0, len(self._arrivals))
        while len(self._arrivals) > keep:
            self._arrivals.pop()

    def end(self) -> None:
        """The receiver is gone: nothing arrives."""
        self.dead = True
        self._arrivals.clear()
        self.on_frame = lambda _: None
        self.on_close = lambda _: None
        self.on_space = lambda: None

    def block(self) -> None:
        """Nothing moves for now."""
        self.blocked = True

    def unblock(self) -> None:
        """What was held up goes on."""
        self.blocked = False
        self._schedule()

    def _put(self, thing: bytes | int, delay: float) -> None:
        if self.dead:
            return
        arrival = self._world.now + delay
        if self._arrivals and self._arrivals[-1][0] > arrival:
            arrival = self._arrivals[-1][0]
        self._arrivals.append((arrival, thing))
        self._schedule()

    def _schedule(self) -> None:
        if self._arrivals and not self._scheduled and not self.blocked:
            self._scheduled = True
            self._world.after(max(0.0, self._arrivals[0][0] - self._world.now), self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        arrivals = self._arrivals
        was_full = len(arrivals) >= self.window
        while arrivals and arrivals[0][0] <= self._world.now and not self.blocked:
            _, thing = arrivals.popleft()
            if isinstance(thing, bytes):
                self.on_frame(thing)
            else:
                on_close = self.on_close
                self.end()
                on_close(thing)
                return
        if was_full and not self.dead:
            self.on_space()
        self._schedule()


class Wire:
    """One connection of a device: ``up`` goes to the relay, ``down`` to the device."""

    __slots__ = ("_world", "down", "up")

    def __init__(self, world: World, latency: float, window: int) -> None:
        self._world = world
        self.up = Pipe(world, latency, window)
        self.down = Pipe(world, latency, window)

    def cut(self, relay_learns_after: float) -> None:
        """The network loses the connection."""
        for pipe, delay in ((self.up, relay_learns_after), (self.down, 0.0)):
            pipe.lose()
            pipe.close(LOST, delay)

    def device_leaves(self, relay_learns_after: float) -> None:
        """The device's end is gone; what it sent may still arrive."""
        self.down.end()
        self.up.close(LOST, relay_learns_after)

    def relay_dies(self) -> None:
        """The relay's end is gone without a word; what it sent may still arrive."""
        self.up.end()
        self.down.lose()
        self.down.close(LOST)

    def relay_closes(self, code: int) -> None:
        """The relay ends the connection in good order."""
        self.up.end()
        self.down.close(code)


class Network:
    """Which wires exist, and which devices are cut off in which direction."""

    def __init__(self, world: World, latency: float, window: int) -> None:
        self._world = world
        self._latency = latency
        self._window = window
        self._wires: dict[int, Wire] = {}  # the newest of each device
        self._blocked: set[tuple[int, str]] = set()
        self._flaps: Counter[int] = Counter()
        self._portals: set[int] = set()  # devices for which somebody else answers
        self.accept: Callable[[Wire], object] | None = None  # the relay, while it is up

    def connect(self, device: int) -> Wire | None:
        """A new connection of ``device``; None while nobody listens."""
        if self.accept is None or device in self._portals:
            return None
        latency = self._latency * self._world.rng.choice([0.5, 1, 1, 4])
        wire = self._wires[device] = Wire(self._world, latency, self._window)
        wire.up.blocked = (device, "up") in self._blocked
        wire.down.blocked = (device, "down") in self._blocked
        self.accept(wire)
        if self._flaps[device] > 0:
            self._flaps[device] -= 1
            lasts = (
                latency * 3 + self._world.rng.choice((0.0, 0.05, 1.0)) * self._world.rng.random()
            )
            self._world.after(lasts, lambda: wire.cut(0.0))
        return wire

    def probe(self, device: int) -> Answer | None:
        """Who answers a probe of ``device``; None: nobody says anything, not even no."""
        if device in self._portals:
            return Answer.STRANGER
        if {(device, "up"), (device, "down")} & self._blocked:
            return None
        return Answer.NOTHING if self.accept is None else Answer.RELAY

    def stand_between(self, device: int) -> None:
        """From now on somebody else answers ``device``; what is open is cut."""
        self._portals.add(device)
        wire = self._wires.get(device)
        if wire is not None:
            wire.cut(self._world.rng.choice((0.0, 10.0)))

    def let_through(self, device: int) -> None:
        """The user has logged in."""
        self._portals.discard(device)

    def wire(self, device: int) -> Wire | None:
        """The newest connection of ``device``."""
        return self._wires.get(device)

    def flap(self, device: int, count: int) -> None:
        """So many of the next connections of ``device`` are lost soon after they were made."""
        self._flaps[device] += count

    def block(self, device: int, direction: str) -> None:
        """From now on nothing of ``device`` moves in ``direction``: "up" or "down"."""
        self._blocked.add((device, direction))
        wire = self._wires.get(device)
        if wire is not None:
            (wire.up if direction == "up" else wire.down).block()

    def unblock(self, device: int, direction: str) -> None:
        """What stood still moves again."""
        self._blocked.discard((device, direction))
        wire = self._wires.get(device)
        if wire is not None:
            (wire.up if direction == "up" else wire.down).unblock()

    def heal(self) -> None:
        """Everything moves."""
        self._flaps.clear()
        self._portals.clear()
        for device, direction in sorted(self._blocked):
            self.unblock(device, direction)
