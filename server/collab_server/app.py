"""The relay as an application: its routes, its start and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from collab import limits
from collab.errors import LocalError
from collab.protocol.codec import is_room_name
from collab.protocol.frames import SUBPROTOCOL, VERSION, Close
from collab_server.auth import Authenticate, Authorize, MembersDecide, refusal, rights_of
from collab_server.chats import Chats
from collab_server.confirmations import Confirmations
from collab_server.confirming import OnConfirm
from collab_server.gateway.connection import Shared
from collab_server.gateway.fence import Fence
from collab_server.gateway.sync import SyncConnection
from collab_server.gateway.yjs import YjsConnection
from collab_server.gateway.yjs_request import take_credentials
from collab_server.hooks import Hooks, OnMessage
from collab_server.log.sqlite import SqliteLog
from collab_server.replicas import Contents, Replicas
from collab_server.room_handle import RoomHandle
from collab_server.rooms import Rooms
from collab_server.services import Service, Services
from collab_server.settings import Settings

logger = logging.getLogger(__name__)

_NONCE = re.compile(r"[0-9a-f]{32}")
_DRAIN_S = 5.0  # of the ten seconds that an operator's supervisor gives us


class Relay:
    """A relay, alone (:func:`application`) or inside a Starlette application of yours.

    Mount ``routes`` and enter ``lifespan``: a mounted application does not run its own. Raises
    :class:`collab.LocalError` when there are no rights: it denies by default. ``on_message`` is
    asked about every message before it is taken in (see ``hooks``), ``on_confirm`` about those that
    ask for a verdict after they are in the log (see ``confirming``). ``services`` are what devices
    may call by name (see ``services``). With ``authorize`` set to ``auth.MEMBERS_DECIDE`` the
    members of a room have the rights of their roles.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        authenticate: Authenticate | None = None,
        authorize: Authorize | MembersDecide | None = None,
        on_message: OnMessage | None = None,
        services: Mapping[str, Service] | None = None,
        on_confirm: OnConfirm | None = None,
    ) -> None:
        self._settings = settings
        self._rights = rights_of(settings, authenticate, authorize)
        self._hooks = None if on_message is None else Hooks(on_message, settings.hook_timeout_s)
        self._services = Services(
            services or {}, timeout_s=settings.call_timeout_s, max_calls=settings.max_calls
        )
        self._on_confirm = on_confirm
        self._shared: Shared | None = None
        self.routes: list[BaseRoute] = [
            WebSocketRoute("/sync", self._sync),
            WebSocketRoute("/y/{room:path}", self._yjs),
            Route("/probe", self._probe),
            Route("/healthz", self._healthz),
        ]

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Open the log, serve, and at the end commit what is queued."""
        settings = self._settings
        settings.data.mkdir(parents=True, exist_ok=True)
        log = await SqliteLog.open(
            settings.log_path,
            generation=os.urandom(16),
            relay_id=os.urandom(16),
            now_ms=time.time_ns() // 1_000_000,
        )
        committing = asyncio.create_task(log.run(), name="commit")
        committing.add_done_callback(_commits_ended)
        try:
            async with AsyncExitStack() as stack:
                rooms: Rooms | None = None

                async def reload(room_id: int) -> Contents:
                    assert rooms is not None
                    return await rooms.reload(room_id)

                replicas = Replicas(reload=reload, memory_bytes=settings.replica_memory_bytes)
                await replicas.start()
                stack.push_async_callback(replicas.close)
                rooms = await stack.enter_async_context(Rooms(log, replicas, settings))
                rights = self._rights.from_roles(log.chat.role)
                chats = await stack.enter_async_context(
                    Chats(
                        log.chat, rooms, settings,
                        confirms=self._on_confirm is not None, by_members=rights.by_members,
                    )
                )  # fmt: skip
                stack.push_async_callback(self._services.close)
                if self._hooks is not None:
                    stack.push_async_callback(self._hooks.close)
                self._shared = Shared(
                    settings, rights, log, rooms, chats, self._hooks, Fence(), self._services
                )
                if rights.by_members:
                    stack.callback(log.chat.on_members(self._shared.members_changed))
                if self._on_confirm is not None:
                    await stack.enter_async_context(
                        Confirmations(log.chat, self._on_confirm, settings)
                    )
                try:
                    yield
                finally:
                    await self.send_away()
                    self._shared = None
        finally:
            await log.close()
            await committing

    def room(self, name: str) -> RoomHandle:
        """The room of this name, for the program that this relay runs in.

        Raises :class:`collab.LocalError` for what no room may be called.
        """
        if not is_room_name(name):
            raise LocalError(
                f"{name!r} is no name of a room, so there is nothing to act on. A name has 1 to "
                f"{limits.MAX_ROOM_NAME_BYTES} bytes of UTF-8 and no control characters."
            )
        return RoomHandle(name, self._running)

    def _running(self) -> Shared:
        if self._shared is None:
            raise LocalError(
                "The relay does not run, so its rooms cannot be reached. Nothing was changed. Call "
                "this while its lifespan is entered."
            )
        return self._shared

    async def send_away(self) -> None:
        """Ask every client to come back, here or elsewhere; each after a time of its own."""
        if self._shared is None:
            return
        connections = list(self._shared.connections)
        for connection in connections:
            after_ms = random.randrange(5_000)
            connection.close(Close.RESTART, f"the relay restarts; come back in {after_ms} ms")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                for connection in connections:
                    await connection.ended.wait()

    async def _sync(self, socket: WebSocket) -> None:
        shared = self._shared
        why = refusal(self._settings, socket)
        if shared is None or why is not None:
            await socket.close(Close.FORBIDDEN if why else Close.RESTART, why or "not ready")
            return
        if SUBPROTOCOL not in socket.scope.get("subprotocols", ()):
            await socket.close(Close.UNSUPPORTED_VERSION, f"speak {SUBPROTOCOL} here")
            return
        await socket.accept(SUBPROTOCOL)
        await SyncConnection(socket, shared).run()

    async def _yjs(self, socket: WebSocket) -> None:
        shared = self._shared
        credentials = take_credentials(socket)
        why = refusal(self._settings, socket)
        if shared is None or why is not None:
            await socket.close(Close.FORBIDDEN if why else Close.RESTART, why or "not ready")
            return
        await YjsConnection(socket, shared, credentials).run()

    async def _probe(self, request: Request) -> Response:
        nonce = request.query_params.get("nonce", "")
        headers = {"cache-control": "no-store"}
        if self._shared is None:
            return JSONResponse({"error": "not ready"}, 503, headers)
        if not _NONCE.fullmatch(nonce):
            return JSONResponse({"error": "nonce must be 32 hexadecimal digits"}, 400, headers)
        answer = {"nonce": nonce, "relay": self._shared.log.relay_id.hex(), "protocol": VERSION}
        return JSONResponse(answer, headers=headers)

    async def _healthz(self, _request: Request) -> Response:
        shared = self._shared
        if shared is None:
            return JSONResponse({"status": "not ready"}, 503)
        failing = shared.log.failing
        body = {
            "status": "failing" if failing else "ok",
            "log": str(failing) if failing else "ok",
            "uncommitted_bytes": shared.log.uncommitted_bytes,
            "rooms": len(shared.rooms),
            "connections": len(shared.connections),
        }
        return JSONResponse(body, 503 if failing else 200)


def _commits_ended(committing: asyncio.Task[None]) -> None:
    failure = None if committing.cancelled() else committing.exception()
    if failure is not None:
        logger.critical("nothing is stored any more; start the relay again", exc_info=failure)


def application(relay: Relay) -> Starlette:
    """The relay as an application of its own."""
    return Starlette(routes=relay.routes, lifespan=relay.lifespan)
