"""One history: a plan is drawn, everything goes wrong, then everything is mended and must agree."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from collab.protocol.update import Coverage, Walk
from tests.simulation.chat_checkers import ChatChecks
from tests.simulation.chat_files import new_device_file
from tests.simulation.chat_plan import bounded
from tests.simulation.checkers import Checks, coverage_of
from tests.simulation.device import Device
from tests.simulation.device_file import DeviceFile
from tests.simulation.disk import Disk
from tests.simulation.faults import Faults
from tests.simulation.network import Network
from tests.simulation.plan import make_plan
from tests.simulation.relay import Relay
from tests.simulation.relay_chats import virtual_time
from tests.simulation.talk import Talk
from tests.simulation.walks import remembered
from tests.simulation.world import Violation, World

HEALED_WITHIN_S = 150.0
_WITH_CHATS = 0.5  # of the histories


class History:
    """What seed ``seed`` stands for. ``run`` raises ``Violation``, or whatever broke."""

    def __init__(
        self,
        seed: int,
        *,
        show: Callable[[str], object] | None = None,
        chats: bool | None = None,
    ) -> None:
        """``chats``: whether there are any; None: the seed says it."""
        self.world = World(seed, show=show)
        if chats is None:
            chats = random.Random(f"chats of {seed}").random() < _WITH_CHATS
        self.plan = make_plan(self.world.rng, chats=chats)
        self.world.note("%s", self.plan)
        if self.plan.chat is not None:
            self.world.count("history with chats")
        plan = self.plan.chat
        self.checks = Checks(None if plan is None else ChatChecks(self.world, plan))
        self.network = Network(self.world, self.plan.latency, self.plan.window)
        self.relay = Relay(self.world, self.network, self.plan, self.checks)
        self.devices: list[Device] = []
        for number in range(self.plan.devices):
            database = None if self.plan.chat is None else new_device_file()
            self.add_device(DeviceFile(self.world.rng.randbytes(16), database), self._user(number))
        self.faults = Faults(self)
        self.checks.writers_of = self.faults.writers_of
        if self.plan.chat is not None:
            self.checks.chat.log = lambda: self.relay.disk.state

    def _user(self, number: int) -> str | None:
        """Whom a device's token names; None: there are no tokens."""
        users = "device" if self.plan.chat is None else self.plan.chat.users
        match users:
            case "own":
                return f"user {number}"
            case "shared":
                return f"user {number // 2}"
            case _:
                return None

    def add_device(self, file: DeviceFile, user: str | None) -> Device:
        """One more device; its program is not started."""
        plan = self.plan
        latency = plan.commit * self.world.rng.choice((1, plan.slow_disk))
        disk = Disk(self.world, file, latency)
        device = Device(self.world, self.network, plan, self.checks, len(self.devices), disk, user)
        self.devices.append(device)
        return device

    def coverage_of_log(self, name: str) -> Coverage:
        """What the relay's disk holds of a room."""
        return coverage_of(self.relay.disk.state, name)

    def run(self) -> None:
        """Safety first, then healing."""
        try:
            with ExitStack() as stack:
                stack.enter_context(remembered())
                if self.plan.chat is not None:
                    stack.enter_context(virtual_time(self.world))
                    stack.enter_context(bounded(self.plan.chat))
                self._play()
        finally:
            self._end()

    def _play(self) -> None:
        self.relay.start()
        for device in self.devices:
            device.start()
        self._schedule_edits()
        self._schedule_talk()
        self.faults.schedule()
        self.world.run(self.plan.span)
        self._heal()

    def _end(self) -> None:
        """Leave nothing behind that keeps engines in memory."""
        self.world.end()
        for device in self.devices:
            if device.is_up:
                device.kill()
        self.world.end()
        for device in self.devices:
            device.disk.state.end()
        self.relay.disk.state.end()

    # Traffic

    def _schedule_edits(self) -> None:
        rng, plan = self.world.rng, self.plan
        kinds, weights = list(plan.kinds), list(plan.kinds.values())
        left = plan.operations
        while left > 0:
            moment = rng.random() * plan.span
            device = rng.choice(self.devices).number
            name = rng.choice(plan.names)
            burst = min(left, rng.randint(1, plan.burst))
            left -= burst
            for kind in rng.choices(kinds, weights, k=burst):
                self.world.after(moment, partial(self.edit, device, name, kind))
                moment = min(plan.span, moment + rng.random() * 2 * plan.gap)

    def edit(self, number: int, name: str, kind: str) -> None:
        """One edit, if the program is there to make it."""
        device = self.devices[number]
        room = device.rooms.get(name)
        if device.is_up and room is not None and not room.is_closed:
            self.world.note("device %d: %s in %s", number, kind, name)
            room.editor.edit(kind)

    def _schedule_talk(self) -> None:
        rng, plan = self.world.rng, self.plan
        if plan.chat is None:
            return
        talk = Talk(plan)
        kinds, weights = list(plan.chat.kinds), list(plan.chat.kinds.values())
        left = plan.chat.operations
        while left > 0:
            moment = rng.random() * plan.span
            device = rng.choice(self.devices).number
            name = rng.choice(plan.names)
            burst = min(left, rng.randint(1, plan.chat.burst))
            left -= burst
            for kind in rng.choices(kinds, weights, k=burst):
                self.world.after(moment, partial(self._talk, talk, device, name, kind))
                moment = min(plan.span, moment + rng.random() * 2 * plan.gap)

        for _ in range(plan.chat.sign_ins):
            device = rng.choice(self.devices).number
            self.world.after(rng.random() * plan.span, partial(self._sign_in, device))

    def _sign_in(self, number: int) -> None:
        """The program ends, and another user's is started on the same file."""
        device = self.devices[number]
        users = {
            "a visitor",
            "another",
            *(one.user for one in self.devices if one.user is not None),
        }
        device.user = self.world.rng.choice(sorted(users - {device.user}))
        self.world.note("device %d: %s signs in", number, device.user)
        self.world.count("another user signed in")
        self.checks.chat.user_signed_in()
        if device.is_up:
            device.kill()
            device.start()

    def _talk(self, talk: Talk, number: int, name: str, kind: str) -> None:
        device = self.devices[number]
        room = device.rooms.get(name)
        if device.is_up and room is not None and not room.is_closed:
            self.world.note("device %d: %s in the chat of %s", number, kind, name)
            assert room.chat is not None
            talk.act(device, room.chat, kind)

    # Healing

    def _fetch_all(self) -> None:
        """Whatever is missing is asked for."""
        for device in self.devices:
            for room in device.rooms.values():
                if room.chat is not None and not room.chat.is_fetching:
                    room.chat.fetch(newest=self.world.chance(0.5))
        self.world.after(0.3, self._fetch_all)

    def _heal(self) -> None:
        world = self.world
        world.note("healing")
        self.faults.stop()
        if self.plan.chat is not None:
            self._fetch_all()
        survivors = {name: self._survivors(name) for name in self.plan.names}
        limit = world.now + HEALED_WITHIN_S
        pause = 1.0
        while True:
            world.run(world.now + pause)
            pause *= 1.3
            try:
                self._check_rest()
                break
            except Violation:
                if world.now >= limit:
                    raise
        world.note("healed")
        for name in self.plan.names:
            self.checks.are_back(name, self.relay.disk.state, survivors[name])

    def _survivors(self, name: str) -> list[Walk]:
        """What was acked, and is on somebody's disk now."""
        if not self.checks.is_excused:
            return []  # it is in the log itself, and that was checked
        rooms = [device.rooms[name] for device in self.devices]
        return self.checks.survivors(
            name,
            [Coverage.from_update(room.replica.snapshot()) for room in rooms if not room.is_closed],
        )

    def _check_rest(self) -> None:
        """Everybody has the same, and nothing is left to do."""
        file = self.relay.disk.state
        ids = [device.disk.state.device_id for device in self.devices]
        for device in self.devices:
            is_alone = ids.count(device.disk.state.device_id) == 1
            for room in device.rooms.values():
                what = f"device {device.number} in {room.name}"
                if room.is_closed or not room.is_saved:
                    raise Violation(f"{what} has something unsaved")
                if room.sync.pending_updates:
                    raise Violation(
                        f"{what} has {room.sync.pending_updates} rows that are not acked"
                    )
                if is_alone and not room.sync.is_level:
                    raise Violation(f"{what} is not level: {room.sync.phase}")
        for name in self.plan.names:
            if name not in file.rooms:
                raise Violation(f"{name} is not at the relay")
            replicas = {device.number: device.rooms[name].replica for device in self.devices}
            self.checks.are_equal(name, file, replicas)
            chats = [device.rooms[name].chat for device in self.devices]
            if self.plan.chat is not None:
                self.checks.chat.are_level(name, [chat for chat in chats if chat is not None])
