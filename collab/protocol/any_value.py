"""Where does this lib0 ``Any`` value end, and may an engine read it?

Engines decode nested values by recursion and end the process when the stack does; here a list
stands for the stack. Format: lib0 ``encoding.js``, ``writeAny``.
"""

from __future__ import annotations

from typing import Final

from collab.errors import BadUpdate
from collab.limits import MAX_VALUE_DEPTH
from collab.protocol.ysync import MAX_VAR_UINT, read_var_string, read_var_uint

__all__ = ["skip_any"]

_BYTES: Final = 116
_ARRAY: Final = 117
_MAP: Final = 118
_STRING: Final = 119
_INTEGER: Final = 125
# true, false, null, undefined; float32, float64, bigint
_FIXED_BYTES: Final = {120: 0, 121: 0, 126: 0, 127: 0, 124: 4, 123: 8, 122: 8}


def skip_any(data: bytes, pos: int, size: int) -> int:
    """Check the value at ``pos`` of ``data[:size]`` and return the position after it.

    Raises ``BadUpdate`` if it is malformed or nests deeper than ``MAX_VALUE_DEPTH``;
    ``IndexError`` if a tag is cut off.
    """
    waiting: list[int] = []  # per open array or map: how many values are still to come
    in_map: list[bool] = []
    while True:
        if waiting and in_map[-1]:
            _, pos = read_var_string(data, pos)
        tag = data[pos]
        pos += 1
        fixed = _FIXED_BYTES.get(tag)
        if fixed is not None:
            pos += fixed
        elif tag == _STRING:
            _, pos = read_var_string(data, pos)
        elif tag == _INTEGER:
            pos = _skip_var_int(data, pos)
        elif tag in (_ARRAY, _MAP):
            start = pos
            count, pos = read_var_uint(data, pos)
            # a value takes a byte; in a map its key takes another
            if count > (size - pos) // (2 if tag == _MAP else 1):
                raise BadUpdate(f"{count} values are announced at offset {start}, too few remain")
            if len(waiting) == MAX_VALUE_DEPTH:
                raise BadUpdate(f"value at offset {start} nests deeper than {MAX_VALUE_DEPTH}")
            if count:
                waiting.append(count)
                in_map.append(tag == _MAP)
                continue
        elif tag == _BYTES:
            length, start = read_var_uint(data, pos)
            pos = start + length
        else:
            raise BadUpdate(f"value at offset {pos - 1} has the unknown tag {tag}")
        if pos > size:
            raise BadUpdate(f"value before offset {size} is cut off")
        while waiting:
            waiting[-1] -= 1
            if waiting[-1]:
                break
            waiting.pop()
            in_map.pop()
        if not waiting:
            return pos


def _skip_var_int(data: bytes, pos: int) -> int:
    """lib0 ``writeVarInt``: the first byte is (continues, sign, 6 bits), the others 7 bits."""
    start = pos
    byte = data[pos]
    pos += 1
    value = byte & 0x3F
    shift = 6
    while byte > 0x7F:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 56 or value > MAX_VAR_UINT:
            raise BadUpdate(f"integer at offset {start} is beyond 2^53-1")
    return pos
