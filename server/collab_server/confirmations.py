"""Which messages await a verdict, and when the application is asked about each.

The log knows all that await one. In memory are at most ``MAX_AWAITED_IN_MEMORY`` of them: their
places, without their bodies. The others are read from the log when there is room: those of new
commits from the *ranges* in which they are, all others by a *sweep* through the whole log.

Invariants
1. What awaits a verdict is in memory, or in a range, or before a sweep that is under way or due.
2. At most ``MAX_CONFIRMATIONS`` calls are waited for. A call that goes on after its time, although
   it was cancelled, is not waited for; its message is not asked about again before it has ended.
3. Of a lane one first call is under way at a time, in the order of the log. Later calls of those
   that failed are in no order, and hold nobody up.
4. If there are more than memory holds, one that fails makes room for others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from collab import limits
from collab.errors import Closed, CollabError
from collab.protocol.codec import unpack_map
from collab.protocol.messages import Verdict
from collab.protocol.verdicts import GivenVerdict
from collab_server.confirming import ConfirmRequest, OnConfirm, VerdictRuling, verdict_of
from collab_server.log.chat_port import Awaited, ChatLog, VerdictToGive
from collab_server.settings import Settings

__all__ = ["Confirmations"]

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 100  # places that a sweep reads
_PAUSE_OF_SWEEPS: Final = 8  # failures of one message after which it pauses as long
_ENDING_S: Final = 1.0  # what a call has to end in once it was cancelled

_Lane = tuple[int, bytes]
_Place = tuple[int, int]


@dataclass(eq=False, slots=True)
class _Order:
    """A message that awaits a verdict. ``failures``: calls that brought none."""

    place: Awaited
    failures: int = 0

    @property
    def key(self) -> _Place:
        return self.place.room_id, self.place.seq

    @property
    def lane(self) -> _Lane:
        return self.place.room_id, self.place.lane


class Confirmations:
    """Asks the application for verdicts. Belongs to one relay, and to its event loop's thread."""

    def __init__(
        self,
        log: ChatLog,
        on_confirm: OnConfirm,
        settings: Settings,
        *,
        in_memory: int = limits.MAX_AWAITED_IN_MEMORY,
    ) -> None:
        self._log = log
        self._on_confirm = on_confirm
        self._settings = settings
        self._in_memory = in_memory
        self._known: dict[_Place, _Order] = {}
        self._lanes: dict[_Lane, deque[_Order]] = {}  # first calls to come; one is under way
        self._slots = asyncio.Semaphore(limits.MAX_CONFIRMATIONS)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._ranges: dict[int, tuple[int, int]] = {}  # by room: lowest and highest seq
        self._sweeps = True
        self._swept: _Place = (0, 0)
        self._restarts = False  # another one is due when the one under way has ended
        self._again = False  # and one after a pause
        self._wake = asyncio.Event()
        self._wake.set()
        self._stop_listening: Callable[[], None] | None = None
        self._over = False

    async def __aenter__(self) -> Confirmations:
        self._stop_listening = self._log.on_awaited(self._committed)
        self._own(self._read_forever())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Ask no more. A call that does not end when it is cancelled is left behind."""
        assert self._stop_listening is not None
        self._stop_listening()
        self._over = True
        for timer in self._timers:
            timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=_ENDING_S)
            if pending:
                logger.error("%d calls of on_confirm did not end when cancelled", len(pending))

    def _own(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # What awaits a verdict

    def _committed(self, room_id: int, low: int, high: int) -> None:
        """Some messages from ``low`` to ``high`` of a room may await a verdict."""
        known = self._ranges.get(room_id, (low, high))
        self._ranges[room_id] = (min(low, known[0]), max(high, known[1]))
        self._wake.set()

    async def _read_forever(self) -> None:
        """Take in what the log has, as far as there is room."""
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while (self._sweeps or self._ranges) and self._room > 0:
                    await (self._sweep_on() if self._sweeps else self._read_range())
                failures = 0
            except CollabError:
                logger.exception("messages that await a verdict could not be read; tried again")
                failures += 1
                await asyncio.sleep(self._backoff(failures))
                self._wake.set()

    @property
    def _room(self) -> int:
        return self._in_memory - len(self._known)

    async def _sweep_on(self) -> None:
        """Read on through the log."""
        asked = min(_AT_ONCE, self._room)
        found = await self._log.awaited(self._swept, asked)
        for place in found:
            self._swept = (place.room_id, place.seq)
            self._take(place)
        if len(found) < asked:
            self._sweeps, self._swept = self._restarts, (0, 0)
            self._restarts = False

    async def _read_range(self) -> None:
        """Read on in the range of one room."""
        room_id, (low, high) = next(iter(self._ranges.items()))
        asked = min(_AT_ONCE, self._room)
        found = await self._log.awaited((room_id, low - 1), asked)
        within = [place for place in found if place.room_id == room_id and place.seq <= high]
        for place in within:
            self._take(place)
        highest = self._ranges.pop(room_id)[1]  # it may have grown meanwhile
        after = within[-1].seq if len(within) == asked else high
        if after < highest:
            self._ranges[room_id] = (after + 1, highest)

    def _take(self, place: Awaited) -> None:
        order = _Order(place)
        if self._known.setdefault(order.key, order) is not order:
            return
        waiting = self._lanes.get(order.lane)
        if waiting is not None:
            waiting.append(order)
            return
        waiting = self._lanes[order.lane] = deque([order])
        self._own(self._serve_lane(order.lane, waiting))

    def _forget(self, order: _Order) -> None:
        del self._known[order.key]
        self._wake.set()

    def _sweep_later(self) -> None:
        """Find again, after a pause, what had to make room."""
        if self._again:
            return
        self._again = True

        def sweep() -> None:
            # One that is under way may have passed what is to be found.
            self._restarts = self._sweeps
            self._again, self._sweeps = False, True
            self._wake.set()

        self._call_later(self._backoff(_PAUSE_OF_SWEEPS), sweep)

    def _call_later(self, wait_s: float, act: Callable[[], None]) -> None:
        def now() -> None:
            self._timers.discard(timer)
            act()

        timer = asyncio.get_running_loop().call_later(wait_s, now)
        self._timers.add(timer)

    # Calls

    async def _serve_lane(self, lane: _Lane, waiting: deque[_Order]) -> None:
        """First calls, one after the other."""
        while waiting:
            await self._attempt(waiting.popleft())
        del self._lanes[lane]

    async def _attempt(self, order: _Order) -> None:
        """One call, and what comes of it."""
        call: asyncio.Task[VerdictRuling] | None = None
        try:
            async with self._slots:
                call = await self._call(order)
                ruling = None if call is None else await self._within_time(call)
            if ruling is not None:
                await self._give(order, *ruling)
            if call is None or ruling is not None:
                self._forget(order)
                return
        except Exception:  # a task's root: this message must not take its lane along
            logger.exception("a verdict could not be had from or given to the log; tried again")
        self._later(order, call)

    async def _call(self, order: _Order) -> asyncio.Task[VerdictRuling] | None:
        """Call the application; None if the message awaits no verdict any more."""
        place = order.place
        message = await self._log.find(place.room_id, place.message_id)
        room = await self._log.room_name(place.room_id)
        if message is None or room is None or message.verdict != Verdict.AWAITED:
            return None
        request = ConfirmRequest(
            room=room,
            id=UUID(bytes=message.id),
            seq=message.seq,
            sender=message.sender,
            body=message.body,
            meta=unpack_map(message.meta) or {},
            sent_at=message.sent_at,
            accepted_at=message.accepted_at,
        )

        async def ask() -> VerdictRuling:
            return await self._on_confirm(request)

        return self._own(ask())

    async def _within_time(self, call: asyncio.Task[VerdictRuling]) -> tuple[Verdict, str] | None:
        """What the call answers in its time; None if it fails, or takes longer."""
        await asyncio.wait([call], timeout=self._settings.confirm_timeout_s)
        if not call.done():
            call.cancel()
            await asyncio.wait([call], timeout=_ENDING_S)
            logger.warning("on_confirm did not answer in time; it is called again later")
            return None
        if call.cancelled():
            logger.warning("on_confirm was cancelled; it is called again later")
            return None
        failure = call.exception()
        if failure is not None:
            logger.error("on_confirm failed; it is called again later", exc_info=failure)
            return None
        try:
            return verdict_of(call.result())
        except TypeError:
            logger.exception("on_confirm failed; it is called again later")
            return None

    async def _give(self, order: _Order, verdict: Verdict, reason: str) -> None:
        """Commit a verdict. Raises ``Closed`` when the log is."""
        place = order.place
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def decided() -> None:
            if not done.done():
                done.set_result(None)

        given = GivenVerdict(place.message_id, verdict, reason)
        with suppress(Closed):  # the next start asks again
            self._log.give_verdict(VerdictToGive(place.room_id, given, decided))
            await done

    def _later(self, order: _Order, call: asyncio.Task[VerdictRuling] | None) -> None:
        """Call again after a while, once the last call has ended."""
        if self._over:
            return
        if call is not None and not call.done():

            def ended(call: asyncio.Task[VerdictRuling]) -> None:
                if not call.cancelled():
                    call.exception()  # nobody asks for it any more
                self._later(order, None)

            call.add_done_callback(ended)
            return
        if self._room <= 0 and (self._sweeps or self._ranges):
            self._forget(order)
            self._sweep_later()
            return
        order.failures += 1
        wait_s = self._backoff(order.failures)
        self._call_later(wait_s, lambda: self._begin(order))

    def _begin(self, order: _Order) -> None:
        self._own(self._attempt(order))

    def _backoff(self, failures: int) -> float:
        settings = self._settings
        wait_s: float = settings.confirm_retry_s * 2 ** min(failures - 1, 32)
        return min(settings.confirm_retry_cap_s, wait_s)
