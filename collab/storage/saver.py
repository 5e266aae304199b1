"""What waits for the disk, and the one task that commits it.

An edit costs its caller an append to a list. The task takes all that is queued in all rooms into
one transaction; what arrives meanwhile is the next one. There is no timer, except after a failure:
then the same transaction is tried again, until the disk takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from collab.errors import CollabError, LocalError
from collab.protocol.document_sync import Row
from collab.protocol.position import Position
from collab.storage.documents import Batch, Documents

__all__ = ["RoomQueue", "Saver"]

_RUN_UPDATES: Final = 500  # local updates merged into one row; merging large groups costs more each
_RUN_BYTES: Final = 64 * 1024
_RETRY_PAUSES_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)  # people free a full disk, and want to see it

Mark = asyncio.Future[int]


class RoomQueue:
    """One room's part of what waits. Rows keep the order in which they were added."""

    def __init__(
        self,
        saver: Saver,
        room_id: int,
        *,
        merge: Callable[[Sequence[bytes]], bytes],
        on_saved: Callable[[list[Row], int], None],
        last_local: int,
    ) -> None:
        self._saver = saver
        self._room_id = room_id
        self._merge = merge
        self._on_saved = on_saved
        self._last_local = last_local
        self._items: list[bytes | tuple[bytes] | Mark] = []  # local, remote, mark
        self._taken: list[bytes] = []  # local ones of the batch that is on its way to the disk
        self._position: Position | None = None
        self._acked_through: int | None = None
        self._epoch: bytes | None = None
        self.queued = 0  # updates ever added
        self.saved = 0  # updates ever committed

    def add_local(self, update: bytes) -> None:
        """An update made here."""
        self._items.append(update)
        self.queued += 1
        self._saver.wake(self)

    def add_remote(self, update: bytes, position: Position | None) -> None:
        """An update from the relay, and the place that covers it (None: leave the stored one)."""
        self._items.append((update,))
        self.queued += 1
        self.store(position=position)

    def store(
        self,
        *,
        position: Position | None = None,
        acked_through: int | None = None,
        epoch: bytes | None = None,
    ) -> None:
        """Facts about the room, committed with what is queued before them."""
        self._position = position or self._position
        self._acked_through = acked_through or self._acked_through
        self._epoch = epoch or self._epoch
        self._saver.wake(self)

    def mark(self) -> Mark:
        """Done when all that is queued now is on the disk: the id of the last local row by then."""
        mark: Mark = asyncio.get_running_loop().create_future()
        self._items.append(mark)
        self._saver.wake(self)
        return mark

    @property
    def unsaved(self) -> list[bytes]:
        """The updates made here that are not on the disk yet, oldest first."""
        return [*self._taken, *(item for item in self._items if isinstance(item, bytes))]

    def take(self) -> Taken:
        """Everything that waits, as one batch."""
        items, self._items = self._items, []
        batch = Batch(
            self._room_id,
            position=self._position,
            acked_through=self._acked_through,
            epoch=self._epoch,
        )
        self._position = self._acked_through = self._epoch = None
        taken = Taken(self, batch, self.queued)
        run: list[bytes] = []
        run_bytes = 0

        def end_run() -> None:
            nonlocal run, run_bytes
            if run:
                batch.rows.append((True, run[0] if len(run) == 1 else self._merge(run)))
                taken.local_rows += 1
                run, run_bytes = [], 0

        for item in items:
            if isinstance(item, bytes):
                run.append(item)
                run_bytes += len(item)
                if len(run) >= _RUN_UPDATES or run_bytes >= _RUN_BYTES:
                    end_run()
            elif isinstance(item, tuple):
                end_run()
                batch.rows.append((False, item[0]))
            else:
                # A row never reaches across a mark: acking what came before it acks nothing after.
                end_run()
                taken.marks.append((item, taken.local_rows))
        end_run()
        self._taken = [data for made_here, data in batch.rows if made_here]
        return taken

    def committed(self, taken: Taken, ids: list[int]) -> None:
        """The batch is on the disk; its local rows have these ids."""
        before = self._last_local
        self.saved = taken.queued
        self._taken = []
        if ids:
            self._last_local = ids[-1]
        for mark, count in taken.marks:
            if not mark.done():
                # A room that was forgotten meanwhile has no rows.
                mark.set_result(ids[count - 1] if count and ids else before)
        local = (data for made_here, data in taken.batch.rows if made_here)
        rows = [Row(row, data) for row, data in zip(ids, local, strict=False)]
        self._on_saved(rows, sum(len(data) for _, data in taken.batch.rows))


class Taken:
    """A batch on its way to the disk."""

    def __init__(self, queue: RoomQueue, batch: Batch, queued: int) -> None:
        self.queue = queue
        self.batch = batch
        self.queued = queued
        self.local_rows = 0
        self.marks: list[tuple[Mark, int]] = []


class Saver:
    """The commits of one client. ``error`` is what the last one failed with, or None.

    ``on_error`` is called when that changes: with the error, and with None once the disk has
    taken everything that waited. ``is_broken``: it stopped by a fault of collab itself, and nothing
    is saved any more.
    """

    def __init__(
        self,
        documents: Documents,
        *,
        on_error: Callable[[CollabError | None], None],
        retry_pauses_s: Sequence[float] = _RETRY_PAUSES_S,
    ) -> None:
        self._documents = documents
        self._on_error = on_error
        self._pauses = retry_pauses_s
        self._dirty: dict[RoomQueue, None] = {}
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self.error: CollabError | None = None
        self.is_broken = False

    def wake(self, queue: RoomQueue) -> None:
        """``queue`` has something."""
        if queue not in self._dirty:
            self._dirty[queue] = None
            self._wake.set()

    async def run(self) -> None:
        """Commit until ``close``. Exactly one task runs this."""
        try:
            await self._commit_all()
        except CollabError:
            raise  # the disk, to the end
        except Exception as error:
            self.is_broken = True
            self.error = LocalError(
                f"Nothing is saved any more, by a fault of collab itself ({error!r}). What was "
                f"saved is on disk; what was edited since is in memory. Copy what you need of it, "
                f"then close the client and open it again."
            )
            self._on_error(self.error)
            raise

    async def _commit_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = self._dirty, {}
            if dirty:
                was_refused = await self._commit([queue.take() for queue in dirty])
                if not (was_refused and self._dirty):  # else the next has what waited meanwhile
                    self._set_error(None)
            del dirty  # or this would keep closed rooms alive until the next commit
            if self._closing.is_set() and not self._dirty:
                return

    def close(self) -> None:
        """Let ``run`` end once everything is on the disk, or the disk refuses it once more."""
        self._closing.set()
        self._wake.set()

    async def _commit(self, taken: list[Taken]) -> bool:
        """Store these; whether the disk refused at first."""
        failures = 0
        while True:
            try:
                ids = await self._documents.append([one.batch for one in taken])
            except CollabError as error:
                self._set_error(error)
                if self._closing.is_set():
                    raise
                pause = self._pauses[min(failures, len(self._pauses) - 1)]
                failures += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._closing.wait()
                continue
            break
        for one, rows in zip(taken, ids, strict=True):
            one.queue.committed(one, rows)
        return failures > 0

    def _set_error(self, error: CollabError | None) -> None:
        changed = (error is None) != (self.error is None)
        self.error = error
        if changed:
            self._on_error(error)
