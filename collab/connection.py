"""The client's link to the relay: one reconnect task, one socket at a time."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from collab import limits
from collab.errors import CollabError, Rejected
from collab.events import Observers, Subscription
from collab.link import ConnectionSettings, Link, Lost, linked
from collab.protocol import frames
from collab.protocol.backoff import HOUR_S, Backoff
from collab.protocol.frames import is_permanent
from collab.room_sync import RoomSync

logger = logging.getLogger(__name__)

Token = str | Callable[[], str] | Callable[[], Awaitable[str]] | None

RESET_AFTER_S: Final = 30.0  # live for so long, the next failure is a new story


class State(StrEnum):
    """Where the connection is."""

    OFFLINE = "offline"
    CONNECTING = "connecting"
    SYNCING = "syncing"
    LIVE = "live"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """``since`` and ``next_attempt`` are seconds of ``time.time``; ``reason`` is a sentence."""

    state: State
    reason: str
    since: float
    next_attempt: float | None


class Connection:
    """Connects, speaks the protocol for all open rooms, and comes back after every loss.

    1. Exactly one task runs :meth:`run`; it owns the socket and every attempt.
    2. A room's frames go up only after WELCOME echoed this attempt's nonce and JOINED came.
    3. A permanent close ends in ``failed``; nothing but :meth:`retry` leaves it. But to be fenced
       means that another copy of this device's file is in use, as this task never has two sockets:
       the device takes another id and comes back, a few times an hour.
    """

    def __init__(
        self,
        url: str,
        *,
        device_id: bytes,
        token: Token,
        settings: ConnectionSettings,
        next_number: Callable[[int], Awaitable[int]],
        renew_device_id: Callable[[], Awaitable[bytes]],
        rooms: Callable[[], list[RoomSync]],
    ) -> None:
        self._url = url.rstrip("/") + "/sync"
        self._device_id = device_id
        self._token = token
        self._settings = settings
        self._next_number = next_number
        self._renew_device_id = renew_device_id
        self._is_copied = False
        self._renewals: deque[float] = deque()
        self._rooms = rooms
        self._backoff = Backoff(settings.backoff)
        self._observers: Observers[ConnectionStatus] = Observers()
        self._retry = asyncio.Event()
        self._link: Link | None = None
        self._welcomed: float | None = None
        self._may_ask_again = callable(token)
        self.failure: CollabError | None = None
        self.status = ConnectionStatus(State.OFFLINE, "not connected yet", time.time(), None)

    def observe(self, callback: Callable[[ConnectionStatus], object]) -> Subscription:
        """Call ``callback(status)`` whenever the state changes."""
        return self._observers.add(callback)

    def retry(self) -> None:
        """Try now, whatever the state: the user's act."""
        self._backoff.reset()
        self.failure = None
        self._retry.set()

    # What rooms ask for

    @property
    def is_connected(self) -> bool:
        """Whether a relay has welcomed this device, and is not lost yet."""
        return self._link is not None

    def wake(self) -> None:
        """A room may have something to send."""
        if self._link is not None:
            self._link.wake.set()

    def send(self, frame: frames.Frame) -> None:
        """Send a control frame, if there is a connection."""
        if self._link is not None:
            self._link.send(frame)

    def join(self, room: RoomSync) -> None:
        """Open ``room`` at the relay, now or at the next connection."""
        if self._link is not None:
            self._link.start_join(room)

    def leave(self, room: RoomSync) -> None:
        """Close ``room`` at the relay."""
        if self._link is not None:
            self._link.leave(room)

    def levels(self) -> None:
        """Some room's state changed: perhaps all are caught up."""
        if self._link is None or self.status.state is not State.SYNCING:
            return
        level = all(room.is_settled for room in self._rooms())
        if level:
            self._set(State.LIVE, "every open room has caught up")

    # The one task

    async def run(self) -> None:
        """Connect, again and again, until cancelled."""
        while True:
            self._backoff.started(time.monotonic())
            self._welcomed = None
            self._retry.clear()
            self._set(State.CONNECTING, "connecting")
            try:
                await self._attempt()
            except Lost as lost:
                reason, code = str(lost), lost.code
            except CollabError as error:  # the relay's fault, or a disk that takes nothing
                reason, code = str(error), None
            except OSError as error:
                reason, code = f"{type(error).__name__}: {error}".rstrip(": "), None
            except Exception as error:  # noqa: BLE001 - the task's root: it must come back
                reason, code = f"a fault of collab itself: {error!r}", None
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "collab lost its connection by a fault", "exception": error}
                )
            finally:
                self._link = None
                self._detach_all()
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # A task group whose children fail as it is cancelled raises their errors instead.
                raise asyncio.CancelledError
            if code == frames.Close.UNAUTHENTICATED and self._may_ask_again:
                self._may_ask_again = False  # the token may just have expired: ask for another
                continue
            if code == frames.Close.FENCED and self._may_renew(time.monotonic()):
                self._is_copied = True  # until the other id is on the disk, also on a full one
                continue
            if code is not None and is_permanent(code):
                self._fail(code, reason)
                await self._retry.wait()
                continue
            now = time.monotonic()
            if self._welcomed is not None and now - self._welcomed > RESET_AFTER_S:
                self._backoff.reset()
            pause = self._backoff.wait(now, random.random())
            self._set(State.OFFLINE, reason, time.time() + pause)
            try:
                async with asyncio.timeout(pause):
                    await self._retry.wait()
            except TimeoutError:
                pass

    def _detach_all(self) -> None:
        # Not in run(): its frame lives as long as the client, and would keep the last room alive.
        for room in self._rooms():
            room.detached()

    def _fail(self, code: int, reason: str) -> None:
        name = next((known.name.lower() for known in frames.Close if known == code), str(code))
        self.failure = Rejected(
            f"The relay ended the connection for good: {reason} ({name}). Everything is kept on "
            f"this device and edits are saved. Mend the cause, then call client.connect().",
            code=name,
        )
        self._set(State.FAILED, reason)
        for room in self._rooms():
            room.connection_failed()

    def _set(self, state: State, reason: str, next_attempt: float | None = None) -> None:
        self.status = ConnectionStatus(state, reason, time.time(), next_attempt)
        self._observers.emit(self.status)

    def _may_renew(self, now: float) -> bool:
        """Whether another device id may be taken; the next attempt takes it."""
        renewals = self._renewals
        while renewals and renewals[0] <= now - HOUR_S:
            renewals.popleft()
        if len(renewals) >= limits.MAX_NEW_DEVICE_IDS_AN_HOUR:
            return False
        renewals.append(now)
        return True

    async def _attempt(self) -> None:
        if self._is_copied:
            self._device_id = await self._renew_device_id()
            self._is_copied = False
        token = await self._ask_token()
        number = await self._next_number(time.time_ns() // 1_000_000)
        hello = frames.Hello(frames.VERSION, os.urandom(16), self._device_id, number, token)
        async with linked(self._url, hello, self._settings, self._rooms) as link:
            self._welcomed = time.monotonic()
            self._may_ask_again = callable(self._token)
            self._set(State.SYNCING, "catching up")
            self._link = link
            self.levels()  # there may be no room
            await link.run()

    async def _ask_token(self) -> str | None:
        token: object = self._token
        if callable(token):
            try:
                answer = token()
                token = await answer if inspect.isawaitable(answer) else answer
            except Exception as error:
                raise Lost(f"the program's own token function failed: {error!r}") from error
        if token is None or (isinstance(token, str) and _is_token(token)):
            return token
        raise Lost(
            f"a token is a string of at most {limits.MAX_TOKEN_BYTES} bytes of UTF-8",
            frames.Close.UNAUTHENTICATED,
        )


def _is_token(token: str) -> bool:
    """Whether a relay would read ``token`` at all."""
    try:
        return len(token.encode()) <= limits.MAX_TOKEN_BYTES
    except UnicodeEncodeError:
        return False
