"""The relay's replicas: which rooms the worker holds, and what happens when it dies of one.

Invariants
1. A replica in the worker was fed the room's log in its order, without a hole. When that cannot be
   kept (a full buffer, a death), the replica is dropped and loaded anew at the next question.
2. An answer reflects the log up to the offset that comes with it, and no more: everything that was
   fed before the question, or, of a replica that had to be loaded for it, what was there by then.
3. A room during whose commands the worker died ``MAX_DEATHS`` times gets no further command.
4. Every room that is not in ``_rooms`` is not in the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from collab.errors import Closed
from collab_server.worker_link import WORKER_MODULE, ReplicaFailed, WorkerDied, WorkerLink
from collab_server.worker_protocol import Message, Tag

__all__ = ["Contents", "Quarantined", "Reload", "ReplicaFailed", "Replicas", "WorkerDied"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Contents:
    """A room's snapshot and the updates after it: all of its log up to ``offset``, and no more."""

    snapshot: bytes | None
    updates: Sequence[bytes]
    offset: int


Reload = Callable[[int], Awaitable[Contents]]
"""Of a room's id: at least everything that was appended to its log before the call, committed or
not."""

MAX_DEATHS: Final = 2  # once may be chance: the kernel short of memory, an operator's kill
MEMORY_PER_BYTE: Final = 12  # what an engine keeps in memory for a byte of an encoded document
DEFAULT_MEMORY_BYTES: Final = 512 * 1024 * 1024
MAX_FED_BYTES: Final = 32 * 1024 * 1024  # fed and not taken by the worker yet
MAX_BACKLOG_BYTES: Final = 8 * 1024 * 1024  # of one room, fed while it is read from the log
MAX_RELOADS: Final = 4  # at once: each has a document in memory
STALL_TIMEOUT_S: Final = 60.0  # ten times what the largest document takes to load
STOP_TIMEOUT_S: Final = 2.0  # for a worker to end by itself when the relay does
RESTART_PAUSES_S: Final = (0.0, 0.1, 0.5, 2.0, 5.0)  # after deaths with no answer in between


class Quarantined(Exception):
    """The worker died of this room before; it gets no further command. Its log is untouched."""


@dataclass(slots=True)
class _Room:
    encoded_bytes: int = 0
    questions: int = 0  # under way; such a room is not dropped for the budget's sake
    loaded: asyncio.Event = field(default_factory=asyncio.Event)  # or given up: look again
    backlog: list[tuple[int, bytes]] | None = None  # offset, update: fed while the log is read
    backlog_bytes: int = 0


class Replicas:
    """Rooms by id. Belongs to one event loop; ``start`` and ``close`` belong to one owner."""

    def __init__(
        self,
        *,
        reload: Reload,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        restart_pauses_s: Sequence[float] = RESTART_PAUSES_S,
        worker_module: str = WORKER_MODULE,
    ) -> None:
        self._reload = reload
        self._memory_bytes = memory_bytes
        self._stall_timeout_s = stall_timeout_s
        self._restart_pauses_s = restart_pauses_s
        self._worker_module = worker_module
        self._rooms: OrderedDict[int, _Room] = OrderedDict()  # the last is the last that was asked
        self._encoded_bytes = 0
        self._deaths: Counter[int] = Counter()
        self._reloads = asyncio.Semaphore(MAX_RELOADS)
        self._link: asyncio.Future[WorkerLink] | None = None
        self._current: WorkerLink | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._answered = False
        self._closed = False

    # --- the worker's lives ------------------------------------------------------------------

    async def start(self) -> None:
        """Start the worker. Raises ``WorkerDied`` or ``OSError`` when this machine cannot."""
        assert self._supervisor is None, "started once"
        self._link = asyncio.get_running_loop().create_future()
        link = await WorkerLink.start(self._worker_module)
        self._begin(link)
        self._supervisor = asyncio.create_task(self._supervise(link), name="replicas")

    async def close(self) -> None:
        """End the worker. Questions that are open raise ``WorkerDied``, later ones ``Closed``."""
        self._closed = True
        if self._supervisor is None:
            return
        if self._current is not None:
            self._current.stop()
        await asyncio.wait([self._supervisor], timeout=STOP_TIMEOUT_S)
        self._supervisor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._supervisor

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id; None between two lives."""
        return None if self._current is None else self._current.pid

    async def _supervise(self, link: WorkerLink) -> None:
        pauses = 0
        try:
            while True:
                await self._live(link)
                if self._closed:
                    return
                pauses = 0 if self._answered else min(pauses + 1, len(self._restart_pauses_s) - 1)
                await asyncio.sleep(self._restart_pauses_s[pauses])
                link = await self._start_again()
                self._begin(link)
        finally:
            self._settle(WorkerDied("the replica worker is not started again"))

    def _begin(self, link: WorkerLink) -> None:
        """From here on commands may be sent to this worker."""
        assert self._link is not None
        self._answered = False
        self._current = link
        self._link.set_result(link)

    async def _live(self, link: WorkerLink) -> None:
        """One life, and the clearing up after it."""
        try:
            blamed = await link.run(stall_timeout_s=self._stall_timeout_s)
        finally:
            self._current = None
            self._link = asyncio.get_running_loop().create_future()
            for room in self._rooms.values():
                room.loaded.set()
            self._rooms.clear()
            self._encoded_bytes = 0
        if self._closed:
            return
        if blamed is None:
            logger.warning("the replica worker died while it was idle; it is started again")
        else:
            self._deaths[blamed] += 1
            logger.warning("the replica worker died of room %d; it is started again", blamed)

    async def _start_again(self) -> WorkerLink:
        while True:
            try:
                return await WorkerLink.start(self._worker_module)
            except (WorkerDied, OSError) as error:
                self._settle(WorkerDied(f"the replica worker cannot be started: {error}"))
                self._link = asyncio.get_running_loop().create_future()
                await asyncio.sleep(self._restart_pauses_s[-1])

    def _settle(self, error: WorkerDied) -> None:
        """Tell those who wait for a worker that there is none."""
        if self._link is not None and not self._link.done():
            self._link.set_exception(error)
            self._link.exception()  # there may be nobody to whom it matters

    # --- rooms -------------------------------------------------------------------------------

    def is_loaded(self, room_id: int) -> bool:
        """Whether the worker holds this room, or is being given it."""
        return room_id in self._rooms

    def is_quarantined(self, room_id: int) -> bool:
        """Whether the worker died of this room too often."""
        return self._deaths[room_id] >= MAX_DEATHS if room_id in self._deaths else False

    def feed(self, room_id: int, offset: int, update: bytes) -> None:
        """Pass an update of the log on, in the log's order. Does nothing for a room not loaded."""
        room = self._rooms.get(room_id)
        if room is None:
            return
        if room.backlog is not None:
            room.backlog_bytes += len(update)
            if room.backlog_bytes <= MAX_BACKLOG_BYTES:
                room.backlog.append((offset, update))
            else:
                room.backlog.clear()  # it has a hole now, and will not be used
            return
        link = self._current
        if link is None or link.fed_bytes + len(update) > MAX_FED_BYTES:
            self.drop(room_id)  # the log has it; better asked for again than kept here
            return
        link.feed(room_id, offset, update)
        self._grow(room, len(update))

    async def difference(
        self, room_id: int, state_vector: bytes, *, timeout: float
    ) -> tuple[int, bytes]:
        """An offset, and what a replica with ``state_vector`` (lib0, guarded) lacks up to it.

        Raises ``TimeoutError`` after ``timeout`` seconds, ``WorkerDied``, ``ReplicaFailed`` (the
        guard or the engine refused something in the log), ``Quarantined``, ``Closed``.
        """
        async with asyncio.timeout(timeout):
            answer = await self._question(room_id, Tag.DIFFERENCE, state_vector)
        return answer.offset, answer.blobs[0]

    async def snapshot(self, room_id: int) -> tuple[int, bytes, bytes]:
        """An offset, the whole room up to it as one update, and the bytes of its ``Coverage``.

        It holds everything that was fed before the call, or this raises ``ReplicaFailed``: what
        the log deletes on the strength of it is in it. Otherwise raises as ``difference`` does.
        """
        answer = await self._question(room_id, Tag.SNAPSHOT)
        snapshot, coverage = answer.blobs
        room = self._rooms.get(room_id)
        if room is not None:
            self._grow(room, len(snapshot) - room.encoded_bytes)
        return answer.offset, snapshot, coverage

    def drop(self, room_id: int) -> None:
        """Let go of a room. The next question loads it again."""
        if self._forget(room_id) and self._current is not None:
            self._current.send(Message(Tag.DROP, room_id))

    # --- how -----------------------------------------------------------------------------------

    async def _worker(self, room_id: int) -> WorkerLink:
        while True:
            if self._closed:
                raise Closed("the relay's replicas were closed; the log has everything")
            if self.is_quarantined(room_id):
                raise Quarantined(f"the replica worker died {MAX_DEATHS} times of this room")
            if self._link is None:
                raise RuntimeError("start() comes first")
            if self._current is not None:
                return self._current
            await asyncio.shield(self._link)

    async def _question(self, room_id: int, tag: Tag, *blobs: bytes) -> Message:
        while True:
            link = await self._worker(room_id)
            room = self._rooms.get(room_id)
            if room is None:
                room = await self._load_again(room_id)
            elif room.backlog is not None:
                await room.loaded.wait()
                continue
            if room is not None and self._rooms.get(room_id) is room and link is self._current:
                return await self._ask(link, room_id, room, tag, *blobs)

    async def _load_again(self, room_id: int) -> _Room | None:
        """Read a room from the log into the worker; None if the world changed meanwhile."""
        room = self._rooms[room_id] = _Room(backlog=[])
        try:
            async with self._reloads:
                contents = await self._reload(room_id)
            link = self._current
            if link is None or self._rooms.get(room_id) is not room:
                return None
            if room.backlog_bytes > MAX_BACKLOG_BYTES:
                return None
            self._fill(link, room_id, room, contents)
            return room
        finally:
            if room.backlog is not None and self._rooms.get(room_id) is room:
                self._forget(room_id)
            room.loaded.set()

    def _fill(self, link: WorkerLink, room_id: int, room: _Room, contents: Contents) -> None:
        """Everything that a replica is made of, in the log's order."""
        assert room.backlog is not None
        parts, place = [*contents.updates], contents.offset
        if contents.snapshot is not None:
            parts.insert(0, contents.snapshot)
        for offset, update in room.backlog:
            if offset > place:
                parts.append(update)
                place = offset
        link.open(room_id, place, parts)
        room.backlog, room.backlog_bytes = None, 0
        room.loaded.set()
        self._rooms.move_to_end(room_id)
        self._grow(room, sum(map(len, parts)))

    async def _ask(
        self, link: WorkerLink, room_id: int, room: _Room, tag: Tag, *blobs: bytes
    ) -> Message:
        room.questions += 1
        self._rooms.move_to_end(room_id)
        try:
            answer = await link.ask(tag, room_id, *blobs)
        except ReplicaFailed as error:
            if error.dropped and self._rooms.get(room_id) is room:
                self.drop(room_id)
            raise
        finally:
            room.questions -= 1
            self._trim()
        self._answered = True
        return answer

    def _grow(self, room: _Room, by: int) -> None:
        room.encoded_bytes += by
        self._encoded_bytes += by
        self._trim()

    def _trim(self) -> None:
        """Drop rooms that nobody asks about, the longest unasked first, down to the budget.

        The room that was asked last stays, whatever its size.
        """
        if self._encoded_bytes * MEMORY_PER_BYTE <= self._memory_bytes:
            return
        for room_id, room in list(self._rooms.items())[:-1]:
            if room.questions == 0 and room.backlog is None:
                self.drop(room_id)
            if self._encoded_bytes * MEMORY_PER_BYTE <= self._memory_bytes:
                return

    def _forget(self, room_id: int) -> bool:
        room = self._rooms.pop(room_id, None)
        if room is None:
            return False
        self._encoded_bytes -= room.encoded_bytes
        room.loaded.set()
        return True
