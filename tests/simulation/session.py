"""One device's connection at the relay, with the decisions of ``collab_server.gateway.rooms``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.codec import decode_from_client, decode_from_relay, encode
from collab.protocol.frames import Access, Close, Code
from collab.protocol.outgoing import Outgoing
from collab.protocol.update import Fit, Walk, decode_state_vector
from collab_server.auth import user_of_device
from collab_server.gateway.chat import ConnectionChat
from collab_server.room import BEHIND, Answer, Appended, Reader
from tests.simulation.coroutines import Tasks
from tests.simulation.network import Wire
from tests.simulation.relay_rooms import Loaded
from tests.simulation.walks import walk
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from tests.simulation.relay import Relay


@dataclass(eq=False, slots=True)
class Channel:
    """One room on one connection."""

    loaded: Loaded
    reader: Reader
    written: deque[tuple[int, Walk]]  # numbers that are not acked, with what came under them
    ready: bytes | None = None
    fetching: bool = False
    place: int = 0  # the last offset that it was told
    held_back: bytes | None = None  # a run that is sent after the next one: a fault


class Session:
    """One connection's part at the relay."""

    def __init__(self, relay: Relay, wire: Wire, number: int) -> None:
        self.relay = relay
        self.wire = wire
        self.number = number
        self._key: tuple[str, bytes] | None = None
        self._outgoing = Outgoing()
        self._channels: dict[int, Channel] = {}
        self._in_order: dict[int, deque[bytes]] = {}
        self._received: deque[bytes] = deque()
        self._chat: ConnectionChat | None = None  # before HELLO, or without chats
        self._chat_is_next = False
        self._tasks = Tasks(relay.world, relay.life)
        self._waits = False  # its uncommitted updates are at the bound
        self._heard = relay.world.now
        relay.sessions[number] = self
        wire.up.on_frame = self._on_frame
        wire.up.on_close = self._on_close
        wire.down.on_space = lambda: relay.wake(number)
        self._watch_silence()

    @property
    def is_over(self) -> bool:
        return self.relay.sessions.get(self.number) is not self

    def _watch_silence(self) -> None:
        relay = self.relay

        def look() -> None:
            if self.is_over:
                return
            if relay.world.now - self._heard >= limits.IDLE_TIMEOUT_S:
                self.close(Close.IDLE, "")
            else:
                self._watch_silence()

        relay.world.after(limits.IDLE_TIMEOUT_S, look, relay.life)

    # The fence calls this

    def close(self, code: int, reason: str) -> None:
        """End the connection."""
        if not self.is_over:
            self.relay.world.note("session %d ends with %d %s", self.number, code, reason)
            if code == Close.FENCED:
                self.relay.world.count("fenced")
            self._end()
            self.wire.relay_closes(code)

    def _on_close(self, _: int) -> None:
        if not self.is_over:
            self._end()

    def _end(self) -> None:
        del self.relay.sessions[self.number]
        if self._key is not None:
            self.relay.fence.leave(self._key, self)
        for channel in list(self._channels.values()):
            self._drop(channel)
        self._tasks.end()
        if self._chat is not None:
            self._chat.end()

    # Reading

    def _on_frame(self, data: bytes) -> None:
        self._heard = self.relay.world.now
        self._received.append(data)
        self._read()

    def _read(self) -> None:
        while self._received and not self._waits and not self.is_over and not self._is_full:
            self._handle(decode_from_client(self._received.popleft()))

    @property
    def _is_full(self) -> bool:
        return self._chat is not None and self._chat.is_full

    def _handle(self, frame: frames.Frame) -> None:
        match frame:
            case frames.Update() | frames.Offer():
                self._take(frame)
            case frames.Join():
                decode_state_vector(frame.state_vector)
                self.relay.rooms.hold(
                    frame.room,
                    frame.epoch,
                    lambda loaded: self._open(frame, loaded),
                    lambda: self._deny(frame),
                )
            case frames.Leave():
                channel = self._channels.get(frame.channel)
                if channel is not None:
                    self._drop(channel)
            case frames.Ping():
                self._answer(frames.Pong(frame.number))
            case frames.Hello():
                self._greet(frame)
                log = self.relay.log
                self._answer(frames.Welcome(frames.VERSION, frame.nonce, bytes(16), log.generation))
                assert self._key is not None
                self.relay.fence.enter(self._key, frame.connection, self)
            case frames.Enter() | frames.Send() | frames.Skip() | frames.Fetch() | frames.Mark():
                self._converse(frame)
            case _:
                raise AssertionError(f"a device sent {frame}")

    def _greet(self, hello: frames.Hello) -> None:
        """Know who it is."""
        user = user_of_device(hello.device).sub if hello.token is None else hello.token
        self._key = (user, hello.device)
        relay = self.relay
        if relay.chats is not None:
            self._chat = ConnectionChat(
                relay.chats,
                cast(Any, relay.hooks),
                user=user,
                device=hello.device,
                tasks=cast(Any, self._tasks),
                wake=self._wake_for_chat,
                overtaken=self._overtaken,
            )

    def _wake_for_chat(self) -> None:
        self._wake()
        if self._received:
            self.relay.world.after(0.0, self._read, self.relay.life)

    def _converse(
        self, frame: frames.Enter | frames.Send | frames.Skip | frames.Fetch | frames.Mark
    ) -> None:
        channel = self._channels.get(frame.channel)
        if channel is None:
            return  # sent before our LEFT reached the device
        assert self._chat is not None
        try:
            self._chat.handle(frame, channel.loaded, channel.reader.access)  # type: ignore[arg-type]
        except BadFrame as error:
            raise Violation(f"a device sent {frame}: {error}") from error
        log = self.relay.log
        if isinstance(frame, frames.Send | frames.Skip) and not log.has_room:
            self._waits = True
            log.wait_for_room(self._go_on)

    def _overtaken(self, number: int) -> None:
        self.relay.world.count("chat reader overtaken by retention")
        self._end_channel(self._channels[number], Code.BUSY)

    def _answer(self, frame: frames.Frame) -> None:
        self._outgoing.send(encode(frame))
        self._wake()

    def _wake(self) -> None:
        self.relay.wake(self.number)

    def _take(self, frame: frames.Update | frames.Offer) -> None:
        channel = self._channels.get(frame.channel)
        if channel is None:
            return
        relay = self.relay
        walked = walk(frame.update)
        room = channel.loaded.room
        if walked.ranges and room.coverage.fit(walked) is Fit.NOTHING:
            relay.world.count("update that the relay has")
        outcome = room.receive(channel.reader, frame, walked, relay.log.next_offset)
        channel.written.append((frame.number, walked))
        match outcome:
            case Appended(offset, data):
                relay.world.note(
                    "session %d: %d is at offset %d", self.number, frame.number, offset
                )
                relay.checks.appended(room.name, data)
                relay.rooms.appended(channel.loaded, offset, data)
                if not relay.log.has_room:
                    self._waits = True
                    relay.log.wait_for_room(self._go_on)
            case Answer(answer):
                relay.world.count(type(answer).__name__)
                self._answer(answer)
            case None:
                self._wake()

    def _go_on(self) -> None:
        self._waits = False
        self._read()

    # Rooms

    def _deny(self, frame: frames.Join) -> None:
        if not self.is_over:
            assert frame.epoch is not None
            self._check_deleted(frame.room, frame.epoch)
            self.relay.world.count("joining of a deleted room")
            self._answer(frames.Denied(frame.request, Code.DELETED, "this room was deleted"))

    def _open(self, frame: frames.Join, loaded: Loaded) -> None:
        relay, room = self.relay, loaded.room
        if self.is_over:
            relay.rooms.release(loaded)
            return
        before = self._channels.get(room.channel)
        if before is not None:
            self._drop(before)
        reader = Reader(Access.WRITE, self._wake)
        known = frame.epoch == room.epoch and relay.log.is_good(frame.generation, frame.offset)
        good = room.join(reader, good=known, offset=frame.offset)
        relay.world.note(
            "session %d joins %s at %d, good: %s", self.number, room.name, frame.offset, good
        )
        relay.world.count("good joining" if good else "joining that is not good")
        channel = self._channels[room.channel] = Channel(loaded, reader, deque())
        reader.on_deleted = lambda: self._end_channel(channel, Code.DELETED)
        vector = room.coverage.state_vector()
        self._answer_in_order(
            room.channel,
            frames.Joined(
                frame.request, room.channel, room.epoch, good, room.head, vector, Access.WRITE
            ),
        )
        self._outgoing.attach(room.channel, lambda: self._next_of(room.channel))
        if not good:
            self._differ(channel, frame.state_vector, lambda: None)

    def _answer_in_order(self, number: int, frame: frames.Frame) -> None:
        self._in_order.setdefault(number, deque()).append(encode(frame))
        self._wake()

    def _differ(self, channel: Channel, state_vector: bytes, over: Callable[[], object]) -> None:
        room = channel.loaded.room

        def made(offset: int, update: bytes | None) -> None:
            over()
            if self._channels.get(room.channel) is not channel:
                return
            if update is None:
                self._end_channel(channel, Code.BUSY)
                return
            channel.ready = encode(frames.Difference(room.channel, offset, update))
            room.place(channel.reader, offset)
            self._wake()

        self.relay.rooms.difference(room, state_vector, made)

    def _check_deleted(self, name: str, epoch: bytes) -> None:
        self.relay.checks.told_deleted(self.relay.disk.state, name, epoch)

    def _end_channel(self, channel: Channel, code: Code) -> None:
        room = channel.loaded.room
        if code is Code.DELETED:
            self._check_deleted(room.name, room.epoch)
        self._drop(channel)
        left = frames.Left(room.channel, code, "the relay cannot serve it")
        self._answer_in_order(room.channel, left)

    def _drop(self, channel: Channel) -> None:
        del self._channels[channel.loaded.room.channel]
        if self._chat is not None:
            self._chat.drop(channel.loaded.room.channel)
        channel.loaded.room.leave(channel.reader)
        self.relay.rooms.release(channel.loaded)

    # Writing

    def write(self) -> None:
        """Send while the socket takes more."""
        down = self.wire.down
        while down.has_space and not self.is_over:
            data = self._next()
            if data is None:
                return
            down.send(data)

    def _next(self) -> bytes | None:
        if self._chat is None:
            return self._outgoing.next()
        self._chat_is_next = not self._chat_is_next
        if self._chat_is_next:
            return self._chat.next() or self._outgoing.next()
        return self._outgoing.next() or self._chat.next()

    def _next_of(self, number: int) -> bytes | None:
        waiting = self._in_order.get(number)
        if waiting:
            return waiting.popleft()
        channel = self._channels.get(number)
        if channel is not None:
            return self._turn(channel)
        self._in_order.pop(number, None)
        self._outgoing.detach(number)
        return None

    def _turn(self, channel: Channel) -> bytes | None:
        """The next frame of one room for this connection."""
        reader = channel.reader
        frame = self._frame_of(channel)
        if frame is not None and not reader.waits_for_difference:
            if reader.position < channel.place:
                raise Violation(f"a reader's place fell to {reader.position} from {channel.place}")
            channel.place = reader.position
        return frame

    def _frame_of(self, channel: Channel) -> bytes | None:
        room, reader = channel.loaded.room, channel.reader
        if channel.ready is not None:
            frame, channel.ready = channel.ready, None
            return frame
        if channel.fetching:
            return None
        committed = self.relay.log.committed
        ack = None if channel.held_back else room.next_ack(reader, committed)
        if ack is None:
            run = room.next_run(reader)
            if run is BEHIND:
                channel.fetching = True
                self._fetch(channel)
                return None
            assert run is None or isinstance(run, bytes)
            if run is not None:
                return self._in_some_order(channel, run)
            ack = None if channel.held_back else room.next_ack(reader, committed)
        if ack is not None:
            self._check_ack(channel, ack)
        return ack

    def _check_ack(self, channel: Channel, encoded: bytes) -> None:
        ack = decode_from_relay(encoded)
        assert isinstance(ack, frames.Ack)
        written, name = channel.written, channel.loaded.room.name
        while written and written[0][0] <= ack.number:
            self.relay.checks.acked(name, written.popleft()[1])

    def _fetch(self, channel: Channel) -> None:
        room, reader = channel.loaded.room, channel.reader

        def over() -> None:
            channel.fetching = False
            self._wake()

        def fetched(frame: bytes | None) -> None:
            if self._channels.get(room.channel) is not channel:
                return
            if frame is None:
                self.relay.world.count("difference after compaction")
                reader.waits_for_difference = True
                self._differ(channel, b"\0", over)
            else:
                channel.ready = frame
                over()

        self.relay.rooms.read_behind(room, reader, fetched)

    # A relay that is broken in one way that devices must survive

    def _in_some_order(self, channel: Channel, run: bytes) -> bytes | None:
        """``run``, or, as a fault, the next run before it, if that one builds on it alone."""
        relay, first = self.relay, channel.held_back
        if first is None:
            if not relay.swaps or not _is_plain(run):
                return run
            relay.swaps -= 1
            channel.held_back = run

            def give_up() -> None:
                if channel.held_back is run and not self.is_over:
                    channel.held_back, channel.ready = None, run
                    self._wake()

            relay.world.after(1.0, give_up, relay.life)
            return None
        channel.held_back = None
        if _continues(run, first):
            relay.world.count("update before one that it builds on")
            first, run = run, first
        channel.ready = run
        return first


def _walked(run: bytes) -> Walk:
    frame = decode_from_relay(run)
    assert isinstance(frame, frames.Updates)
    return walk(frame.update)


def _is_plain(run: bytes) -> bool:
    """Whether who knows a part of it knows all of it."""
    walked = _walked(run)
    return not walked.deletes and [end - start for _, start, end in walked.ranges] == [1]


def _continues(later: bytes, earlier: bytes) -> bool:
    ((client, _, end),) = _walked(earlier).ranges
    return (client, end) in [(client, start) for client, start, _ in _walked(later).ranges]
