"""y-websocket's messages: how its bytes are read and written.

Format: y-websocket ``src/y-websocket.js``, y-protocols ``sync.js``, ``awareness.js``, ``auth.js``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from collab.protocol.ysync import (
    AwarenessState,
    decode_awareness,
    decode_state_vector,
    encode_awareness,
    read_var_bytes,
    read_var_uint,
    write_var_bytes,
    write_var_string,
)

_SYNC: Final = 0
_AWARENESS: Final = 1
_AUTH: Final = 2
_QUERY_AWARENESS: Final = 3
_STEP1: Final = 0
_STEP2: Final = 1
_UPDATE: Final = 2
_DENIED: Final = 0


@dataclass(frozen=True, slots=True)
class Step1:
    """What the sender knows; it asks for the rest."""

    state_vector: bytes


@dataclass(frozen=True, slots=True)
class Step2:
    """All that the receiver's Step1 lacked."""

    update: bytes


@dataclass(frozen=True, slots=True)
class Update:
    """What just changed. Not walked yet."""

    update: bytes


@dataclass(frozen=True, slots=True)
class Awareness:
    """What the sender says of client ids, its own or others'."""

    states: list[AwarenessState]


@dataclass(frozen=True, slots=True)
class QueryAwareness:
    """The sender asks for everything that is known."""


Message = Step1 | Step2 | Update | Awareness | QueryAwareness


def messages_in(data: bytes) -> Iterator[Message]:
    """The messages of one WebSocket frame, in order. Raises :class:`collab.errors.BadUpdate`.

    A message of an unknown kind has an unknown length: it ends the frame, silently.
    """
    pos = 0
    while pos < len(data):
        kind, pos = read_var_uint(data, pos)
        if kind == _QUERY_AWARENESS:
            yield QueryAwareness()
        elif kind == _AWARENESS:
            raw, pos = read_var_bytes(data, pos)
            yield Awareness(decode_awareness(raw))
        elif kind == _SYNC:
            step, pos = read_var_uint(data, pos)
            if step > _UPDATE:
                return
            raw, pos = read_var_bytes(data, pos)
            if step == _STEP1:
                decode_state_vector(raw)  # it goes into an engine
                yield Step1(raw)
            else:
                yield Step2(raw) if step == _STEP2 else Update(raw)
        else:
            return


def step1(state_vector: bytes) -> bytes:
    """``00 00``: asks for all that ``state_vector`` lacks."""
    return _sync(_STEP1, state_vector)


def step2(update: bytes) -> bytes:
    """``00 01``: the answer to a Step1; a provider takes the first one for "synced"."""
    return _sync(_STEP2, update)


def in_updates(_channel: int, _offset: int, update: bytes) -> bytes:
    """A run of the log in this dialect (``room.Dialect``): ``00 02``."""
    return _sync(_UPDATE, update)


def awareness(states: Iterable[AwarenessState]) -> bytes:
    """``01``: a page of awareness states."""
    out = bytearray((_AWARENESS,))
    write_var_bytes(out, encode_awareness(states))
    return bytes(out)


def permission_denied(reason: str) -> bytes:
    """``02 00``: a provider prints ``reason``."""
    out = bytearray((_AUTH, _DENIED))
    write_var_string(out, reason)
    return bytes(out)


def _sync(step: int, payload: bytes) -> bytes:
    out = bytearray((_SYNC, step))
    write_var_bytes(out, payload)
    return bytes(out)
