"""A program in the background: going to sleep, and one bounded moment of sync in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from collab.connection import Connection, ConnectionStatus, State
from collab.errors import Closed, CollabError
from collab.room import Room

if TYPE_CHECKING:
    from collab.client import Client

__all__ = ["SyncReport", "suspend", "sync_once"]

logger = logging.getLogger(__name__)

_ROOMS_AT_ONCE: Final = 16  # opened for this alone: each has its document in memory
_GOODBYE_S: Final = 1.0  # at most, of the deadline: to end the connection in good order


async def suspend(client: Client, connection: Connection | None, deadline_s: float) -> None:
    """Save, close the connection, stop every timer; done within ``deadline_s``.

    Raises what the disk says, or TimeoutError, if some edits are not saved by then.
    """
    until = asyncio.get_running_loop().time() + deadline_s
    try:
        async with asyncio.timeout_at(until - min(_GOODBYE_S, deadline_s / 5)):
            await _saved(client)
    except TimeoutError:
        raise client._saver.error or TimeoutError(
            f"Some edits were not on the disk within {deadline_s:g} s. They are in memory and are "
            f"saved as soon as the disk takes them; the connection is suspended."
        ) from None
    finally:
        if connection is not None:
            connection.suspend()
            await connection.rested(until)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):  # what came of the chats
                    for room in client._rooms.all():
                        await room._chat.flush()


async def _saved(client: Client) -> None:
    """Return when all that was edited until now is on the disk."""
    for room in client._rooms.all():
        with suppress(Closed):  # it was forgotten, or replaced, meanwhile; the others wait too
            await room._local.wait_saved()


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one moment managed. ``complete``: nothing of this device waits, and it is caught up.

    ``rooms_level`` of ``rooms`` were level with the relay. ``updates_sent`` were acked and
    ``messages_sent`` decided by it meanwhile; ``updates_left`` and ``messages_left`` wait, saved.
    Of a room with many new messages the newest came; ``room.status.gaps`` shows the rest.
    ``reason`` is a sentence.
    """

    complete: bool
    reason: str
    took_s: float
    rooms: int
    rooms_level: int
    updates_sent: int
    updates_left: int
    messages_sent: int
    messages_left: int


class _Hopeless(Exception):
    """Waiting on changes nothing."""


class _Count:
    """What waits of one kind in which room, and how much of it was sent."""

    def __init__(self, left: dict[str, int]) -> None:
        self.left = left
        self.sent = 0

    def now(self, name: str, waiting: int) -> None:
        """So much of this room waits now."""
        self.sent += max(0, self.left.get(name, 0) - waiting)
        self.left[name] = waiting

    @property
    def waiting(self) -> int:
        """How much waits in all rooms."""
        return sum(self.left.values())


class _Tally:
    """What waits in which room, and which rooms are level."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.updates = _Count({})
        self.messages = _Count({})
        self.level: set[str] = set()


async def sync_once(client: Client, connection: Connection, deadline_s: float) -> SyncReport:
    """Connect, send what waits, take what the relay has; back by ``deadline_s``, whatever happens.

    Rooms with unsent work come first. Rooms that are not open are opened for the moment.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    until = began + deadline_s
    tally = _Tally()
    reason = ""
    with connection.moment():
        try:
            async with asyncio.timeout_at(until - min(_GOODBYE_S, deadline_s / 5)):
                async with client._one_moment:
                    await _list(client, tally)
                    await _until_hopeless(_visit_all(client, connection, began, tally), connection)
        except TimeoutError:
            reason = f"The time was over. {_how_far(connection.status)}"
        except _Hopeless:
            reason = connection.status.reason
        except CollabError as error:  # the file, or the client was closed meanwhile
            reason = str(error)
    await connection.rested(until)
    complete = not reason and len(tally.level) == len(tally.names)
    if complete:
        reason = "Nothing waits to be sent, and what the relay had is here."
    elif not reason:
        reason = "Some rooms cannot be synced; room.status.error or .refused says why."
    return SyncReport(
        complete, reason, loop.time() - began, len(tally.names), len(tally.level),
        tally.updates.sent, tally.updates.waiting, tally.messages.sent, tally.messages.waiting,
    )  # fmt: skip


def _how_far(status: ConnectionStatus) -> str:
    if status.state in (State.SYNCING, State.LIVE):
        return "The relay answers, and the rest goes on at the next moment."
    return status.reason


async def _list(client: Client, tally: _Tally) -> None:
    """Which rooms there are, and what waits in them: those with something to send first."""
    await _saved(client)
    tally.messages = _Count(await client._device.messages.unsent())
    tally.updates = _Count(await client._documents.unsent())
    first = [*tally.messages.left, *tally.updates.left]
    tally.names = list(dict.fromkeys([*first, *await client.rooms()]))


async def _until_hopeless(work: Coroutine[Any, Any, None], connection: Connection) -> None:
    """Do ``work``, but not beyond the moment from which it cannot succeed."""
    doing = asyncio.ensure_future(work)
    hopeless = asyncio.Event()

    def watch(status: ConnectionStatus) -> None:
        # In captive without a next attempt it is being looked whether that is still so.
        is_captive = status.state is State.CAPTIVE and status.next_attempt is not None
        if is_captive or status.state in (State.FAILED, State.SUSPENDED):
            hopeless.set()

    subscription = connection.observe(watch)
    watch(connection.status)
    waiting = asyncio.ensure_future(hopeless.wait())
    try:
        await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise _Hopeless
        doing.result()
    finally:
        subscription.close()
        for task in (doing, waiting):
            task.cancel()
        await asyncio.gather(doing, waiting, return_exceptions=True)


async def _visit_all(client: Client, connection: Connection, began: float, tally: _Tally) -> None:
    """Bring every room level, at a relay that was there after ``began``."""
    free = asyncio.Semaphore(_ROOMS_AT_ONCE)

    async def visit(name: str) -> None:
        async with free:
            try:
                room = await client._rooms.borrow(name)
                if room is not None:
                    await connection.sure(began)
                    await _level(room, tally)
            except CollabError as error:
                # Closed by the program meanwhile, or its file does not open; the others go on.
                logger.info("a room was not synced: %s", error)
            finally:
                client._rooms.give_back(name)

    async with asyncio.TaskGroup() as visits:
        for name in tally.names:
            visits.create_task(visit(name))


async def _level(room: Room, tally: _Tally) -> None:
    """Return when the room is level, or cannot be."""
    machine = room._sync.machine
    try:
        while not _is_level(room):
            if _is_stuck(room):
                return
            await room._local.change()
        tally.level.add(room.name)
    finally:
        tally.updates.now(room.name, machine.pending_updates)
        tally.messages.now(room.name, room._chat.machine.outbox.pending)


def _is_level(room: Room) -> bool:
    return room._local.is_saved and room._sync.is_level and room._chat.is_told


def _is_stuck(room: Room) -> bool:
    """Whether waiting on changes nothing."""
    sync, chat = room._sync, room._chat
    if sync.is_stopped or chat.is_over:
        return True
    if sync.error is not None and not getattr(sync.error, "retryable", False):
        return True
    # What is refused of the document stays here; what others did comes, and messages go.
    is_refused = sync.machine.refusal is not None
    return is_refused and sync.machine.is_caught_up and chat.is_level and chat.is_told
