"""What goes wrong, and when. After ``stop`` nothing does any more, and everything is mended."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pycrdt

from collab.protocol.update import Coverage
from tests.simulation.device import Device
from tests.simulation.device_file import DeviceFile
from tests.simulation.disk import Disk
from tests.simulation.relay_log import LogFile
from tests.simulation.walks import walk
from tests.simulation.world import Life

if TYPE_CHECKING:
    from tests.simulation.history import History


class Faults:
    """The faults of one history; ``plan.faults`` says how many of each."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._world = history.world
        self._rng = history.world.rng
        self._plan = history.plan
        self._relay = history.relay
        self._life = Life()
        self._log_copies: list[LogFile] = []
        self._file_copies: list[tuple[Device, DeviceFile]] = []
        self._has_stranger = False
        self._has_deleted = False
        self._storms: list[float] = []

    def schedule(self) -> None:
        """Let all that the plan says go wrong at some moment."""
        plan = self._plan
        self._storms = [self._rng.random() * plan.span for _ in range(plan.storms)]
        for kind, count in self._plan.faults.items():
            act: Callable[[], None] = getattr(self, f"_{kind}")
            for _ in range(count):
                self._at_some_moment(partial(self._do, kind, act))
                if kind == "restore":
                    self._at_some_moment(self._copy_log)
                elif kind == "put_back":
                    self._at_some_moment(self._copy_file)

    def _at_some_moment(self, act: Callable[[], None]) -> None:
        plan, rng = self._plan, self._rng
        moment = rng.random() * plan.span
        if self._storms and rng.random() < 0.7:
            moment = min(plan.span, rng.choice(self._storms) + rng.random() * plan.storm)
        self._world.after(moment, act, self._life)

    def _do(self, kind: str, act: Callable[[], None]) -> None:
        self._world.note("fault: %s", kind)
        self._world.count(f"fault: {kind}")
        act()

    def _later(self, act: Callable[[], object], *, typical: float = 1.0) -> None:
        delay = typical * self._rng.choice((0.0, 0.2, 1.0, 5.0))
        self._world.after(delay, act, self._life)

    def stop(self) -> None:
        """Nothing goes wrong any more, and everybody is up."""
        history = self._history
        self._life.end()
        history.network.heal()
        self._relay.swaps = 0
        self._relay.mend()
        disks: list[Disk[Any]] = [self._relay.disk, *(device.disk for device in history.devices)]
        for disk in disks:
            disk.full, disk.slowness = False, 1.0
        self._start_relay()
        for device in history.devices:
            self._start(device)
            device.connection.resume()

    def _device(self) -> Device:
        return self._rng.choice(self._history.devices)

    # Connections

    def _cut(self) -> None:
        self._cut_wire(relay_learns_after=0.0)

    def _half_open(self) -> None:
        self._cut_wire(relay_learns_after=self._rng.choice((1.0, 10.0, 70.0)))

    def _cut_wire(self, relay_learns_after: float) -> None:
        wire = self._history.network.wire(self._device().number)
        if wire is not None:
            wire.cut(relay_learns_after)

    def _partition(self) -> None:
        network, device = self._history.network, self._device().number
        for direction in self._rng.choice((("up",), ("down",), ("up", "down"))):
            network.block(device, direction)
            self._later(partial(network.unblock, device, direction), typical=8.0)

    def _flap(self) -> None:
        self._history.network.flap(self._device().number, self._rng.choice((1, 4)))

    def _portal(self) -> None:
        network, device = self._history.network, self._device()
        network.stand_between(device.number)

        def let_through() -> None:
            network.let_through(device.number)
            if device.is_up and self._rng.random() < 0.5:
                device.connection.resume()  # portal_done(); else it finds out by itself

        self._later(let_through, typical=4.0)

    def _sleep(self) -> None:
        device = self._device()
        if not device.is_up:
            return
        device.connection.suspend()
        connection = device.connection

        def wake() -> None:
            if device.is_up and device.connection is connection:
                if self._rng.random() < 0.5:
                    connection.resume()
                else:
                    connection.moment(self._rng.choice((0.1, 1.0, 5.0)))
                    self._later(wake, typical=2.0)

        self._later(wake, typical=2.0)

    def _hint(self) -> None:
        device = self._device()
        if device.is_up:
            device.connection.hint(up=self._rng.random() < 0.5)

    def _away(self) -> None:
        """No network; a burst of work, a compaction in its midst, and perhaps a sudden end."""
        network, device, rng = self._history.network, self._device(), self._rng
        for direction in ("up", "down"):
            network.block(device.number, direction)
            self._later(partial(network.unblock, device.number, direction), typical=5.0)
        name, moment, step = rng.choice(self._plan.names), 0.0, 2 * self._plan.commit
        sudden = 0.0
        count = rng.randint(2, 10)
        for number in range(count):
            moment += step * rng.random()
            kind = rng.choice(("type", "delete", "map"))
            edit = partial(self._history.edit, device.number, name, kind)
            self._world.after(moment, edit, self._life)
            if number == count // 2:
                self._world.after(moment, partial(self._tidy, device, name), self._life)
                sudden = moment + 4 * step * rng.random()
        if rng.random() < 0.7:
            end = sudden if rng.random() < 0.5 else moment + 3 * step * rng.random()
            self._world.after(end, partial(self._kill, device), self._life)

    @staticmethod
    def _tidy(device: Device, name: str) -> None:
        if device.is_up and name in device.rooms:
            device.rooms[name].tidy()

    def _swap(self) -> None:
        self._relay.swaps += self._rng.choice((1, 3))

    # Processes

    def _kill(self, device: Device | None = None) -> None:
        device = device or self._device()
        if device.is_up:
            device.kill()
            self._later(lambda: self._start(device))

    @staticmethod
    def _start(device: Device) -> None:
        if not device.is_up:
            device.start()

    def _crash(self) -> None:
        if self._relay.is_up:
            self._relay.crash()
            self._later(self._start_relay)

    def _start_relay(self) -> None:
        if not self._relay.is_up:
            self._relay.start()

    def _worker(self) -> None:
        if self._relay.is_up:
            self._relay.rooms.replicas.die()

    def _clock(self) -> None:
        self._device().jump(self._rng.choice((-86_400, -3600, -10, 10, 3600, 86_400)))

    # Disks

    def _disk(self) -> Disk[Any]:
        disks: list[Disk[Any]] = [device.disk for device in self._history.devices]
        return self._relay.disk if self._rng.random() < 0.4 else self._rng.choice(disks)

    def _full(self) -> None:
        disk = self._disk()
        disk.full = True
        self._later(lambda: setattr(disk, "full", False), typical=2.0)

    def _stall(self) -> None:
        disk = self._disk()
        disk.slowness = 30.0
        self._later(lambda: setattr(disk, "slowness", 1.0), typical=3.0)

    # Files that are put back

    def _copy_log(self) -> None:
        self._log_copies.append(self._relay.disk.state.copy())

    def _restore(self) -> None:
        if self._log_copies:
            self._put_log(self._rng.choice(self._log_copies).copy())

    def _empty(self) -> None:
        self._put_log(self._relay.empty_file())

    def _put_log(self, file: LogFile) -> None:
        """Replace the log. A room that is in no log gets its epoch from the first who joins: that
        must be somebody who knows it, or it is another room (see ``_stranger``). And a log from
        before a deletion would bring the room back, for those who still know it."""
        missing = [name for name in self._plan.names if name not in file.rooms]
        if self._has_stranger or self._has_deleted or not all(map(self._is_known, missing)):
            return
        self._world.count("log put back")
        if self._relay.is_up:
            self._relay.crash()
        self._relay.disk.state = file
        self._history.checks.log_was_put_back()
        if self._rng.random() < 0.5:
            for device in self._history.devices:
                self._history.network.flap(device.number, self._rng.choice((1, 3)))
        self._later(self._start_relay)

    def _is_known(self, name: str) -> bool:
        """Whether every device has the room's epoch on its disk, and none has just dropped it."""
        return all(
            device.disk.state.epoch(name)
            and not (name in device.rooms and device.rooms[name].sync.epoch is None)
            for device in self._history.devices
        )

    def _knows_all(self, file: DeviceFile) -> bool:
        return all(file.epoch(name) for name in self._plan.names)

    def _copy_file(self) -> None:
        device = self._device()
        if self._knows_all(device.disk.state):
            self._file_copies.append((device, device.disk.state.copy()))

    def _put_back(self) -> None:
        if not self._file_copies or self._has_stranger:
            return
        device, file = self._rng.choice(self._file_copies)
        self._world.count("device file put back")
        if device.is_up:
            device.kill()
        device.disk.state = file.copy()
        device.saved.clear()
        self._history.checks.file_was_put_back(device.number)
        self._later(lambda: self._start(device))

    def _clone(self) -> None:
        device = self._device()
        if not self._knows_all(device.disk.state) or self._has_stranger:
            return
        self._world.count("device file cloned")
        clone = self._history.add_device(device.disk.state.copy(), device.user)
        clone.clock = device.clock
        self._history.checks.file_was_copied(clone.disk.state)
        clone.start()

    def _delete(self) -> None:
        """The room is deleted at the relay, while it runs."""
        name = self._rng.choice(self._plan.names)
        if self._history.network.accept is None or self._has_stranger:
            return  # what a stranger replaced was not deleted: who brings it may make the room anew
        self._has_deleted = True
        self._relay.rooms.delete(name)

    def writers_of(self, name: str, epoch: bytes) -> set[int]:
        """The clients in what devices have of the room of this name and epoch."""
        clients: set[int] = set()
        for device in self._history.devices:
            if device.disk.state.epoch(name) != epoch:
                continue
            clients |= set(file_coverage(device.disk.state, name).clocks)
            room = device.rooms.get(name)
            if room is not None and not room.is_closed and room.replica.state_vector() != b"\0":
                clients |= {room.replica.client_id, *room.sync.coverage.clocks}
        return clients

    def _stranger(self) -> None:
        """The relay is another one, which has a room of the same name."""
        name = self._rng.choice(self._plan.names)
        file = self._relay.disk.state
        if not self._is_known(name) or name not in file.rooms:
            return
        self._has_stranger = True
        self._world.count("stranger")
        if self._relay.is_up:
            self._relay.crash()
        clients = set(self._history.coverage_of_log(name).clocks)
        for device in self._history.devices:
            stored = file_coverage(device.disk.state, name)
            clients |= set(stored.clocks)
            room = device.rooms.get(name)
            if room is not None and room.sync.coverage.clocks:
                clients |= {room.replica.client_id, *room.sync.coverage.clocks}
        head, _ = file.start(file.name_run(self._world))  # a relay names its run before it serves
        theirs = file.put(name, self._rng.randbytes(16))
        document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=self._rng.getrandbits(32))
        document.get("body", type=pycrdt.Text).insert(0, "stranger")
        theirs.updates.append((head + 1, document.get_update()))
        self._history.checks.room_was_replaced(name, clients)
        self._later(self._start_relay)


def file_coverage(file: DeviceFile, name: str) -> Coverage:
    """What a device has of a room on its disk."""
    stored = file.load(file.names[name])
    coverage = Coverage.from_update(stored.snapshot) if stored.snapshot else Coverage()
    for update in stored.updates:
        coverage.add(walk(update))
    return coverage
