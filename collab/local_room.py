"""One room's document on this device: its replica, and how it stands with the disk."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from collab import limits
from collab.crdt.engines import make_replica
from collab.crdt.replica import Replica
from collab.device import Device
from collab.errors import Closed, CollabError
from collab.events import (
    DocumentChanged,
    Failed,
    Observers,
    Recovered,
    RoomEvent,
    StatusChanged,
)
from collab.protocol.document_sync import Row
from collab.protocol.position import Position
from collab.protocol.ysync import decode_state_vector
from collab.storage.documents import RoomRow, Stored
from collab.storage.saver import RoomQueue

__all__ = ["LocalRoom"]

logger = logging.getLogger(__name__)


class LocalRoom:
    """A replica that is saved as it changes. It knows nothing of a network.

    ``on_saved`` is called with the local rows of each commit, ``on_change`` whenever something
    of the room's state changed.
    """

    def __init__(self, device: Device, row: RoomRow, stored: Stored, client_id: int) -> None:
        self.id: Final = row.id
        self.closed = False
        self.last_saved: float | None = None
        self.observers: Observers[RoomEvent] = Observers()
        self.on_saved: Callable[[list[Row]], None] = lambda rows: None
        self.on_change: Callable[[], None] = lambda: None
        self._device = device
        self._waiters: set[asyncio.Future[None]] = set()
        self._snapshot_bytes = stored.snapshot_bytes
        self._tail_bytes = stored.tail_bytes
        self._compacting = False
        self._loading = True
        self.replica: Final[Replica] = make_replica(
            client_id, engine=device.engine, call_soon=device.call_soon, on_local=self._edited
        )
        if stored.snapshot is not None:
            self.replica.apply(stored.snapshot)
        if stored.updates:
            self.replica.apply(self.replica.merge(stored.updates))
        self._loading = False
        self.queue: Final = RoomQueue(
            device.saver,
            row.id,
            merge=self.replica.merge,
            on_saved=self._saved,
            last_local=stored.unacked[-1][0] if stored.unacked else 0,
        )
        self._append_local = self.queue.add_local

    # Editing

    def _edited(self, update: bytes) -> None:
        if self._loading:
            return  # what was read from the disk just now
        self._append_local(update)
        if self.observers:
            self.observers.emit(DocumentChanged(local=True))

    def apply(self, update: bytes, position: Position | None) -> None:
        """Take in a remote update; it is saved together with ``position``."""
        self.replica.apply(update)
        self.queue.add_remote(update, position)
        if self.observers:
            self.observers.emit(DocumentChanged(local=False))

    def start_from(self, template: bytes) -> None:
        """Put ``template`` into a room without anything, as an edit of this device.

        Does nothing in any other room. Raises what ``Replica.apply`` raises; then nothing changed.
        """
        if decode_state_vector(self.replica.state_vector()):
            return
        self.replica.apply(template)
        self._append_local(template)
        if self.observers:
            self.observers.emit(DocumentChanged(local=True))

    async def idle(self) -> None:
        """Return when no transaction is open: what is remote waits until it ends."""
        while not self.closed and self.replica.in_transaction:
            ended = asyncio.Event()
            self.replica.call_when_idle(ended.set)
            await ended.wait()

    # Saving

    @property
    def is_saved(self) -> bool:
        """Whether all that was edited is on the disk."""
        return self.queue.saved == self.queue.queued

    async def wait_saved(self) -> None:
        """Return when all that was edited until now is on the disk.

        Raises ``Saver.error`` if nothing is saved any more.
        """
        goal = self.queue.queued
        while self.queue.saved < goal:
            self._raise_if_broken()
            await self.change()

    async def settled(self) -> None:
        """Return when nothing waits for the disk, also nothing that was edited meanwhile."""
        while not self.is_saved:
            self._raise_if_broken()
            await self.change()

    def _raise_if_broken(self) -> None:
        saver = self._device.saver
        if saver.is_broken and saver.error is not None:
            raise saver.error

    def _saved(self, rows: list[Row], size: int) -> None:
        self.last_saved = time.time()
        self._tail_bytes += size
        self.on_saved(rows)
        if self._tail_bytes > max(self._snapshot_bytes, limits.COMPACT_FROM_BYTES):
            self._device.run(self._compact())
        self.changed()

    def disk(self, error: CollabError | None) -> None:
        """The disk began to refuse, or takes everything again."""
        self.observers.emit(Recovered() if error is None else Failed(error))
        self.changed()

    async def tidy(self) -> None:
        """Leave a file that opens fast: compact earlier than one would while people type."""
        while self._compacting and not self.closed and not self._is_busy:
            await self.change()  # that one does not have what came since
        worth_it = self._tail_bytes > self._snapshot_bytes // 4
        if worth_it and not self._is_busy:
            await self._compact()

    @property
    def _is_busy(self) -> bool:
        return self.replica.in_transaction or self._device.saver.error is not None

    async def _compact(self) -> None:
        """Put a snapshot in the place of the rows that it contains."""
        if self._compacting or self.closed:
            return
        self._compacting = True
        try:
            await self.idle()
            # The number first, the snapshot after it: it contains at least every row up to it.
            through = await self._device.documents.last_row(self.id)
            await self.idle()
            if self.closed or not through:
                return
            tail = self._tail_bytes
            snapshot = self.replica.snapshot()
            # An edit that only the snapshot held would, after a crash, never be sent.
            goal = self.queue.queued
            while self.queue.saved < goal:
                if self.closed or self._device.saver.error is not None:
                    return
                await self.change()
            await self._device.documents.compact(self.id, snapshot, through)
            self._snapshot_bytes = len(snapshot)
            self._tail_bytes -= tail
        except CollabError as error:
            logger.warning("a room could not be compacted; nothing is lost by that: %s", error)
            self._tail_bytes = 0  # do not try again at every commit
        finally:
            self._compacting = False
            self.changed()

    # Waiting and ending

    def changed(self) -> None:
        """Something of the room's state changed: tell who waits."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.on_change()
        self.observers.emit(StatusChanged())

    async def change(self) -> None:
        """Return at the next change. Raises :class:`Closed` in a room that was closed."""
        if self.closed:
            raise Closed("The room was closed while this waited. What was saved is on disk.")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def end(self) -> None:
        """Let go of the document. What is queued is still saved."""
        self.closed = True
        try:
            self.replica.close()
        finally:
            self.observers.clear()
            self.changed()
