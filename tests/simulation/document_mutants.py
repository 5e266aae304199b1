"""Documents broken on purpose: each mutant is a relay or a device that breaks one promise."""

from __future__ import annotations

from unittest import mock

from collab.protocol import frames
from collab.protocol.document_sync import Adopt, Apply, DocumentSync, Effect, Store
from collab.protocol.position import Position
from collab.protocol.update import decode_state_vector
from collab_server.loading import EMPTY_UPDATE
from collab_server.replica_worker import Worker
from collab_server.room import Reader, Room
from collab_server.worker_protocol import Message, Tag
from tests.simulation import device as device_module
from tests.simulation.device import DeviceRoom
from tests.simulation.device_file import DeviceFile
from tests.simulation.mutation import Function, mutant
from tests.simulation.relay_log import LogFile, RelayLog
from tests.simulation.relay_rooms import RelayRooms

# The relay


@mutant("the relay acks before its commit", Room, "next_ack")
def _ack_early(original: Function) -> Function:
    def next_ack(self: Room, reader: Reader, committed: int) -> bytes | None:
        ack: bytes | None = original(self, reader, max(committed, self.head))
        return ack

    return next_ack


@mutant("the relay acks beyond the reader's place", Room, "next_ack")
def _ack_ahead(original: Function) -> Function:
    def next_ack(self: Room, reader: Reader, committed: int) -> bytes | None:
        place, reader.position = reader.position, self.head
        ack: bytes | None = original(self, reader, committed)
        if ack is None:
            reader.position = place
        return ack

    return next_ack


@mutant("the relay takes an offset of any generation for good", RelayLog, "is_good")
def _any_generation(_: Function) -> Function:
    return lambda self, generation, offset: 0 <= offset <= self.head


@mutant("the relay counts its generations, so a restored one repeats them", LogFile, "name_run")
def _counted_generations(_: Function) -> Function:
    return lambda self, world: (1 + len(self.generations)).to_bytes(16)


@mutant("the relay leaves the difference out at equal state vectors", RelayRooms, "difference")
def _no_difference(original: Function) -> Function:
    def difference(self: RelayRooms, room: Room, state_vector: bytes, then: Function) -> None:
        if state_vector == room.coverage.state_vector():
            then(room.head, EMPTY_UPDATE)
        else:
            original(self, room, state_vector, then)

    return difference


@mutant("the relay's snapshot holds less than it claims", RelayRooms, "_ask")
def _claims_more(original: Function) -> Function:
    def ask(self: RelayRooms, room: Room, tag: Tag, blobs: list[bytes], then: Function) -> None:
        def later(offset: int, answer: object) -> None:
            then(room.head if tag is Tag.SNAPSHOT else offset, answer)

        original(self, room, tag, blobs, later)

    return ask


@mutant("the relay's snapshot holds more than it claims", RelayRooms, "_ask")
def _claims_less(original: Function) -> Function:
    def ask(self: RelayRooms, room: Room, tag: Tag, blobs: list[bytes], then: Function) -> None:
        if tag is not Tag.SNAPSHOT:
            original(self, room, tag, blobs, then)
            return
        offset = room.head

        def late() -> None:
            original(self, room, tag, blobs, lambda _, answer: then(offset, answer))

        self._world.after(self._plan.worker_delay, late, self._life)

    return ask


@mutant("the worker names the offset that a replica was loaded with", Worker, "_act")
def _claims_what_was_loaded(original: Function) -> Function:
    def act(self: Worker, message: Message) -> object:
        replica = self._replicas.get(message.room)
        loaded_with = replica.offset if replica and message.tag is Tag.FEED else 0
        found: object = original(self, message)
        if loaded_with:
            self._replicas[message.room].offset = loaded_with
        return found

    return act


@mutant("the relay forgets that a room was deleted", LogFile, "is_deleted")
def _forgets_deletions(_: Function) -> Function:
    return lambda self, name, epoch: False


@mutant("the relay goes on taking updates into a room that it deletes", Room, "seal")
def _does_not_seal(_: Function) -> Function:
    return lambda self: None


@mutant("the relay says that a room is deleted before it is", RelayRooms, "_delete")
def _deletes_in_memory_first(original: Function) -> Function:
    def delete(self: RelayRooms, name: str) -> None:
        loaded = self.loaded.get(name)
        if loaded is not None:
            for reader in list(loaded.room.readers):
                reader.on_deleted()
        original(self, name)

    return delete


# The device


@mutant("the device stores a position before what it covers", DeviceRoom, "apply")
def _position_first(original: Function) -> Function:
    def apply(self: DeviceRoom, update: bytes, position: Position | None) -> None:
        self.queue.store(position=position)
        device = self.device
        queue = mock.Mock(add_remote=lambda update, _: later.append(update))
        later: list[bytes] = []
        real, self.queue = self.queue, queue
        original(self, update, None)
        self.queue = real
        delay = 2 * device.plan.commit
        device.world.after(delay, lambda: real.add_remote(later[0], None), device.life)

    return apply


@mutant("the device takes any room of the name for its own", DocumentSync, "joined")
def _any_epoch(original: Function) -> Function:
    def joined(
        self: DocumentSync, frame: frames.Joined, generation: bytes, *, unsaved: bool = False
    ) -> list[Effect]:
        adopted = [Adopt(frame.epoch)] if self.epoch != frame.epoch else []
        self.epoch = frame.epoch
        return [*adopted, *original(self, frame, generation, unsaved=unsaved)]

    return joined


@mutant("the device drops what came early and goes on", DocumentSync, "_hold")
def _drops(_: Function) -> Function:
    return lambda self, update, walked: []


@mutant("the device applies what came early", DocumentSync, "_hold")
def _applies_early(_: Function) -> Function:
    return lambda self, update, walked: [Apply(update, None)]


@mutant("the device leaves its offer empty at equal state vectors", DeviceRoom, "_differ")
def _empty_offer(original: Function) -> Function:
    def differ(self: DeviceRoom, state_vector: bytes, turn: int) -> None:
        if self.is_closed:
            return
        if decode_state_vector(state_vector) == decode_state_vector(self.replica.state_vector()):
            with mock.patch.object(self.replica, "difference", return_value=EMPTY_UPDATE):
                original(self, state_vector, turn)
        else:
            original(self, state_vector, turn)

    return differ


@mutant("the device compacts rows away that are not acked", DeviceFile, "compact")
def _compacts_unacked(original: Function) -> Function:
    def compact(self: DeviceFile, number: int, snapshot: bytes, through: int) -> None:
        original(self, number, snapshot, through)
        room = self.rooms.get(number)
        if room is not None:
            room.updates = [row for row in room.updates if row[0] > through]
            room.folded_through = 0

    return compact


@mutant("the device's snapshot is older than the rows it replaces", DeviceRoom, "_compact")
def _old_snapshot(original: Function) -> Function:
    def compact(self: DeviceRoom) -> None:
        snapshot = self.replica.snapshot()

        def compact_to(through: int) -> None:
            if not self.is_closed:
                with mock.patch.object(self.replica, "snapshot", return_value=snapshot):
                    DeviceRoom._compact_to(self, through)

        if not self._compacting:
            vars(self)["_compact_to"] = compact_to
        original(self)

    return compact


@mutant("the device takes every ack for an ack of all it has", DocumentSync, "ack")
def _acks_all(original: Function) -> Function:
    def ack(self: DocumentSync, number: int, offset: int) -> list[Effect]:
        last = self._unacked[-1].id if self._unacked else None
        self._unacked.clear()
        effects: list[Effect] = original(self, number, offset)
        return [*effects, Store(None, last)]

    return ack


@mutant("the device keeps its client id when it is opened again", device_module, "make_replica")
def _same_client(original: Function) -> Function:
    return lambda client_id, **rest: original(1 + client_id % 3, **rest)
