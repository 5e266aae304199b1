"""What waits to be stored of one room's chat, in order.

The machine's decisions must be stored; the program's acts may fail. All that waits goes in one
transaction; what arrives meanwhile is the next one. When the disk refuses, an act raises, and is
forgotten; the decisions are tried again until the disk takes them.

Invariants
1. All is stored in the order in which it was given, and what came of it is told in that order.
2. An act that raises has stored nothing, and harms nobody who shares its transaction.
3. After ``close`` nothing more is given to the disk. What is with it is told as it ended, also
   when the task is cancelled: who hears that nothing was stored sends it again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from collab.errors import Closed, CollabError
from collab.protocol.chat_changes import Change
from collab.storage.chat_work import Stored
from collab.storage.database import Connection
from collab.storage.message_changes import carry_out

__all__ = ["Ledger"]

R = TypeVar("R")
Act = Callable[[Connection], Any]


class Write(Protocol):
    """Runs a function as one transaction: ``Messages.write``."""

    def __call__(self, transact: Callable[[Connection], R], /) -> Awaitable[R]: ...


@dataclass(eq=False, slots=True)
class _Asked:
    """An act of the program, who waits for it, and what is to be done with its result."""

    act: Act
    then: Callable[[Any], None]
    failed: Callable[[], None]
    answer: asyncio.Future[Any]

    def fail(self, error: CollabError) -> None:
        if not self.answer.done():
            self.failed()
            self.answer.set_exception(error)
            self.answer.exception()  # whoever waited may be gone


@dataclass(frozen=True, slots=True)
class _Failed:
    error: CollabError


class Ledger:
    """The writes of one room's chat. ``error`` is what the last one failed with, or None.

    ``on_stored`` is called with every change and what it came to, ``on_error`` when ``error``
    changes. ``run`` owns a task.
    """

    def __init__(
        self,
        room_id: int,
        write: Write,
        *,
        run: Callable[[Coroutine[Any, Any, None]], object],
        on_stored: Callable[[Change, Stored], None],
        on_error: Callable[[CollabError | None], None],
        retry_pauses_s: Sequence[float],
    ) -> None:
        self._room_id = room_id
        self._write = write
        self._run = run
        self._on_stored = on_stored
        self._on_error = on_error
        self._pauses = retry_pauses_s
        self._items: list[Change | _Asked] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._refusing = asyncio.Event()  # the disk took nothing at the last try
        self._busy = 0  # changes that wait or are on their way
        self.closed = False
        self.error: CollabError | None = None

    @property
    def pending(self) -> int:
        """How many decisions are not on the disk."""
        return self._busy

    def put(self, changes: Sequence[Change]) -> None:
        """Decisions of the machine."""
        if changes and not self.closed:
            self._busy += len(changes)
            self._items += changes
            self._start()

    async def ask(
        self,
        act: Callable[[Connection], R],
        then: Callable[[R], None],
        failed: Callable[[], None] = lambda: None,
    ) -> R:
        """Run ``act`` in a transaction, after all that was given before.

        Then ``then`` is called with what it returned, or ``failed``.

        It runs to its end, also if the caller is cancelled. Raises what ``act`` raises, and what
        ``Database.write`` raises.
        """
        if self.closed:
            raise Closed("The room was closed; nothing was stored. Open it again.")
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._items.append(_Asked(act, then, failed, answer))
        self._start()
        return await asyncio.shield(answer)

    async def settled(self) -> None:
        """Return when nothing waits. Back-pressure for what comes from the network."""
        await self._idle.wait()

    async def flush(self) -> None:
        """Return when nothing waits, or the disk takes nothing now."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._idle, self._refusing)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    def close(self) -> None:
        """Store no more; what is with the disk already is stored to its end."""
        self._end(Closed("The room was closed before this was stored. Open it again."))

    def _end(self, error: CollabError) -> None:
        self.closed = True
        for item in self._items:
            if isinstance(item, _Asked):
                item.fail(error)
        self._items = []
        self._wake.set()

    # The task

    def _start(self) -> None:
        self._wake.set()
        if self._idle.is_set():
            self._idle.clear()
            self._run(self._store_all())

    async def _store_all(self) -> None:
        """Store until nothing waits."""
        batch: list[Change | _Asked] = []
        failures = 0
        try:
            while self._items:
                self._wake.clear()
                batch, self._items = self._items, []
                try:
                    results = await self._written(batch)
                except CollabError as error:
                    self._refused(batch, error)
                    self._refusing.set()
                    await self._pause(failures)
                    failures += 1
                else:
                    failures = 0
                    self._refusing.clear()
                    self._tell(batch, results)
                    self._set_error(None)
        except BaseException as error:
            # The client closes; or a fault of the program, on which nothing may be built.
            self._items = [*batch, *self._items]
            if isinstance(error, asyncio.CancelledError):
                self.close()
            else:
                fault = Closed(
                    f"The chat of this room stopped by a fault of collab itself ({error!r}). What "
                    f"was saved is on disk. Open the room again."
                )
                self._end(fault)
                self._set_error(fault)
            raise
        finally:
            self._idle.set()

    async def _written(self, batch: Sequence[Change | _Asked]) -> list[Any]:
        """What the transaction of ``batch`` comes to."""
        writing = asyncio.ensure_future(self._write(self._work_of(batch)))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            self.close()
            await asyncio.wait([writing])
            error = writing.exception()
            if error is None:
                self._tell(batch, writing.result())
            elif isinstance(error, CollabError):
                self._refused(batch, error)
            raise

    def _work_of(self, batch: Sequence[Change | _Asked]) -> Callable[[Connection], list[Any]]:
        works: list[Act] = [
            partial(_try, act=item.act)
            if isinstance(item, _Asked)
            else partial(carry_out, room_id=self._room_id, change=item)
            for item in batch
        ]
        return partial(_run, works)

    def _tell(self, batch: Sequence[Change | _Asked], results: Sequence[Any]) -> None:
        for item, result in zip(batch, results, strict=True):
            if not isinstance(item, _Asked):
                self._busy -= 1
                if not self.closed:
                    self._on_stored(item, result)
            elif isinstance(result, _Failed):
                item.fail(result.error)
            else:
                if not self.closed:
                    item.then(result)
                if not item.answer.done():
                    item.answer.set_result(result)

    def _refused(self, batch: Sequence[Change | _Asked], error: CollabError) -> None:
        kept: list[Change | _Asked] = []
        for item in batch:
            if isinstance(item, _Asked):
                item.fail(error)
            else:
                kept.append(item)
        if not self.closed:
            self._items = kept + self._items
            if kept:  # an act that failed alone says so itself
                self._set_error(error)

    async def _pause(self, failures: int) -> None:
        """Wait before the next try; an act that comes meanwhile is tried at once."""
        if not self._items:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pauses[min(failures, len(self._pauses) - 1)]):
                await self._wake.wait()

    def _set_error(self, error: CollabError | None) -> None:
        changed = (error is None) != (self.error is None)
        self.error = error
        if changed:
            self._on_error(error)


def _run(works: list[Act], connection: Connection) -> list[Any]:
    """What each of these comes to."""
    try:
        return [work(connection) for work in works]
    finally:
        works.clear()  # the writer's thread keeps its last function, and with it a closed room


def _try(connection: Connection, act: Act) -> Any:
    """What ``act`` returns, or the error with which it stored nothing."""
    connection.execute("SAVEPOINT act")
    try:
        result = act(connection)
    except CollabError as error:
        connection.execute("ROLLBACK TO act")
        result = _Failed(error)
    connection.execute("RELEASE act")
    return result
