"""The chats of one ``/sync`` connection: frames in, frames out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.codec import encode
from collab.protocol.frames import Access
from collab.protocol.verdicts import unpack_inquiry
from collab_server.chat import OVERTAKEN, ChatReader, Unserved
from collab_server.chats import Chats
from collab_server.gateway.lane import ConnectionLane
from collab_server.hooks import Hooks
from collab_server.lanes import LaneKey
from collab_server.log.chat_port import ChangeCode, ChangeDecision, Unjudged
from collab_server.membership import CHANGE_REASONS, change_of
from collab_server.rooms import Loaded

__all__ = ["ChatFrame", "ConnectionChat"]

_CHANGE_BYTES: Final = 1024  # of a change that waits to be decided

ChatFrame = (
    frames.Enter
    | frames.Send
    | frames.Skip
    | frames.Fetch
    | frames.Mark
    | frames.Change
    | frames.Inquire
)


@dataclass(eq=False, slots=True)
class _ChatChannel:
    """One room's chat on this connection."""

    loaded: Loaded
    reader: ChatReader
    lane: ConnectionLane | None = None  # None until ENTERED
    answers: deque[bytes] = field(default_factory=deque)
    changed: deque[bytes] = field(default_factory=deque)  # CHANGED, after the MEMBERS it is about
    fetches: deque[frames.Fetch | frames.Inquire] = field(default_factory=deque)
    ready: bytes | None = None  # a frame that was read from the log, next in turn
    reads: bool = False  # it waits for the log, or has something ready
    read_for_fetch: bool = False  # the last time
    has_turn: bool = False
    is_over: bool = False


class ConnectionChat:
    """The chats of one connection. Belongs to its tasks.

    Invariants:

    1. ENTERED is the first frame of a chat that goes down, and MESSAGES go in order.
    2. What waits to be decided, to be sent and to be read has a bound; at the bound (``is_full``)
       nothing more is read from the socket. Of messages at most ``MAX_CHAT_READS`` frames wait.
    3. Of a chat that was dropped, or entered again, nothing more goes down.
    """

    def __init__(
        self,
        chats: Chats,
        hooks: Hooks | None,
        *,
        user: str,
        device: bytes,
        tasks: asyncio.TaskGroup,
        wake: Callable[[], None],
        overtaken: Callable[[int], None],
    ) -> None:
        """``overtaken`` is told of a channel whose reader cannot go on: it has to come again."""
        self._chats = chats
        self._hooks = hooks
        self._user = user
        self._device = device
        self._tasks = tasks
        self._wake = wake
        self._overtaken = overtaken
        self._channels: dict[int, _ChatChannel] = {}
        self._turns: deque[_ChatChannel] = deque()
        self._answers = 0
        self._fetches = 0
        self._entering = 0  # ENTERs that the log was asked about
        self._undecided_bytes = 0
        self._granted = 0  # missed messages that are sent without being asked for
        self._reading: set[_ChatChannel] = set()
        self._to_read: deque[_ChatChannel] = deque()

    # Frames in

    @property
    def is_full(self) -> bool:
        """Whether the connection is not to be read from before something went away."""
        return (
            self._answers >= limits.MAX_CONTROL_FRAMES
            or self._fetches >= limits.MAX_WAITING_FETCHES
            or self._entering >= limits.MAX_WAITING_ENTERS
            or self._undecided_bytes >= limits.MAX_UNDECIDED_BYTES
        )

    def handle(self, frame: ChatFrame, loaded: Loaded, access: Access) -> None:
        """Take a frame in, on a channel that is open. Raises :class:`BadFrame`."""
        if isinstance(frame, frames.Enter):
            self._begin(frame, loaded)
            return
        channel = self._channels.get(frame.channel)
        if channel is None or channel.lane is None:
            raise BadFrame(f"{type(frame).__name__} before ENTERED")
        match frame:
            case frames.Send() | frames.Skip():
                channel.lane.take(frame, access)
            case frames.Change():
                self._change(channel, frame, access)
            case frames.Fetch() | frames.Inquire():
                if isinstance(frame, frames.Inquire):
                    unpack_inquiry(frame.data)
                channel.fetches.append(frame)
                self._fetches += 1
                self._give_turn(channel)
            case frames.Mark():
                self._chats.mark(loaded, channel.reader, frame)

    def drop(self, number: int) -> None:
        """The channel is closed, or opened anew."""
        channel = self._channels.pop(number, None)
        if channel is None:
            return
        channel.is_over = True
        channel.loaded.chat.leave(channel.reader)
        if channel.lane is not None:
            channel.lane.end()
        self._answers -= len(channel.answers) + len(channel.changed)
        self._fetches -= len(channel.fetches)
        self._reading.discard(channel)
        self._wake()

    def last_words(self, number: int) -> list[bytes]:
        """What waits to go down on a channel that this side is about to close: it goes first."""
        channel = self._channels.get(number)
        if channel is None:
            return []
        members = channel.loaded.chat.next_members(channel.reader)
        said = [*channel.answers, *([] if members is None else [members]), *channel.changed]
        self._answers -= len(channel.answers) + len(channel.changed)
        channel.answers.clear()
        channel.changed.clear()
        return said

    def end(self) -> None:
        """The connection is over; its tasks are gone."""
        for number in list(self._channels):
            self.drop(number)

    # Entering

    def _begin(self, frame: frames.Enter, loaded: Loaded) -> None:
        self.drop(frame.channel)
        channel = _ChatChannel(loaded, ChatReader(self._user, lambda: self._give_turn(channel)))
        self._channels[frame.channel] = channel
        self._entering += 1
        self._tasks.create_task(self._enter(channel, frame))

    async def _enter(self, channel: _ChatChannel, frame: frames.Enter) -> None:
        loaded, reader = channel.loaded, channel.reader
        key = LaneKey(self._user, self._device, frame.lane_epoch)
        try:
            state = await self._chats.state(loaded, key, frame)
        finally:
            self._entering -= 1
            self._wake()
        if channel.is_over or loaded.room.sealed:
            return  # of a room that is being deleted the log says no more what was in it
        self._answer(channel, loaded.chat.enter(reader, state, frame.seq, self._granted))
        self._granted += state.head - reader.seq
        channel.lane = ConnectionLane(
            key,
            loaded.room,
            state.lane.last,
            log=self._chats.log,
            hooks=self._hooks,
            tasks=self._tasks,
            answer=lambda answer: self._answer(channel, answer),
            undecided=self._undecided,
            confirms=self._chats.confirms,
        )

    def _change(self, channel: _ChatChannel, frame: frames.Change, access: Access) -> None:
        """Let the log decide on a change of a member, if this user may change them at all."""
        if access < Access.ADMIN:
            self._tell_changed(channel, frame.request, ChangeCode.FORBIDDEN)
            return
        self._undecided(_CHANGE_BYTES)

        def decided(decision: ChangeDecision) -> None:
            self._undecided(-_CHANGE_BYTES)
            if not channel.is_over and not isinstance(decision, Unjudged):
                self._tell_changed(channel, frame.request, decision)

        self._chats.log.change_member(
            change_of(
                channel.loaded.room.id, frame.user, frame.role, by=self._user,
                admins_only=self._chats.by_members, decided=decided,
            )
        )  # fmt: skip

    def _tell_changed(self, channel: _ChatChannel, request: int, code: ChangeCode) -> None:
        number = channel.loaded.room.channel
        channel.changed.append(encode(frames.Changed(number, request, code, CHANGE_REASONS[code])))
        self._answers += 1
        self._give_turn(channel)

    def _undecided(self, more_bytes: int) -> None:
        self._undecided_bytes += more_bytes
        if more_bytes < 0:
            self._wake()

    # Frames out

    def next(self) -> bytes | None:
        """The next frame of any of the chats, each in its turn; None if there is none now."""
        self._read_next()
        while self._turns:
            channel = self._turns.popleft()
            frame = None if channel.is_over else self._turn(channel)
            if frame is not None:
                self._turns.append(channel)
                return frame
            channel.has_turn = False
        return None

    def _turn(self, channel: _ChatChannel) -> bytes | None:
        """The next frame of one chat."""
        if channel.reader.is_overrun:
            self._overtaken(channel.loaded.room.channel)
            return None
        if channel.answers:
            self._answers -= 1
            return channel.answers.popleft()
        members = channel.loaded.chat.next_members(channel.reader)
        if members is not None:
            return members
        if channel.changed:
            self._answers -= 1
            return channel.changed.popleft()
        if channel.ready is not None:
            frame, channel.ready = channel.ready, None
            self._has_read(channel)
            return frame
        chat, reader = channel.loaded.chat, channel.reader
        if not channel.reads and (channel.fetches or chat.is_below_tail(reader)):
            channel.reads = True
            self._to_read.append(channel)
            self._read_next()
        run = chat.next_messages(reader)
        if isinstance(run, bytes):
            return run
        return chat.next_verdicts(reader) or chat.next_receipts(reader)

    def _answer(self, channel: _ChatChannel, frame: frames.Frame) -> None:
        channel.answers.append(encode(frame))
        self._answers += 1
        self._give_turn(channel)

    def _give_turn(self, channel: _ChatChannel) -> None:
        if not channel.has_turn:
            channel.has_turn = True
            self._turns.append(channel)
        self._wake()

    # What memory does not hold

    def _read_next(self) -> None:
        """Begin to read for those that wait, as long as there is room for what comes of it.

        Only whoever writes to the socket calls this. The log and the room's other readers drop a
        channel too, also of a connection that is ending, and then no task can be begun.
        """
        while self._to_read and len(self._reading) < limits.MAX_CHAT_READS:
            channel = self._to_read.popleft()
            if not channel.is_over:
                self._reading.add(channel)
                self._tasks.create_task(self._read(channel))

    def _has_read(self, channel: _ChatChannel) -> None:
        channel.reads = False
        self._reading.discard(channel)

    async def _read(self, channel: _ChatChannel) -> None:
        """Read for one chat: history that was asked for, or what is beyond its place."""
        frame: bytes | Unserved | None
        behind = channel.loaded.chat.is_below_tail(channel.reader)
        channel.read_for_fetch = bool(channel.fetches) and not (behind and channel.read_for_fetch)
        if channel.read_for_fetch:
            frame = await self._asked_for(channel, channel.fetches[0])
        else:
            frame = await self._chats.read_behind(channel.loaded, channel.reader)
        if channel.is_over:
            return
        if channel.read_for_fetch:
            channel.fetches.popleft()
            self._fetches -= 1
        if frame is OVERTAKEN:
            self._overtaken(channel.loaded.room.channel)
            return
        if isinstance(frame, bytes):
            channel.ready = frame
        else:
            self._has_read(channel)
        self._give_turn(channel)

    async def _asked_for(
        self, channel: _ChatChannel, asked: frames.Fetch | frames.Inquire
    ) -> bytes | None:
        """The page, or the verdicts as far as there are any."""
        room_id = channel.loaded.room.id
        if isinstance(asked, frames.Inquire):
            found = await self._chats.log.verdicts(room_id, unpack_inquiry(asked.data))
            return channel.loaded.chat.verdicts_of(found) if found else None
        page = await self._chats.log.page(room_id, asked.after, asked.before, newest=asked.newest)
        return channel.loaded.chat.page_of(asked, page)
