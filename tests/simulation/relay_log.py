"""The relay's log: what its file holds, and the decisions of ``collab_server.log.sqlite``."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from collab_server.log.chat import ChatBatch
from collab_server.log.messages import Judged
from collab_server.log.port import RETRY_PAUSES_S, RoomRow, StoredRoom
from tests.simulation.chat_files import (
    add_generation,
    copy_of,
    drop_room,
    put_away,
    put_room,
    transact,
)
from tests.simulation.checkers import Checks
from tests.simulation.disk import Disk
from tests.simulation.relay_chats import RelayChatLog
from tests.simulation.world import Life, Violation, World

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
    """The whole file. ``database`` is what it holds of chats: the real tables."""

    database: sqlite3.Connection | None = None  # None in a history without chats
    head: int = 0
    generations: list[tuple[bytes, int]] = field(default_factory=list)
    rooms: dict[str, LoggedRoom] = field(default_factory=dict)
    deleted: list[tuple[int, str, bytes]] = field(default_factory=list)  # id, name, epoch

    def copy(self) -> LogFile:
        rooms = {name: room.copy() for name, room in self.rooms.items()}
        database = None if self.database is None else copy_of(self.database)
        return LogFile(database, self.head, list(self.generations), rooms, list(self.deleted))

    @property
    def chat(self) -> sqlite3.Connection:
        """What is stored of chats."""
        assert self.database is not None
        return self.database

    def end(self) -> None:
        """Nobody needs it any more."""
        if self.database is not None:
            put_away("log", self.database)
            self.database = None

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
        if self.database is not None:
            add_generation(self.database, generation)
        return head, ends

    def find(self, name: str) -> RoomRow | None:
        """The room of this name."""
        room = self.rooms.get(name)
        return None if room is None else RoomRow(room.id, name, room.epoch, room.base)

    def create(self, name: str, epoch: bytes) -> RoomRow | None:
        """The room of this name, made if there is none; None if this epoch's was deleted."""
        if name not in self.rooms and not self.is_deleted(name, epoch):
            self.put(name, epoch)
        return self.find(name)

    def put(self, name: str, epoch: bytes) -> LoggedRoom:
        """An empty room of this name, in the place of what was there."""
        before = self.rooms.get(name)
        room = self.rooms[name] = LoggedRoom(self.next_room_id(), epoch)
        if self.database is not None:
            if before is not None:
                drop_room(self.database, before.id)
            put_room(self.database, room.id, name, epoch)
        return room

    def next_room_id(self) -> int:
        """An id that no room had."""
        had = [room.id for room in self.rooms.values()] + [number for number, _, _ in self.deleted]
        return 1 + max(had, default=0)

    def is_deleted(self, name: str, epoch: bytes) -> bool:
        """Whether a room of this name and epoch was deleted."""
        return any((name, epoch) == (gone, its) for _, gone, its in self.deleted)

    def delete(self, name: str, head: int) -> None:
        """Delete a room, and remember that it was."""
        room = self.rooms.pop(name)
        self.deleted.append((room.id, name, room.epoch))
        if self.database is not None:
            drop_room(self.database, room.id)
        self.head = max(self.head, head)

    def name(self, room_id: int) -> str | None:
        """The name of the room of this id."""
        return next((name for name, room in self.rooms.items() if room.id == room_id), None)

    def load(self, name: str) -> StoredRoom:
        """What a replica of the room is made of."""
        room = self.rooms[name]
        offset, data, coverage = room.snapshot or (0, None, None)
        updates = [row for row in room.updates if row[0] > offset]
        return StoredRoom(data, offset, coverage, updates, room.base)

    def load_room(self, room_id: int) -> StoredRoom | None:
        """The same of the room of this id."""
        name = self.name(room_id)
        return None if name is None else self.load(name)

    def read(self, room_id: int, after: int, count: int) -> list[tuple[int, bytes]]:
        """Some updates beyond ``after``."""
        name = self.name(room_id)
        rows = [] if name is None else self.rooms[name].updates
        return [row for row in rows if row[0] > after][:count]

    def compact(
        self, room_id: int, snapshot: tuple[int, bytes, bytes], keep_after: int, committed: int
    ) -> bool:
        """Write a snapshot and delete what it stands for.

        False if a newer one is stored, or the room was deleted.
        """
        name = self.name(room_id)
        if name is None:
            return False
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
class NewRoom:
    """A room that somebody waits for."""

    name: str
    epoch: bytes
    then: Callable[[RoomRow], object]
    refused: Callable[[], object]  # this epoch's was deleted


@dataclass(slots=True)
class Compaction:
    """A snapshot that waits to be written."""

    room_id: int
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
        self._updates: list[Update] = []
        self._deletions: list[tuple[int, Callable[[], object]]] = []
        self._rooms: list[NewRoom] = []
        self._deleted: set[int] = set()
        self._compactions: deque[Compaction] = deque()
        self._uncommitted = 0
        self._waiting: list[Callable[[], object]] = []
        self._busy = False
        self._failures = 0
        self.on_commit: Callable[[int, list[int]], object] = lambda *_: None
        self.chat = RelayChatLog(
            world, disk, life, kick=self._kick, queued=self._message_was_queued
        )

    def _message_was_queued(self) -> None:
        self._uncommitted += 1

    def open(self, then: Callable[[], object]) -> None:
        """Make this start durable, before anything is served."""
        generation = self._disk.state.name_run(self._world)

        def started(found: tuple[int, dict[bytes, int]]) -> None:
            self.generation = generation
            self.head, self.ends = found
            self.committed = self.head
            self._checks.run_begins(generation)
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

    def open_room(
        self,
        name: str,
        epoch: bytes,
        then: Callable[[RoomRow], object],
        refused: Callable[[], object],
    ) -> None:
        """The stored room, or a new one that is durable when ``then`` is called."""

        def found(row: RoomRow | None) -> None:
            if row is not None and row.id not in self._deleted:
                then(row)
            else:
                self._rooms.append(NewRoom(name, epoch, then, refused))
                self._kick()

        self.find_room(name, found)

    def find_room(self, name: str, then: Callable[[RoomRow | None], object]) -> None:
        """The stored room of this name."""
        self._disk.read(self._life, lambda file: file.find(name), then)

    def is_deleted(self, name: str, epoch: bytes, then: Callable[[bool], object]) -> None:
        """Whether a room of this name and epoch was deleted."""
        self._disk.read(self._life, lambda file: file.is_deleted(name, epoch), then)

    def delete(self, room_id: int, then: Callable[[], object]) -> None:
        """Delete a room; that is durable when ``then`` is called."""
        self._deleted.add(room_id)
        self._deletions.append((room_id, then))
        self._kick()

    def compact(self, compaction: Compaction) -> None:
        """Queue a snapshot; it is written when all up to its offset is durable."""
        self._compactions.append(compaction)
        self._kick()

    def _kick(self) -> None:
        if not self._busy:
            self._busy = True
            self._world.after(0.0, self._commit, self._life)

    def _commit(self) -> None:
        head, updates, deletions, rooms = self.head, self._updates, self._deletions, self._rooms
        batch = self.chat.take()
        if not updates and not deletions and not rooms and batch.is_empty:
            self.committed = head
            self._compact_next()
            return
        self._updates, self._deletions, self._rooms = [], [], []

        def write(file: LogFile) -> tuple[list[RoomRow | None], Judged]:
            for name, room_id, offset, data in updates:
                if file.name(room_id) != name:
                    raise Violation(f"an update of {name} that was deleted is logged")
                file.rooms[name].updates.append((offset, data))
                self._checks.logged(name, offset, data)
            judged = self._judge(file, batch)
            for room_id, _ in deletions:
                self._delete(file, room_id, head)
            return [file.create(room.name, room.epoch) for room in rooms], judged

        def done(written: tuple[list[RoomRow | None], Judged]) -> None:
            rows, judged = written
            self._failures = 0
            self.committed = head
            self._uncommitted -= len(updates) + len(batch.submissions)
            for _, deleted in deletions:
                deleted()
            for row, room in zip(rows, rooms, strict=True):
                if row is None:
                    room.refused()
                else:
                    room.then(row)
            written_rooms = {room_id for _, room_id, _, _ in updates}.difference(
                room_id for room_id, _ in deletions
            )
            if written_rooms:
                self._world.note("relay committed up to %d", head)
                self.on_commit(head, sorted(written_rooms))
            self.chat.announce(batch, judged)
            waiting: list[Callable[[], object]] = []
            if self.has_room:
                waiting, self._waiting = self._waiting, []
            for then_go_on in waiting:
                then_go_on()
            self._compact_next()

        def failed() -> None:
            self._updates = updates + self._updates
            self._deletions = deletions + self._deletions
            self._rooms = rooms + self._rooms
            self.chat.put_back(batch)
            pause = RETRY_PAUSES_S[min(self._failures, len(RETRY_PAUSES_S) - 1)]
            self._failures += 1
            self._world.after(pause, self._commit, self._life)

        self._disk.write(self._life, write, done, failed)

    def _judge(self, file: LogFile, batch: ChatBatch) -> Judged:
        if batch.is_empty:
            return Judged((), {})
        judged = transact(file.chat, batch.write)
        for _, added in judged.rooms.values():
            for message in added:
                self._world.note("relay has %s as %d", message.body, message.seq)
        self._checks.chat.committed(file, batch, judged)
        return judged

    def _delete(self, file: LogFile, room_id: int, head: int) -> None:
        name = file.name(room_id)
        if name is not None:
            self._world.note("relay deletes %s", name)
            self._world.count("room deleted")
            self._checks.room_was_deleted(name, file.rooms[name].epoch)
            self._checks.chat_was_deleted(room_id)
            file.delete(name, head)
            self._checks.log_is_whole(file, "a deletion")

    def _compact_next(self) -> None:
        if not self._compactions or self._compactions[0].snapshot[0] > self.committed:
            self._rest()
            return
        compaction = self._compactions.popleft()
        committed = self.committed

        def write(file: LogFile) -> None:
            file.compact(compaction.room_id, compaction.snapshot, compaction.keep_after, committed)
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
        if (
            self._rooms or self._updates or self._deletions or self._compactions
            or self.chat.is_due
        ):  # fmt: skip
            self._kick()
