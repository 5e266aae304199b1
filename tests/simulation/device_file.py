"""What a device's file holds, and the transactions on it, as in ``collab.storage.documents``."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from collab.protocol.position import NOWHERE, Position
from collab.storage import identity
from collab.storage.documents import Batch, Stored
from tests.simulation.chat_files import copy_of, forget_room, new_room, put_away, transact


@dataclass(slots=True)
class RoomFile:
    """One room's rows. ``updates`` are (id, made here, data), in order."""

    epoch: bytes | None = None
    position: Position = NOWHERE
    acked_through: int = 0
    folded_through: int = 0
    snapshot: tuple[int, bytes] | None = None  # through_row, data
    updates: list[tuple[int, bool, bytes]] = field(default_factory=list)

    def copy(self) -> RoomFile:
        return RoomFile(
            self.epoch, self.position, self.acked_through, self.folded_through, self.snapshot,
            list(self.updates),
        )  # fmt: skip


@dataclass(slots=True)
class DeviceFile:
    """One device's whole file. ``database`` is what it holds of chats: the real tables."""

    device_id: bytes
    database: sqlite3.Connection | None = None  # None in a history without chats
    connection_number: int = 0
    last_id: int = 0
    names: dict[str, int] = field(default_factory=dict)
    rooms: dict[int, RoomFile] = field(default_factory=dict)
    last_room: int = 0

    def copy(self) -> DeviceFile:
        rooms = {number: room.copy() for number, room in self.rooms.items()}
        database = None if self.database is None else copy_of(self.database)
        return DeviceFile(
            self.device_id, database, self.connection_number, self.last_id, dict(self.names),
            rooms, self.last_room,
        )  # fmt: skip

    @property
    def chat(self) -> sqlite3.Connection:
        """What is stored of chats."""
        assert self.database is not None
        return self.database

    def end(self) -> None:
        """Nobody needs it any more."""
        if self.database is not None:
            put_away("device", self.database)
            self.database = None

    def create(self, name: str, lane_epoch: bytes) -> int:
        """The number of the room of this name, made if there is none, with this lane."""
        if name not in self.names:
            self.last_room += 1
            self.names[name] = self.last_room
            self.rooms[self.last_room] = RoomFile()
            if self.database is not None:
                new_room(self.database, self.last_room, name, lane_epoch)
        return self.names[name]

    def epoch(self, name: str) -> bytes | None:
        """The epoch of the room of this name, if it is known."""
        return self.rooms[self.names[name]].epoch if name in self.names else None

    def append(self, batches: list[Batch]) -> list[list[int]]:
        """Store all of them; the ids of each one's local updates."""
        return [self._append(batch) for batch in batches]

    def _append(self, batch: Batch) -> list[int]:
        room = self.rooms.get(batch.room_id)
        if room is None:
            return []  # it was forgotten
        room.epoch = room.epoch if batch.epoch is None else batch.epoch
        room.position = room.position if batch.position is None else batch.position
        if batch.acked_through is not None:
            room.acked_through = max(room.acked_through, min(batch.acked_through, self.last_id))
        ids = []
        for local, data in batch.rows:
            self.last_id += 1
            room.updates.append((self.last_id, local, data))
            if local:
                ids.append(self.last_id)
        return ids

    def load(self, number: int) -> Stored:
        """Snapshot, tail, and what is not acked."""
        room = self.rooms[number]
        through, snapshot = room.snapshot or (0, None)
        acked = room.acked_through
        updates = [data for row, _, data in room.updates if row > through]
        unacked = [(row, data) for row, local, data in room.updates if local and row > acked]
        if room.folded_through > acked and snapshot is not None:
            unacked.insert(0, (room.folded_through, snapshot))
        last = room.updates[-1][0] if room.updates else 0
        return Stored(
            snapshot=snapshot,
            updates=updates,
            unacked=unacked,
            last_row=max(through, last),
            snapshot_bytes=len(snapshot or b""),
            tail_bytes=sum(map(len, updates)),
        )

    def last_row(self, number: int) -> int:
        """The highest row that snapshot and updates cover."""
        room = self.rooms.get(number)
        if room is None:
            return 0
        through = room.snapshot[0] if room.snapshot else 0
        return max(through, room.updates[-1][0] if room.updates else 0)

    def compact(self, number: int, snapshot: bytes, through: int) -> None:
        """Put ``snapshot`` in the place of what it contains."""
        room = self.rooms.get(number)
        if room is None or (room.snapshot is not None and room.snapshot[0] > through):
            return
        assert through <= self.last_id
        room.snapshot = (through, snapshot)
        acked = room.acked_through
        unacked = [
            (row, len(data))
            for row, local, data in room.updates
            if local and acked < row <= through
        ]
        if sum(size for _, size in unacked) > len(snapshot):
            acked = room.folded_through = unacked[-1][0]
        room.updates = [
            (row, local, data)
            for row, local, data in room.updates
            if row > through or (local and row > acked)
        ]

    def renew(self, device_id: bytes) -> None:
        """Take another device id."""
        self.device_id = device_id
        if self.database is not None:
            transact(self.database, lambda connection: identity.renew(connection, device_id))

    def next_connection_number(self, at_least: int) -> int:
        """A number above every one given out before."""
        self.connection_number = max(self.connection_number + 1, at_least)
        return self.connection_number

    def forget(self, name: str) -> None:
        """Delete a room."""
        number = self.names.pop(name)
        del self.rooms[number]
        if self.database is not None:
            forget_room(self.database, number)
