"""Drives the connection's state machine with real sockets and timers."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from collab import limits
from collab.cancelling import is_cancelled
from collab.errors import Closed, CollabError, Rejected
from collab.events import Observers, Subscription
from collab.link import ConnectionSettings, Link, Lost, linked
from collab.probe import probe
from collab.protocol import frames
from collab.protocol.connection_state import (
    Answer,
    ConnectionMachine,
    Errand,
    Meaning,
    State,
    meaning_of,
)
from collab.room_sync import RoomSync
from collab.route import Route

__all__ = ["Connection", "ConnectionStatus", "State", "Token"]

Token = str | Callable[[], str] | Callable[[], Awaitable[str]] | None


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """Where the connection is, and why.

    ``since`` and ``next_attempt`` are seconds of ``time.time``: when the state was entered, and
    when the next attempt (in ``captive``: the next look) begins by itself. ``reason`` says what
    happened, what it means for the user's work, and what to do.
    """

    state: State
    reason: str
    since: float
    next_attempt: float | None


class _Untried(Exception):
    """The attempt ended before it reached the network."""


class Connection:
    """Connects, speaks the protocol for all open rooms, and comes back after every loss.

    1. Exactly one task runs :meth:`run`. It carries out one errand of the machine at a time, and
       owns the socket, every attempt and every probe.
    2. Whatever happens is told to the machine, and then :meth:`_settle` does what follows from it.
    3. A room's frames go up only after WELCOME echoed this attempt's nonce and JOINED came.
    4. What a close code means is judged in :meth:`_ended` and nowhere else.
    """

    def __init__(
        self,
        route: Route,
        *,
        device_id: bytes,
        token: Token,
        settings: ConnectionSettings,
        next_number: Callable[[int], Awaitable[int]],
        renew_device_id: Callable[[], Awaitable[bytes]],
        rooms: Callable[[], list[RoomSync]],
    ) -> None:
        self._route = route
        self._device_id = device_id
        self._token = token
        self._next_number = next_number
        self._renew_device_id = renew_device_id
        self._rooms = rooms
        self._machine = ConnectionMachine(settings, token_is_renewable=callable(token))
        self._observers: Observers[ConnectionStatus] = Observers()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._scope: asyncio.Timeout | None = None  # of the errand, to end it from outside
        self._doing = -1  # the machine's turn that is being carried out
        self._resting = asyncio.Event()  # nothing is under way
        self._answered = asyncio.Event()  # another one from each answer of the relay to the next
        self._link: Link | None = None
        self._is_over = False
        self._moments = 0  # calls of sync_once that are under way
        self.failure: CollabError | None = None
        self.status = ConnectionStatus(State.OFFLINE, self._machine.reason, time.time(), None)

    def observe(self, callback: Callable[[ConnectionStatus], object]) -> Subscription:
        """Call ``callback(status)`` whenever the status changes."""
        return self._observers.add(callback)

    # What the program and the system say

    def retry(self) -> None:
        """Try now, whatever the state: the user's act."""
        self._machine.connect(self._loop.time(), random.random())
        self._settle()

    def use_token(self, token: Token) -> None:
        """From the next attempt on, this token; after ``failed`` that is now."""
        self._token = token
        now, chance = self._loop.time(), random.random()
        self._machine.credentials(now, chance, renewable=callable(token))
        self._settle()

    def hint(self, *, up: bool) -> None:
        """The system says whether there is a network."""
        self._machine.hint(self._loop.time(), random.random(), up=up)
        self._settle()

    def resume(self) -> None:
        """The program is in the foreground again."""
        self._machine.resume(self._loop.time(), random.random())
        self._settle()

    def suspend(self) -> None:
        """Close the connection and stop every timer; see :meth:`rested`."""
        self._machine.suspend(self._loop.time())
        self._settle()

    async def rested(self, until: float) -> None:
        """Once suspended: return when nothing is under way any more.

        At ``until`` (of the loop's clock) the relay's goodbye is not waited for any longer.
        """
        if self._machine.state is not State.SUSPENDED:
            return
        try:
            async with asyncio.timeout_at(until):
                await self._resting.wait()
        except TimeoutError:
            if self._link is not None:
                self._link.abort()

    async def sure(self, since: float) -> None:
        """Return once the relay has answered what was asked at ``since`` (of the loop's clock).

        What looks live may be dead: a program that was frozen is not told. Raises :class:`Closed`
        when the client ends.
        """
        while not self._machine.is_sure(since):
            if self._is_over:
                raise Closed("The client was closed while this waited.")
            await self._answered.wait()

    @contextmanager
    def moment(self) -> Iterator[None]:
        """While the block runs it is connected; then it is suspended again, if it was before."""
        self._moments += 1
        self._machine.sync_once(self._loop.time(), random.random())
        self._settle()
        try:
            yield
        finally:
            self._moments -= 1
            if not self._moments:
                self._machine.synced_once(self._loop.time())
                self._settle()

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
        if self._machine.state is not State.SYNCING:
            return
        if all(room.is_settled for room in self._rooms()):
            self._machine.caught_up(self._loop.time())
            self._settle()

    # The one task

    async def run(self) -> None:
        """Connect, again and again, until cancelled."""
        try:
            self._settle()
            while True:
                await self._carry_out()
        finally:
            self._is_over = True
            self._resting.set()
            self._answered.set()
            if self._timer is not None:
                self._timer.cancel()

    async def _carry_out(self) -> None:
        """Do the machine's errand until it ends, or until the machine has another one."""
        turn = self._doing = self._machine.turn
        reason, code, tried = "the connection ended", None, True
        try:
            async with asyncio.timeout(None) as self._scope:
                match self._machine.errand:
                    case Errand.REST:
                        self._resting.set()
                        await asyncio.Event().wait()
                    case Errand.PROBE:
                        await self._probe(turn)
                    case Errand.DIAL:
                        await self._attempt()
        except TimeoutError:
            pass  # the machine has another errand
        except _Untried as untried:
            reason, tried = str(untried), False
        except Lost as lost:
            reason, code = str(lost), lost.code
        except CollabError as error:  # the relay broke the protocol
            reason = str(error)
        except OSError as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
        except Exception as error:  # noqa: BLE001 - the task's root: it must come back
            reason = f"a fault of collab itself: {error!r}"
            self._loop.call_exception_handler(
                {"message": "collab lost its connection by a fault", "exception": error}
            )
        finally:
            self._scope = None
            self._resting.clear()
            if self._link is not None:
                self._link = None
                self._detach_all()
        if is_cancelled():
            # A task group whose children fail as it is cancelled raises their errors instead.
            raise asyncio.CancelledError
        self._ended(turn, reason, code, tried=tried)

    def _ended(self, turn: int, reason: str, code: int | None, *, tried: bool) -> None:
        """An attempt or a connection is over: what does that mean for the next one?"""
        now, chance, before = self._loop.time(), random.random(), self._machine.state
        meaning = meaning_of(code) if tried else Meaning.UNTRIED
        self._machine.lost(turn, meaning, reason, now, chance)
        self._machine.probed(turn, Answer.NOTHING, reason, now, chance)  # if it was a probe
        if self._machine.state is State.FAILED and before is not State.FAILED:
            name = next((known.name.lower() for known in frames.Close if known == code), str(code))
            self.failure = Rejected(self._machine.reason, code=name)
            for room in self._rooms():
                room.connection_failed()
        self._settle()

    def _detach_all(self) -> None:
        # Not in run(): its frame lives as long as the client, and would keep the last room alive.
        for room in self._rooms():
            room.detached()

    # The machine

    def _settle(self) -> None:
        """The machine may have changed: tell who watches, set its timer, end an old errand."""
        machine = self._machine
        if self._is_over:
            return
        if machine.state is not State.FAILED:
            self.failure = None
        self._publish()
        deadline = machine.next_deadline()
        if self._timer is not None and (deadline is None or self._timer.when() > deadline):
            self._timer.cancel()
            self._timer = None
        if self._timer is None and deadline is not None:
            self._timer = self._loop.call_at(max(0.0, deadline), self._due)
        scope = self._scope
        if scope is not None and machine.turn != self._doing:
            self._scope = None  # it ends once
            scope.reschedule(self._loop.time())

    def _due(self) -> None:
        """The machine's deadline has come."""
        machine, now = self._machine, self._loop.time()
        self._timer = None
        if self._link is not None and self._link.is_busy:
            machine.heard(now)  # it has answered, perhaps: we have not come to it
        turn = machine.turn
        ping = machine.due(now, random.random())
        if self._link is not None:
            if ping is not None:
                self._link.ping(ping)
            elif machine.turn != turn:
                self._link.abort()  # nobody is there who would say goodbye
        self._settle()

    def _publish(self) -> None:
        machine, known = self._machine, self.status
        starts = machine.next_attempt
        starts_at: float | None = None
        if starts is not None and starts > 0:
            starts_at = time.time() + starts - self._loop.time()
        same = (machine.state, machine.reason) == (known.state, known.reason)
        if same and _about(starts_at, known.next_attempt):
            return
        since = known.since if machine.state is known.state else time.time()
        self.status = ConnectionStatus(machine.state, machine.reason, since, starts_at)
        self._observers.emit(self.status)

    # Errands

    async def _probe(self, turn: int) -> None:
        found = await probe(self._route, os.urandom(16))
        now, chance = self._loop.time(), random.random()
        self._machine.probed(turn, found.answer, found.what, now, chance)
        self._settle()

    async def _attempt(self) -> None:
        turn, machine = self._doing, self._machine
        token = await self._ask_token()
        try:
            if machine.is_copied:
                self._device_id = await self._renew_device_id()
                machine.renewed()
            number = await self._next_number(time.time_ns() // 1_000_000)
        except CollabError as error:  # the disk takes nothing
            raise _Untried(str(error)) from error
        machine.dialing(turn, self._loop.time())
        self._settle()
        hello = frames.Hello(frames.VERSION, os.urandom(16), self._device_id, number, token)
        async with linked(
            self._route, hello, self._rooms, on_bytes=self._heard, on_pong=self._ponged
        ) as link:
            if not machine.welcomed(turn, self._loop.time()):
                return
            self._link = link
            self._settle()
            self._tell_answer()
            self.levels()  # there may be no room
            await link.run()

    def _heard(self) -> None:
        self._machine.heard(self._loop.time())

    def _ponged(self, number: int) -> None:
        self._machine.ponged(number, self._loop.time())
        self._settle()
        self._tell_answer()

    def _tell_answer(self) -> None:
        self._answered.set()
        self._answered = asyncio.Event()

    async def _ask_token(self) -> str | None:
        token: object = self._token
        if callable(token):
            try:
                answer = token()
                token = await answer if inspect.isawaitable(answer) else answer
            except asyncio.CancelledError as error:
                if is_cancelled():
                    raise
                raise _Untried("the program's own token function was cancelled") from error
            except Exception as error:
                raise _Untried(f"the program's own token function failed: {error!r}") from error
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


def _about(one: float | None, other: float | None) -> bool:
    """Whether two moments are the same, as far as two clocks can tell."""
    if one is None or other is None:
        return one is other
    return abs(one - other) < 0.05
