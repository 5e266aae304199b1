"""What devices may ask of the application at the relay: its services, and what becomes of a call.

1. A handler is called once for each call that a device makes, and never again for the same one.
   A device that hears nothing does not know whether it was carried out; give a call that must not
   be done twice an id of its own in the payload.
2. It has ``Settings.call_timeout_s``. Then, and when the connection or the room is left, it is
   cancelled. One that does not let itself be cancelled keeps its place among ``max_calls``.
3. What it raises is logged and not told, except :class:`CallRefused`.
4. Nothing about a call is stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from collab import limits
from collab.errors import LocalError
from collab.protocol.codec import is_service, pack_value
from collab.protocol.frames import Access, AnswerCode
from collab_server.auth import User

__all__ = ["Answered", "CallRefused", "Service", "ServiceCall", "Services"]

logger = logging.getLogger(__name__)

_NOT_TO_BE_SAID: Final = frozenset(
    {AnswerCode.DONE, AnswerCode.UNKNOWN_SERVICE, AnswerCode.FAILED, AnswerCode.TIMEOUT}
)
_CLOSING_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class ServiceCall:
    """What a device asks. ``payload`` is what its program gave; a tuple comes as a list."""

    room: str
    user: User
    payload: Any
    access: Access


class CallRefused(Exception):
    """Raised by a handler: the caller gets ``collab.Rejected`` with this code and reason.

    ``code`` is a word of the application's own, or ``forbidden``, ``invalid`` or ``busy`` (which
    alone says that the same call can succeed later). ``reason`` is a sentence for people.
    """

    def __init__(self, code: str, reason: str = "") -> None:
        super().__init__(code, reason)
        if not code or len(code.encode()) > limits.MAX_CODE_BYTES:
            raise ValueError(f"a code has 1 to {limits.MAX_CODE_BYTES} bytes, not {code!r}")
        if code in _NOT_TO_BE_SAID:
            raise ValueError(f"{code!r} is the relay's own word")
        self.code = code
        self.reason = reason


Service = Callable[[ServiceCall], Awaitable[object]]
"""Answers a call with any value that msgpack can carry; see the rules of this module."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What goes back; ``payload`` is the packed value if the code is ``done``, else empty."""

    code: str
    reason: str = ""
    payload: bytes = b""


_UNKNOWN: Final = Answered(AnswerCode.UNKNOWN_SERVICE, "this relay has no service of that name")
_BUSY: Final = Answered(AnswerCode.BUSY, "the relay has too many calls at once; it was not begun")
_TIMEOUT: Final = Answered(AnswerCode.TIMEOUT, "the service did not answer in time")
_FAILED: Final = Answered(AnswerCode.FAILED, "the service failed")
_TOO_MUCH: Final = Answered(AnswerCode.FAILED, "the service answered more than fits an answer")


class Services:
    """Carries out calls. Belongs to one relay.

    Raises :class:`collab.LocalError` for a name that no call could carry.
    """

    def __init__(
        self, handlers: Mapping[str, Service], *, timeout_s: float, max_calls: int
    ) -> None:
        for name in handlers:
            if not is_service(name):
                raise LocalError(
                    f"A service's name is text of 1 to {limits.MAX_SERVICE_BYTES} bytes, and "
                    f"{name!r:.80} is not. Nothing was started."
                )
        self._handlers = dict(handlers)
        self._timeout_s = timeout_s
        self._max_calls = max_calls
        self._running: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        """How many handlers are at work."""
        return len(self._running)

    async def ask(self, service: str, call: ServiceCall) -> Answered:
        """What became of ``call``. Cancelling this cancels the handler and does not wait for it."""
        handler = self._handlers.get(service)
        if handler is None:
            return _UNKNOWN
        if len(self._running) >= self._max_calls:
            return _BUSY
        task = asyncio.create_task(_handle(handler, call))
        self._running.add(task)
        task.add_done_callback(self._over)
        try:
            await asyncio.wait([task], timeout=self._timeout_s)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            task.cancel()
            logger.warning("the service %r did not answer in time", service)
            return _TIMEOUT
        return _answer_of(service, task)

    async def close(self) -> None:
        """Cancel what still runs; what does not let itself be cancelled is left alone."""
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_CLOSING_S)

    def _over(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # one that was cut off may fail as it ends, and nobody asks


async def _handle(handler: Service, call: ServiceCall) -> object:
    return await handler(call)


def _answer_of(service: str, task: asyncio.Task[object]) -> Answered:
    if task.cancelled():
        logger.warning("the service %r was cancelled by itself", service)
        return _FAILED
    error = task.exception()
    if isinstance(error, CallRefused):
        return Answered(error.code, _cut(error.reason))
    if error is not None:
        logger.error("the service %r failed", service, exc_info=error)
        return _FAILED
    try:
        payload = pack_value(task.result())
    except (TypeError, ValueError, OverflowError) as unpackable:
        logger.error("the service %r answered what cannot be sent: %s", service, unpackable)  # noqa: TRY400
        return _FAILED
    if len(payload) > limits.MAX_ANSWER_BYTES:
        logger.error(
            "the service %r answered %d bytes; at most %d go back",
            service, len(payload), limits.MAX_ANSWER_BYTES,
        )  # fmt: skip
        return _TOO_MUCH
    return Answered(AnswerCode.DONE, "", payload)


def _cut(reason: str) -> str:
    encoded = str(reason).encode(errors="replace")
    return encoded[: limits.MAX_REASON_BYTES].decode(errors="ignore")
