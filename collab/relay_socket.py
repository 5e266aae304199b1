"""One WebSocket to a relay: binary frames, bounded, without redirects. It knows no protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.route import Route, why_not

__all__ = ["Lost", "RelaySocket", "opened"]

_GOODBYE_S: Final = 2.0  # how long the other end has for its half of the close


class Lost(Exception):
    """This attempt is over: the reason, and the relay's close code if it gave one."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


class RelaySocket:
    """An open socket. ``send`` and ``receive`` raise :class:`Lost` once it is gone."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, data: bytes) -> None:
        """Send one binary message; returns when the socket takes more."""
        try:
            await self._socket.send(data)
        except ConnectionClosed as closed:
            raise _lost(closed) from None

    async def receive(self) -> bytes:
        """The next message. Raises :class:`BadFrame` for text."""
        try:
            data = await self._socket.recv()
        except ConnectionClosed as closed:
            raise _lost(closed) from None
        if not isinstance(data, bytes):
            raise BadFrame("frames are binary")
        return data

    def abort(self) -> None:
        """End it without a goodbye: nobody is there who would answer one."""
        self._socket.transport.abort()

    async def close(self) -> None:
        """End it with a goodbye."""
        await self._socket.close()


@asynccontextmanager
async def opened(
    route: Route, on_bytes: Callable[[], object] = lambda: None
) -> AsyncIterator[RelaySocket]:
    """A socket to the relay's ``/sync``; closed with the block. Raises :class:`Lost`.

    ``on_bytes`` is called whenever bytes arrive, whole messages or not.
    """

    class Heard(ClientConnection):
        def data_received(self, data: bytes) -> None:
            on_bytes()
            super().data_received(data)

    options: dict[str, Any] = {"ssl": route.tls} if route.is_secure else {}
    try:
        socket = await _Direct(
            route.sync_url,
            subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
            compression=None,
            max_size=limits.MAX_FRAME_BYTES,
            ping_interval=None,
            open_timeout=None,
            close_timeout=_GOODBYE_S,
            user_agent_header=None,
            proxy=route.proxy,
            create_connection=Heard,
            **options,
        )
    except InvalidStatus as refused:
        status = refused.response.status_code
        raise Lost(f"the WebSocket was refused with HTTP {status}") from refused
    except (OSError, WebSocketException, TimeoutError) as error:
        raise Lost(why_not(error, route)) from error
    try:
        if socket.subprotocol != frames.SUBPROTOCOL:
            raise Lost("what answered does not speak our protocol: it is not the relay")
        yield RelaySocket(socket)
    finally:
        await socket.close()


class _Direct(connect):
    """``connect`` follows redirects; what is meant for the relay is for nobody else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def _lost(closed: ConnectionClosed) -> Lost:
    if closed.rcvd is not None:
        return Lost(closed.rcvd.reason or f"closed with {closed.rcvd.code}", closed.rcvd.code)
    return Lost("the connection was cut")
