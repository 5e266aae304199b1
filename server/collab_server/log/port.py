"""What the relay asks of a log: the durable record of every room's updates.

Numbered rules; every log keeps them, and ``tests/unit/server/test_log_sqlite.py`` asks each one.

1. An offset is given out in memory by ``next_offset()`` and is appended in the same turn of the
   event loop: no await in between. Offsets rise over the whole log and are not gap-free. They never
   fall, whatever was compacted or deleted.
2. ``append`` does no I/O. All that is queued when a commit begins is one transaction; what
   arrives while it runs is the next one. There is no timer.
3. ``on_commit`` callbacks run on the event loop, after the commit, never before it.
4. A commit that fails drops nothing: it is tried again, and acks wait.
5. Each start persists a fresh generation and the offset it starts from before anything is served.
   An offset is good if its generation is known and it is not beyond the start of the next one.
6. A snapshot is written only when every update up to its offset is durable, and it never
   replaces a newer one.
7. A deletion is one transaction, after everything that was queued before it: the room, its snapshot
   and its updates go, and its epoch stays known as that of a deleted room of its name. It is tried
   again like a commit. From the call on nothing is appended to the room, nobody opens it, and no
   snapshot that was on its way brings it back.
8. No room is made under the epoch of a deleted room of its name. The id of a room is never given to
   another one.

Messages, lanes and marks have rules of their own: ``chat_port``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from collab_server.log.chat_port import ChatLog

__all__ = [
    "MAX_UNCOMMITTED_BYTES",
    "MAX_UNCOMMITTED_ENTRIES",
    "RETRY_PAUSES_S",
    "CommitCallback",
    "Log",
    "RoomDeleted",
    "RoomRow",
    "StoredRoom",
]

MAX_UNCOMMITTED_BYTES: Final = 8 * 1024 * 1024  # what a crash may take from those who saw it
MAX_UNCOMMITTED_ENTRIES: Final = 65_536  # small updates cost more in objects than in bytes
RETRY_PAUSES_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # a disk that filled up is freed by people

CommitCallback = Callable[[int, frozenset[int]], None]
"""Called with (every offset up to this one is durable, ids of the rooms that have new rows)."""


class RoomDeleted(Exception):
    """This ``epoch`` is that of a room of this ``name`` that was deleted."""

    def __init__(self, name: str, epoch: bytes) -> None:
        super().__init__(name, epoch)
        self.name = name
        self.epoch = epoch


@dataclass(frozen=True, slots=True)
class RoomRow:
    """A room as the log knows it. Rows with an offset up to ``base`` were compacted away."""

    id: int
    name: str
    epoch: bytes
    base: int


@dataclass(frozen=True, slots=True)
class StoredRoom:
    """What a replica is made of: the snapshot, then the updates after ``snapshot_offset``.

    ``coverage`` is what the writer of the snapshot gave with it (see ``Log.compact``).
    """

    snapshot: bytes | None
    snapshot_offset: int
    coverage: bytes | None
    updates: Sequence[tuple[int, bytes]]
    base: int


class Log(Protocol):
    """The port. Every method belongs to the thread of one event loop."""

    @property
    def relay_id(self) -> bytes:
        """16 random bytes, made when the log was created; a restored backup has them too."""

    @property
    def generation(self) -> bytes:
        """The 16 random bytes that name this run of a relay on this log."""

    @property
    def head(self) -> int:
        """The highest offset that was given out; 0 in an empty log."""

    @property
    def committed(self) -> int:
        """Every offset up to this one is durable, or was never used."""

    @property
    def uncommitted_bytes(self) -> int:
        """Bytes that were appended and are not durable yet."""

    @property
    def chat(self) -> ChatLog:
        """Messages, lanes and marks: committed with the updates, in the same transactions."""

    @property
    def failing(self) -> Exception | None:
        """The error of the last commit, for example ``DiskFull``; None when it succeeded.

        Or what ended ``run()``: then nothing is committed before ``close()``.
        """

    def next_offset(self) -> int:
        """Give out the next offset. Append under it before the next await, or not at all."""

    def is_good(self, generation: bytes, offset: int) -> bool:
        """Whether this log still has everything up to ``offset`` as ``generation`` gave it."""

    def append(self, room_id: int, offset: int, data: bytes) -> None:
        """Queue an update for the next commit. Raises ``Closed`` after ``close()``.

        Raises ``ValueError`` for an offset out of order and for a room that is being deleted.
        """

    def on_commit(self, callback: CommitCallback) -> Callable[[], None]:
        """Call ``callback`` after each commit that left updates; returns how to stop that.

        A callback must not raise: what it raises ends ``run()``.
        """

    async def run(self) -> None:
        """Commit what is queued, until ``close()``. Exactly one task runs this."""

    async def wait_for_room(self) -> None:
        """Return when the uncommitted tail is below its bound: what a writer awaits."""

    async def open_room(self, name: str, *, epoch: bytes) -> RoomRow:
        """The stored room of this name, or a new one of this epoch, durable when this returns.

        Raises ``RoomDeleted`` if there is none, and one of this epoch was deleted. Needs ``run()``.
        While the disk takes nothing, a new room waits; a known one does not.
        """

    async def find_room(self, name: str) -> RoomRow | None:
        """The stored room of this name."""

    async def delete_room(self, room_id: int, *, now_ms: int) -> None:
        """Delete a room; that is durable when this returns. Does nothing for an unknown id.

        Cancelling this does not stop it. ``now_ms`` is kept for people who read the file. Needs
        ``run()``; raises ``Closed`` if the log is closed before it is known to be durable.
        """

    async def is_deleted(self, name: str, epoch: bytes) -> bool:
        """Whether a room of this name and epoch was deleted."""

    async def load(self, room_id: int) -> StoredRoom:
        """The durable part of a room. Raises ``KeyError`` for an unknown id.

        Rows that are queued are not in it: their writer has them.
        """

    async def read(self, room_id: int, after: int, limit_bytes: int) -> list[tuple[int, bytes]]:
        """Durable updates beyond ``after``, oldest first: about ``limit_bytes``, at least one.

        An ``after`` below the room's base has lost its successors; a difference is needed then.
        """

    async def compact(
        self,
        room_id: int,
        snapshot: bytes,
        offset: int,
        *,
        keep_after: int,
        coverage: bytes | None = None,
    ) -> bool:
        """Make ``snapshot`` stand for every update of the room up to ``offset``.

        In one transaction, after every update up to ``offset`` is durable: the snapshot is
        written and the updates up to ``min(offset, keep_after)`` are deleted. False when a newer
        snapshot is stored already, or the room was deleted. Raises what the disk raised
        (``DiskFull``): then everything is as it was, and nothing is tried again. Needs ``run()``.
        """

    async def close(self) -> None:
        """Commit what is queued and close. Raises what the last commit raised, once closed."""
