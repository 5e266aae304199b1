"""Frames to bytes and back; the only module of this package that knows msgpack."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import Any, Final, cast

import msgpack

from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.frames import Frame, Part

_MAX_INT: Final = 2**63 - 1
_PEEK_BYTES: Final = 16  # an array's header, a tag and a channel

Check = Callable[[object], bool]


def is_int(value: object) -> bool:
    """Whether ``value`` is an integer as frames carry them: 0 to 2^63-1."""
    return type(value) is int and 0 <= value <= _MAX_INT


def is_id(value: object) -> bool:
    """Whether ``value`` is an id: 16 bytes."""
    return type(value) is bytes and len(value) == 16


def _is_optional_id(value: object) -> bool:
    return value is None or is_id(value)


def _is_time(value: object) -> bool:
    return is_int(value) and cast("int", value) <= limits.MAX_TIME_MS


def _is_bytes(value: object) -> bool:
    return type(value) is bytes


def _is_bool(value: object) -> bool:
    return type(value) is bool


def is_body(value: object) -> bool:
    """Whether ``value`` may be a message's body."""
    return type(value) is str and len(value.encode()) <= limits.MAX_BODY_BYTES


def is_meta(value: object) -> bool:
    """Whether ``value`` may be a message's meta, packed."""
    return type(value) is bytes and len(value) <= limits.MAX_META_BYTES


def _is_optional_int(value: object) -> bool:
    return value is None or is_int(value)


def is_reason(value: object) -> bool:
    """Whether ``value`` may be a sentence for people."""
    return type(value) is str and len(value.encode()) <= limits.MAX_REASON_BYTES


def is_user(value: object) -> bool:
    """Whether ``value`` may name a user in messages and receipts."""
    return type(value) is str and len(value.encode()) <= limits.MAX_USER_BYTES


def is_service(value: object) -> bool:
    """Whether ``value`` may name a service: 1–255 bytes of UTF-8."""
    if type(value) is not str:
        return False
    try:
        return 0 < len(value.encode()) <= limits.MAX_SERVICE_BYTES
    except UnicodeEncodeError:
        return False


def _is_bytes_up_to(most: int) -> Check:
    return lambda value: type(value) is bytes and len(value) <= most


def is_role(value: object) -> bool:
    """Whether ``value`` may be the word for a role, or be empty."""
    return type(value) is str and len(value.encode()) <= limits.MAX_ROLE_BYTES


def _is_token(value: object) -> bool:
    return value is None or (type(value) is str and len(value.encode()) <= limits.MAX_TOKEN_BYTES)


def is_room_name(value: object) -> bool:
    """Whether ``value`` may name a room: 1–255 bytes of UTF-8, no control characters."""
    if type(value) is not str or not value:
        return False
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        return False
    if len(encoded) > limits.MAX_ROOM_NAME_BYTES:
        return False
    return not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value)


# The names of fields decide their check: one name means one thing in all frames.
_CHECKS: Final[dict[str, Check]] = {
    "version": is_int,
    "nonce": is_id,
    "device": is_id,
    "relay": is_id,
    "connection": is_int,
    "token": _is_token,
    "request": is_int,
    "channel": is_int,
    "number": is_int,
    "offset": is_int,
    "head": is_int,
    "access": is_int,
    "stream": is_int,
    "total": is_int,
    "room": is_room_name,
    "good": _is_bool,
    "code": is_reason,
    "reason": is_reason,
    "state_vector": _is_bytes,
    "update": _is_bytes,
    "data": _is_bytes,
    "lane_epoch": is_id,
    "message_id": is_id,
    "lane_seq": is_int,
    "seq": is_int,
    "after": is_int,
    "before": is_int,
    "upto": is_int,
    "oldest": is_int,
    "unread": is_int,
    "user": is_user,
    "read_upto": is_int,
    "delivered_upto": is_int,
    "sent_at": _is_time,
    "retry_after_ms": is_int,
    "ttl_ms": _is_optional_int,
    "body": is_body,
    "meta": is_meta,
    "confirm": _is_bool,
    "newest": _is_bool,
    "outcomes": _is_bytes,
    "service": is_service,
    "sender": is_user,
    "payload": _is_bytes_up_to(limits.MAX_CAST_BYTES),
    "role": is_role,
    "whole": _is_bool,
}
_ID_CHECKS: Final[dict[type[Frame], dict[str, Check]]] = {
    frames.Welcome: {"generation": is_id},
    frames.Join: {"epoch": _is_optional_id, "generation": is_id},
    frames.Joined: {"epoch": is_id},
    frames.Enter: {"generation": is_id},
    frames.Call: {"payload": _is_bytes_up_to(limits.MAX_CALL_BYTES)},
    frames.Answer: {"payload": _is_bytes_up_to(limits.MAX_ANSWER_BYTES)},
}

_Shape = tuple[type[Frame], tuple[tuple[str, Check], ...]]


def _shape(kind: type[Frame]) -> _Shape:
    special = _ID_CHECKS.get(kind, {})
    names = [field.name for field in fields(kind)]
    return kind, tuple((name, special.get(name) or _CHECKS[name]) for name in names)


def _table(kinds: Iterable[type[Frame]]) -> dict[int, _Shape]:
    return {kind.TAG: _shape(kind) for kind in kinds}


_FROM_CLIENT: Final = _table(frames.FROM_CLIENT)
_FROM_RELAY: Final = _table(frames.FROM_RELAY)
_NAMES: Final[dict[type[Frame], tuple[str, ...]]] = {
    kind: tuple(field.name for field in fields(kind))
    for kind in (*frames.FROM_CLIENT, *frames.FROM_RELAY)
}


def encode(frame: Frame) -> bytes:
    """The bytes of ``frame``, of any length; ``parts`` cuts what is too long for one frame."""
    values: list[Any] = [frame.TAG]
    values.extend(getattr(frame, name) for name in _NAMES[type(frame)])
    packed: bytes = msgpack.packb(values)
    return packed


def _decode(data: bytes, table: dict[int, _Shape], max_bytes: int) -> Frame:
    if len(data) > max_bytes:
        raise BadFrame(f"a frame of {len(data)} bytes; at most {max_bytes} are allowed")
    try:
        values = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=True,
            max_str_len=limits.MAX_BODY_BYTES,
            max_bin_len=max_bytes,
            max_array_len=16,
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise BadFrame(f"a frame that is not msgpack as we use it: {error}") from error
    if type(values) is not list or not values or type(values[0]) is not int:
        raise BadFrame("a frame must be an array that starts with its integer tag")
    shape = table.get(values[0])
    if shape is None:
        raise BadFrame(f"a frame with tag {values[0]}, which this side does not take")
    kind, checks = shape
    if len(values) != len(checks) + 1:
        raise BadFrame(f"{kind.__name__} with {len(values) - 1} fields instead of {len(checks)}")
    for value, (name, check) in zip(values[1:], checks, strict=True):
        if not check(value):
            raise BadFrame(f"{kind.__name__}.{name} is malformed")
    return kind(*values[1:])


def decode_from_client(data: bytes, max_bytes: int = limits.MAX_FRAME_BYTES) -> Frame:
    """The frame in ``data``; raises :class:`BadFrame` for anything that a client may not send."""
    return _decode(data, _FROM_CLIENT, max_bytes)


def decode_from_relay(data: bytes, max_bytes: int = limits.MAX_FRAME_BYTES) -> Frame:
    """The frame in ``data``; raises :class:`BadFrame` for anything that a relay may not send."""
    return _decode(data, _FROM_RELAY, max_bytes)


def pack_rows(rows: Iterable[tuple[Any, ...]]) -> bytes:
    """Rows of plain values as one field of a frame; see ``collab.protocol.messages``."""
    packed: bytes = msgpack.packb(list(rows))
    return packed


def unpack_rows(data: bytes, checks: tuple[Check, ...], max_rows: int) -> list[list[Any]]:
    """The rows in ``data``, each with a value for every check. Raises :class:`BadFrame`."""
    try:
        rows = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=True,
            max_str_len=limits.MAX_BODY_BYTES,
            max_bin_len=limits.MAX_FRAME_BYTES,
            max_array_len=max(max_rows, len(checks)),
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise BadFrame(f"rows that are not msgpack as we use it: {error}") from error
    if type(rows) is not list or len(rows) > max_rows:
        raise BadFrame(f"a field that is no list of at most {max_rows} rows")
    for row in rows:
        if type(row) is not list or len(row) != len(checks):
            raise BadFrame(f"a row that has not {len(checks)} values")
        if not all(check(value) for value, check in zip(row, checks, strict=True)):
            raise BadFrame("a row with a malformed value")
    return rows


def pack_map(values: dict[str, Any]) -> bytes:
    """A program's own map (``meta``) as bytes. Raises TypeError or ValueError for what none is."""
    packed: bytes = msgpack.packb(values, strict_types=True)
    return packed


def unpack_map(data: bytes) -> dict[str, Any] | None:
    """The map in ``data``; None if it is none: what comes is shown as far as it can be."""
    if not data:
        return {}
    try:
        values = unpack_value(data)
    except ValueError:
        return None
    return values if type(values) is dict else None


def pack_value(value: object) -> bytes:
    """A program's own value as bytes; a tuple comes out as a list.

    Raises TypeError, ValueError or OverflowError for what msgpack cannot carry there and back.
    """
    packed: bytes = msgpack.packb(value)
    unpack_value(packed)
    return packed


def unpack_value(data: bytes) -> Any:
    """The value in ``data``. Raises ValueError if it is none, or one that Python has not."""
    size = len(data)
    try:
        return msgpack.unpackb(
            data, raw=False, strict_map_key=False, ext_hook=_refuse_ext, max_ext_len=0,
            max_array_len=size, max_map_len=size, max_str_len=size, max_bin_len=size,
        )  # fmt: skip
    except (msgpack.UnpackException, RecursionError, TypeError) as error:
        raise ValueError(f"no value that msgpack carries: {error or 'too deep'}") from error


def _refuse_ext(code: int, _data: bytes) -> object:
    raise ValueError(f"an extension type ({code})")


def parts(encoded: bytes, stream: int) -> Iterator[bytes]:
    """``encoded`` cut into the bytes of Part frames; lazily, so that other rooms come between."""
    for start in range(0, len(encoded), limits.PART_BYTES):
        piece = encoded[start : start + limits.PART_BYTES]
        yield encode(Part(stream, len(encoded), piece))


class Reassembly:
    """Puts the parts of one connection together again; bounded in number and bytes."""

    def __init__(self, decode: Callable[[bytes, int], Frame]) -> None:
        self._decode = decode
        self._open: dict[int, tuple[int, bytearray]] = {}
        self._promised = 0

    def add(self, part: Part) -> Frame | None:
        """The whole frame when ``part`` was its last one. Raises :class:`BadFrame`."""
        total, buffer = self._open.get(part.stream) or self._start(part)
        if part.total != total or len(buffer) + len(part.data) > total or not part.data:
            raise BadFrame(f"part of stream {part.stream} does not continue what came before")
        buffer += part.data
        if len(buffer) < total:
            return None
        del self._open[part.stream]
        self._promised -= total
        frame = self._decode(bytes(buffer), limits.MAX_PAYLOAD_BYTES)
        if not isinstance(frame, frames.IN_PARTS):
            raise BadFrame(f"{type(frame).__name__} may not come in parts")
        return frame

    def arriving(self, stream: int) -> tuple[int, int, int] | None:
        """What of an unfinished UPDATES or DIFFERENCE is here: its channel, bytes, all its bytes.

        None for any other frame, and for what cannot be told yet.
        """
        total, buffer = self._open.get(stream, (0, b""))
        beginning = msgpack.Unpacker(max_buffer_size=_PEEK_BYTES)
        beginning.feed(buffer[:_PEEK_BYTES])
        try:
            beginning.read_array_header()
            tag, channel = beginning.unpack(), beginning.unpack()
        except (ValueError, msgpack.UnpackException):
            return None
        if tag not in (frames.Updates.TAG, frames.Difference.TAG) or not is_int(channel):
            return None
        return channel, len(buffer), total

    def _start(self, part: Part) -> tuple[int, bytearray]:
        if not limits.MAX_FRAME_BYTES < part.total <= limits.MAX_PAYLOAD_BYTES:
            raise BadFrame(f"parts of a frame of {part.total} bytes")
        if (
            len(self._open) >= limits.MAX_OPEN_PARTS
            or self._promised + part.total > limits.MAX_OPEN_PART_BYTES
        ):
            raise BadFrame("too many payloads in parts at once")
        self._promised += part.total
        entry = self._open[part.stream] = (part.total, bytearray())
        return entry
