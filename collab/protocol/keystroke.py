"""Walks the two updates that nearly all traffic consists of, in two or three microseconds.

One is a plain insert of up to 127 bytes of text beside known items; the other deletes one range.
A regular expression tells them apart and cuts them up, with the same rules as ``walk``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from collab.errors import BadUpdate
from collab.limits import MAX_CLIENT_ID, MAX_CLOCK
from collab.protocol.contents import NO_CLIENT, Block, Walk
from collab.protocol.ysync import utf16_units

__all__ = ["MAX_KEYSTROKE_BYTES", "walk_keystroke"]

MAX_KEYSTROKE_BYTES: Final = 180  # header, four ids and 127 bytes of text


def walk_keystroke(update: bytes) -> Walk | None:
    """Walk an update of at most ``MAX_KEYSTROKE_BYTES`` if it is one of the two kinds.

    Raises ``BadUpdate`` if it is, but must not reach an engine.
    """
    if update[:2] == b"\x01\x01":
        match = _INSERT.fullmatch(update)
        if match is not None:
            return _walk_insert(update, match)
    elif update[:2] == b"\x00\x01":
        match = _DELETE.fullmatch(update)
        if match is not None:
            return _walk_delete(update, match)
    return None


_VAR: Final = rb"([\x00-\x7f]|[\x80-\xff]{1,7}[\x01-\x7f])"  # the shortest form only
_INSERT: Final = re.compile(
    rb"\x01\x01" + _VAR + _VAR + rb"(?:"
    rb"\x84" + _VAR + _VAR + rb"|"  # after an item
    rb"\xc4" + _VAR + _VAR + _VAR + _VAR + rb"|"  # between two
    rb"\x44" + _VAR + _VAR + rb")"  # before one
    rb"([\x01-\x7f])(.+)\x00",
    re.DOTALL,
)
_DELETE: Final = re.compile(rb"\x00\x01" + _VAR + rb"\x01" + _VAR + _VAR)


def _clock_of(raw: bytes) -> int:
    value = raw[0] & 0x7F
    shift = 7
    for byte in raw[1:]:
        value |= (byte & 0x7F) << shift
        shift += 7
    return value


@lru_cache(maxsize=1024)  # writers are few, and their ids are five bytes or more
def _client_of(raw: bytes) -> int:
    client = _clock_of(raw)
    if client > MAX_CLIENT_ID:
        raise BadUpdate("a client id is above 2^53-1")
    return client


def _walk_insert(update: bytes, match: re.Match[bytes]) -> Walk | None:
    raw, raw_clock, lc, lk, lc2, lk2, rc2, rk2, rc, rk, length, text = match.groups()
    if length[0] != len(text):
        return None  # something else that looks alike
    units = 1
    second_halves: tuple[int, ...] = ()
    if len(text) > 1:
        units = len(text)
        if not text.isascii():
            units, second_halves = utf16_units(text, len(update) - len(text) - 1)
    elif text > b"\x7f":
        raise BadUpdate(f"string at offset {len(update) - 2} is not UTF-8")
    client = _client_of(raw)
    clock = _clock_of(raw_clock)
    end = clock + units
    left = right = NO_CLIENT
    left_clock = right_clock = 0
    if lc is None:
        lc, lk, rc, rk = (lc2, lk2, rc2, rk2) if rc is None else (None, None, rc, rk)
    needs: dict[int, int] = {}
    if lc is not None:
        left_clock = _clock_of(lk)
        if lc == raw:
            left = client
            if left_clock >= clock:
                raise BadUpdate("a struct comes after one that does not exist before it")
        else:
            left = _client_of(lc)
            needs[left] = left_clock + 1
    if rc is not None:
        right_clock = _clock_of(rk)
        if rc == raw:
            right = client
            if right_clock >= clock:
                raise BadUpdate("a struct comes before one that does not exist before it")
        else:
            right = _client_of(rc)
            if needs.get(right, 0) <= right_clock:
                needs[right] = right_clock + 1
    if left == right and left_clock == right_clock:
        raise BadUpdate("an item stands between another one and itself")
    if end > MAX_CLOCK or left_clock >= MAX_CLOCK or right_clock >= MAX_CLOCK:
        raise BadUpdate(f"a clock is above {MAX_CLOCK}")
    start = match.end(2)
    return Walk(
        update,
        ((client, clock, end),),
        needs,
        (),
        (Block(client, clock, end, 1, start, len(update) - 1),),
        (),
        (),
        False,
        False,
        (left, left_clock, right, right_clock),
        tuple([(client, clock + offset) for offset in second_halves]) if second_halves else (),
    )


def _walk_delete(update: bytes, match: re.Match[bytes]) -> Walk:
    raw, raw_clock, raw_length = match.groups()
    clock = _clock_of(raw_clock)
    length = _clock_of(raw_length)
    if not length:
        raise BadUpdate("a delete range is empty")
    if clock + length > MAX_CLOCK:
        raise BadUpdate(f"a delete range ends above {MAX_CLOCK}")
    return Walk(update, (), {}, ((_client_of(raw), clock, length),), ())
