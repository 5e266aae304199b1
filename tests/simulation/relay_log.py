"""The relay's log: what its file holds, and the decisions of ``collab_server.log.sqlite``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from collab_server.log.port import RETRY_PAUSES_S, RoomRow, StoredRoom
from tests.simulation.checkers import Checks
from tests.simulation.disk import Disk
from tests.simulation.world import Life, World

Update = tuple[str, int, int, bytes]  # room's name and id, offset, data


@dataclass(slots=True)
class LoggedRoom:
    """One room's rows."""

    id: int
    epoch: bytes
    base: int = 0
    snapshot: tuple[int, bytes, bytes] | None = None  # offset, data, coverage
    updates: list[tuple[int, bytes]] = field(default_factory=list)

    def copy(self) -> LoggedRoom:
        return LoggedRoom(self.id, self.epoch, self.base, self.snapshot, list(self.updates))


@dataclass(slots=True)
class LogFile:
    """The whole file."""

    head: int = 0
    generations: list[tuple[bytes, int]] = field(default_factory=list)
    rooms: dict[str, LoggedRoom] = field(default_factory=dict)

    def copy(self) -> LogFile:
        rooms = {name: room.copy() for name, room in self.rooms.items()}
        return LogFile(self.head, list(self.generations), rooms)

    def name_run(self, world: World) -> bytes:
        """A name for a new run, that no run had before."""
        return world.rng.randbytes(16)

    def start(self, generation: bytes) -> tuple[int, dict[bytes, int]]:
        """Make one start of a relay durable: the head, and where earlier generations end."""
        offsets = [room.updates[-1][0] for room in self.rooms.values() if room.updates]
        head = max([self.head, *offsets, *(start for _, start in self.generations)])
        starts = [start for _, start in self.generations[1:]] + [head]
        ends = {id_: end for (id_, _), end in zip(self.generations, starts, strict=False)}
        self.generations.append((generation, head))
        return head, ends

    def create(self, name: str, epoch: bytes) -> RoomRow:
        """The room of this name, made if there is none."""
        room = self.rooms.get(name)
        if room is None:
            number = 1 + max((room.id for room in self.rooms.values()), default=0)
            room = self.rooms[name] = LoggedRoom(number, epoch)
        return RoomRow(room.id, name, room.epoch, room.base)

    def load(self, name: str) -> StoredRoom:
        """What a replica of the room is made of."""
        room = self.rooms[name]
        offset, data, coverage = room.snapshot or (0, None, None)
        updates = [row for row in room.updates if row[0] > offset]
        return StoredRoom(data, offset, coverage, updates, room.base)

    def read(self, name: str, after: int, count: int) -> list[tuple[int, bytes]]:
        """Some updates beyond ``after``."""
        return [row for row in self.rooms[name].updates if row[0] > after][:count]

    def compact(
        self, name: str, snapshot: tuple[int, bytes, bytes], keep_after: int, committed: int
    ) -> bool:
        """Write a snapshot and delete what it stands for; False if a newer one is stored."""
        room = self.rooms[name]
        if room.snapshot is not None and room.snapshot[0] > snapshot[0]:
            return False
        room.snapshot = snapshot
        base = min(snapshot[0], keep_after)
        self.head = max(self.head, committed)
        room.updates = [row for row in room.updates if row[0] > base]
        room.base = max(room.base, base)
        return True


@dataclass(slots=True)
class Compaction:
    """A snapshot that waits to be written."""

    name: str
    snapshot: tuple[int, bytes, bytes]
    keep_after: int
    done: Callable[[bool], object]  # with False if the disk refused


class RelayLog:
    """One run on the log: offsets, group commits, generations."""

    def __init__(
        self, world: World, disk: Disk[LogFile], life: Life, checks: Checks, *, bound: int
    ) -> None:
        self._world = world
        self._disk = disk
        self._life = life
        self._checks = checks
        self._bound = bound
        self.generation = b""
        self.ends: dict[bytes, int] = {}
        self.head = self.committed = 0
        self._rooms: list[tuple[str, bytes, Callable[[RoomRow], object]]] = []
        self._updates: list[Update] = []
        self._compactions: deque[Compaction] = deque()
        self._uncommitted = 0
        self._waiting: list[Callable[[], object]] = []
        self._busy = False
        self._failures = 0
        self.on_commit: Callable[[int, list[int]], object] = lambda *_: None

    def open(self, then: Callable[[], object]) -> None:
        """Make this start durable, before anything is served."""
        generation = self._disk.state.name_run(self._world)

        def started(found: tuple[int, dict[bytes, int]]) -> None:
            self.generation = generation
            self.head, self.ends = found
            self.committed = self.head
            then()

        def failed() -> None:
            self._world.after(1.0, lambda: self.open(then), self._life)

        self._disk.write(self._life, lambda file: file.start(generation), started, failed)

    # Places

    def next_offset(self) -> int:
        self.head += 1
        return self.head

    def is_good(self, generation: bytes, offset: int) -> bool:
        end = self.head if generation == self.generation else self.ends.get(generation, -1)
        return 0 <= offset <= end

    # Writing

    def append(self, update: Update) -> None:
        self._updates.append(update)
        self._uncommitted += 1
        self._kick()

    @property
    def has_room(self) -> bool:
        """Whether the uncommitted tail is below its bound."""
        return self._uncommitted <= self._bound

    def wait_for_room(self, then: Callable[[], object]) -> None:
        """Call ``then`` when the uncommitted tail is below its bound."""
        if self.has_room:
            then()
        else:
            self._world.count("writer waited at the bound")
            self._waiting.append(then)

    def open_room(self, name: str, epoch: bytes, then: Callable[[RoomRow], object]) -> None:
        """The stored room, or a new one that is durable when ``then`` is called."""

        def found(row: RoomRow | None) -> None:
            if row is not None:
                then(row)
            else:
                self._rooms.append((name, epoch, then))
                self._kick()

        self._disk.read(
            self._life,
            lambda file: file.create(name, epoch) if name in file.rooms else None,
            found,
        )

    def compact(self, compaction: Compaction) -> None:
        """Queue a snapshot; it is written when all up to its offset is durable."""
        self._compactions.append(compaction)
        self._kick()

    def _kick(self) -> None:
        if not self._busy:
            self._busy = True
            self._world.after(0.0, self._commit, self._life)

    def _commit(self) -> None:
        head, rooms, updates = self.head, self._rooms, self._updates
        if not rooms and not updates:
            self.committed = head
            self._compact_next()
            return
        self._rooms, self._updates = [], []

        def write(file: LogFile) -> list[RoomRow]:
            rows = [file.create(name, epoch) for name, epoch, _ in rooms]
            for name, _, offset, data in updates:
                file.rooms[name].updates.append((offset, data))
                self._checks.logged(name, offset, data)
            return rows

        def done(rows: list[RoomRow]) -> None:
            self._failures = 0
            self.committed = head
            self._uncommitted -= len(updates)
            for row, (_, _, then) in zip(rows, rooms, strict=True):
                then(row)
            if updates:
                self._world.note("relay committed up to %d", head)
                self.on_commit(head, sorted({room_id for _, room_id, _, _ in updates}))
            waiting: list[Callable[[], object]] = []
            if self.has_room:
                waiting, self._waiting = self._waiting, []
            for then_go_on in waiting:
                then_go_on()
            self._compact_next()

        def failed() -> None:
            self._rooms = rooms + self._rooms
            self._updates = updates + self._updates
            pause = RETRY_PAUSES_S[min(self._failures, len(RETRY_PAUSES_S) - 1)]
            self._failures += 1
            self._world.after(pause, self._commit, self._life)

        self._disk.write(self._life, write, done, failed)

    def _compact_next(self) -> None:
        if not self._compactions or self._compactions[0].snapshot[0] > self.committed:
            self._rest()
            return
        compaction = self._compactions.popleft()
        committed = self.committed

        def write(file: LogFile) -> None:
            file.compact(compaction.name, compaction.snapshot, compaction.keep_after, committed)
            self._checks.log_is_whole(file, "a compaction")

        def over(*, written: bool) -> None:
            compaction.done(written)
            self._rest()

        self._world.count("relay compacted")
        self._disk.write(
            self._life, write, lambda _: over(written=True), lambda: over(written=False)
        )

    def _rest(self) -> None:
        self._busy = False
        if self._rooms or self._updates or self._compactions:
            self._kick()
