"""The relay under uvicorn: the process that operators run."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from collab.errors import LocalError
from collab_server.app import Relay
from collab_server.gateway.websocket import BoundedWebSocket
from collab_server.settings import Settings


def _config(relay: Relay, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        Starlette(routes=relay.routes),
        host=settings.host,
        port=settings.port,
        ws=BoundedWebSocket,
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # devices ping, and the application answers
        lifespan="off",
        log_config=None,
        log_level="warning",  # uvicorn's own lines carry query strings
        access_log=False,
        timeout_graceful_shutdown=8,
        server_header=False,
    )


def listen(settings: Settings) -> socket.socket:
    """A listening socket; raises :class:`LocalError` if the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named: asyncio sets TCP_NODELAY on no other connections, and without that a
    # frame that follows another waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise LocalError(
            f"The relay cannot listen on {settings.host}:{settings.port}: {error.strerror}. "
            f"Nothing was started and no data was touched. Choose another --port, "
            f"or stop what has it."
        ) from error
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the loop belongs to whoever runs it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listening(relay: Relay, settings: Settings) -> AsyncIterator[str]:
    """Listen for a relay whose ``lifespan`` is entered; yields the WebSocket address."""
    listener = listen(settings)
    server = _Server(_config(relay, settings))
    serving = asyncio.create_task(server.serve([listener]), name="uvicorn")
    try:
        await server.ready.wait()
        yield address(listener)
    finally:
        await relay.send_away()
        server.should_exit = True
        await serving
        listener.close()


@asynccontextmanager
async def served(relay: Relay, settings: Settings) -> AsyncIterator[str]:
    """Run ``relay`` in this event loop until the block ends; yields the WebSocket address.

    Raises what the relay raises when it cannot start (:class:`collab.LocalError`).
    """
    async with relay.lifespan(), listening(relay, settings) as url:
        yield url


def run(relay: Relay, settings: Settings, *, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. ``on_ready`` is given the address once it is served."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with served(relay, settings) as url:
            on_ready(url)
            await stop.wait()

    asyncio.run(main())


def address(listener: socket.socket) -> str:
    """The WebSocket address of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"
