"""One lane on one connection: what comes in it is put before the application, then the log."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.codec import unpack_map
from collab.protocol.frames import Access
from collab.protocol.messages import OutcomeCode, SlotOutcome
from collab_server.hooks import Admitted, Hooks, IncomingMessage, Postponed, Refused
from collab_server.lane_reader import Arrival, LaneReader
from collab_server.lanes import LaneKey, TooEarly
from collab_server.log.chat_port import ChatLog, Decision, Offered, Submission, Unjudged
from collab_server.room import Room

__all__ = ["ConnectionLane"]

_ENTRY_BYTES: Final = 1024  # of a frame that waits to be decided, besides its texts

_READ_ONLY: Final = "this user may read the room, not write it"
_NO_HANDLER: Final = "nobody at this relay confirms messages"
_NO_MAP: Final = "its meta is no map"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A SEND or SKIP that is not decided. ``refused``: that it will be is known on arrival."""

    arrival: Arrival
    frame: frames.Send | frames.Skip
    came_at: int  # ms since 1970
    expires_at_s: float | None
    refused: Refused | None

    @property
    def size(self) -> int:
        """Bytes that it takes while it waits."""
        if isinstance(self.frame, frames.Skip):
            return _ENTRY_BYTES
        return _ENTRY_BYTES + len(self.frame.body) + len(self.frame.meta)

    def offered(self, sender: str, answer: Admitted | Refused | None) -> Offered | None:
        """What goes to the log; ``answer`` is what the application said, if it was asked."""
        if isinstance(self.frame, frames.Skip):
            return None
        admitted = answer if isinstance(answer, Admitted) else None
        refused = answer if isinstance(answer, Refused) else self.refused
        return Offered(
            sender=sender,
            body=self.frame.body if admitted is None else admitted.body,
            meta=self.frame.meta if admitted is None else admitted.meta,
            sent_at=self.frame.sent_at,
            as_sent=None if admitted is None else admitted.as_sent,
            expires_at_s=self.expires_at_s,
            refused=None if refused is None else refused.code,
            confirm=self.frame.confirm,
        )


class ConnectionLane:
    """Takes the SENDs and SKIPs of one lane. Belongs to the tasks of its connection.

    Invariants:

    1. What came goes to the log in the order in which it came. While the application is asked about
       a message, what follows it in the lane waits, and nothing else does.
    2. The application is asked about a message whose slot is due, and which is not refused already.
    3. ``undecided`` hears of every byte that waits, and again (negative) when it does not any more.
    4. After ``end`` nothing is answered.
    """

    def __init__(
        self,
        key: LaneKey,
        room: Room,
        last: int,
        *,
        log: ChatLog,
        hooks: Hooks | None,
        tasks: asyncio.TaskGroup,
        answer: Callable[[frames.Frame], None],
        undecided: Callable[[int], None],
        confirms: bool,
    ) -> None:
        """``last`` is the slot up to which the log has decided.

        ``confirms``: a message may ask for the application's verdict.
        """
        self._key = key
        self._room = room
        self._reader = LaneReader(room.channel, last)
        self._log = log
        self._hooks = hooks
        self._tasks = tasks
        self._answer = answer
        self._undecided = undecided
        self._confirms = confirms
        self._waiting: deque[_Entry] = deque()  # the application is asked about the first
        self._asking: asyncio.Task[None] | None = None
        self._is_over = False

    def take(self, frame: frames.Send | frames.Skip, access: Access) -> None:
        """Take a frame in. Raises :class:`BadFrame`."""
        if frame.lane_seq == 0:
            raise BadFrame("slots are numbered from 1")
        arrival = self._reader.arrive(frame.lane_seq, frame.message_id)
        if isinstance(arrival, frames.Expected):
            self._answer(arrival)
        if not isinstance(arrival, Arrival):
            return
        now_ms = time.time_ns() // 1_000_000
        entry = _Entry(arrival, frame, now_ms, _expiry_of(frame), self._refusal(frame, access))
        self._undecided(entry.size)
        if not self._waiting and not self._is_to_be_asked(entry):
            self._submit(entry)
            return
        self._waiting.append(entry)
        if self._asking is None:
            self._asking = self._tasks.create_task(self._ask_in_turn())

    def _refusal(self, frame: frames.Send | frames.Skip, access: Access) -> Refused | None:
        """Why a message is refused for good, as far as that is known without the log."""
        if isinstance(frame, frames.Skip):
            return None
        if access < Access.WRITE:
            return Refused(OutcomeCode.FORBIDDEN, _READ_ONLY)
        if frame.confirm and not self._confirms:
            return Refused(OutcomeCode.INVALID, _NO_HANDLER)
        if unpack_map(frame.meta) is None:
            return Refused(OutcomeCode.INVALID, _NO_MAP)
        return None

    def end(self) -> None:
        """The lane is over on this connection. What went to the log is decided there anyway."""
        self._is_over = True
        if self._asking is not None:
            self._asking.cancel()
        while self._waiting:
            self._undecided(-self._waiting.popleft().size)

    def _is_to_be_asked(self, entry: _Entry) -> bool:
        is_message = isinstance(entry.frame, frames.Send)
        return self._hooks is not None and is_message and entry.arrival.is_due and not entry.refused

    async def _ask_in_turn(self) -> None:
        while self._waiting:
            entry = self._waiting[0]
            answer: Admitted | Refused | Postponed | None = None
            is_dropped = self._reader.is_dropped(entry.arrival)
            if not is_dropped and self._is_to_be_asked(entry):
                answer = await self._ask(entry.frame)
            if self._is_over:
                return
            self._waiting.popleft()
            if isinstance(answer, Postponed):
                self._postpone(entry, answer)
            elif is_dropped:
                self._undecided(-entry.size)
            else:
                self._submit(entry, answer)
        self._asking = None

    async def _ask(self, frame: frames.Send | frames.Skip) -> Admitted | Refused | Postponed:
        assert self._hooks is not None
        assert isinstance(frame, frames.Send)
        message = IncomingMessage(
            room=self._room.name,
            id=UUID(bytes=frame.message_id),
            sender=self._key.sub,
            body=frame.body,
            meta=unpack_map(frame.meta) or {},
            sent_at=frame.sent_at,
        )
        return await self._hooks.ask(self._key, message, frame.meta)

    def _postpone(self, entry: _Entry, answer: Postponed) -> None:
        self._undecided(-entry.size)
        self._answer(
            self._reader.refused_for_now(
                entry.arrival, answer.code, answer.retry_after_ms, answer.reason
            )
        )

    def _submit(self, entry: _Entry, answer: Admitted | Refused | None = None) -> None:
        """Let the log decide."""
        refused = answer if isinstance(answer, Refused) else entry.refused

        def decided(decision: Decision) -> None:
            self._undecided(-entry.size)
            if self._is_over or isinstance(decision, Unjudged):
                return
            told = self._reader.decided(entry.arrival, decision, _reason(refused, decision))
            if told is not None:
                self._answer(told)

        self._log.submit(
            Submission(
                room_id=self._room.id,
                lane=self._key,
                slot=entry.arrival.slot,
                message_id=entry.arrival.message_id,
                came_at=entry.came_at,
                offered=entry.offered(self._key.sub, answer),
                decided=decided,
            )
        )


def _expiry_of(frame: frames.Send | frames.Skip) -> float | None:
    if isinstance(frame, frames.Skip) or frame.ttl_ms is None:
        return None
    return time.monotonic() + frame.ttl_ms / 1000


def _reason(refused: Refused | None, decision: SlotOutcome | TooEarly) -> str:
    """Why it was refused, if that is what it came to."""
    if refused is None or isinstance(decision, TooEarly) or decision.code != refused.code:
        return ""
    return refused.reason
