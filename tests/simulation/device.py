"""A device: a file on a disk, and a program that dies and comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from collab.crdt.engines import make_replica
from collab.errors import BadUpdate
from collab.protocol import document_sync as ds
from collab.protocol import frames
from collab.protocol.backoff import Backoff
from collab.protocol.device_clock import Reading
from collab.protocol.document_sync import DocumentSync, Effect, Phase, Row
from collab.protocol.position import NOWHERE, Position
from collab.protocol.update import Coverage, decode_state_vector
from collab.running_clock import RunningClock
from collab.storage import message_acts
from collab.storage.saver import Mark, RoomQueue, Saver
from tests.simulation.checkers import Checks
from tests.simulation.connection import Connection
from tests.simulation.device_chat import DeviceChat
from tests.simulation.device_file import DeviceFile
from tests.simulation.disk import Disk
from tests.simulation.edits import Editor
from tests.simulation.network import Network
from tests.simulation.plan import Plan
from tests.simulation.relay_chats import BORN_MS
from tests.simulation.saver import RETRY_PAUSE_S, Promise, SimulatedSaver
from tests.simulation.walks import walk
from tests.simulation.world import Life, Violation, World


class DeviceRoom:
    """One open room, with the decisions of ``collab.room.Room``."""

    def __init__(self, device: Device, name: str) -> None:
        self.device = device
        self.name = name
        world, file = device.world, device.disk.state
        number = self.number = file.create(
            name, b"" if device.plan.chat is None else world.rng.randbytes(16)
        )
        row, stored = file.rooms[number], file.load(number)
        self.is_closed = False
        self.is_saving = False
        self._compacting = False
        self._joining = object()  # another one from each joining to the next
        self._stored_epoch = row.epoch
        self._snapshot_bytes = stored.snapshot_bytes
        self._tail_bytes = stored.tail_bytes
        self._waits_for_save: list[tuple[int, Callable[[], object]]] = []
        self.saved_updates = device.saved.setdefault(number, [])
        self.backoff = Backoff(device.plan.backoff)
        self.replica = make_replica(
            world.rng.getrandbits(32), call_soon=lambda act: act(), on_local=self._edited
        )
        if stored.snapshot is not None:
            self.replica.apply(stored.snapshot)
        if stored.updates:
            self.replica.apply(self.replica.merge(stored.updates))
        self.queue = RoomQueue(
            cast(Saver, device.saver),
            number,
            merge=self.replica.merge,
            on_saved=self._saved,
            last_local=stored.unacked[-1][0] if stored.unacked else 0,
        )
        self.is_saving = True
        self.sync = DocumentSync(
            epoch=row.epoch,
            position=row.position,
            unacked=[Row(number, data) for number, data in stored.unacked],
        )
        self.editor = Editor(self.replica, world.rng, lambda: world.now)
        self._highest = row.position
        if self.saved_updates:
            Checks.recovered(self.replica.snapshot(), self.saved_updates)
        self.chat = None if device.plan.chat is None else DeviceChat(device, number, name)

    # The program's edits

    def _edited(self, update: bytes) -> None:
        if self.is_saving:
            self.queue.add_local(update)

    @property
    def is_saved(self) -> bool:
        return self.queue.saved == self.queue.queued

    def _saved(self, rows: list[Row], size: int) -> None:
        self._tail_bytes += size
        self.saved_updates += [row.data for row in rows]
        if self.is_closed:
            return
        self.carry_out(self.sync.saved(rows))
        if rows:
            self.device.connection.wake()
        if self._tail_bytes > max(self._snapshot_bytes, self.device.plan.device_compacts_from):
            self._compact()
        self._changed()

    def _changed(self) -> None:
        ready = [then for goal, then in self._waits_for_save if self.queue.saved >= goal]
        self._waits_for_save = [one for one in self._waits_for_save if self.queue.saved < one[0]]
        for then in ready:
            then()

    def disk_refuses(self) -> None:
        """Who waits for a commit to compact gives up."""
        if self._waits_for_save:
            self._waits_for_save.clear()
            self._compacting = False

    def tidy(self) -> None:
        """Compact earlier than one would while people type."""
        if self._tail_bytes > self._snapshot_bytes // 4 and not self.device.saver.is_failing:
            self._compact()

    def _compact(self) -> None:
        if self._compacting or self.is_closed:
            return
        self._compacting = True
        device = self.device

        def ask() -> None:
            device.disk.read(device.life, lambda file: file.last_row(self.number), self._compact_to)

        soon = device.plan.commit * device.world.rng.choice((0.0, 1.0))
        device.world.after(soon, ask, device.life)

    def _compact_to(self, through: int) -> None:
        if self.is_closed or not through:
            self._compacting = False
            return
        tail, snapshot = self._tail_bytes, self.replica.snapshot()

        def write() -> None:
            device = self.device
            device.world.count("device compacted")
            device.disk.write(
                device.life,
                lambda file: file.compact(self.number, snapshot, through),
                lambda _: over(written=True),
                lambda: over(written=False),
            )

        def over(*, written: bool) -> None:
            self._compacting = False
            if written:
                self._snapshot_bytes = len(snapshot)
                self._tail_bytes -= tail
            else:
                self._tail_bytes = 0

        if self.is_saved:
            write()
        elif self.device.saver.is_failing:
            self._compacting = False
        else:
            self._waits_for_save.append((self.queue.queued, write))

    @property
    def _has_unsaved(self) -> bool:
        """Whether there is something of ours that is in no row of the document."""
        return bool(self.queue.unsaved) or (self.chat is not None and self.chat.has_content)

    @property
    def is_caught_up(self) -> bool:
        """Whether all that the relay had when the room was joined is here."""
        is_caught_up = self.sync.is_caught_up
        return is_caught_up and (self.chat is None or self.chat.machine.is_caught_up)

    # What the connection does

    def join(self, request: int) -> frames.Join:
        """The frame that opens the room."""
        self._detach_chat()
        return self.sync.join(request, self.name)

    def detach(self) -> None:
        """The connection is gone."""
        self.sync.detach()
        self._detach_chat()

    def _join_chat_once_saved(self, chat: DeviceChat, channel: int, generation: bytes) -> None:
        joining, epoch = self._joining, self.sync.epoch

        def saved(_: int) -> None:
            self._stored_epoch = epoch
            if joining is self._joining and not self.is_closed:
                chat.joined(channel, generation)

        self.queue._items.append(cast(Mark, Promise(saved)))
        self.device.saver.wake(self.queue)

    def _detach_chat(self) -> None:
        self._joining = object()
        if self.chat is not None:
            self.chat.detach()

    def next_frame(self) -> frames.Frame | None:
        """The next frame that goes up in the room's order: its lane first, then its document."""
        enter = None if self.chat is None else self.chat.next_enter()
        return enter or self.sync.next_frame()

    def prepare(self, then: Callable[[], object]) -> None:
        """Know what the replica contains, before the first join."""
        if self.sync.prepared:
            then()
            return
        device, snapshot = self.device, self.replica.snapshot()

        def prepared() -> None:
            if not self.sync.prepared and not self.is_closed:
                self.sync.prepare(Coverage.from_update(snapshot))
            then()

        device.world.after(device.plan.latency, prepared, device.life)

    def receive(self, frame: frames.Frame, generation: bytes) -> None:
        """A frame of this room came from the relay."""
        sync = self.sync
        try:
            match frame:
                case frames.Updates(_, offset, update):
                    self.carry_out(sync.updates(offset, update, walk(update)))
                case frames.Difference(_, offset, update):
                    self.carry_out(sync.difference(offset, update, walk(update)))
                case frames.Joined():
                    decode_state_vector(frame.state_vector)
                    self.carry_out(sync.joined(frame, generation, unsaved=self._has_unsaved))
                    if self.chat is not None and sync.phase is Phase.OPEN:
                        if sync.epoch == self._stored_epoch:
                            self.chat.joined(frame.channel, generation)
                        else:
                            self._join_chat_once_saved(self.chat, frame.channel, generation)
                case frames.Ack(_, number, offset):
                    self.carry_out(sync.ack(number, offset))
                case frames.Resync(_, state_vector):
                    self.carry_out(sync.resync(state_vector))
                case frames.Denied(code=code) | frames.Left(code=code):
                    if code != frames.Code.DELETED:
                        self.detach()
                    elif not self.is_closed:
                        self.carry_out(sync.deleted(unsaved=self._has_unsaved))
                case _:
                    raise Violation(f"the relay sent {frame}")
        except BadUpdate as error:
            raise Violation(f"device {self.device.number} was sent a bad update") from error
        self._changed()

    def carry_out(self, effects: list[Effect]) -> None:
        """Do what the machine says."""
        for effect in effects:
            match effect:
                case ds.Apply(update, position):
                    self.apply(update, position)
                case ds.Store(position, acked_through):
                    self._check_position(position)
                    self.queue.store(position=position, acked_through=acked_through)
                case ds.Adopt(epoch):
                    self.queue.store(epoch=epoch)
                case ds.Differ(state_vector, turn):
                    device = self.device
                    delay = device.plan.commit * device.world.rng.random()
                    device.world.after(delay, lambda: self._differ(state_vector, turn), device.life)
                case ds.Rejoin():
                    self.device.world.count("rejoined")
                    self.device.connection.join(self)
                case ds.Replaced():
                    self.device.room_was_replaced(self)
                case ds.Refusal():
                    raise Violation(f"device {self.device.number} was refused: {effect}")

    def apply(self, update: bytes, position: Position | None) -> None:
        """Show a remote update, and save it with the place that covers it."""
        Checks.shown(self.replica, walk(update))
        self._check_position(position)
        self.replica.apply(update)
        self.queue.add_remote(update, position)

    def _check_position(self, position: Position | None) -> None:
        if position is None or position == NOWHERE:
            return
        highest = self._highest
        if position.generation == highest.generation and position.offset < highest.offset:
            raise Violation(f"a stored position fell from {highest.offset} to {position.offset}")
        self._highest = position

    def _differ(self, state_vector: bytes, turn: int) -> None:
        if self.is_closed:
            return
        difference = self.replica.difference(state_vector)

        def saved(through: int) -> None:
            self.sync.offer(difference, through, turn)
            self.device.connection.wake()

        self.queue._items.append(cast(Mark, Promise(saved)))
        self.device.saver.wake(self.queue)

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing left to do, as far as this device knows."""
        return (
            self.is_saved
            and not self.sync.pending_updates
            and self.sync.is_caught_up
            and self.sync.phase is Phase.OPEN
        )

    def end(self) -> None:
        self.is_closed = True
        self.is_saving = False
        self.replica.close()
        if self.chat is not None:
            self.chat.end()


@dataclass(slots=True)
class Device:
    """What outlives a kill is ``disk``; the rest belongs to one run of the program."""

    world: World
    network: Network
    plan: Plan
    checks: Checks
    number: int
    disk: Disk[DeviceFile]
    user: str | None  # whom its token names
    clock: float = 0.0  # how far the wall clock is off, in seconds
    jumped: float = 0.0  # how far it was put forward, in all
    boot: bytes = b""
    booted_at: float = 0.0
    saved: dict[int, list[bytes]] = field(default_factory=dict)
    life: Life = field(default_factory=Life)
    rooms: dict[str, DeviceRoom] = field(default_factory=dict)
    saver: SimulatedSaver = field(init=False)
    connection: Connection = field(init=False)
    is_up: bool = False
    _clock: RunningClock = field(init=False)

    def start(self) -> None:
        """Open the file, and everything in it."""
        self.world.note("device %d starts", self.number)
        self.is_up = True
        self.life = Life()
        self.disk.restart()
        self._boot()
        self.saver = SimulatedSaver(self.world, self.disk, self.life)
        self.saver.on_error = self._disk_refuses
        self.connection = Connection(self)
        for name in self.plan.names:
            self.rooms[name] = DeviceRoom(self, name)
        self.connection.start()

    # Clocks

    def jump(self, seconds: float) -> None:
        """The wall clock is put elsewhere."""
        self.clock += seconds
        self.jumped += max(0.0, seconds)

    @property
    def wall_ms(self) -> int:
        """What the wall clock says."""
        return BORN_MS + int((self.world.now + self.clock) * 1000)

    def _boot(self) -> None:
        """The program starts, and perhaps the whole device did."""
        chat = self.plan.chat
        if chat is None:
            return
        if not self.boot or self.world.chance(0.3):
            self.booted_at = self.world.now
            self.boot = self.world.rng.randbytes(16)
        elif chat.by_process:
            self.boot = self.world.rng.randbytes(16)
        self._clock = RunningClock(message_acts.clock(self.disk.state.chat), self._read_clocks)

    def _read_clocks(self) -> Reading:
        assert self.plan.chat is not None
        up_ms = int((self.world.now - self.booted_at) * 1000)
        return Reading(self.boot, up_ms, self.wall_ms, self.plan.chat.by_process)

    def running_clock(self) -> RunningClock:
        """The device's running time, in this run of the program."""
        return self._clock

    def _disk_refuses(self) -> None:
        for room in self.rooms.values():
            room.disk_refuses()

    def kill(self) -> None:
        """The program dies, with all that was not committed."""
        self.world.note("device %d dies", self.number)
        self.is_up = False
        self.life.end()
        self.connection.abandon()
        for room in self.rooms.values():
            room.end()
        self.rooms.clear()

    def room_was_replaced(self, room: DeviceRoom) -> None:
        """The relay's was deleted, or is a stranger; this program forgets its own and goes on."""
        self.world.note("device %d forgets %s", self.number, room.name)
        self.world.count("room replaced")
        room.end()

        def forgotten(_: None) -> None:
            self.rooms[room.name] = DeviceRoom(self, room.name)
            self.connection.forget(room)
            self.connection.join(self.rooms[room.name])

        def forget() -> None:
            self.disk.write(
                self.life, lambda file: file.forget(room.name), forgotten,
                lambda: self.world.after(RETRY_PAUSE_S, forget, self.life),
            )  # fmt: skip

        forget()
