"""What needs somebody there: the broadcasts and calls of one ``/sync`` connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from collab import limits
from collab.protocol import frames
from collab.protocol.codec import encode, unpack_value
from collab.protocol.frames import Access, AnswerCode
from collab.protocol.waiting_casts import WaitingCasts
from collab_server.audience import CastAllowance, Listener
from collab_server.auth import User
from collab_server.rooms import Loaded
from collab_server.services import Answered, ServiceCall, Services

__all__ = ["ConnectionLive", "LiveFrame"]

LiveFrame = frames.Cast | frames.Call

_TOO_MANY = Answered(AnswerCode.BUSY, "too many calls at once; it was not begun")
_NO_VALUE = Answered(AnswerCode.INVALID, "its payload is no value")


@dataclass(eq=False, slots=True)
class _LiveChannel:
    """One room on this connection."""

    loaded: Loaded
    listener: Listener
    calls: set[asyncio.Task[Any]] = field(default_factory=set)  # at work


class ConnectionLive:
    """The broadcasts and calls of one connection. Belongs to its tasks.

    Invariants:

    1. Of a channel that was dropped nothing more goes down, except what is in parts already; its
       handlers are cancelled.
    2. Calls that are at work, or answered and not sent, have a bound; one above it is answered
       with ``busy``. When answers pile up (``is_full``) nothing more is read from the socket.
    3. A broadcast never waits for anybody: who may not, or too much, is not heard.
    """

    def __init__(
        self,
        services: Services,
        *,
        user: User,
        tasks: asyncio.TaskGroup,
        wake: Callable[[], None],
        now: float,
    ) -> None:
        self._services = services
        self._user = user
        self._tasks = tasks
        self._wake = wake
        self._allowance = CastAllowance(now=now)
        self._casts = WaitingCasts()
        self._channels: dict[int, _LiveChannel] = {}
        self._answers: deque[tuple[int, bytes]] = deque()
        self._calls = 0

    # Channels

    def open(self, loaded: Loaded) -> None:
        """A room is joined: hear what is said there."""
        channel = _LiveChannel(loaded, Listener(self._casts, self._wake))
        self._channels[loaded.room.channel] = channel
        loaded.audience.join(channel.listener)

    def drop(self, number: int) -> None:
        """The channel is closed, or about to be opened anew."""
        channel = self._channels.pop(number, None)
        if channel is None:
            return
        channel.loaded.audience.leave(channel.listener)
        for call in channel.calls:
            call.cancel()
        self._answers = deque(each for each in self._answers if each[0] != number)

    # Frames in

    @property
    def is_full(self) -> bool:
        """Whether the connection is not to be read from before an answer was sent."""
        return len(self._answers) >= limits.MAX_CONTROL_FRAMES

    def handle(self, frame: LiveFrame, access: Access, now: float) -> None:
        """Take a frame in, on a channel that is open. ``now`` is in seconds."""
        channel = self._channels[frame.channel]
        match frame:
            case frames.Cast():
                may_write = access >= Access.WRITE
                if may_write and self._allowance.admits(len(frame.payload), now):
                    channel.loaded.audience.tell(
                        frame.payload, self._user.sub, but=channel.listener
                    )
            case frames.Call():
                self._call(channel, frame, access)

    def _call(self, channel: _LiveChannel, frame: frames.Call, access: Access) -> None:
        if self._calls + len(self._answers) >= limits.MAX_CALLS_PER_CONNECTION:
            self._answer(frame, _TOO_MANY)
            return
        try:
            payload = unpack_value(frame.payload)
        except ValueError:
            self._answer(frame, _NO_VALUE)
            return
        call = ServiceCall(channel.loaded.room.name, self._user, payload, access)
        task = self._tasks.create_task(self._ask(channel, frame, call))
        self._calls += 1
        channel.calls.add(task)
        task.add_done_callback(lambda task: self._over(channel, task))

    async def _ask(self, channel: _LiveChannel, frame: frames.Call, call: ServiceCall) -> None:
        answered = await self._services.ask(frame.service, call)
        self._over(channel, asyncio.current_task())
        self._answer(frame, answered)

    def _over(self, channel: _LiveChannel, task: asyncio.Task[Any] | None) -> None:
        if task in channel.calls:  # one that was cancelled before it began ends only once
            channel.calls.remove(task)
            self._calls -= 1

    # Frames out

    def _answer(self, frame: frames.Call, said: Answered) -> None:
        answer = frames.Answer(frame.channel, frame.request, said.code, said.reason, said.payload)
        self._answers.append((frame.channel, encode(answer)))
        self._wake()

    def next_cast(self) -> bytes | None:
        """The next broadcast of any room, or None."""
        return self._casts.next()

    def next_answer(self) -> bytes | None:
        """The next answer, which may be longer than a frame; or None."""
        return self._answers.popleft()[1] if self._answers else None
