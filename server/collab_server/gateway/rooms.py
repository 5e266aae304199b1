"""The rooms of one ``/sync`` connection: opened, edited and heard, closed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from collab import limits
from collab.errors import BadFrame, LocalError
from collab.protocol import frames
from collab.protocol.codec import encode
from collab.protocol.frames import Access, Code
from collab.protocol.outgoing import Outgoing
from collab.protocol.ysync import decode_awareness, decode_state_vector, encode_awareness
from collab_server.auth import User
from collab_server.gateway.chat import ChatFrame, ConnectionChat
from collab_server.gateway.connection import (
    RIGHTS_CHANGED,
    ROOM_DELETED,
    NotAllowed,
    RightsUnknown,
    Shared,
    hold,
    rights_to,
    wake_all,
)
from collab_server.gateway.live import ConnectionLive, LiveFrame
from collab_server.log.port import RoomDeleted
from collab_server.presence import Seat
from collab_server.replicas import Quarantined, ReplicaFailed, WorkerDied
from collab_server.room import BEHIND, Answer, Appended, Reader
from collab_server.rooms import Loaded, walk_anywhere

__all__ = ["ConnectionRooms"]

logger = logging.getLogger(__name__)

_RIGHTS_UNKNOWN: Final = "the relay cannot tell the rights to it now"


@dataclass(eq=False, slots=True)
class _Channel:
    """One room on this connection."""

    loaded: Loaded
    reader: Reader
    seat: Seat
    ready: bytes | None = None  # a frame that had to be fetched, next in turn
    fetching: bool = False  # a run of the log


class ConnectionRooms:
    """The rooms of one connection. Belongs to its tasks.

    Joins and reads from the log run beside what is read from the socket, so that a huge room holds
    up no other. What was fetched for the connection and is not out has a bound: then other rooms
    wait for theirs. So has what answers it: then (``is_full``) nothing is read from the socket.

    A room has one channel number, however often it is joined. So all that goes down on it goes in
    order, what is still on its way in parts first: an update of an earlier joining that came after
    the next JOINED would be taken for one of its own. Chats are apart from that: their frames are
    short and go down between the documents' (every second one, while both have some), and of a chat
    whose channel was closed nothing goes down any more.
    """

    def __init__(
        self,
        shared: Shared,
        user: User,
        device: bytes,
        *,
        tasks: asyncio.TaskGroup,
        wake: Callable[[], None],
        progress: Callable[[], Awaitable[None]],
    ) -> None:
        """``wake`` says that there is a frame to send; ``progress`` waits until some were sent."""
        self._shared = shared
        self._user = user
        self._tasks = tasks
        self._wake = wake
        self._progress = progress
        self._channels: dict[int, _Channel] = {}
        self._joins = asyncio.Semaphore(8)
        self._outgoing = Outgoing()
        self._in_order: dict[int, deque[bytes]] = {}  # JOINED and LEFT of a channel
        self._long_answers: deque[bytes] = deque()  # longer than a frame
        self._waiting = 0  # frames in those two
        self._waiting_bytes = 0  # and theirs, and those of state vectors in the next
        self._to_fetch: deque[tuple[_Channel, bytes | None]] = deque()
        self._fetched = 0  # frames that are being fetched, or not wholly out
        self._going: set[int] = set()  # channels whose last frame was such a one
        self._chat_is_next = False
        self._chat = ConnectionChat(
            shared.chats,
            shared.hooks,
            user=user.sub,
            device=device,
            tasks=tasks,
            wake=wake,
            overtaken=self._overtaken,
        )
        self._live = ConnectionLive(
            shared.services, user=user, tasks=tasks, wake=wake, now=time.monotonic()
        )
        self._outgoing.attach("long answers", self._next_long_answer)
        self._outgoing.attach("casts", self._live.next_cast)
        self._outgoing.attach("answers", self._live.next_answer)

    def end(self) -> None:
        """The connection is over; its tasks are gone."""
        self._chat.end()
        for channel in list(self._channels.values()):
            self._drop(channel)

    # Frames in

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be sent that nothing more is to be read."""
        many = len(self._outgoing) + self._waiting >= limits.MAX_CONTROL_FRAMES
        much = self._waiting_bytes >= limits.MAX_WAITING_ANSWER_BYTES
        return many or much or self._chat.is_full or self._live.is_full

    async def handle(self, frame: frames.Frame) -> None:
        """Take a frame in. Raises :class:`BadFrame` for one that no client sends now."""
        match frame:
            case frames.Update() | frames.Offer():
                await self._take(frame)
            case frames.Awareness():
                self._announce(frame)
            case frames.Enter() | frames.Send() | frames.Skip() | frames.Fetch() | frames.Mark():
                await self._converse(frame)
            case frames.Cast() | frames.Call():
                self._speak(frame)
            case frames.Change() | frames.Inquire():
                await self._converse(frame)
            case frames.Join():
                decode_state_vector(frame.state_vector)
                await self._joins.acquire()
                self._tasks.create_task(self._join(frame))
            case frames.Leave():
                channel = self._channels.get(frame.channel)
                if channel is not None:
                    self._drop(channel)
            case _:
                raise BadFrame(f"{type(frame).__name__} is not allowed now")

    async def _take(self, frame: frames.Update | frames.Offer) -> None:
        if frame.channel not in self._channels:
            return  # sent before our LEFT reached the client
        walked = await walk_anywhere(frame.update)
        channel = self._channels.get(frame.channel)
        if channel is None:
            return
        loaded, reader = channel.loaded, channel.reader
        outcome = loaded.room.receive(reader, frame, walked, self._shared.rooms.next_offset)
        match outcome:
            case Appended(offset, data):
                await self._shared.rooms.appended(loaded, offset, data)
            case Answer(answer):
                self.answer(answer)
            case None:
                self._wake()
        while len(reader.acks) >= limits.MAX_PENDING_ACKS:
            await self._progress()

    def _announce(self, frame: frames.Awareness) -> None:
        states = decode_awareness(frame.data)
        channel = self._channels.get(frame.channel)
        if channel is not None and channel.loaded.presence.announce(channel.seat, states):
            wake_all(channel.loaded)

    async def _converse(self, frame: ChatFrame) -> None:
        channel = self._channels.get(frame.channel)
        if channel is None:
            return  # sent before our LEFT reached the client
        self._chat.handle(frame, channel.loaded, channel.reader.access)
        if isinstance(frame, frames.Send | frames.Skip | frames.Change):
            await self._shared.log.wait_for_room()

    def _speak(self, frame: LiveFrame) -> None:
        channel = self._channels.get(frame.channel)
        if channel is not None:
            self._live.handle(frame, channel.reader.access, time.monotonic())

    # Opening and closing

    async def _join(self, frame: frames.Join) -> None:
        try:
            channel = await self._open(frame)
        except NotAllowed:
            self._deny(frame, Code.FORBIDDEN, "there is no such room for this user")
        except RightsUnknown as error:
            logger.warning("a room was not opened: %s", error, exc_info=error)
            self._deny(frame, Code.BUSY, _RIGHTS_UNKNOWN)
        except RoomDeleted:
            self._deny(frame, Code.DELETED, ROOM_DELETED)
        except LocalError as error:  # the log's disk or file
            logger.warning("a room could not be opened: %s", error)
            self._deny(frame, Code.BUSY, "the relay cannot open it now")
        else:
            if channel is not None and channel.reader.waits_for_difference:
                self._fetch_later(channel, frame.state_vector)
        finally:
            self._joins.release()

    async def _open(self, frame: frames.Join) -> _Channel | None:
        """Put the room on a channel and answer JOINED; or answer DENIED, and return None.

        Nothing is revealed of a room that this user may not read, not even that it was deleted.
        """
        shared = self._shared
        if len(self._channels) >= limits.MAX_ROOMS_PER_CONNECTION:
            self._deny(frame, Code.LIMIT, "too many rooms at once")
            return None
        loaded, access = await hold(shared, self._user, frame.room, epoch=frame.epoch)
        room = loaded.room
        before = self._channels.get(room.channel)
        if before is not None:
            self._drop(before)
        reader = Reader(access, self._wake)
        known = frame.epoch == room.epoch and shared.log.is_good(frame.generation, frame.offset)
        good = room.join(reader, good=known, offset=frame.offset)
        channel = _Channel(loaded, reader, loaded.presence.join(self._user.sub))
        reader.on_deleted = lambda: self._end(channel, Code.DELETED, ROOM_DELETED)
        self._channels[room.channel] = channel
        self._live.open(loaded)
        joined = frames.Joined(
            frame.request, room.channel, room.epoch, good, room.head,
            room.coverage.state_vector(), int(access),
        )  # fmt: skip
        self._send_in_order(room.channel, encode(joined))
        self._outgoing.attach(room.channel, lambda: self._next_of(room.channel))
        return channel

    def _deny(self, frame: frames.Join, code: Code, reason: str) -> None:
        self.answer(frames.Denied(frame.request, code, reason))

    def _end(self, channel: _Channel, code: Code, reason: str) -> None:
        """Close a channel from this side, and say why: after the answers that wait."""
        number = channel.loaded.room.channel
        last_words = self._chat.last_words(number)
        self._drop(channel)
        self._send_in_order(number, *last_words, encode(frames.Left(number, code, reason)))

    def _overtaken(self, number: int) -> None:
        """A chat's reader was so slow that retention deleted what comes next for it."""
        self._end(self._channels[number], Code.BUSY, "older messages were deleted; come again")

    def _drop(self, channel: _Channel) -> None:
        loaded = channel.loaded
        del self._channels[loaded.room.channel]
        self._chat.drop(loaded.room.channel)
        self._live.drop(loaded.room.channel)
        loaded.room.leave(channel.reader)
        if loaded.presence.leave(channel.seat):
            wake_all(loaded)
        if channel.ready is not None:
            channel.ready = None
            self._has_fetched()
        self._shared.rooms.release(loaded)

    # Rights

    def role_changed(self, room_id: int, sub: str, access: Access) -> None:
        """This user may now do this in this room, if he has it open here."""
        if sub != self._user.sub:
            return
        for channel in list(self._channels.values()):
            if channel.loaded.room.id == room_id:
                self._allow(channel, access)

    def _allow(self, channel: _Channel, access: Access) -> None:
        """Close the channel if its user may do something else now."""
        if access < Access.READ:
            self._end(channel, Code.FORBIDDEN, "the right to it was withdrawn")
        elif access != channel.reader.access:
            self._end(channel, Code.BUSY, RIGHTS_CHANGED)

    async def recheck(self) -> None:
        """Ask again, now and then, what this user may do in each room.

        A device learns of its rights from JOINED alone, so one whose rights changed comes again.
        """
        shared = self._shared
        while True:
            await asyncio.sleep(shared.settings.recheck_rights_s)
            for channel in list(self._channels.values()):
                room = channel.loaded.room
                access: Access | None = None
                try:
                    access = await rights_to(shared, self._user, room.name)
                except RightsUnknown as error:
                    logger.warning("a room was closed: %s", error, exc_info=error)
                if not self._is_open(channel):
                    continue
                if access is None:
                    self._end(channel, Code.BUSY, _RIGHTS_UNKNOWN)
                else:
                    self._allow(channel, access)

    # Frames out

    def next(self) -> bytes | None:
        """The next frame of the connection."""
        self._fetch_next()
        self._chat_is_next = not self._chat_is_next
        if self._chat_is_next:
            return self._chat.next() or self._outgoing.next()
        return self._outgoing.next() or self._chat.next()

    def answer(self, frame: frames.Frame) -> None:
        """Send a frame from outside the turns of the rooms."""
        encoded = encode(frame)
        if len(encoded) <= limits.MAX_FRAME_BYTES:
            self._outgoing.send(encoded)
        else:
            self._long_answers.append(encoded)
            self._count(encoded)
        self._wake()

    def _send_in_order(self, number: int, *encoded: bytes) -> None:
        """Send frames after all that was sent on this channel."""
        self._in_order.setdefault(number, deque()).extend(encoded)
        for each in encoded:
            self._count(each)
        self._wake()

    def _count(self, encoded: bytes) -> None:
        self._waiting += 1
        self._waiting_bytes += len(encoded)

    def _counted(self, encoded: bytes) -> bytes:
        """It goes out, and counts no more."""
        self._waiting -= 1
        self._waiting_bytes -= len(encoded)
        return encoded

    def _next_long_answer(self) -> bytes | None:
        return self._counted(self._long_answers.popleft()) if self._long_answers else None

    def _next_of(self, number: int) -> bytes | None:
        """The next frame that goes down on a channel; the last one is wholly out."""
        if number in self._going:
            self._going.remove(number)
            self._has_fetched()
            self._fetch_next()
        waiting = self._in_order.get(number)
        if waiting:
            return self._counted(waiting.popleft())
        channel = self._channels.get(number)
        if channel is not None:
            return self._turn(channel)
        self._in_order.pop(number, None)
        self._outgoing.detach(number)
        return None

    def _turn(self, channel: _Channel) -> bytes | None:
        """The next frame of one room for this connection."""
        room, reader = channel.loaded.room, channel.reader
        if channel.ready is not None:
            frame, channel.ready = channel.ready, None
            self._going.add(room.channel)
            return frame
        if channel.fetching:
            return None
        # First what is owed: under a steady stream of others' updates the acks must not starve.
        ack = room.next_ack(reader, self._shared.log.committed)
        if ack is not None:
            return ack
        run = room.next_run(reader)
        if run is BEHIND:
            channel.fetching = True
            self._fetch_later(channel, None)
            return None
        assert run is None or isinstance(run, bytes)
        if run is not None:
            return run
        # Its own updates may just have been passed over, which makes their ack due.
        ack = room.next_ack(reader, self._shared.log.committed)
        if ack is not None:
            return ack
        if channel.seat.due:
            due = encode_awareness(channel.seat.take())
            return encode(frames.Awareness(room.channel, due))
        return None

    # What memory does not have

    def _fetch_later(self, channel: _Channel, state_vector: bytes | None) -> None:
        """Fetch all that ``state_vector`` lacks; without one, what is next in the log."""
        self._to_fetch.append((channel, state_vector))
        self._waiting_bytes += len(state_vector or b"")
        self._wake()

    def _fetch_next(self) -> None:
        """Begin to fetch for those that wait, as long as there is room for what comes of it.

        Only whoever writes to the socket calls this; see ``ConnectionChat``.
        """
        while self._to_fetch and self._fetched < limits.MAX_FETCHED_FRAMES:
            channel, state_vector = self._to_fetch.popleft()
            self._waiting_bytes -= len(state_vector or b"")
            if self._is_open(channel):
                self._fetched += 1
                self._tasks.create_task(self._fetch(channel, state_vector))

    def _has_fetched(self) -> None:
        """A frame that was fetched is wholly out, or not wanted any more."""
        self._fetched -= 1
        self._wake()

    def _is_open(self, channel: _Channel) -> bool:
        return self._channels.get(channel.loaded.room.channel) is channel

    async def _fetch(self, channel: _Channel, state_vector: bytes | None) -> None:
        room, reader = channel.loaded.room, channel.reader
        frame: bytes | None = None
        if state_vector is None:
            frame = await self._shared.rooms.read_behind(room, reader)
        if frame is None and self._is_open(channel):
            # Without a state vector the log was compacted beyond its place: all of it is right.
            reader.waits_for_difference = True
            frame = await self._difference(channel, state_vector or b"\0")
        channel.fetching = False
        if frame is None or not self._is_open(channel):
            self._has_fetched()
        else:
            channel.ready = frame
            self._wake()

    async def _difference(self, channel: _Channel, state_vector: bytes) -> bytes | None:
        """A frame with all that ``state_vector`` lacks; if that fails the channel is closed."""
        room = channel.loaded.room
        code, reason = Code.BUSY, "the relay cannot make its difference now"
        try:
            offset, update = await self._shared.rooms.difference(room, state_vector)
        except Quarantined as error:
            offset, update, code, reason = 0, None, Code.QUARANTINED, str(error)
        except (WorkerDied, ReplicaFailed, LocalError, TimeoutError) as error:
            logger.warning("a difference could not be made: %s: %s", type(error).__name__, error)
            offset, update = 0, None
        if not self._is_open(channel):
            return None
        if update is None:
            self._end(channel, code, reason)
            return None
        room.place(channel.reader, offset)
        return encode(frames.Difference(room.channel, offset, update))
