"""``/y/{room}``: one WebSocket of a stock Yjs provider, as y-websocket's own server serves it.

A provider has no offsets and gets no acks: it hears the log from the difference on that answered
its Step1, and a Step1 of ours heals whatever does not fit.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final, NoReturn

from starlette.websockets import WebSocket, WebSocketDisconnect

from collab import limits
from collab.errors import LocalError
from collab.protocol.frames import Access, Close
from collab.protocol.update import Fit
from collab.protocol.ysync import AwarenessState
from collab_server.auth import User
from collab_server.gateway import yjs_messages as messages
from collab_server.gateway.connection import (
    RIGHTS_CHANGED,
    ROOM_DELETED,
    Closing,
    NotAllowed,
    RightsUnknown,
    Shared,
    bounds_of,
    close,
    ending_of,
    hold,
    rights_to,
    send,
    wake_all,
)
from collab_server.gateway.yjs_request import Credentials, room_name
from collab_server.presence import Seat
from collab_server.replicas import Quarantined, ReplicaFailed, WorkerDied
from collab_server.room import BEHIND, TOO_LARGE, Appended, NotTaken, Reader
from collab_server.rooms import Loaded, walk_anywhere

logger = logging.getLogger(__name__)

_EARLY: Final = "this needs edits that the relay does not have; it was not taken in"
_READ_ONLY: Final = "this user may read the room, not write it"
_RIGHTS_UNKNOWN: Final = "the relay cannot tell the rights to the room now"
_NO_SUCH_ROOM: Final = "there is no such room for this user"
_SIGN_OF_LIFE: Final = messages.awareness([])
_MAX_HEARD: Final = 4 * limits.MAX_AWARENESS_STATES  # then those that are gone are forgotten


class YjsConnection:
    """One provider's socket.

    One task reads, one writes: answers first, then differences, then the log, then awareness.
    """

    def __init__(self, socket: WebSocket, shared: Shared, credentials: Credentials) -> None:
        self._socket = socket
        self._shared = shared
        self._credentials = credentials
        self._wake = asyncio.Event()
        self._sent = asyncio.Event()
        self._closing: asyncio.Future[Closing] = asyncio.get_running_loop().create_future()
        self._reader = Reader(
            Access.NONE,
            self._wake.set,
            messages.in_updates,
            on_deleted=lambda: self.close(Close.FORBIDDEN, ROOM_DELETED),
        )
        self._answers: deque[bytes] = deque()
        self._asked: deque[bytes] = deque()  # state vectors of Step1s without their Step2 yet
        self._awaits_step2 = False  # it will hold all that is early until then
        self._said_step2 = False
        self._user: User | None = None  # once it is in the room
        self._room_id = 0
        self._own: set[int] = set()
        self._heard: set[int] = set()
        self._loaded: Loaded
        self._seat: Seat
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Serve the socket until either side ends it."""
        self._shared.connections.add(self)
        try:
            closing = await ending_of(self._serve())
            denied = closing.code in (Close.UNAUTHENTICATED, Close.FORBIDDEN)
            last = messages.permission_denied(closing.reason) if denied else None
            await close(self._socket, closing, last=last)
        finally:
            self._shared.connections.discard(self)
            self.ended.set()

    def close(self, code: int, reason: str) -> None:
        """Ask the connection to end, from outside."""
        if not self._closing.done():
            self._closing.set_result(Closing(code, reason))

    def role_changed(self, room_id: int, sub: str, access: Access) -> None:
        """This user may now do this in this room."""
        if room_id != self._room_id or self._user is None or self._user.sub != sub:
            return
        if access < Access.READ:
            self.close(Close.FORBIDDEN, _NO_SUCH_ROOM)
        elif access != self._reader.access:
            self.close(Close.OVERLOADED, RIGHTS_CHANGED)

    # The beginning

    async def _serve(self) -> None:
        user = await self._accept()
        name = room_name(self._socket)
        if name is None:
            raise Closing(Close.BAD_FRAME, "this may not be the name of a room")
        loaded, access = await self._open(user, name)
        self._loaded = loaded
        self._seat = loaded.presence.join(user.sub)
        self._user, self._room_id = user, loaded.room.id
        self._reader.access = access
        loaded.room.join(self._reader, good=False, offset=0)
        try:
            self._ask()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write())
                tasks.create_task(self._read())
                tasks.create_task(self._recheck(user, name))
                raise await self._closing
        finally:
            loaded.room.leave(self._reader)
            if loaded.presence.leave(self._seat):
                wake_all(loaded)
            self._shared.rooms.release(loaded)

    async def _open(self, user: User, name: str) -> tuple[Loaded, Access]:
        """Hold the room, unless either side ends the connection meanwhile: nobody reads it yet."""
        found: tuple[Loaded, Access] | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                ends = [
                    tasks.create_task(self._end_asked()),
                    tasks.create_task(self._end_of_peer()),
                ]
                found = await self._hold(user, name)
                for end in ends:
                    end.cancel()
        except BaseException:
            if found is not None:
                self._shared.rooms.release(found[0])
            raise
        return found

    async def _end_asked(self) -> NoReturn:
        raise await asyncio.shield(self._closing)

    async def _end_of_peer(self) -> None:
        bounds = bounds_of(self._socket)
        if bounds is not None:
            await bounds.gone.wait()
            raise WebSocketDisconnect(Close.GOING_AWAY)

    async def _hold(self, user: User, name: str) -> tuple[Loaded, Access]:
        try:
            return await hold(self._shared, user, name, epoch=None)
        except NotAllowed:
            raise Closing(Close.FORBIDDEN, _NO_SUCH_ROOM) from None
        except RightsUnknown as error:
            logger.warning("a room was not opened: %s", error, exc_info=error)
            raise Closing(Close.OVERLOADED, _RIGHTS_UNKNOWN) from None
        except LocalError as error:  # the log's disk or file
            logger.warning("a room could not be opened: %s", error)
            raise Closing(Close.OVERLOADED, "the relay cannot open the room now") from None

    async def _accept(self) -> User:
        """Who it is. Asked before the socket is accepted, so that no traffic comes before it."""
        token, user = self._credentials.token, None
        if token is None or len(token) <= limits.MAX_TOKEN_BYTES:
            try:
                async with asyncio.timeout(self._shared.settings.hello_timeout_s):
                    user = await self._shared.rights.authenticate(token, self._socket)
            except TimeoutError:
                raise Closing(Close.SLOW_HELLO, "the token was not checked in time") from None
        bounds = bounds_of(self._socket)
        if bounds is not None and user is not None:
            bounds.ping_every(limits.YJS_PING_S)
            bounds.allow(limits.MAX_PAYLOAD_BYTES)  # a provider sends a document in one message
        await self._socket.accept(self._credentials.subprotocol)
        if user is None:
            raise Closing(Close.UNAUTHENTICATED, "this token is not accepted")
        return user

    async def _recheck(self, user: User, name: str) -> None:
        """Ask again, now and then, what this user may do here.

        No message tells a provider of its rights, so one whose rights changed comes again: it then
        offers what was refused until now, or is told that it is.
        """
        while True:
            await asyncio.sleep(self._shared.settings.recheck_rights_s)
            try:
                access = await rights_to(self._shared, user, name)
            except RightsUnknown as error:
                logger.warning("a provider was sent away: %s", error, exc_info=error)
                raise Closing(Close.OVERLOADED, _RIGHTS_UNKNOWN) from None
            if access < Access.READ:
                raise Closing(Close.FORBIDDEN, _NO_SUCH_ROOM)
            if access != self._reader.access:
                raise Closing(Close.OVERLOADED, RIGHTS_CHANGED)

    # Reading

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] != "websocket.receive":
                raise WebSocketDisconnect(message.get("code", Close.GOING_AWAY))
            data = message.get("bytes")
            for said in messages.messages_in(data) if isinstance(data, bytes) else ():
                await self._handle(said)
                while self._is_full:
                    self._sent.clear()
                    await self._sent.wait()

    @property
    def _is_full(self) -> bool:
        """Whether so much waits to be answered that nothing more is to be read."""
        waiting = [*self._answers, *self._asked]
        much = sum(map(len, waiting)) >= limits.MAX_WAITING_ANSWER_BYTES
        return much or len(waiting) >= limits.MAX_CONTROL_FRAMES

    async def _handle(self, said: messages.Message) -> None:
        match said:
            case messages.Step1(state_vector):
                self._asked.append(state_vector)
                self._wake.set()
            case messages.Step2(update):
                self._awaits_step2 = False
                self._said_step2 = True
                await self._take(update, heals=False)
            case messages.Update(update):
                await self._take(update, heals=True)
            case messages.Awareness(states):
                self._announce(states)
            case messages.QueryAwareness():
                self._tell(self._loaded.presence.states())

    async def _take(self, update: bytes, *, heals: bool) -> None:
        """Take an update in. If it is early its sender is asked for all, where that ``heals``."""
        walked = await walk_anywhere(update)
        room, rooms = self._loaded.room, self._shared.rooms
        if self._reader.access < Access.WRITE:
            # Every provider answers Step1, also the one that has nothing to say.
            if room.coverage.fit(walked) is not Fit.NOTHING:
                self._answer(messages.permission_denied(_READ_ONLY))
            return
        taken = room.take_in(self._reader, update, walked, rooms.next_offset)
        match taken:
            case Appended(offset, data):
                await rooms.appended(self._loaded, offset, data)
            case NotTaken.TOO_LARGE:
                self._answer(messages.permission_denied(TOO_LARGE))
            case NotTaken.EARLY if not heals:
                self._answer(messages.permission_denied(_EARLY))
            case NotTaken.EARLY if not self._awaits_step2:
                self._ask()

    def _ask(self) -> None:
        """Ask for all that the relay does not have."""
        self._awaits_step2 = True
        self._answer(messages.step1(self._loaded.room.coverage.state_vector()))

    def _answer(self, message: bytes) -> None:
        self._answers.append(message)
        self._wake.set()

    def _announce(self, states: list[AwarenessState]) -> None:
        """Take in what it says of itself, and say that back to it: it waits for a sign of life.

        A stock provider repeats what it hears of others, and takes them for gone when its own
        timer says so. What it says before it has answered our first Step1 it says of itself;
        afterwards, if that was nothing, a client id that it did not hear of from us.
        """
        own = [state for state in states if self._is_own(state)]
        self._own.update(state.client_id for state in own)
        if self._loaded.presence.announce(self._seat, own):
            wake_all(self._loaded)
        self._tell(own)

    def _tell(self, states: list[AwarenessState]) -> None:
        self._seat.due.update({state.client_id: state for state in states})
        self._wake.set()

    def _is_own(self, state: AwarenessState) -> bool:
        if state.client_id in self._own:
            return True
        if not self._said_step2:
            return len(self._own) < limits.MAX_AWARENESS_STATES
        return not self._own and state.client_id not in self._heard

    # Writing

    async def _write(self) -> None:
        while True:
            self._wake.clear()
            while (data := await self._next()) is not None:
                await send(self._socket, data)
                self._sent.set()
            self._sent.set()
            try:
                async with asyncio.timeout(limits.YJS_SILENCE_S):
                    await self._wake.wait()
            except TimeoutError:
                await send(self._socket, _SIGN_OF_LIFE)

    async def _next(self) -> bytes | None:
        """The next message for the provider."""
        room, reader = self._loaded.room, self._reader
        if self._answers:
            return self._answers.popleft()
        if self._asked:
            return await self._difference(self._asked.popleft())
        run = room.next_run(reader)
        if run is BEHIND:
            # Compacted beyond its place: all of it, against nothing, is right.
            behind = await self._shared.rooms.read_behind(room, reader)
            return behind or await self._difference(b"\0")
        assert run is None or isinstance(run, bytes)
        if run is not None:
            return run
        if self._seat.due:
            page = self._seat.take()
            if not self._own:
                self._heard.update(state.client_id for state in page)
                if len(self._heard) > _MAX_HEARD:
                    self._heard = {state.client_id for state in self._loaded.presence.states()}
            return messages.awareness(page)
        return None

    async def _difference(self, state_vector: bytes) -> bytes:
        room, reader = self._loaded.room, self._reader
        try:
            offset, update = await self._shared.rooms.difference(room, state_vector)
        except (Quarantined, WorkerDied, ReplicaFailed, LocalError, TimeoutError) as error:
            logger.warning("a difference could not be made: %s: %s", type(error).__name__, error)
            raise Closing(Close.OVERLOADED, "the relay cannot make its difference now") from None
        room.place(reader, max(offset, reader.position))
        return messages.step2(update)
