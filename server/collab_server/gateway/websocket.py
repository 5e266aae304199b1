"""uvicorn's WebSocket, with bounds that depend on the connection's path and state."""

from __future__ import annotations

import asyncio
from asyncio import Transport
from typing import Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from collab import limits

EXTENSION: Final = "collab.socket"


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """Takes messages of 16 KiB, and sends no pings, until the application says otherwise.

    The application finds this object in its scope, under ``extensions["collab.socket"]``.
    """

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """The peer is there."""
        self.gone = asyncio.Event()  # set when nothing can be sent to it any more
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer is gone."""
        self.gone.set()
        super().connection_lost(exc)

    def handle_connect(self, event: Request) -> None:
        """Read the opening request, and give the application this object."""
        self.allow(2 * limits.MAX_HELLO_BYTES)  # a HELLO somewhat too long is told so
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Take bytes in; an opening request that cannot be read ends the connection."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.close()

    def allow(self, max_bytes: int) -> None:
        """From now on a message may have ``max_bytes``, in however many fragments."""
        self.conn.max_message_size = max_bytes

    def ping_every(self, seconds: float) -> None:
        """Ping so often, and end a connection that leaves a ping unanswered; call before accept."""
        self.ping_interval = self.ping_timeout = seconds

    def keepalive_timeout(self) -> None:
        """End the connection, unless it is us who do not read what it may have answered."""
        if self.read_paused:
            self.pong_timer = self.pending_ping_payload = None
            self.schedule_ping()
            return
        super().keepalive_timeout()
        self.transport.abort()  # what waits for a dead peer would keep it open for minutes
