"""One device: opens rooms, owns the store and the connection."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Self

from collab.background import SyncReport, suspend, sync_once
from collab.cancelling import to_the_end
from collab.capabilities import Capability, capabilities
from collab.chat_events import StoreRolledBack
from collab.connection import Connection, ConnectionStatus, State, Token
from collab.crdt.engines import check_engine
from collab.device import Device
from collab.errors import Closed, CollabError, DiskFull, LocalError, OfflineError
from collab.hints import HintSource, follow
from collab.link import ConnectionSettings
from collab.open_rooms import OpenRooms
from collab.presence import check_state
from collab.room import Room
from collab.route import Route
from collab.running_clock import RunningClock, keep_forever
from collab.storage.copies import Copies
from collab.storage.database import Database
from collab.storage.documents import Documents
from collab.storage.identity import Identity
from collab.storage.message_acts import OutboxCaps
from collab.storage.messages import Messages
from collab.storage.saver import Saver
from collab.storage.schema import APPLICATION_ID, DEVICE_ID_BYTES, migrations
from collab.template import Template

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Everything of a client that can be tuned; the defaults are meant to be left alone."""

    connection: ConnectionSettings = field(default_factory=ConnectionSettings)
    retry_pauses_s: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0)  # after a disk refused
    outbox: OutboxCaps = field(default_factory=OutboxCaps)  # messages that may wait to be sent


def open(
    path: str | os.PathLike[str],
    *,
    relay: str | None = None,
    token: Token = None,
    user: Mapping[str, Any] | None = None,
    engine: str = "pycrdt",
    hints: HintSource | None = None,
    settings: ClientSettings | None = None,
) -> Client:
    """A client on the store ``path`` (or ``":memory:"``): ``async with collab.open(...)``.

    ``relay`` is a WebSocket address such as ``ws://127.0.0.1:8765``; None works for ever offline.
    ``token`` is a string or an (async) function, asked at every connection. ``user`` is what
    others see in presence; one that JSON cannot carry is refused at once. ``engine`` is "pycrdt"
    or "y-py" (Python 3.11 and 3.12; flat documents, no undo, no relative positions), the same file
    may be opened with either. ``hints`` tells when networks come and go, such as
    :class:`collab.hints_networkmanager.NetworkManagerHints`. Entering raises
    :class:`StoreLocked`, :class:`StoreCorrupt`, :class:`Unsupported` or :class:`DiskFull`; the
    file is then as it was.
    """
    return Client(
        path, relay=relay, token=token, user=user, engine=engine, hints=hints, settings=settings
    )


class Client:
    """One device. ``async with`` it, or call ``start`` and ``close``.

    It belongs to the thread and event loop in which it was started; ``call_soon`` is the one
    entry from other threads.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        relay: str | None,
        token: Token,
        user: Mapping[str, Any] | None,
        engine: str,
        hints: HintSource | None,
        settings: ClientSettings | None,
    ) -> None:
        check_engine(engine)
        if user is not None:
            check_state({"user": dict(user)})
        self.user = user
        self._engine = engine
        self._path = path
        self._token = token
        self._hints = hints
        self._settings = settings or ClientSettings()
        way = self._settings.connection
        self._route = None if relay is None else Route(relay, proxy=way.proxy, tls=way.tls)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._closed = False
        self._database: Database
        self._identity: Identity
        self._documents: Documents
        self._saver: Saver
        self._rooms: OpenRooms
        self._device: Device
        self._saving: asyncio.Task[None]
        self._keeping: asyncio.Task[None]
        self._closing: asyncio.Task[None] | None = None
        self._at_rest = asyncio.Event()  # closing, nothing waits for the disk any more
        self._connection: Connection | None = None
        self._one_moment = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Open the store and, if there is a relay, begin to connect. Does not wait for it."""
        if self._loop is not None:
            raise LocalError("This client was started before; open another one.")
        self._database = await Database.open(
            self._path, application_id=APPLICATION_ID, migrations=migrations(os.urandom(16))
        )
        messages = Messages(self._database)
        try:
            device_id = await Identity(self._database).device_id()
            clock = RunningClock(await messages.clock())
            with suppress(DiskFull):  # nobody sees them; the next start tries again
                await Copies(self._database).drop_staged()
        except BaseException:
            await self._database.close()
            raise
        if self._closed:
            await self._database.close()
            raise Closed("This client was closed while it started; open another one.")
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._identity = Identity(self._database)
        self._documents = Documents(self._database)
        self._saver = Saver(
            self._documents, on_error=self._disk, retry_pauses_s=self._settings.retry_pauses_s
        )
        self._device = Device(
            documents=self._documents,
            saver=self._saver,
            engine=self._engine,
            user=self.user,
            backoff=self._settings.connection.backoff,
            call_soon=self.call_soon,
            run=self._run,
            messages=messages,
            clock=clock,
            retry_pauses_s=self._settings.retry_pauses_s,
            outbox=self._settings.outbox,
        )
        self._rooms = OpenRooms(self._device, Copies(self._database), check=self._check)
        self._saving = asyncio.create_task(self._saver.run(), name="collab saver")
        self._saving.add_done_callback(self._saver_ended)
        self._keep_clock()
        if self._route is None:
            return
        self._connection = Connection(
            self._route,
            device_id=device_id,
            token=self._token,
            settings=self._settings.connection,
            next_number=self._identity.next_connection_number,
            renew_device_id=self._renew_device_id,
            rooms=self._rooms.syncs,
        )
        self._device.uplink = self._connection
        self._connection.observe(self._slept_or_woke)
        self._run(self._connection.run())
        if self._hints is not None:
            self._run(follow(self._hints, self.network_hint))

    async def close(self) -> None:
        """Save what waits, then close the connection and the store. Again: waits for the first.

        To be cancelled does not keep it from saving: this returns when that is over, and the rest
        goes on behind it. Raises :class:`DiskFull` if the disk refuses the last edits to the end;
        the store is closed then too, and those edits are lost with the process. Who calls it again
        is not told of that.
        """
        self._closed = True
        if self._loop is None:
            return
        is_first = self._closing is None
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="collab close")
            self._closing.add_done_callback(lambda _: self._at_rest.set())
        await to_the_end(self._at_rest.wait())
        if is_first:
            await asyncio.shield(self._closing)
        else:
            await asyncio.wait([self._closing])

    async def _close(self) -> None:
        try:
            for room in self._rooms.all():
                await room._local.tidy()
                await room._chat.finish()
        finally:
            try:
                self._end_rooms()
            finally:
                await self._let_go()

    def _end_rooms(self) -> None:
        """First nothing can be edited any more, then all that was is saved."""
        with ExitStack() as ends:
            for room in self._rooms.all():
                ends.callback(room._end)  # each, whatever comes of another

    async def _let_go(self) -> None:
        """Save what waits and close the store, whatever happened before."""
        self._saver.close()
        try:
            await asyncio.shield(self._saving)
        finally:
            self._at_rest.set()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            with suppress(CollabError):  # what it would tell is in the uptime too
                await self._device.messages.move_clock(self._device.clock.anchor())
            await self._database.close()

    async def room(self, name: str, *, template: Template | None = None) -> Room:
        """The room of this name, from disk; no network is needed. The same object while it is open.

        One that has nothing on this device starts from ``template``, which is saved and sent like
        an edit; any other room is left as it is.

        Raises :class:`LocalError` for a bad name: 1–255 bytes of UTF-8, no control characters; and
        :class:`Unsupported` for a template that this engine cannot hold.
        """
        self._check()
        return await self._rooms.open(name, template)

    async def rooms(self) -> list[str]:
        """The names of all rooms on this device, oldest first."""
        self._check()
        return [row.name for row in await self._documents.rooms()]

    async def forget(self, name: str) -> None:
        """Delete a room from this device, with what was never sent. The relay keeps its copy."""
        self._check()
        await self._rooms.forget(name)

    @property
    def connection(self) -> ConnectionStatus | None:
        """State, reason, since and next attempt; None when no relay is configured."""
        return None if self._connection is None else self._connection.status

    def observe(self, callback: Callable[[ConnectionStatus], object]) -> Any:
        """Call ``callback(status)`` whenever the connection's state changes."""
        self._check()
        if self._connection is None:
            raise LocalError("No relay is configured, so there is no connection to observe.")
        return self._connection.observe(callback)

    def capabilities(self) -> dict[str, Capability]:
        """Each feature, how much of it there is in the present state, and why."""
        self._check()
        return capabilities(None if self._connection is None else self._connection.status.state)

    def connect(self) -> None:
        """Try to connect now: the user's act. It ends a wait, ``suspended`` and ``failed``."""
        self._check()
        if self._connection is not None:
            self._connection.retry()

    def portal_done(self) -> None:
        """The user has logged in to the network: look now whether the relay answers."""
        self.connect()

    def use_token(self, token: Token) -> None:
        """From the next connection on, this token. After ``failed`` that is now."""
        self._check()
        self._token = token
        if self._connection is not None:
            self._connection.use_token(token)

    def network_hint(self, up: bool) -> None:
        """The system says whether there is a network. It begins an attempt or a check, no more."""
        self._check()
        if self._connection is not None:
            self._connection.hint(up=up)

    async def suspend(self, *, deadline: float = 5.0) -> None:
        """The program goes to sleep: save, close the connection, stop every timer.

        Done within ``deadline`` seconds. Raises what the disk says, or TimeoutError, if some edits
        are not saved by then: the connection is closed all the same, and the disk is tried again.
        """
        self._check()
        await suspend(self, self._connection, deadline)

    def resume(self) -> None:
        """The program is in the foreground again: connect, or see whether what is open lives."""
        self._check()
        if self._connection is not None:
            self._connection.resume()

    async def sync_once(self, *, deadline: float = 25.0) -> SyncReport:
        """Connect, send what waits, take what the relay has; back within ``deadline`` seconds.

        For background tasks and push messages. A connection that was suspended is so again
        afterwards. May be called at any time, twice, and be killed in the middle: what waits is on
        the disk. Raises :class:`OfflineError` when no relay is configured.
        """
        self._check()
        if self._connection is None:
            raise OfflineError(
                "No relay is configured, so nothing can be synced. Edits are saved on this device; "
                "pass relay=… to collab.open."
            )
        return await sync_once(self, self._connection, deadline)

    def call_soon(self, fn: Callable[[], object]) -> None:
        """Run ``fn`` on the client's event loop; may be called from any thread."""
        loop = self._loop
        if loop is None or loop.is_closed():
            raise Closed("This client is not running; nothing was called.")
        if threading.get_ident() == self._thread:
            loop.call_soon(fn)
        else:
            loop.call_soon_threadsafe(fn)

    # --- for its rooms ---------------------------------------------------------------------------

    async def _renew_device_id(self) -> bytes:
        """Become a device of its own, on the disk first: another copy of the file is in use."""
        device_id = os.urandom(DEVICE_ID_BYTES)
        await self._identity.renew(device_id)
        logger.warning("another copy of the store is in use: this one is a device of its own now")
        for room in self._rooms.all():
            room._local.observers.emit(
                StoreRolledBack(
                    "Another copy of this device's file is in use: the relay ended this connection "
                    "for one with the same device id. This copy is a device of its own from now "
                    "on, with all that it has; nothing was lost."
                )
            )
        return device_id

    def _slept_or_woke(self, status: ConnectionStatus) -> None:
        """While the connection is suspended nothing else has a timer either."""
        is_asleep = status.state is State.SUSPENDED
        if self._closed or is_asleep is self._device.is_asleep:
            return
        self._device.is_asleep = is_asleep
        if is_asleep:
            self._keeping.cancel()
        else:
            self._keep_clock()
        for room in self._rooms.all():
            room._chat.look()

    def _keep_clock(self) -> None:
        device = self._device
        self._keeping = self._run(keep_forever(device.clock, device.messages.move_clock))

    def _run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Own a task until it ends or the client does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a task of collab failed", "exception": error, "task": task}
            )

    def _saver_ended(self, task: asyncio.Task[None]) -> None:
        if not self._closed and not task.cancelled() and task.exception() is not None:
            self._ended(task)

    def _disk(self, error: CollabError | None) -> None:
        for room in self._rooms.all():
            room._local.disk(error)

    def _check(self) -> None:
        if self._closed or self._loop is None:
            raise Closed(
                "This client is not open; what was saved is on disk. Open it again with "
                "collab.open(path)."
            )
