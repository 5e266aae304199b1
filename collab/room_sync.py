"""How one room comes level with the relay: carries out what ``DocumentSync`` decides."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Final

from collab import limits
from collab.device import Device
from collab.errors import BadUpdate, CollabError, Rejected, RoomReplaced, Unsupported
from collab.events import Failed, RelayRolledBack, StatusChanged
from collab.local_room import LocalRoom
from collab.presence import Presence
from collab.progress import Progress, ProgressMeter, RoomState, room_state
from collab.protocol import document_sync as ds
from collab.protocol import frames
from collab.protocol.backoff import Backoff
from collab.protocol.document_sync import DocumentSync, Effect, Phase, Row
from collab.protocol.losses import Lack, was_lost
from collab.protocol.position import NOWHERE
from collab.protocol.update import Coverage, Walk, decode_awareness, decode_state_vector, walk
from collab.room_chat import RoomChat
from collab.room_live import RoomLive
from collab.storage.documents import RoomRow, Stored

__all__ = ["RoomSync"]

logger = logging.getLogger(__name__)


class RoomSync:
    """One room as the connection sees it. ``error`` is why it is not synced, or None."""

    def __init__(
        self,
        device: Device,
        local: LocalRoom,
        chat: RoomChat,
        row: RoomRow,
        stored: Stored,
        *,
        name: str,
    ) -> None:
        self.name: Final = name
        self.error: CollabError | None = None
        self.last_synced: float | None = None
        self.backoff: Final = Backoff(device.backoff)  # of joins that are refused for now
        self.presence: Final = Presence(local.replica, device.user, self._send_presence)
        self.machine: Final = DocumentSync(
            epoch=row.epoch,
            position=row.position or NOWHERE,
            unacked=[Row(number, data) for number, data in stored.unacked],
        )
        self.chat: Final = chat
        self.live: Final = RoomLive(device, name)
        self._meter = ProgressMeter()
        self._device = device
        self._local = local
        self._is_aside = False
        self._joining = object()  # another one from each joining to the next
        self._stored_epoch = row.epoch
        chat.on_change = local.changed
        local.on_saved = self._saved
        local.on_change = self._changed

    @property
    def is_stopped(self) -> bool:
        """Whether nothing is to be joined: closed, stopped for good, or stepped aside."""
        return self._local.closed or self._is_aside or self.machine.phase is Phase.STOPPED

    @property
    def is_level(self) -> bool:
        """Whether all that was at the relay at joining has come, and all of ours is decided."""
        return self.machine.is_level and self.chat.is_level

    @property
    def is_settled(self) -> bool:
        """Whether nobody has to wait for it: it has caught up, or cannot."""
        caught_up = self.machine.is_caught_up and self.chat.is_settled
        return caught_up or self.is_stopped or self.error is not None

    @property
    def state(self) -> RoomState:
        """Where this room is."""
        return room_state(
            self.machine, self.chat.machine, is_denied=isinstance(self.error, Rejected)
        )

    @property
    def progress(self) -> Progress | None:
        """How far it has caught up; None while it is not open at the relay."""
        return self._meter.measure(self.machine, self.chat.machine)

    # For the connection

    def arriving(self, so_far: int, total: int) -> None:
        """So many bytes of a large frame are here."""
        self._meter.received(so_far, total)
        self._local.observers.emit(StatusChanged())

    async def prepare(self) -> bool:
        """Know what the replica contains, before the first join; False if it cannot be joined."""
        await self._local.idle()
        if not self.machine.prepared and not self._local.closed:
            try:
                snapshot = self._local.replica.snapshot()
                coverage = await asyncio.to_thread(Coverage.from_update, snapshot)
                self.machine.prepare(coverage)
            except (BadUpdate, Unsupported) as error:
                self._fail(error, f"The document of {self.name!r} here is one that no relay takes")
        return self.machine.prepared and not self.is_stopped

    def join(self, request: int) -> frames.Join:
        """The frame that opens the room, on a fresh connection or again on this one."""
        self._joining = object()
        self.chat.detach()
        self.live.detach()
        return self.machine.join(request, self.name)

    def next_frame(self) -> frames.Frame | None:
        """The next frame that goes up in the room's order: its lane first, then its document."""
        return self.chat.next_enter() or self.machine.next_frame()

    async def receive(self, frame: frames.Frame, generation: bytes) -> None:
        """A frame of this room's document came from the relay."""
        if self._local.closed:
            return
        try:
            await self._take(frame, generation)
        except (BadUpdate, Unsupported) as error:
            self._fail(error, f"What the relay sent for the room {self.name!r} was not let in")
        self._local.changed()

    async def _take(self, frame: frames.Frame, generation: bytes) -> None:
        machine = self.machine
        if isinstance(frame, frames.Updates | frames.Difference):
            walked = await _walk_anywhere(frame.update)
            await self._local.idle()
            if self._local.closed:
                return
            take = machine.updates if isinstance(frame, frames.Updates) else machine.difference
            self._carry_out(take(frame.offset, frame.update, walked))
            return
        await self._local.idle()
        if self._local.closed:
            return
        match frame:
            case frames.Joined():
                decode_state_vector(frame.state_vector)
                self.error = None
                self._carry_out(machine.joined(frame, generation, unsaved=self._has_unsaved))
                self._meter.joined(machine, self.chat.machine, frame.head, good=frame.good)
                if machine.phase is Phase.OPEN:
                    self.live.joined(frame.channel, machine.access)
                    if machine.epoch == self._stored_epoch:
                        self.chat.joined(frame.channel, generation)
                    else:
                        self._device.run(self._join_chat(frame.channel, generation))
                announcement = self.presence.announcement()
                if announcement is not None:
                    self._send_presence(announcement)
            case frames.Ack():
                self._carry_out(machine.ack(frame.number, frame.offset))
            case frames.Resync():
                self._carry_out(machine.resync(frame.state_vector))
            case frames.Refused():
                self._carry_out(machine.refused(frame.code, frame.reason))
            case frames.Awareness():
                self.presence.receive(decode_awareness(frame.data), frame.data)
            case frames.Denied() | frames.Left():
                self._denied(frame)

    def detached(self) -> None:
        """The connection is gone."""
        self._joining = object()
        self.machine.detach()
        self.chat.detach()
        self.live.detach()
        self.presence.alone()
        self._local.changed()

    def step_aside(self) -> None:
        """Leave the relay to another room of this name; what is edited here is still saved."""
        self._is_aside = True
        if self._device.uplink is not None:
            self._device.uplink.leave(self)
        self.detached()

    def step_back(self) -> None:
        """The other one is gone; this one may be joined again."""
        self._is_aside = False

    def connection_failed(self) -> None:
        """The connection has ended for good: who waits must hear it."""
        self._local.changed()

    def end(self) -> None:
        """The room is closed."""
        if self._device.uplink is not None:
            self._device.uplink.leave(self)
        self.presence.close()
        self.live.end()

    async def _join_chat(self, channel: int, generation: bytes) -> None:
        """Let the chat go on once the room's epoch is on this disk.

        A crash between the two would leave the chat of one room with the epoch of none, and it
        would be taken for that of the next room of this name.
        """
        joining, epoch = self._joining, self.machine.epoch
        await self._local.queue.mark()
        self._stored_epoch = epoch
        if joining is self._joining and not self._local.closed:
            self.chat.joined(channel, generation)

    # What the machine decided

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        local, uplink = self._local, self._device.uplink
        for effect in effects:
            match effect:
                case ds.Apply(update, position):
                    local.apply(update, position)
                case ds.Store(position, acked_through):
                    local.queue.store(position=position, acked_through=acked_through)
                case ds.Adopt(epoch):
                    local.queue.store(epoch=epoch)
                case ds.Differ(state_vector, turn):
                    self._device.run(self._differ(state_vector, turn))
                case ds.Lacks(clocks, unacked, offers):
                    # What was typed since the last commit may be in the clocks, and is in no row.
                    rows = (*unacked, *(Row(0, update) for update in local.queue.unsaved))
                    self._device.run(self._tell_losses(clocks, rows, offered=offers))
                case ds.Rejoin():
                    if uplink is not None:
                        uplink.join(self)
                case ds.Replaced(deleted):
                    self._replaced(deleted=deleted)
                case ds.Refusal():
                    local.observers.emit(StatusChanged())

    async def _differ(self, state_vector: bytes, turn: int) -> None:
        """Offer all that the relay lacks, once it is on this disk."""
        await self._local.idle()
        if self._local.closed:
            return
        try:
            difference = self._local.replica.difference(state_vector)
        except (BadUpdate, Unsupported) as error:  # the engine panicked: see ``ypy_engine``
            self._fail(error, f"What the relay lacks of {self.name!r} could not be made out")
            return
        through = await self._local.queue.mark()
        self.machine.offer(difference, through, turn)
        self._wake()

    async def _tell_losses(
        self, clocks: tuple[Lack, ...], unacked: tuple[Row, ...], *, offered: bool
    ) -> None:
        """Tell the program if the relay had what it lacks."""
        if await asyncio.to_thread(was_lost, clocks, unacked):
            self._local.observers.emit(RelayRolledBack(offered))

    @property
    def _has_unsaved(self) -> bool:
        """Whether there is something of ours that is in no row of the document."""
        return bool(self._local.queue.unsaved) or self.chat.has_content

    def _saved(self, rows: list[Row]) -> None:
        self._carry_out(self.machine.saved(rows))
        if rows:
            self._wake()

    def _changed(self) -> None:
        if self.is_level:
            self._meter.level()
            if self._local.is_saved:
                self.last_synced = time.time()
        if self._device.uplink is not None:
            self._device.uplink.levels()

    def _wake(self) -> None:
        if self._device.uplink is not None:
            self._device.uplink.wake()

    def _send_presence(self, data: bytes) -> None:
        if self.machine.phase is Phase.OPEN and self._device.uplink is not None:
            self._device.uplink.send(frames.Awareness(self.machine.channel, data))

    # What went wrong

    def _denied(self, frame: frames.Denied | frames.Left) -> None:
        self.presence.alone()
        self.live.detach()
        if frame.code == frames.Code.DELETED:
            self._carry_out(self.machine.deleted(unsaved=self._has_unsaved))
            return
        self.machine.detach()
        self.chat.detach()
        self.error = Rejected(
            f"The relay does not open this room: {frame.reason} ({frame.code}). Everything here is "
            f"kept on this device and edits are saved; nothing is sent.",
            code=frame.code,
            retryable=frames.is_transient(frame.code),
        )
        self._local.observers.emit(Failed(self.error))

    def _replaced(self, *, deleted: bool) -> None:
        if deleted:
            what = f"The room {self.name!r} that is on this device was deleted at the relay."
        else:
            what = (
                f"The relay's room {self.name!r} has another history than the one on this device."
            )
        waiting = self.chat.machine.outbox.pending
        messages = (
            f" A fork takes the document alone. Messages that wait to be sent: {waiting}; "
            f"room.chat.history() has them until the room is forgotten."
        )
        self._stop(
            RoomReplaced(
                f"{what} Everything here is kept and saved; nothing is sent or received. Keep this "
                f"copy under another name with room.fork(name), or give it up: "
                f"client.forget(name), then open the room again.{messages if waiting else ''}"
            )
        )

    def _fail(self, error: BadUpdate | Unsupported, what: str) -> None:
        """Something from the relay must not reach the replica: this room stops, others go on."""
        logger.warning("a room stopped: %s", error)
        self.machine.stop()
        if isinstance(error, BadUpdate):
            error = BadUpdate(
                f"{what}: {error}. What is on this device is unharmed, and edits are saved on; "
                f"nothing of this room is sent or received. Close it and open it again to try once "
                f"more. If that does not help, whoever runs the relay must look; room.fork(name) "
                f"keeps this copy under another name."
            )
        self._stop(error)

    def _stop(self, error: CollabError) -> None:
        self.error = error
        self.presence.alone()
        self.chat.detach()
        self.live.detach()
        if self._device.uplink is not None:
            self._device.uplink.leave(self)
        self._local.observers.emit(Failed(error))
        self._local.changed()  # who waits for it to be synced waits for nothing


async def _walk_anywhere(update: bytes) -> Walk:
    if len(update) <= limits.WALK_ON_LOOP_BYTES:
        return walk(update)
    return await asyncio.to_thread(walk, update)
