"""Which rooms are loaded at the relay, with the decisions of ``collab_server.rooms``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from collab.protocol import frames
from collab.protocol.codec import encode
from collab.protocol.update import merge
from collab_server.log.port import RoomRow, StoredRoom
from collab_server.room import Reader, Room
from collab_server.rooms import EMPTY_UPDATE, coverage_of
from collab_server.worker_protocol import Tag
from tests.simulation.disk import Disk
from tests.simulation.plan import Plan
from tests.simulation.relay_log import Compaction, LogFile, RelayLog
from tests.simulation.replicas import Blobs, Reloaded, Replicas
from tests.simulation.walks import walk
from tests.simulation.world import Life, World


@dataclass(eq=False, slots=True)
class Loaded:
    """A room in memory."""

    room: Room
    users: int = 0
    reloads: int = 0  # how often it was read for the worker
    compacting: bool = False
    evictions: int = 0  # only the eviction that was scheduled last counts


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
        self._loading: dict[str, list[Callable[[Loaded], object]]] = {}
        self._moved: dict[int, Room] = {}
        self._channels = 0
        self.wake_readers: Callable[[list[Reader]], object] = lambda _: None
        log.on_commit = self._committed

    # Holding a room

    def hold(self, name: str, epoch: bytes | None, then: Callable[[Loaded], object]) -> None:
        """The room of this name, loaded; a new one gets ``epoch``."""
        loaded = self.loaded.get(name)
        if loaded is not None:
            loaded.users += 1
            loaded.evictions += 1
            then(loaded)
            return
        waiting = self._loading.get(name)
        if waiting is not None:
            waiting.append(then)
            return
        self._loading[name] = [then]
        self._log.open_room(
            name,
            epoch or self._world.rng.randbytes(16),
            lambda row: self._disk.read(
                self._life, lambda file: file.load(name), lambda stored: self._load(row, stored)
            ),
        )

    def _load(self, row: RoomRow, stored: StoredRoom) -> None:
        self._channels += 1
        room = Room(
            room_id=row.id,
            channel=self._channels,
            name=row.name,
            epoch=row.epoch,
            base=stored.base,
            head=max([stored.snapshot_offset, *(offset for offset, _ in stored.updates)]),
            coverage=coverage_of(stored),
            snapshot_bytes=len(stored.snapshot or b""),
            log_bytes=sum(len(data) for _, data in stored.updates),
        )
        loaded = self.loaded[row.name] = Loaded(room)
        for then in self._loading.pop(row.name):
            loaded.users += 1
            then(loaded)

    def release(self, loaded: Loaded) -> None:
        """Give a held room back."""
        loaded.users -= 1
        if not loaded.users:
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

    # The log moves

    def appended(self, loaded: Loaded, offset: int, data: bytes) -> None:
        """``data`` is in the room at ``offset``: commit, show and feed it."""
        room = loaded.room
        self._log.append((room.name, room.id, offset, data))
        self.replicas.feed(room.id, data)
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

        self._disk.read(self._life, lambda file: file.read(room.name, after, 5), got)

    def difference(
        self, room: Room, state_vector: bytes, then: Callable[[int, bytes | None], object]
    ) -> None:
        """An offset, and an update with all up to it, and no more, that the reader lacks."""
        if not room.head or room.coverage.state_vector() == b"\0":
            then(room.head, EMPTY_UPDATE)
            return
        self._ask(
            room, Tag.DIFFERENCE, [state_vector],
            lambda offset, blobs, _: then(offset, None if blobs is None else blobs[0]),
        )  # fmt: skip

    def _ask(
        self,
        room: Room,
        tag: Tag,
        blobs: list[bytes],
        then: Callable[[int, Blobs, int], object],
    ) -> None:
        """The offset that an answer reflects exactly, the answer, and the log's bytes up to it."""
        loaded = self.loaded.get(room.name)
        if loaded is None:
            then(0, None, 0)
            return
        reloads, offset, log_bytes = loaded.reloads, room.head, room.log_bytes

        def got(answer: Blobs) -> None:
            if answer is None or self._is_exact(loaded, reloads, offset):
                then(offset, answer, log_bytes)
            else:
                self._ask(room, tag, blobs, then)

        self.replicas.ask(room.id, tag, blobs, got)

    def _is_exact(self, loaded: Loaded, reloads: int, offset: int) -> bool:
        """Whether an answer holds what was in the log at the question, and no more."""
        return loaded.room.head == offset or loaded.reloads == reloads

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
        loaded = found[0]
        room = loaded.room
        room.pins += 1

        def got(stored: StoredRoom) -> None:
            room.pins -= 1
            loaded.reloads += 1
            last = max([stored.snapshot_offset, *(offset for offset, _ in stored.updates)])
            then(stored.snapshot, [data for _, data in stored.updates] + room.tail_after(last))

        self._disk.read(self._life, lambda file: file.load(room.name), got)

    def _compact(self, loaded: Loaded) -> None:
        room = loaded.room

        def asked(offset: int, blobs: Blobs, log_bytes: int) -> None:
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

            self._log.compact(Compaction(room.name, (offset, snapshot, coverage), keep_after, over))

        self._ask(room, Tag.SNAPSHOT, [], asked)
