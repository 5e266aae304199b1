"""Hostile updates, state vectors and awareness, from a seed.

They know the formats: most are wrong in one place only, so that they come far before they are
refused, and some are wrong in no place at all, only unkind. There are structs put together from
known ids (``Forger``), real updates and corpus files damaged (``damage``), and bombs by hand
(``bombs``); ``Adversary`` mixes them. A seed gives the same bytes as long as the corpus stays the
same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from collab.errors import BadUpdate
from collab.limits import MAX_CLIENT_ID, MAX_CLOCK, MAX_TYPE_DEPTH, MAX_VALUE_DEPTH
from collab.protocol.ysync import read_var_bytes, write_var_bytes
from tests.property.guard_documents import history
from tests.unit.protocol.updates import deletes, item, number, shared_type, string, text, update

__all__ = [
    "CORPUS",
    "ROOTS",
    "Adversary",
    "Forger",
    "awareness",
    "bombs",
    "damage",
    "real_updates",
    "state_vector",
    "stored_log",
    "written_log",
]

CORPUS: Final = Path(__file__).parent / "corpus"
ROOTS: Final = ("text", "array", "map", "xml", "body", "", "ключ", "x" * 300)
KEYS: Final = ("k", "", "bold", "📊", "__proto__")

_ODD_NUMBERS: Final = (
    0, 1, 2, 3, 7, 63, 64, 127, 128, 255, 256, 16383, 16384, 2**28, 2**31 - 2, 2**31 - 1, 2**31,
    2**32 - 1, 2**32, 2**53 - 2, 2**53 - 1,
)  # fmt: skip
_HIGHEST: Final = 2**53 - 1000  # what is put together stays a number that can be written
_ODD_BYTES: Final = bytes((0, 1, 4, 5, 6, 7, 8, 9, 10, 0x44, 0x84, 0xC4, 0x27, 0x7F, 0x80, 0xFF))
_OVERLONG: Final = (b"\x80\x00", b"\xff" * 9, b"\x80" * 8 + b"\x01", b"\xff" * 7 + b"\x7f")
_STRINGS: Final = (
    b"a", b"hello", "é".encode(), "你好".encode(), "😀".encode(), "a😀b".encode(), b"\n", b"\0",
    "\ufeff\u202e".encode(), "e\u0301".encode(), "🧑‍🤝‍🧑".encode(), b"x" * 200,
)  # fmt: skip
_BAD_STRINGS: Final = (
    b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\xbd", b"\xed\xb8\x80", b"\xed\xa0\xbd\xed\xb8\x80",
    b"\xf4\x90\x80\x80", b"\xf0\x9f\x98", b"\x80", b"a\xc3",
)  # fmt: skip
_JSON: Final = ("null", "1", '"x"', "true", '{"a":[1]}', "[]", '"\\ud83d\\ude00"', "1e300")
_BAD_JSON: Final = (
    "", "NaN", "1e999", '"\\ud83d"', "{", "[1,]", "01", "'a'", "[" * 65 + "]" * 65, "[" * 5000,
    '{"a":' * 3000, "\ufeff1", "1 2",
)  # fmt: skip
_BELOW_VALUES: Final = bytes((126, 127, 120, 121))


class Adversary:
    """Sends a log: an honest one, damaged copies of its updates, forged ones, and bombs.

    ``send`` is told the state vector of who receives, so that much of it fits.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._honest = real_updates(rng.randrange(24))
        self._at = 0

    def send(self, known: dict[int, int]) -> bytes:
        """The next update."""
        rng = self._rng
        way = rng.random()
        if way < 0.12:
            self._at += 1
            return self._honest[(self._at - 1) % len(self._honest)]
        if way < 0.55:
            near = min(self._at + rng.choice((-3, -1, 0, 0, 0, 0, 1)), len(self._honest) - 1)
            return damage(rng, self._honest[max(near, 0)])
        if way < 0.985:
            return Forger(rng, known).forge()
        if way < 0.997 and (logs := _corpus()):
            return damage(rng, rng.choice(rng.choice(logs)))
        return rng.choice(bombs())


class Forger:
    """Puts structs together that refer to what is known, or nearly.

    ``known`` is a state vector; ``lies`` is the chance of a detail that is not right.
    """

    def __init__(self, rng: random.Random, known: dict[int, int], lies: float = 0.03) -> None:
        self._rng = rng
        self._ends = dict(known)
        self._known = dict(known)
        self._lies = lies
        self._types: list[tuple[int, int]] = []

    def forge(self) -> bytes:
        """One update of up to three clients, and some deletes."""
        rng = self._rng
        blocks: list[tuple[int, int, list[bytes]]] = []
        clients = {self._client() for _ in range(rng.choice((0, 1, 1, 1, 2, 3)))}
        for client in rng.sample(sorted(clients), len(clients)):
            first = clock = self._first_clock(client)
            structs: list[bytes] = []
            for _ in range(rng.choice((1, 1, 1, 2, 4, 12))):
                struct, length = self._struct(client, clock)
                structs.append(struct)
                clock = min(clock + length, _HIGHEST)
                self._ends[client] = clock
            blocks.append((client, first, structs))
        data = update(*blocks, delete_set=self._deletes())
        return damage(rng, data) if rng.random() < self._lies else data

    def _lying(self) -> bool:
        return self._rng.random() < self._lies

    def _client(self) -> int:
        rng = self._rng
        if self._lying():
            return rng.choice(_ODD_NUMBERS)
        if self._ends and rng.random() < 0.8:
            return rng.choice(list(self._ends))
        return rng.choice((rng.randrange(10), rng.getrandbits(32), rng.randrange(MAX_CLIENT_ID)))

    def _first_clock(self, client: int) -> int:
        rng = self._rng
        clock = self._ends.get(client, 0)
        if self._lying():
            return rng.choice(_ODD_NUMBERS)
        if rng.random() < 0.15:
            return max(0, clock + rng.randrange(-6, 3))
        return clock

    def _id(self, client: int, clock: int) -> tuple[int, int] | None:
        """Something to refer to from (client, clock)."""
        rng = self._rng
        if self._lying():
            return self._client(), rng.choice(_ODD_NUMBERS)
        if clock and rng.random() < 0.3:
            return client, clock - 1
        known = [entry for entry in self._ends.items() if entry[1]]
        if not known:
            return None
        other, end = rng.choice(known)
        top = min(end, clock) if other == client else end
        return (other, rng.randrange(top)) if top else None

    def _parent(self, client: int, clock: int) -> str | tuple[int, int]:
        rng = self._rng
        if rng.random() < 0.5:
            return rng.choice(ROOTS)
        if self._types and not self._lying():
            return rng.choice(self._types)
        return self._id(client, clock) or "text"

    def _struct(self, client: int, clock: int) -> tuple[bytes, int]:
        rng = self._rng
        if rng.random() < 0.05:
            length = self._length()
            return bytes((rng.choice((0, 0, 10)),)) + number(length), length
        left = self._id(client, clock) if rng.random() < 0.5 else None
        right = self._id(client, clock) if rng.random() < 0.3 else None
        kind, content, length = self._content()
        if kind == 7:
            self._types.append((client, clock))
        key = rng.choice(KEYS) if rng.random() < 0.2 else None
        parent = self._parent(client, clock)
        return item(kind, content, left=left, right=right, parent=parent, key=key), length

    def _length(self) -> int:
        rng = self._rng
        return rng.choice(_ODD_NUMBERS) if self._lying() else rng.randrange(1, 9)

    def _content(self) -> tuple[int, bytes, int]:
        rng = self._rng
        kind = rng.choice((4, 4, 4, 4, 8, 8, 7, 7, 1, 3, 5, 6, 9))
        if self._lying():
            kind = rng.randrange(32)
        match kind:
            case 4:
                raw = rng.choice(_BAD_STRINGS if self._lying() else _STRINGS)
                units = len(raw.decode(errors="replace").encode("utf-16-le")) // 2
                return kind, string(raw), units
            case 8:
                values = [self._value(0) for _ in range(rng.choice((1, 1, 2, 5)))]
                return kind, number(len(values)) + b"".join(values), len(values)
            case 7:
                ref = rng.choice((0, 1, 2, 3, 4, 6)) if not self._lying() else rng.randrange(20)
                return kind, bytes((ref,)) + (string("p") if ref == 3 else b""), 1
            case 1:
                length = self._length()
                return kind, number(length), length
            case 3:
                return kind, string(rng.randbytes(rng.randrange(9))), 1
            case 5:
                return kind, string(self._json()), 1
            case 6:
                return kind, string(rng.choice(KEYS)) + string(self._json()), 1
            case 9:
                options = rng.choice((b"\x76\x00", b"\x76\x01" + string("gc") + b"\x79", b"\x7e"))
                return kind, string("a guid") + options, 1
        return kind, rng.randbytes(rng.randrange(6)), 1

    def _json(self) -> str:
        return self._rng.choice(_BAD_JSON if self._lying() else _JSON)

    def _value(self, depth: int) -> bytes:
        rng = self._rng
        if self._lying():
            return b"\x75\x01" * rng.choice((MAX_VALUE_DEPTH, MAX_VALUE_DEPTH + 1, 9000)) + b"\x7e"
        match rng.randrange(8 if depth < 4 else 6):
            case 0:
                return bytes((rng.choice(_BELOW_VALUES),))
            case 1:
                return b"\x77" + string(rng.choice(_STRINGS))
            case 2:
                return b"\x7d" + bytes((rng.randrange(0x80),))
            case 3:
                return rng.choice((b"\x7b" + rng.randbytes(8), b"\x7c" + rng.randbytes(4)))
            case 4:
                return b"\x7a" + rng.randbytes(8)
            case 5:
                return b"\x74" + string(rng.randbytes(rng.randrange(4)))
            case 6:
                values = [self._value(depth + 1) for _ in range(rng.randrange(4))]
                return b"\x75" + number(len(values)) + b"".join(values)
        pairs = [string(rng.choice(KEYS)) + self._value(depth + 1) for _ in range(rng.randrange(3))]
        return b"\x76" + number(len(pairs)) + b"".join(pairs)

    def _deletes(self) -> bytes:
        rng = self._rng
        if rng.random() < 0.6 or not self._ends:
            return b"\x00"
        per_client: list[tuple[int, list[tuple[int, int]]]] = []
        for _ in range(rng.choice((1, 1, 2))):
            client = self._client()
            end = self._ends.get(client, 0)
            ranges: list[tuple[int, int]] = []
            at = 0
            while at < end and len(ranges) < 5:
                start = at + rng.randrange(4)
                length = min(rng.choice((1, 1, 2, 8, end)), max(end - start, 1))
                ranges.append((start, length))
                at = start + length + 1
            if self._lying():
                ranges.append((rng.choice(_ODD_NUMBERS), rng.choice(_ODD_NUMBERS)))
            if self._lying():
                rng.shuffle(ranges)
            per_client.append((client, ranges))
        return deletes(*per_client)


def damage(rng: random.Random, data: bytes) -> bytes:
    """``data`` with a few bytes flipped, put in, taken out, doubled or cut off."""
    raw = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at = rng.randrange(len(raw)) if raw else 0
        match rng.randrange(9) if raw else 3:
            case 0:
                raw[at] = rng.randrange(256)
            case 1:
                raw[at] ^= 1 << rng.randrange(8)
            case 2:
                raw[at] = (raw[at] + rng.choice((-1, 1))) % 256
            case 3:
                raw[at:at] = rng.randbytes(rng.choice((1, 2, 5)))
            case 4:
                del raw[at : at + rng.choice((1, 1, 2, 5))]
            case 5:
                start = rng.randrange(len(raw))
                raw[at:at] = raw[start : start + rng.randrange(1, 12)]
            case 6:
                raw[at : at + 1] = rng.choice((*map(number, _ODD_NUMBERS), *_OVERLONG))
            case 7 if rng.random() < 0.2:
                del raw[at:]
            case _:
                raw[at] = rng.choice(_ODD_BYTES)
    return bytes(raw)


@lru_cache(maxsize=64)
def real_updates(seed: int) -> tuple[bytes, ...]:
    """A log of honest writers with every kind of content, and the whole document at its end."""
    log, team = history(seed, steps=40, writers=2)
    return (*log, team[0].document.get_update())


@lru_cache(maxsize=1)
def bombs() -> tuple[bytes, ...]:
    """Updates of which each asks for too much: depth, length, count, or patience."""
    chain = [shared_type()] + [shared_type(parent=(1, at)) for at in range(MAX_TYPE_DEPTH + 6)]
    deep = b"\x01" + b"\x75\x01" * 40_000 + b"\x7e"
    maps = b"\x01" + (b"\x76\x01" + string("k")) * 20_000 + b"\x7e"
    waiting = update(
        (1, 0, [text("a", left=(2, 0))]), (2, 0, [text("b", left=(3, 0))]),
        (3, 0, [text("c", left=(1, 0))]),
    )  # fmt: skip
    many = [(client, 0, [text("x")]) for client in range(1, 300)]
    huge = b"\xff\xff\xff\xff\xff\xff\xff\x0f"
    return (
        b"",
        b"\x00",
        b"\x00\x00",
        huge,
        huge + b"\x00",
        b"\x01" + huge + b"\x01\x00",
        update((1, 0, [item(8, deep)])),
        update((1, 0, [item(8, maps)])),
        update((1, 0, [item(8, huge)])),
        update((1, 0, [item(8, b"\x01\x75" + huge)])),
        update((1, 0, [item(8, b"\x01\x76" + huge)])),
        update((1, 0, [item(3, huge)])),
        update((1, 0, [item(4, huge)])),
        update((1, 0, [item(5, string("[" * 60_000))])),
        update((1, 0, [item(6, string("b") + string('{"a":' * 20_000))])),
        update((1, 0, [item(9, string("guid") + deep[1:])])),
        update((1, 0, chain)),
        update((1, 0, chain[:MAX_TYPE_DEPTH]), delete_set=deletes((1, [(0, 1)]))),
        update((1, 0, [b"\x00" + number(MAX_CLOCK)])),
        update((1, 0, [b"\x00" + number(MAX_CLOCK), text("x")])),
        update((1, 0, [b"\x0a" + number(MAX_CLOCK), text("x")])),
        update((1, 0, [item(1, number(MAX_CLOCK))])),
        update((1, MAX_CLOCK, [text("x")])),
        update((MAX_CLIENT_ID, 0, [text("x")])),
        update((1, 0, [text("x", left=(1, 0))])),
        update((1, 0, [text("x"), text("y", right=(1, 1))])),
        waiting,
        update(*many),
        update((1, 0, [text("x")] * 500)),
        update(delete_set=deletes((1, [(0, MAX_CLOCK)]))),
        update(delete_set=deletes((1, [(5, 1), (0, 1)]))),
        update(delete_set=deletes((1, [(0, 5), (2, 9)]))),
        update(delete_set=deletes((1, [(0, 0)]))),
        update(delete_set=deletes((1, [(2 * at, 1) for at in range(900)]))),
        update(delete_set=deletes(*[(client, [(0, 1)]) for client in range(700)])),
        update(delete_set=huge),
        update((1, 0, [text("😀")]), delete_set=deletes((1, [(1, 1)]))),
        update((1, 0, [text("😀"), text("x", left=(1, 0))])),
        update((1, 0, [shared_type(0), text("😀", parent=(1, 0))])),
        update((1, 0, [shared_type(0), text("你", parent=(1, 0)), text("é", left=(1, 1))])),
        update((1, 0, [text("x"), text("y", parent=(1, 0))])),
    )


def state_vector(rng: random.Random) -> bytes:
    """A state vector that is none, or one that is unkind."""
    match rng.randrange(6):
        case 0:
            return number(rng.choice(_ODD_NUMBERS))
        case 1:
            return number(2) + (number(7) + number(1)) * 2
        case 2:
            count = rng.choice((1, 30, 400))
            return number(count) + b"".join(
                number(client + 128) + number(rng.choice(_ODD_NUMBERS)) for client in range(count)
            )
        case 3:
            return rng.randbytes(rng.randrange(40))
        case 4:
            return number(1) + number(rng.choice(_ODD_NUMBERS)) + number(rng.choice(_ODD_NUMBERS))
    return damage(rng, number(2) + number(5) + number(3) + number(2**31) + number(9))


def awareness(rng: random.Random) -> bytes:
    """Awareness that is none, or comes from somebody unkind."""
    match rng.randrange(7):
        case 0:
            return number(rng.choice(_ODD_NUMBERS)) + rng.randbytes(rng.randrange(30))
        case 1:
            states = [(rng.choice(_ODD_NUMBERS), rng.choice(_ODD_NUMBERS), rng.choice(_BAD_JSON))]
        case 2:
            states = [(client, 1, '{"a":' * 70 + "1" + "}" * 70) for client in range(2)]
        case 3:
            count = rng.choice((1, 50, 1500))
            states = [(rng.getrandbits(32), 1, '{"x":1}') for _ in range(count)]
        case 4:
            states = [(5, 1, '{"name":"' + "é" * rng.choice((10, 20_000, 40_000)) + '"}')]
        case 5:
            states = [(rng.getrandbits(32), rng.choice(_ODD_NUMBERS), rng.choice(_JSON))]
        case _:
            states = [(9, 1, "{}"), (9, 2, "null")]
    data = number(len(states)) + b"".join(
        number(client) + number(clock) + string(state) for client, clock, state in states
    )
    return damage(rng, data) if rng.random() < 0.3 else data


# What broke something, once


def written_log(updates: Sequence[bytes]) -> bytes:
    """The bytes of a corpus file: the updates of one log, each after its length."""
    out = bytearray()
    for data in updates:
        write_var_bytes(out, data)
    return bytes(out)


def stored_log(path: Path) -> list[bytes]:
    """The updates of a corpus file."""
    data, pos, updates = path.read_bytes(), 0, list[bytes]()
    while pos < len(data):
        try:
            entry, pos = read_var_bytes(data, pos)
        except BadUpdate as error:
            raise ValueError(f"{path.name} is no corpus file: {error}") from None
        updates.append(entry)
    return updates


@lru_cache(maxsize=1)
def _corpus() -> list[list[bytes]]:
    return [log for path in sorted(CORPUS.glob("*.bin")) if (log := stored_log(path))]
