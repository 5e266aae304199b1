"""What all connections have in common, whatever they speak: what they share, how they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from collab.cancelling import is_cancelled
from collab.errors import RemoteError
from collab.protocol.frames import Access, Close
from collab.protocol.members import MemberRow
from collab_server.auth import Rights, User, access_of_role
from collab_server.chats import Chats
from collab_server.gateway.fence import Fence
from collab_server.gateway.websocket import EXTENSION, BoundedWebSocket
from collab_server.hooks import Hooks
from collab_server.log.port import Log
from collab_server.rooms import Loaded, Rooms
from collab_server.services import Services
from collab_server.settings import Settings

logger = logging.getLogger(__name__)

E = TypeVar("E", bound=BaseException)

ROOM_DELETED: Final = "this room was deleted"
RIGHTS_CHANGED: Final = "the rights to this room changed; come again"


class Closing(Exception):
    """This side ends the connection: the close code and the reason that go on the wire."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Connection(Protocol):
    """What the relay knows of a connection of any kind."""

    ended: asyncio.Event

    def close(self, code: int, reason: str) -> None:
        """Ask the connection to end, from outside."""

    def role_changed(self, room_id: int, sub: str, access: Access) -> None:
        """This user may now do this in this room: act on it, if he has it open here."""


@dataclass(eq=False, slots=True)
class Shared:
    """What all connections of a relay use."""

    settings: Settings
    rights: Rights
    log: Log
    rooms: Rooms
    chats: Chats
    hooks: Hooks | None
    fence: Fence
    services: Services
    connections: set[Connection] = field(default_factory=set)

    def members_changed(self, room_id: int, rows: Sequence[MemberRow]) -> None:
        """Members have other roles, durably, and with them other rights."""
        for user, role in rows:
            for connection in list(self.connections):
                connection.role_changed(room_id, user, access_of_role(role))


class NotAllowed(Exception):
    """This user may not read this room, whether there is one of this name or not."""


class RightsUnknown(Exception):
    """Whoever decides the rights failed to say what a user may do in a room."""


async def rights_to(shared: Shared, user: User, room: str) -> Access:
    """What a user may do in a room. Raises :class:`RightsUnknown`."""
    try:
        return await shared.rights.authorize(user, room)
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise  # else a task would end, of what it waited for, and nobody be told
        raise RightsUnknown("authorize was cancelled") from error
    except Exception as error:
        raise RightsUnknown("authorize failed") from error


async def hold(
    shared: Shared, user: User, name: str, *, epoch: bytes | None
) -> tuple[Loaded, Access]:
    """A room for somebody who may read it, and what he may do there. Give it back with release.

    Where roles are rights, no change of them that was committed before this returns is missed, and
    what comes later is told to those who have the room open: open it in the same turn. Raises
    :class:`NotAllowed`, :class:`RightsUnknown`, and what ``Rooms.hold`` does.
    """
    access = await rights_to(shared, user, name)
    if access < Access.READ:
        raise NotAllowed
    loaded = await shared.rooms.hold(name, epoch=epoch)
    try:
        chat = loaded.chat
        moves = None if shared.rights.by_members else chat.member_moves
        while moves != chat.member_moves:
            moves = chat.member_moves
            access = await rights_to(shared, user, name)
    except BaseException:
        shared.rooms.release(loaded)
        raise
    if access < Access.READ:
        shared.rooms.release(loaded)
        raise NotAllowed
    return loaded, access


async def ending_of(serving: Awaitable[None]) -> Closing:
    """Serve a connection until either side ends it; why it ended, which is still to be sent."""
    closing = Closing(Close.INTERNAL, "the relay failed; nothing that was acked is lost")
    try:
        await serving
    except* WebSocketDisconnect:
        closing = Closing(Close.NORMAL, "")
    except* Closing as group:
        closing = _first(group)
    except* RemoteError as group:
        error = _first(group)
        closing = Closing(error.close_code, str(error))
    except* OSError:
        closing = Closing(Close.NORMAL, "")
    except* Exception:
        logger.exception("a connection failed; the others go on")
    return closing


async def send(socket: WebSocket, data: bytes) -> None:
    """Send a message. Raises ``WebSocketDisconnect`` if the socket is gone.

    A server may have closed it (a message that is too long, a ping without an answer) before the
    reading task hears of that; whoever sends meanwhile breaks ASGI's rules, and is told so.
    """
    try:
        await socket.send_bytes(data)
    except RuntimeError:
        raise WebSocketDisconnect(Close.GOING_AWAY) from None


async def close(socket: WebSocket, closing: Closing, *, last: bytes | None = None) -> None:
    """Send ``last`` and the close, if the socket still takes them."""
    reason = closing.reason.encode()[:120].decode(errors="ignore")
    try:
        async with asyncio.timeout(5):
            if last is not None:
                await send(socket, last)
            await socket.close(closing.code, reason)
    except (RuntimeError, OSError, TimeoutError, WebSocketDisconnect):
        pass  # it is gone already


def bounds_of(socket: WebSocket) -> BoundedWebSocket | None:
    """Where the bounds of this socket are set; None under a server that is not ours."""
    found = socket.scope.get("extensions", {}).get(EXTENSION)
    assert found is None or isinstance(found, BoundedWebSocket)
    return found


def allow(socket: WebSocket, max_bytes: int) -> None:
    """From now on a message may have ``max_bytes``."""
    bounds = bounds_of(socket)
    if bounds is not None:
        bounds.allow(max_bytes)


def wake_all(loaded: Loaded) -> None:
    """Somebody in the room said something."""
    for reader in loaded.room.readers:
        reader.wake()


def _first(group: BaseExceptionGroup[E]) -> E:
    error: BaseExceptionGroup[E] | E = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
