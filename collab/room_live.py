"""What a room can do only while its relay is there: broadcasts, and calls to services."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from collab import limits
from collab.device import Device
from collab.errors import BadFrame, BadMessage, Closed, OfflineError, ReadOnly, Rejected
from collab.events import Observers
from collab.payload import pack_payload
from collab.protocol import frames
from collab.protocol.codec import encode, is_service, unpack_value
from collab.protocol.frames import Access, AnswerCode
from collab.protocol.waiting_casts import WaitingCasts

__all__ = ["Broadcast", "RoomLive"]

_RETRYABLE: Final[frozenset[str]] = frozenset({AnswerCode.BUSY, AnswerCode.TIMEOUT})
_HOW_FAR: Final[dict[str, str]] = {
    AnswerCode.BUSY: "It was not carried out.",
    AnswerCode.UNKNOWN_SERVICE: "It was not carried out.",
    AnswerCode.TIMEOUT: "It was cut off, and it is not known how far it got.",
    AnswerCode.FAILED: "It is not known how far it got.",
}


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What somebody said to everybody who was in the room then.

    ``sender`` is who it was, as the relay knows them. ``payload`` is what they gave; a tuple came
    as a list. All observers of a room get the same object.
    """

    sender: str
    payload: Any


class RoomLive:
    """The broadcasts and calls of one open room. Nothing of either is stored.

    1. Nothing is taken in, and nothing waits, while the room is not open at the relay.
    2. A request number is of one call for ever: an answer that is late fits no other.
    3. A call ends with its answer, with its caller, or with the joining: whichever is first.
    """

    def __init__(self, device: Device, name: str) -> None:
        self.observers: Final[Observers[Broadcast]] = Observers()
        self._name: Final = name
        self._device = device
        self._channel: int | None = None
        self._access = Access.NONE
        self._casts = WaitingCasts()
        self._to_send: dict[int, frames.Call] = {}  # by request, in their order
        self._calls: dict[int, asyncio.Future[tuple[frames.Answer, Any]]] = {}

    # For the connection

    def joined(self, channel: int, access: Access) -> None:
        """The room is open at the relay."""
        self._channel = channel
        self._access = access

    def detach(self) -> None:
        """The room is not open at the relay: left, joined again, or the connection is gone."""
        self._let_go(OfflineError, "lost its relay")

    def next_frame(self) -> bytes | None:
        """The next frame that goes up, encoded, or None: calls first, as somebody waits."""
        while self._to_send:
            request = next(iter(self._to_send))
            frame = self._to_send.pop(request)
            if not self._calls[request].done():  # else it is over, and its caller about to know
                return encode(frame)
        return self._casts.next()

    def receive(self, frame: frames.Broadcast | frames.Answer) -> None:
        """A frame came. Raises :class:`BadFrame`, which ends the connection."""
        if self._channel is None:
            return
        match frame:
            case frames.Broadcast():
                self._hear(frame)
            case frames.Answer():
                call = self._calls.get(frame.request)
                if call is not None and not call.done():
                    call.set_result((frame, _value_of(frame)))

    def leave(self) -> None:
        """The room is being closed: who waits hears that."""
        self._let_go(Closed, "was closed")

    def end(self) -> None:
        """The room is closed."""
        self.leave()
        self.observers.clear()

    # For the program

    def broadcast(self, payload: object) -> None:
        """Tell everybody else who is in the room; see ``Room.broadcast``."""
        packed = pack_payload(payload, limits.MAX_CAST_BYTES, "a broadcast")
        channel = self._open_channel("broadcast")
        if self._access < Access.WRITE:
            raise ReadOnly(
                f"This user may read the room {self._name!r}, not write it, so nobody is told. "
                f"Nothing was sent. Ask whoever runs the relay for the right."
            )
        self._casts.put(channel, encode(frames.Cast(channel, packed)))
        self._wake()

    async def call(self, service: str, payload: object, timeout: float | None) -> Any:
        """Ask a service; see ``Room.call``."""
        if not is_service(service):
            raise BadMessage(
                f"A service's name is text of 1 to {limits.MAX_SERVICE_BYTES} bytes, and "
                f"{service!r:.80} is not. Nothing was sent."
            )
        packed = pack_payload(payload, limits.MAX_CALL_BYTES, "a call")
        channel = self._open_channel("call")
        request = next(self._device.requests)
        answered = self._calls[request] = asyncio.get_running_loop().create_future()
        self._to_send[request] = frames.Call(channel, request, service, packed)
        self._wake()
        try:
            async with asyncio.timeout(timeout):
                answer, value = await answered
        finally:
            del self._calls[request]
            self._to_send.pop(request, None)
        if answer.code != AnswerCode.DONE:
            raise _refusal(service, answer)
        return value

    # Inside

    def _open_channel(self, what: str) -> int:
        if self._channel is None:
            raise OfflineError(
                f"The room {self._name!r} is not open at a relay now, and a {what} needs one. "
                f"Nothing was sent and nothing was queued. Try it when room.status and "
                f"client.connection say so, or put it into the document or the chat."
            )
        return self._channel

    def _let_go(self, error: type[OfflineError | Closed], what: str) -> None:
        if self._channel is not None:
            self._casts.forget(self._channel)
        self._channel = None
        for call in self._calls.values():
            if not call.done():
                call.set_exception(
                    error(
                        f"The room {self._name!r} {what} before this call was answered. It is not "
                        f"known whether it was carried out, and nothing of it was kept. Call again "
                        f"if doing it twice does no harm."
                    )
                )

    def _hear(self, frame: frames.Broadcast) -> None:
        if not self.observers:
            return
        try:
            payload = unpack_value(frame.payload)
        except ValueError:
            return  # the relay passes on what it did not read; its sender is no client of ours
        self.observers.emit(Broadcast(frame.sender, payload))

    def _wake(self) -> None:
        if self._device.uplink is not None:
            self._device.uplink.wake()


def _value_of(answer: frames.Answer) -> Any:
    """What the service gave; None if it refused. Raises :class:`BadFrame`."""
    if answer.code != AnswerCode.DONE:
        return None
    try:
        return unpack_value(answer.payload)
    except ValueError as error:
        raise BadFrame(f"an answer that is no value: {error}") from error


def _refusal(service: str, answer: frames.Answer) -> Rejected:
    return Rejected(
        f"The call to {service!r} was refused: {answer.reason or answer.code} ({answer.code}). "
        f"{_HOW_FAR.get(answer.code, 'Its service says so.')} Nothing of it is kept here.",
        code=answer.code,
        retryable=answer.code in _RETRYABLE,
    )
