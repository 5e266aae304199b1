"""lib0's primitives, state vectors and awareness, bounded: what y-protocols puts on the wire.

Decoding trusts nothing: every count and length is checked against the bytes that remain before
anything is allocated, numbers have exactly one encoding (the shortest, the one that lib0 writes),
and strings are strict UTF-8. Everything malformed raises ``BadUpdate`` with the offset.

Formats: lib0 ``encoding.js``/``decoding.js``; y-protocols ``PROTOCOL.md`` and ``awareness.js``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from collab.errors import BadUpdate
from collab.limits import (
    MAX_AWARENESS_BYTES,
    MAX_AWARENESS_STATES,
    MAX_CLIENT_ID,
    MAX_CLOCK,
    MAX_STATE_VECTOR_ENTRIES,
)
from collab.protocol.bounded_json import parse_bounded_json

__all__ = [
    "AwarenessState",
    "decode_awareness",
    "decode_state_vector",
    "encode_awareness",
    "encode_state_vector",
    "guard_state_vector",
    "read_var_bytes",
    "read_var_string",
    "read_var_uint",
    "utf16_units",
    "write_var_bytes",
    "write_var_string",
    "write_var_uint",
]

MAX_VAR_UINT: Final = 2**53 - 1  # what a JavaScript number holds exactly
_MIN_STATE_BYTES: Final = 3  # client id, clock, length of the JSON


@dataclass(frozen=True, slots=True)
class AwarenessState:
    """What one client says about itself.

    ``state`` is the JSON text as it came, an object; None stands for JSON ``null``: it left.
    ``clock`` rises with every change (y-protocols ``awareness.js``).
    """

    client_id: int
    clock: int
    state: str | None


def read_var_uint(data: bytes, pos: int) -> tuple[int, int]:
    """Read a variable-length number, 0 to 2^53-1, at ``pos``; return it and the position after.

    Raises ``BadUpdate`` if it is cut off, larger, or not in its shortest form.
    """
    start = pos
    value = 0
    shift = 0
    try:
        while True:
            byte = data[pos]
            pos += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 49:  # an eighth byte carries bits 49 to 55
                raise BadUpdate(f"number at offset {start} is longer than 8 bytes")
    except IndexError:
        raise BadUpdate(f"number at offset {start} is cut off") from None
    if not byte and shift:
        raise BadUpdate(f"number at offset {start} is longer than it needs to be")
    if value > MAX_VAR_UINT:
        raise BadUpdate(f"number at offset {start} is above 2^53-1")
    return value, pos


def read_var_bytes(data: bytes, pos: int) -> tuple[bytes, int]:
    """Read bytes with their length before them; return them and the position after."""
    length, start = read_var_uint(data, pos)
    end = start + length
    if end > len(data):
        raise BadUpdate(f"{length} bytes are announced at offset {pos}, {len(data) - start} remain")
    return data[start:end], end


def read_var_string(data: bytes, pos: int) -> tuple[str, int]:
    """Read a string whose length counts UTF-8 *bytes*; return it and the position after."""
    raw, end = read_var_bytes(data, pos)
    try:
        return raw.decode(), end
    except UnicodeDecodeError as error:
        raise BadUpdate(f"string at offset {pos} is not UTF-8: {error.reason}") from None


def utf16_units(raw: bytes, offset: int) -> tuple[int, tuple[int, ...]]:
    """How many UTF-16 units a string has, and which of them are second halves of a pair.

    ``offset`` is for the ``BadUpdate`` that says it is not UTF-8.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BadUpdate(f"string at offset {offset} is not UTF-8: {error.reason}") from None
    if max(text) <= "\uffff":
        return len(text), ()
    halves = []
    unit = -1
    for character in text:
        unit += 1
        if character > "\uffff":
            unit += 1
            halves.append(unit)
    return unit + 1, tuple(halves)


def write_var_uint(out: bytearray, value: int) -> None:
    """Append a number, 0 to 2^53-1; ``ValueError`` outside."""
    if not 0 <= value <= MAX_VAR_UINT:
        raise ValueError(f"{value} is not between 0 and 2^53-1")
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def write_var_bytes(out: bytearray, raw: bytes) -> None:
    """Append bytes with their length before them."""
    write_var_uint(out, len(raw))
    out += raw


def write_var_string(out: bytearray, text: str) -> None:
    """Append a string as UTF-8 with its length in bytes before it."""
    write_var_bytes(out, text.encode())


def decode_state_vector(data: bytes) -> dict[int, int]:
    """Decode a state vector: client id to the number of clocks known.

    Raises ``BadUpdate`` if it is malformed, names a client twice, or is out of bounds
    (``MAX_CLIENT_ID``, ``MAX_CLOCK``, ``MAX_STATE_VECTOR_ENTRIES``).
    """
    count, pos = read_var_uint(data, 0)
    if count > (len(data) - pos) // 2 or count > MAX_STATE_VECTOR_ENTRIES:
        raise BadUpdate(f"state vector announces {count} clients in {len(data) - pos} bytes")
    clocks: dict[int, int] = {}
    for _ in range(count):
        start = pos
        client, pos = read_var_uint(data, pos)
        clock, pos = read_var_uint(data, pos)
        if client > MAX_CLIENT_ID or clock > MAX_CLOCK:
            raise BadUpdate(f"state vector has a client or clock out of bounds at offset {start}")
        if client in clocks:
            raise BadUpdate(f"state vector names client {client} twice, at offset {start}")
        clocks[client] = clock
    if pos != len(data):
        raise BadUpdate(f"{len(data) - pos} bytes follow the state vector at offset {pos}")
    return clocks


guard_state_vector = decode_state_vector


def encode_state_vector(clocks: Mapping[int, int]) -> bytes:
    """Encode a state vector as Yjs does: higher client ids first, clients at clock 0 left out."""
    entries = sorted(((client, clock) for client, clock in clocks.items() if clock), reverse=True)
    out = bytearray()
    write_var_uint(out, len(entries))
    for client, clock in entries:
        write_var_uint(out, client)
        write_var_uint(out, clock)
    return bytes(out)


def decode_awareness(data: bytes) -> list[AwarenessState]:
    """Decode an awareness update (the inner bytes, without y-websocket's outer length).

    Raises ``BadUpdate`` if it is malformed, above ``MAX_AWARENESS_BYTES`` or
    ``MAX_AWARENESS_STATES``, names a client twice, or has a state that is neither ``null`` nor a
    JSON object of at most ``MAX_JSON_DEPTH`` levels.
    """
    if len(data) > MAX_AWARENESS_BYTES:
        raise BadUpdate(f"awareness has {len(data)} bytes, {MAX_AWARENESS_BYTES} are allowed")
    count, pos = read_var_uint(data, 0)
    if count > (len(data) - pos) // _MIN_STATE_BYTES:
        raise BadUpdate(f"awareness announces {count} states in {len(data) - pos} bytes")
    if count > MAX_AWARENESS_STATES:
        raise BadUpdate(f"awareness has {count} states, {MAX_AWARENESS_STATES} are allowed")
    states: dict[int, AwarenessState] = {}
    for _ in range(count):
        start = pos
        client, pos = read_var_uint(data, pos)
        clock, pos = read_var_uint(data, pos)
        if clock > MAX_CLOCK:
            raise BadUpdate(f"awareness clock at offset {start} is above {MAX_CLOCK}")
        if client in states:
            raise BadUpdate(f"awareness names client {client} twice, at offset {start}")
        json_start = pos
        text, pos = read_var_string(data, pos)
        states[client] = AwarenessState(client, clock, _checked_state(text, json_start))
    if pos != len(data):
        raise BadUpdate(f"{len(data) - pos} bytes follow the awareness states at offset {pos}")
    return list(states.values())


def encode_awareness(states: Iterable[AwarenessState]) -> bytes:
    """Encode an awareness update (y-protocols ``awareness.js``); the states are not checked."""
    entries = list(states)
    out = bytearray()
    write_var_uint(out, len(entries))
    for entry in entries:
        write_var_uint(out, entry.client_id)
        write_var_uint(out, entry.clock)
        write_var_string(out, "null" if entry.state is None else entry.state)
    return bytes(out)


def _checked_state(text: str, offset: int) -> str | None:
    try:
        value = parse_bounded_json(text)
    except ValueError as error:
        raise BadUpdate(f"awareness state at offset {offset}: the JSON {error}") from None
    if value is None:
        return None
    if not isinstance(value, dict):
        raise BadUpdate(f"awareness state at offset {offset} is neither an object nor null")
    return text
