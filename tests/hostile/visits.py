"""What one hostile connection says to a relay, from a seed.

Most visits get as far as a joined room, say things there that a relay must bear, and end with one
that it must not. What the relay answers changes what they say: updates are made for the state
vector that it told.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgpack

from collab import limits
from collab.errors import BadUpdate
from collab.protocol import frames
from collab.protocol.codec import encode
from collab.protocol.update import decode_awareness, decode_state_vector, walk
from tests.hostile.generator import Adversary, awareness, damage, state_vector

__all__ = ["Visit", "garbage", "hello"]

_ROOMS: Final = 400  # visits that share a room
_BIG: Final = (0, 1, 2**31, 2**53, 2**63 - 1)


def hello(rng: random.Random) -> frames.Hello:
    """A HELLO that is in order."""
    return frames.Hello(frames.VERSION, rng.randbytes(16), rng.randbytes(16), 1, None)


class Visit:
    """The ``number``-th visit of a seed."""

    def __init__(self, seed: str, number: int) -> None:
        self._rng = rng = random.Random(f"{seed}/{number}")
        self.room = f"hostile {number // _ROOMS} {rng.randrange(4)}"
        self.knocks_badly = rng.random() < 0.08
        self.length = rng.choice((1, 4, 8, 12, 16))
        self.leaves_without_a_word = rng.random() < 0.2
        self._adversary = Adversary(rng)
        self._number = 0
        self._next: bytes | None = None

    def knock(self) -> bytes | str:
        """A first frame that is no HELLO."""
        return garbage(self._rng)

    def hello(self) -> bytes:
        return encode(hello(self._rng))

    def join(self) -> bytes:
        return encode(frames.Join(1, self.room, None, bytes(16), 0, b"\0"))

    def bearable(self, channel: int, known: dict[int, int]) -> bytes:
        """A frame after which the connection mostly goes on: what is told at sight is left out."""
        rng = self._rng
        way = rng.random()
        if way < 0.6:
            self._number += 1
            kind = frames.Offer if rng.random() < 0.7 else frames.Update
            return self._fits(kind(channel, self._number, self._update(known)))
        if way < 0.7:
            states = self._first(lambda: awareness(rng), decode_awareness)
            return self._fits(frames.Awareness(channel, states))
        if way < 0.78:
            vector = self._first(lambda: state_vector(rng), decode_state_vector)
            generation, offset = rng.randbytes(16), rng.choice(_BIG)
            return self._fits(frames.Join(2, self.room, None, generation, offset, vector))
        if way < 0.84:
            other = rng.choice(_BIG)
            return self._fits(frames.Update(other, 1, self._update(known)))
        if way < 0.9:
            return encode(frames.Ping(rng.choice(_BIG)))
        if way < 0.94:
            return encode(frames.Leave(rng.choice((*_BIG, 3))))
        total = rng.choice((limits.MAX_FRAME_BYTES + 1, 300_000, limits.MAX_PAYLOAD_BYTES))
        return encode(frames.Part(rng.randrange(40), total, rng.randbytes(rng.choice((1, 9000)))))

    def unbearable(self, channel: int) -> bytes | str:
        """A frame that ends the connection."""
        rng = self._rng
        way = rng.random()
        if way < 0.4:
            return garbage(rng)
        if way < 0.8:
            number = self._number + 1
            return self._fits(frames.Offer(channel, number, self._adversary.send({})))
        if way < 0.9:
            return self._fits(frames.Awareness(channel, awareness(rng)))
        update = frames.Update(channel, rng.choice((*_BIG, self._number + 2)), b"\x01\x01")
        return encode(update)

    def _update(self, known: dict[int, int]) -> bytes:
        return self._first(lambda: self._adversary.send(known), walk)

    @staticmethod
    def _first(make: Callable[[], bytes], check: Callable[[bytes], object]) -> bytes:
        """The first of a few that is not refused at sight, or else one that is."""
        for _ in range(12):
            data = make()
            with suppress(BadUpdate):
                check(data)
                break
        return data

    @staticmethod
    def _fits(frame: frames.Frame) -> bytes:
        data = encode(frame)
        return data if len(data) <= limits.MAX_FRAME_BYTES else encode(frames.Ping(1))


def known_of(joined: frames.Joined) -> dict[int, int]:
    """The state vector that a relay told, which is in order."""
    try:
        return decode_state_vector(joined.state_vector)
    except BadUpdate as error:
        raise AssertionError(f"the relay's own state vector: {error}") from error


def garbage(rng: random.Random) -> bytes | str:
    """Anything but a frame that a client may send now."""
    return rng.choice(_GARBAGE)(rng)


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def _damaged(rng: random.Random) -> bytes:
    whole: tuple[frames.Frame, ...] = (
        hello(rng),
        frames.Join(1, "room", rng.randbytes(16), bytes(16), 5, b"\x01\x05\x09"),
        frames.Update(1, 1, b"\0\0"),
        frames.Awareness(1, b"\0"),
        frames.Part(1, 300_000, b"x" * 50),
        frames.Leave(1),
    )
    return damage(rng, encode(rng.choice(whole)))


def _other_types(rng: random.Random) -> bytes:
    odd: tuple[Any, ...] = (
        None, True, -1, 2**64 - 1, 1.5, "x", b"x", b"x" * 16, [], {}, [[[]]], "\0", "é" * 200,
    )  # fmt: skip
    tag = rng.choice((*range(-1, 24), 2**40))
    return _packed([tag, *(rng.choice(odd) for _ in range(rng.randrange(9)))])


_GARBAGE: Final[tuple[Callable[[random.Random], bytes | str], ...]] = (
    lambda _: "text",
    lambda _: b"",
    lambda rng: rng.randbytes(rng.choice((1, 20, 5000))),
    _damaged,
    _damaged,
    _other_types,
    _other_types,
    lambda _: b"\x91" * 60_000 + b"\xc0",  # arrays in arrays
    lambda _: b"\x81\xc0" * 60_000 + b"\xc0",  # maps in maps
    lambda _: b"\xdd\xff\xff\xff\xff",  # four billion values
    lambda _: b"\xdf\xff\xff\xff\xff",
    lambda _: b"\xc6\xff\xff\xff\xffx",
    lambda _: b"\xdb\xff\xff\xff\xffx",
    lambda _: b"\xc9\xff\xff\xff\xff\x01",
    lambda _: b"\xd6\xff\x00\x00\x00\x00",  # a timestamp
    lambda _: b"\x93\x03\x01\xa2\xed\xa0",
    lambda _: encode(frames.Pong(1)),
    lambda _: encode(frames.Part(1, 1 << 40, b"x")),
    lambda _: encode(frames.Part(1, 300_000, b"")),
    lambda _: b"x" * (limits.MAX_FRAME_BYTES + 1),
)
