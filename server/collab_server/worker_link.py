"""One life of the worker process: its pipes, its questions, and whose command ended it.

Invariants
1. Messages reach the worker in the order of ``send`` and ``ask``.
2. A question ends once: with its answer, with ``ReplicaFailed``, or with ``WorkerDied``.
3. After ``run()`` returned, no question is open and the process is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import mmap
import os
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from collab_server.worker_protocol import (
    HEADER,
    MARKER_BYTES,
    NOBODY,
    PART_BYTES,
    Decoder,
    Message,
    PipeError,
    Tag,
    encode,
    frame_length,
    group,
)

__all__ = ["WORKER_MODULE", "ReplicaFailed", "WorkerDied", "WorkerLink"]

WORKER_MODULE: Final = "collab_server.replica_worker"
START_TIMEOUT_S: Final = 30.0  # loading the engine takes a tenth of a second on an idle machine
MAX_JOINED: Final = 1000  # updates of one room that go as one message
MAX_JOINED_BYTES: Final = PART_BYTES // 2  # it still fits one frame, with the headers of its blobs
_CLOCK_TICKS: Final = 4  # looks at the marker within one stall timeout


class WorkerDied(Exception):
    """The worker process ended before it answered. The log has everything; ask again."""


class ReplicaFailed(Exception):
    """The worker lives, but this replica could not do it; the text says why.

    ``dropped``: the replica refused something of the log and is gone. Otherwise only the question
    was refused.
    """

    def __init__(self, reason: str, *, dropped: bool) -> None:
        super().__init__(reason)
        self.dropped = dropped


@dataclass(slots=True)
class _Queued:
    """A message that waits for the pipe. A FEED may still be joined by more ``updates``."""

    message: Message
    updates: list[bytes] = field(default_factory=list)
    fed_bytes: int = 0
    offset: int = 0

    def takes(self, room_id: int, update: bytes) -> bool:
        return (
            self.message.room == room_id
            and 0 < len(self.updates) < MAX_JOINED
            and self.fed_bytes + len(update) <= MAX_JOINED_BYTES
        )

    def take(self, offset: int, update: bytes) -> None:
        self.updates.append(update)
        self.fed_bytes += len(update)
        self.offset = offset

    def whole(self) -> Message:
        if not self.updates:
            return self.message
        return replace(self.message, offset=self.offset, blobs=self.updates)


class WorkerLink:
    """A worker process. Make it with ``start``; ``run`` is its life."""

    def __init__(self, process: asyncio.subprocess.Process, marker: _Marker) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._marker = marker
        self._outbox: deque[_Queued] = deque()
        self._fed_bytes = 0
        self._wake = asyncio.Event()
        self._questions: dict[int, asyncio.Future[Message]] = {}
        self._numbers = itertools.count(1)
        self._ended = False

    @classmethod
    async def start(cls, module: str = WORKER_MODULE) -> WorkerLink:
        """Start a worker. Raises ``WorkerDied`` or ``OSError`` if it does not come up."""
        marker = _Marker()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the working directory is no place to import from
                "-m",
                module,
                marker.path,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=2 * PART_BYTES,
                env=_environment(),
                process_group=0,  # Ctrl-C is for the relay, also while the worker still starts
            )
        except BaseException:
            marker.close()
            raise
        link = cls(process, marker)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                ready = Decoder().decode(await link._frame())
            if ready is None or ready.tag is not Tag.READY:
                raise PipeError("a worker that does not say that it is ready")  # noqa: TRY301
        except (TimeoutError, asyncio.IncompleteReadError, PipeError) as error:
            await link._end()
            raise WorkerDied("the replica worker did not start") from error
        except BaseException:
            await link._end()
            raise
        marker.unlink()
        return link

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def fed_bytes(self) -> int:
        """Bytes of ``feed`` that wait for the pipe."""
        return self._fed_bytes

    def send(self, message: Message) -> None:
        """Queue a command without an answer. Does nothing once the worker has ended."""
        if not self._ended:
            self._outbox.append(_Queued(message))
            self._wake.set()

    def open(self, room_id: int, offset: int, updates: Sequence[bytes]) -> None:
        """Queue a new replica that is made of these updates: all of its log up to ``offset``."""
        self.send(Message(Tag.OPEN, room_id))
        for some in group(updates):
            self.send(Message(Tag.FEED, room_id, offset=offset, blobs=some))

    def feed(self, room_id: int, offset: int, update: bytes) -> None:
        """Queue an update for a replica; what one turn feeds to one room goes as one message."""
        if self._ended:
            return
        self._fed_bytes += len(update)
        last = self._outbox[-1] if self._outbox else None
        if last is None or not last.takes(room_id, update):
            last = _Queued(Message(Tag.FEED, room_id))
            self._outbox.append(last)
            self._wake.set()
        last.take(offset, update)

    async def ask(self, tag: Tag, room_id: int, *blobs: bytes) -> Message:
        """The worker's answer. Raises ``ReplicaFailed`` or ``WorkerDied``."""
        if self._ended:
            raise WorkerDied("the replica worker ended")
        number = next(self._numbers)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        self.send(Message(tag, room_id, number, blobs=blobs))
        try:
            return await answer
        finally:
            self._questions.pop(number, None)

    async def run(self, *, stall_timeout_s: float) -> int | None:
        """Serve the pipes until the worker dies; the room of the command that it died of.

        A command that takes longer than ``stall_timeout_s`` seconds is ended with the worker; so is
        a worker that begins none for so long, although it is asked something.
        """
        tasks = [
            asyncio.create_task(self._write()),
            asyncio.create_task(self._watch(stall_timeout_s)),
        ]
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, PipeError, OSError):
                await self._read()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            blamed = await self._end()
        return blamed

    def stop(self) -> None:
        """Close the worker's stdin: it ends after what it was sent, and so does ``run``."""
        self._stdin.close()

    async def _end(self) -> int | None:
        self._ended = True
        self._outbox.clear()
        self._fed_bytes = 0
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._stdin.close()
        room = self._marker.room
        self._marker.close()
        for answer in self._questions.values():
            if not answer.done():
                answer.set_exception(WorkerDied("the replica worker ended"))
        return None if room == NOBODY else room

    async def _frame(self) -> bytes:
        header = await self._stdout.readexactly(HEADER.size)
        return await self._stdout.readexactly(frame_length(header))

    async def _read(self) -> None:
        decoder = Decoder()
        while True:
            arrived = decoder.decode(await self._frame())
            if arrived is None or arrived.number not in self._questions:
                continue  # not complete yet, or whoever asked has gone
            large = arrived.is_large
            message = await asyncio.to_thread(arrived.whole) if large else arrived.whole()
            answer = self._questions.get(message.number)
            if answer is None or answer.done():
                continue
            if message.tag in (Tag.FAILED, Tag.REFUSED):
                dropped = message.tag is Tag.FAILED
                reason = b"".join(message.blobs).decode(errors="replace")
                answer.set_exception(ReplicaFailed(reason, dropped=dropped))
            else:
                answer.set_result(message)

    async def _write(self) -> None:
        """Bytes to the pipe: what is small in one go, what is large in pieces with a pause."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                small: list[bytes] = []
                size = 0
                while self._outbox:
                    queued = self._outbox.popleft()
                    self._fed_bytes -= queued.fed_bytes
                    for frame in encode(queued.whole()):
                        small.append(frame)
                        size += len(frame)
                        if size >= PART_BYTES:
                            await self._flush(small)
                            small, size = [], 0
                await self._flush(small)
        except OSError:
            return  # the reader sees the same end, and acts on it

    async def _flush(self, frames: Sequence[bytes]) -> None:
        if frames:
            self._stdin.write(b"".join(frames))
            await self._stdin.drain()

    async def _watch(self, stall_timeout_s: float) -> None:
        stuck, looks = -1, 0
        while True:
            await asyncio.sleep(stall_timeout_s / _CLOCK_TICKS)
            begun = self._marker.begun
            owes = self._marker.room != NOBODY or bool(self._questions)
            looks = looks + 1 if begun == stuck and owes else 0
            stuck = begun
            if looks >= _CLOCK_TICKS:
                self._process.kill()
                return


class _Marker:
    """Memory shared with the worker: the room of its present command, and how many it began.

    Two words in a file that has no name once the worker has opened it. Not a message on the pipe:
    it must cost a feed nothing, and be true at the moment of a SIGKILL.
    """

    def __init__(self) -> None:
        in_memory = Path("/dev/shm")  # noqa: S108 - a file of its own there; a full disk is no matter
        descriptor, self.path = tempfile.mkstemp(
            prefix="collab-marker-", dir=in_memory if in_memory.is_dir() else None
        )
        try:
            # Written, not only reserved: a page without a block is a SIGBUS on a full disk.
            os.write(descriptor, NOBODY.to_bytes(8, sys.byteorder, signed=True) + bytes(8))
            self._memory = mmap.mmap(descriptor, MARKER_BYTES)
        except BaseException:
            self.unlink()
            raise
        finally:
            os.close(descriptor)
        self._words = memoryview(self._memory).cast("q")

    @property
    def room(self) -> int:
        return self._words[0]

    @property
    def begun(self) -> int:
        return self._words[1]

    def unlink(self) -> None:
        with contextlib.suppress(OSError):  # Windows: in use; ``close`` tries again
            os.unlink(self.path)

    def close(self) -> None:
        self._words.release()
        self._memory.close()
        self.unlink()


def _environment() -> dict[str, str]:
    """Ours, and the places where this process finds its modules: the worker must find the same."""
    places = [place or os.getcwd() for place in sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
