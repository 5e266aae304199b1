"""Which rooms are loaded at the relay, with the decisions of ``collab_server.rooms``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from collab.protocol import frames
from collab.protocol.codec import encode
from collab.protocol.update import merge
from collab_server.chat import Chat
from collab_server.loading import EMPTY_UPDATE, coverage_of, last_offset, room_of
from collab_server.log.port import RoomRow, StoredRoom
from collab_server.replicas import Contents
from collab_server.room import Reader, Room
from collab_server.worker_protocol import Message, Tag
from tests.simulation.disk import Disk
from tests.simulation.plan import Plan
from tests.simulation.relay_log import Compaction, LogFile, RelayLog
from tests.simulation.replicas import Reloaded, Replicas
from tests.simulation.walks import walk
from tests.simulation.world import Life, World


@dataclass(eq=False, slots=True)
class Loaded:
    """A room in memory."""

    room: Room
    chat: Chat = field(init=False)
    users: int = 0
    compacting: bool = False
    evictions: int = 0  # only the eviction that was scheduled last counts

    def __post_init__(self) -> None:
        self.chat = Chat(self.room.channel)


Blobs = Sequence[bytes] | None  # None: there is no answer


@dataclass(eq=False, slots=True)
class _Waiter:
    """Who waits for a room to be loaded."""

    epoch: bytes | None
    again: Callable[[], object]
    denied: Callable[[], object]


class RelayRooms:
    """The loaded rooms of one run of the relay."""

    def __init__(
        self, world: World, life: Life, plan: Plan, log: RelayLog, disk: Disk[LogFile],
    ) -> None:  # fmt: skip
        self._world = world
        self._life = life
        self._plan = plan
        self._log = log
        self._disk = disk
        self.replicas = Replicas(world, life, plan.worker_delay)
        self.replicas.reload = self._reload
        self.loaded: dict[str, Loaded] = {}
        self._loading: dict[str, list[_Waiter]] = {}
        self._deleting: dict[str, list[Callable[[], object]]] = {}  # who waits for it
        self._moved: dict[int, Room] = {}
        self._channels = 0
        self.wake_readers: Callable[[list[Reader]], object] = lambda _: None
        log.on_commit = self._committed

    # Holding a room

    def hold(
        self,
        name: str,
        epoch: bytes | None,
        then: Callable[[Loaded], object],
        denied: Callable[[], object],
    ) -> None:
        """The room of this name, loaded; a new one gets ``epoch``. ``denied``: that was deleted."""

        def again() -> None:
            self.hold(name, epoch, then, denied)

        def judge(is_deleted: bool) -> None:
            if is_deleted:
                denied()
            elif self.loaded.get(name) is loaded and name not in self._deleting:
                take()
            else:
                again()

        def take() -> None:
            assert loaded is not None
            self._take(loaded)
            then(loaded)

        loaded = self.loaded.get(name)
        if name in self._deleting:
            self._deleting[name].append(again)
        elif loaded is None:
            self._load_for(_Waiter(epoch, again, denied), name)
        elif epoch is None or epoch == loaded.room.epoch:
            take()
        else:
            self._log.is_deleted(name, epoch, judge)

    @staticmethod
    def _take(loaded: Loaded) -> None:
        loaded.users += 1
        loaded.evictions += 1

    def _load_for(self, waiter: _Waiter, name: str) -> None:
        waiting = self._loading.get(name)
        if waiting is not None:
            waiting.append(waiter)
            return
        self._loading[name] = [waiter]
        epoch = waiter.epoch or self._world.rng.randbytes(16)

        def opened(row: RoomRow) -> None:
            self._disk.read(
                self._life,
                lambda file: file.load_room(row.id),
                lambda stored: self._load(row, stored),
            )

        def refused() -> None:
            for one in self._loading.pop(name):
                (one.denied if one.epoch == epoch else one.again)()

        self._log.open_room(name, epoch, opened, refused)

    def _load(self, row: RoomRow, stored: StoredRoom | None) -> None:
        assert stored is not None  # nothing deletes a room that is being loaded
        self._channels += 1
        room = room_of(row, stored, coverage_of(stored), channel=self._channels)
        loaded = self.loaded[row.name] = Loaded(room)
        self._evict_later(loaded)
        for one in self._loading.pop(row.name):
            one.again()

    def release(self, loaded: Loaded) -> None:
        """Give a held room back."""
        loaded.users -= 1
        if not loaded.users and self.loaded.get(loaded.room.name) is loaded:
            self._evict_later(loaded)

    def _evict_later(self, loaded: Loaded) -> None:
        loaded.evictions += 1
        this = loaded.evictions

        def evict() -> None:
            if loaded.users or loaded.evictions != this:
                return
            if loaded.compacting or loaded.room.head > self._log.committed:
                self._evict_later(loaded)
                return
            self._world.count("room evicted")
            del self.loaded[loaded.room.name]
            self.replicas.drop(loaded.room.id)

        self._world.after(self._plan.room_idle, evict, self._life)

    # Deleting a room

    def delete(self, name: str) -> None:
        """Delete the room of this name; who is in it is told when that is durable."""
        if name in self._deleting:
            return
        self._deleting[name] = []
        loading = self._loading.get(name)
        if loading is None:
            self._delete(name)
        else:
            loading.append(_Waiter(None, lambda: self._delete(name), lambda: None))

    def _delete(self, name: str) -> None:
        loaded = self.loaded.get(name)
        if loaded is not None:
            self._take(loaded)
            loaded.room.seal()
            self._log.delete(loaded.room.id, lambda: self._deleted(loaded))
            return

        def found(row: RoomRow | None) -> None:
            if row is None:
                self._go_on(name)
            else:
                self._log.delete(row.id, lambda: self._go_on(name))

        self._log.find_room(name, found)

    def _deleted(self, loaded: Loaded) -> None:
        room = loaded.room
        del self.loaded[room.name]
        self.replicas.drop(room.id)
        for reader in list(room.readers):
            reader.on_deleted()
        self._go_on(room.name)

    def _go_on(self, name: str) -> None:
        for again in self._deleting.pop(name):
            again()

    # The log moves

    def appended(self, loaded: Loaded, offset: int, data: bytes) -> None:
        """``data`` is in the room at ``offset``: commit, show and feed it."""
        room = loaded.room
        self._log.append((room.name, room.id, offset, data))
        self.replicas.feed(room.id, offset, data)
        if not self._moved:
            self._world.after(0.0, self._wake_moved, self._life)
        self._moved[room.id] = room
        enough = max(self._plan.relay_compacts_from, room.snapshot_bytes)
        if room.log_bytes > enough and not loaded.compacting:
            loaded.compacting = True
            self._compact(loaded)

    def _wake_moved(self) -> None:
        moved, self._moved = self._moved, {}
        for room in moved.values():
            self.wake_readers([reader for reader in room.readers if room.is_behind(reader)])

    def _committed(self, committed: int, room_ids: list[int]) -> None:
        for loaded in self.loaded.values():
            if loaded.room.id in room_ids:
                loaded.room.trim(committed)
                self.wake_readers([reader for reader in loaded.room.readers if reader.acks])

    # Questions that memory cannot answer

    def read_behind(
        self, room: Room, reader: Reader, then: Callable[[bytes | None], object]
    ) -> None:
        """The next frame for a reader behind the tail; None: it needs a difference."""
        after = reader.position
        self._world.count("reader behind the tail")

        def got(rows: list[tuple[int, bytes]]) -> None:
            if after < room.base or not rows:
                then(None)
                return
            reader.position = rows[-1][0]
            merged = merge([(data, walk(data)) for _, data in rows])
            then(encode(frames.Updates(room.channel, reader.position, merged)))

        self._disk.read(self._life, lambda file: file.read(room.id, after, 5), got)

    def difference(
        self, room: Room, state_vector: bytes, then: Callable[[int, bytes | None], object]
    ) -> None:
        """An offset, and an update with all up to it, and no more, that the reader lacks."""
        if not room.head or room.coverage.state_vector() == b"\0":
            then(room.head, EMPTY_UPDATE)
            return
        self._ask(
            room, Tag.DIFFERENCE, [state_vector],
            lambda offset, blobs: then(offset, None if blobs is None else blobs[0]),
        )  # fmt: skip

    def _ask(
        self, room: Room, tag: Tag, blobs: list[bytes], then: Callable[[int, Blobs], object]
    ) -> None:
        """The offset that an answer reflects exactly, and the answer."""

        def got(answer: Message | None) -> None:
            if answer is None:
                then(0, None)
            else:
                then(answer.offset, answer.blobs)

        self.replicas.ask(room.id, tag, blobs, got)

    def _reload(
        self,
        room_id: int,
        then: Reloaded,
        failed: Callable[[], object],
    ) -> None:
        """All of a room: complete at the moment when ``then`` is called."""
        found = [one for one in self.loaded.values() if one.room.id == room_id]
        if not found:
            self._world.after(0.0, failed, self._life)
            return
        room = found[0].room
        room.pins += 1

        def got(stored: StoredRoom | None) -> None:
            room.pins -= 1
            if stored is None:
                failed()
                return
            updates = [data for _, data in stored.updates] + room.tail_after(last_offset(stored))
            then(Contents(stored.snapshot, updates, room.head))

        self._disk.read(self._life, lambda file: file.load_room(room_id), got)

    def _compact(self, loaded: Loaded) -> None:
        room, log_bytes = loaded.room, loaded.room.log_bytes

        def asked(offset: int, blobs: Blobs) -> None:
            if self.loaded.get(room.name) is not loaded:
                return
            if blobs is None:
                room.log_bytes = 0
                loaded.compacting = False
                return
            snapshot, coverage = blobs
            keep_after = min(offset, room.slowest)
            room.base = max(room.base, keep_after)

            def over(written: bool) -> None:
                loaded.compacting = False
                if written:
                    room.snapshot_bytes = len(snapshot)
                    room.log_bytes -= log_bytes
                else:
                    room.log_bytes = 0

            self._log.compact(Compaction(room.id, (offset, snapshot, coverage), keep_after, over))

        self._ask(room, Tag.SNAPSHOT, [], asked)
