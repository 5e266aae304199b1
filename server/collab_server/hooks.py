"""What the application at the relay says of messages before they are taken in.

1. The function is called outside of every transaction, for one message of a lane at a time, in the
   lane's order. Lanes do not wait for each other.
2. It is not called for a slot that is decided already. But a crash, or a lost connection, between
   its answer and the commit makes it see a message again: at least once, keyed by the message's id.
3. It has ``Settings.hook_timeout_s``. If it takes longer, or fails, the message is refused for now
   (``busy``), and its device sends it again.
4. Then, and when the connection or the room is left, it is cancelled. Nobody waits for one that
   does not let itself be cancelled, but the lane is not put before it again until it has ended.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

from collab import limits
from collab.protocol.codec import is_body, is_meta, pack_map
from collab.protocol.messages import OutcomeCode
from collab_server.lanes import LaneKey

__all__ = [
    "Accept",
    "Admitted",
    "Answer",
    "Hooks",
    "IncomingMessage",
    "Later",
    "OnMessage",
    "Postponed",
    "Refused",
    "Reject",
    "Rewrite",
    "Ruling",
]

logger = logging.getLogger(__name__)

_NOT_TO_BE_SAID: Final = frozenset(
    {
        OutcomeCode.ACCEPTED,
        OutcomeCode.SKIPPED,
        OutcomeCode.CONFLICT,
        OutcomeCode.FORGOTTEN,
        OutcomeCode.BUSY,
        OutcomeCode.RATE_LIMITED,
    }
)


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A message that somebody sent. ``sent_at``: milliseconds since 1970, by the device's clock."""

    room: str
    id: UUID
    sender: str
    body: str
    meta: Mapping[str, object]
    sent_at: int


@dataclass(frozen=True, slots=True)
class Accept:
    """Take it in as it is."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse it for good. ``code`` is a word of the application's own, or one of the relay's.

    The relay's own are ``forbidden``, ``invalid``, ``too_large`` and ``expired``. ``reason`` is a
    sentence for people; it is told once, the code whenever the device asks again.
    """

    code: str
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.code or len(self.code.encode()) > limits.MAX_CODE_BYTES:
            raise ValueError(f"a code has 1 to {limits.MAX_CODE_BYTES} bytes, not {self.code!r}")
        if self.code in _NOT_TO_BE_SAID:
            raise ValueError(f"{self.code!r} is no permanent refusal; see Later and Accept")


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Take something else in under its id. None: as it was sent.

    A body or meta above the bounds of ``collab.limits`` is refused as ``too_large``.
    """

    body: str | None = None
    meta: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        if self.body is not None and type(self.body) is not str:
            raise TypeError(f"a body is text, not {type(self.body).__name__}")


@dataclass(frozen=True, slots=True)
class Later:
    """Refuse it for now (``rate_limited``): its device sends it again after that time."""

    retry_after_s: float

    def __post_init__(self) -> None:
        if not 0 <= self.retry_after_s <= limits.MAX_RETRY_AFTER_MS / 1000:
            most = limits.MAX_RETRY_AFTER_MS // 1000
            raise ValueError(f"a device waits 0 to {most} seconds, not {self.retry_after_s}")


Ruling = Accept | Reject | Rewrite | Later

OnMessage = Callable[[IncomingMessage], Awaitable[Ruling]]
"""What the application says of a message; see the rules of this module."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What goes to the log. ``as_sent``: what the device sent, if that is something else."""

    body: str
    meta: bytes
    as_sent: tuple[str, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A permanent refusal, which the log records."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Postponed:
    """A transient refusal: the slot is not consumed."""

    code: str
    retry_after_ms: int
    reason: str


Answer = Admitted | Refused | Postponed

_CLOSING_S: Final = 1.0
_NO_ANSWER: Final = Postponed(OutcomeCode.BUSY, 1_000, "the application cannot answer now")


class Hooks:
    """Asks the application. Belongs to one relay."""

    def __init__(self, on_message: OnMessage, timeout_s: float) -> None:
        self._on_message = on_message
        self._timeout_s = timeout_s
        # A lane has one connection at a time, but the function may outlive the last one's end.
        self._turns: WeakValueDictionary[tuple[str, LaneKey], asyncio.Lock] = WeakValueDictionary()
        self._running: set[asyncio.Task[Ruling]] = set()

    async def ask(self, lane: LaneKey, message: IncomingMessage, meta: bytes) -> Answer:
        """What the application makes of ``message``, whose meta was sent as ``meta``.

        Cancelling this cancels the function and does not wait for it.
        """
        turn = self._turns.setdefault((message.room, lane), asyncio.Lock())
        call = asyncio.create_task(self._call(turn, message))
        self._running.add(call)
        call.add_done_callback(self._over)
        try:
            await asyncio.wait([call], timeout=self._timeout_s)
        except asyncio.CancelledError:
            call.cancel()
            raise
        if not call.done():
            call.cancel()
            logger.warning("on_message did not answer in time; the message is refused for now")
        elif call.cancelled():
            logger.warning("on_message was cancelled; the message is refused for now")
        else:
            try:
                return _answer(call.result(), message.body, meta)
            except Exception:
                logger.exception("on_message failed; the message is refused for now")
        return _NO_ANSWER

    async def _call(self, turn: asyncio.Lock, message: IncomingMessage) -> Ruling:
        async with turn:
            return await self._on_message(message)

    async def close(self) -> None:
        """Cancel what still runs; what does not let itself be cancelled is left alone."""
        running = list(self._running)
        for call in running:
            call.cancel()
        if running:
            await asyncio.wait(running, timeout=_CLOSING_S)

    def _over(self, call: asyncio.Task[Ruling]) -> None:
        self._running.discard(call)
        if not call.cancelled():
            call.exception()  # one that was cut off may fail as it ends, and nobody asks


def _answer(ruling: Ruling, body: str, meta: bytes) -> Answer:
    match ruling:
        case Accept():
            return Admitted(body, meta)
        case Reject(code, reason):
            return Refused(code, _cut(reason))
        case Rewrite():
            return _rewritten(ruling, body, meta)
        case Later(retry_after_s):
            return Postponed(OutcomeCode.RATE_LIMITED, math.ceil(retry_after_s * 1000), "")
        case _:
            raise TypeError(f"on_message answered {type(ruling).__name__}, which is no ruling")


def _rewritten(ruling: Rewrite, body: str, meta: bytes) -> Answer:
    new_body = body if ruling.body is None else ruling.body
    new_meta = meta if ruling.meta is None else pack_map(dict(ruling.meta))
    if not (is_body(new_body) and is_meta(new_meta)):
        return Refused(OutcomeCode.TOO_LARGE, "the application made it too large")
    return Admitted(new_body, new_meta, (body, meta))


def _cut(reason: str) -> str:
    return reason.encode()[: limits.MAX_REASON_BYTES].decode(errors="ignore")
