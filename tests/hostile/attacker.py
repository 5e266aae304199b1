"""Visits a relay: ``python -m tests.hostile.attacker URL SEED FIRST FRAMES``. Not a test.

Plays visits from ``FIRST`` on until it has sent ``FRAMES`` frames; a line of JSON now and then says
how many, and the last one the number of the next visit. Ends with status 1 when the relay does not
answer, or answers what it should not.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Final, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.codec import Reassembly, decode_from_relay, encode
from tests.hostile.visits import Visit, known_of

F = TypeVar("F", bound=frames.Frame)

_AT_ONCE: Final = 6
_PATIENCE_S: Final = 20.0
_LAST_PING: Final = 987_654_321


class Attacker:
    """Several visitors at once, and what they counted."""

    def __init__(self, url: str, seed: str, first: int, wanted: int) -> None:
        self._url, self._seed, self._wanted = url, seed, wanted
        self.next = first
        self.sent = 0
        self.codes: Counter[int] = Counter()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_ONCE):
                tasks.create_task(self._visitor())
        self.tell()

    def tell(self) -> None:
        codes = {str(code): count for code, count in sorted(self.codes.items())}
        print(json.dumps({"sent": self.sent, "next": self.next, "codes": codes}), flush=True)

    async def _visitor(self) -> None:
        while self.sent < self._wanted:
            number = self.next
            self.next += 1
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._visit(Visit(self._seed, number))
            except TimeoutError:
                raise RuntimeError(f"visit {number} of seed {self._seed} got no answer") from None
            if number % 200 == 0:
                self.tell()

    async def _visit(self, visit: Visit) -> None:
        socket = await connect(
            self._url + "/sync",
            subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
            compression=None,
            max_size=limits.MAX_FRAME_BYTES,
            ping_interval=None,
            close_timeout=2,
            proxy=None,
        )
        try:
            await self._talk(socket, visit)
        except ConnectionClosed:
            self.codes[socket.close_code or 1006] += 1
        else:
            self.codes[0] += 1
        finally:
            if visit.leaves_without_a_word:
                socket.transport.abort()
            await socket.close()

    async def _send(self, socket: ClientConnection, data: bytes | str) -> None:
        self.sent += 1
        await socket.send(data)

    async def _talk(self, socket: ClientConnection, visit: Visit) -> None:
        listener = _Listener(socket)
        if visit.knocks_badly:
            await self._send(socket, visit.knock())
            await listener.until_closed()
            return
        await socket.send(visit.hello())
        await listener.expect(frames.Welcome)
        await socket.send(visit.join())
        joined = await listener.expect(frames.Joined)
        known = known_of(joined)
        for _ in range(visit.length):
            await self._send(socket, visit.bearable(joined.channel, known))
        await socket.send(encode(frames.Ping(_LAST_PING)))
        while (await listener.expect(frames.Pong)).number != _LAST_PING:
            pass
        if not visit.leaves_without_a_word:
            await self._send(socket, visit.unbearable(joined.channel))
            await socket.send(encode(frames.Ping(_LAST_PING)))
            await listener.expect(frames.Pong)


class _Listener:
    """What the relay says: it must be in order, whatever it was told."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._reassembly = Reassembly(decode_from_relay)

    async def _frame(self) -> frames.Frame:
        while True:
            data = await self._socket.recv()
            assert isinstance(data, bytes), "the relay said text"
            try:
                frame: frames.Frame | None = decode_from_relay(data)
                if isinstance(frame, frames.Part):
                    frame = self._reassembly.add(frame)
            except BadFrame as error:
                raise AssertionError(f"the relay's own frame: {error}") from error
            if frame is not None:
                return frame

    async def expect(self, kind: type[F]) -> F:
        while True:
            frame = await self._frame()
            if isinstance(frame, kind):
                return frame

    async def until_closed(self) -> None:
        """Or until WELCOME: a damaged HELLO may still be one."""
        while not isinstance(await self._frame(), frames.Welcome):
            pass


async def main() -> None:
    url, seed, first, wanted = sys.argv[1:]
    await Attacker(url, seed, int(first), int(wanted)).run()


if __name__ == "__main__":
    asyncio.run(main())
