"""One room's chat on a device: the real machine and SQL, with the decisions of ``RoomChat``."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from collab import limits
from collab.errors import CollabError, OutboxFull
from collab.protocol import chat_changes as cc
from collab.protocol import frames
from collab.protocol.chat_sync import ChatFrame, ChatSync, Moment
from collab.protocol.gaps import Gaps
from collab.protocol.message_state import MessageState
from collab.storage import message_acts
from collab.storage.chat_work import Stored
from collab.storage.message_acts import Draft, OutboxCaps
from collab.storage.message_rows import MessageRow
from collab.storage.messages import load
from tests.simulation.chat_checkers import Asked
from tests.simulation.ledger import SimulatedLedger

if TYPE_CHECKING:
    from tests.simulation.device import Device

LOOK_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Letter:
    """What a program wants to send."""

    id: bytes
    body: str
    ttl_ms: int | None
    is_again: bool = False  # its id is on the disk already


class DeviceChat:
    """The chat of one open room."""

    def __init__(self, device: Device, number: int, name: str) -> None:
        assert device.plan.chat is not None
        self.device = device
        self.number = number
        self.name = name
        self.checks = device.checks.chat
        self.clock = device.running_clock()
        stored = load(self.connection, number)
        assert stored is not None
        self.machine = ChatSync(
            lane_epoch=stored.lane_epoch, bound=stored.bound, waiting=stored.waiting,
            slots=stored.slots, generation=stored.generation, seq=stored.seq,
            read_upto=stored.read_upto, user=stored.user,
        )  # fmt: skip
        self.gaps: Gaps = stored.gaps
        self.unread = stored.unread
        self._receipts = stored.receipts
        self._has_messages = stored.has_messages
        self.is_closed = False
        self.generation = b""  # of the relay's run on this connection
        self._read_at, self._running = -1.0, 0  # the running time at a moment
        self.told_user = ""  # whom the relay takes this connection for
        self.told_read = 0  # what it knows of this user's reading
        self._fetching = 0
        self._caps = OutboxCaps(device.plan.chat.outbox)
        self._timer: float | None = None
        self._timers = 0
        self.ledger = SimulatedLedger(device.world, device.disk, device.life, number, self._stored)
        self.checks.opened(self)
        self._put(self.machine.decide(self._now()))

    @property
    def connection(self) -> sqlite3.Connection:
        """What is on the disk."""
        return self.device.disk.state.chat

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing left to do."""
        return self.machine.is_level and not self.ledger.pending

    @property
    def has_content(self) -> bool:
        """Whether there is anything that belongs to this room and no other."""
        return self._has_messages or bool(
            self.machine.reader.seq or self.machine.outbox.pending or self.gaps or self._receipts
        )

    # For the connection

    def joined(self, channel: int, generation: bytes) -> None:
        """The room is open at the relay."""
        self.machine.detach()
        self.generation = generation
        self.machine.joined(channel, generation)
        self._decided(())

    def detach(self) -> None:
        """It is not."""
        self.machine.detach()
        self._fetching = 0

    def receive(self, frame: ChatFrame) -> None:
        """A frame of this chat came."""
        if self.is_closed:
            return
        rng = self.device.world.rng
        self.checks.came(self, frame)
        moment = Moment(self._now(), rng.random(), rng.randbytes(16))
        self._decided(self.machine.receive(frame, moment))

    def next_enter(self) -> frames.Frame | None:
        """ENTER, if it is due."""
        return self._up(None if self.is_closed else self.machine.next_enter(self._now()))

    def next_frame(self) -> frames.Frame | None:
        """The next frame of this chat."""
        return self._up(None if self.is_closed else self.machine.next_frame(self._now()))

    def _up(self, frame: frames.Frame | None) -> frames.Frame | None:
        if frame is not None:
            self.checks.goes_up(self, frame)
        return frame

    def look(self) -> None:
        """The program fell asleep or woke up."""
        if not self.is_closed:
            self._timer = None
            self._timers += 1
            self._decided(self.machine.decide(self._now()))

    def end(self) -> None:
        """The room is closed."""
        self.is_closed = True
        self.machine.detach()
        self.ledger.close()

    # For the program, as in ``collab.chat``

    def send(self, letter: Letter) -> None:
        """Queue a message."""
        if letter.ttl_ms == 0:
            if not self.machine.is_open:
                return  # OfflineError
            letter = replace(letter, ttl_ms=limits.LIVE_TTL_MS)
        anchor = self.clock.anchor()
        world = self.device.world
        sent_at = self.device.wall_ms
        draft = Draft(letter.id, letter.body, b"", sent_at, letter.ttl_ms)
        asked = Asked(world.now, self.device.jumped)

        def queued(result: tuple[MessageRow, cc.Waiting | None]) -> None:
            row, waiting = result
            if waiting is not None:
                world.note("device %d has sent %s", self.device.number, row.body)
                self.checks.sent(self, row, asked)
                self.machine.outbox.queued(waiting)
                self.show(row)

        def failed(error: CollabError) -> None:
            if isinstance(error, OutboxFull):
                world.count("outbox full")
            self.checks.was_not_sent(self, letter, error)

        self._ask(
            lambda connection: message_acts.write(
                connection, self.number, draft, anchor, self._caps
            ),
            queued,
            failed,
        )

    def edit(self, row: MessageRow, body: str) -> None:
        """Change a body."""

        def edited(after: MessageRow) -> None:
            self.checks.edited(self, after)
            self.show(after)

        self.checks.edits(self, row, body)
        self._ask(
            lambda connection: message_acts.edit(connection, row.row, body, self._caps), edited
        )

    def cancel(self, row: MessageRow) -> None:
        """Take a message back."""
        outbox = self.machine.outbox
        outbox.hold(row.id)

        def cancelled(after: MessageRow) -> None:
            if after.state is MessageState.CANCELLED:
                outbox.removed(row.id)
                self.show(after)
            else:
                outbox.let_go(row.id)
                outbox.given_up(row.id, MessageState.CANCELLED)

        self._ask(
            lambda connection: message_acts.cancel(connection, row.row),
            cancelled,
            lambda _: outbox.let_go(row.id),
        )

    def retry(self, row: MessageRow) -> None:
        """Queue a stalled message again."""
        anchor = self.clock.anchor()
        asked = Asked(self.device.world.now, self.device.jumped)

        def queued(result: tuple[MessageRow, cc.Waiting]) -> None:
            self.device.world.count("message retried")
            self.checks.sent(self, result[0], asked)
            self.machine.outbox.queued(result[1])
            self.show(result[0])

        self._ask(
            lambda connection: message_acts.retry(connection, self.number, row.row, anchor), queued
        )

    def read(self, upto: int | None) -> None:
        """The user has read."""

        def read(result: tuple[int, int]) -> None:
            self.machine.marks.read(result[0])
            self.unread = result[1]

        self._ask(lambda connection: message_acts.read(connection, self.number, upto), read)

    def fetch(self, *, newest: bool) -> bool:
        """Ask for what is missing at one end; False if nothing is, or it cannot be had now."""
        reader = self.machine.reader
        missing = [gap for gap in self.gaps if not gap.lost and gap.high <= reader.seq]
        if self.is_closed or not missing or not self.machine.is_open:
            return False
        gap = missing[-1 if newest else 0]
        request = self._fetching = reader.ask(gap.low, gap.high, newest=newest)
        world = self.device.world
        world.count("history fetched")

        def give_up() -> None:
            reader.give_up(request)
            self._has_fetched(request)

        world.after(limits.FETCH_TIMEOUT_S, give_up, self.device.life)
        self._wake()
        return True

    @property
    def is_fetching(self) -> bool:
        """Whether a page is on its way."""
        return self._fetching > 0

    def _has_fetched(self, request: int) -> None:
        if self._fetching == request:
            self._fetching = 0

    def show(self, row: MessageRow) -> None:
        """The program is told of a message."""
        self._has_messages = True
        self.checks.shown(self, row)

    # What was decided, and what came of it

    def _ask(
        self,
        act: Callable[[sqlite3.Connection], Any],
        then: Callable[[Any], object],
        failed: Callable[[CollabError], object] = lambda _: None,
    ) -> None:
        def go_on() -> None:
            self._decided(self.machine.decide(self._now()))

        def stored(result: Any) -> None:
            then(result)
            go_on()

        def refused(error: CollabError) -> None:
            failed(error)
            go_on()

        if not self.is_closed:
            self.ledger.ask(act, stored, refused)

    def _now(self) -> int:
        moment = self.device.world.now
        if moment != self._read_at:
            self._read_at, self._running = moment, self.clock.now()
        return self._running

    def _put(self, changes: Sequence[cc.Change]) -> None:
        self.ledger.put(changes)
        self._arm()

    def _decided(self, changes: Sequence[cc.Change]) -> None:
        self._put(changes)
        self._wake()
        self.device.connection.levels()

    def _stored(self, change: cc.Change, stored: Stored) -> None:
        more = self.machine.stored(
            change, now=self._now(), slots=stored.slots, waiting=stored.waiting,
            logged=stored.logged, awaited=stored.awaited,
        )  # fmt: skip
        self._show(change, stored)
        self._decided(more)

    def _show(self, change: cc.Change, stored: Stored) -> None:
        for row in (*stored.added, *stored.changed):
            self.show(row)
        if stored.receipts is not None:
            self._receipts = stored.receipts
        if stored.gaps is not None:
            self.gaps = stored.gaps
        if stored.unread is not None:
            self.unread = stored.unread
        self.checks.stored(self, change, stored)
        if isinstance(change, cc.Fill):
            self._has_fetched(change.request)

    def _wake(self) -> None:
        self.device.connection.wake()

    # Time

    def _arm(self) -> None:
        now = self._now()
        is_still = self.is_closed or self.device.connection.is_asleep
        deadline = None if is_still else self.machine.deadline(now)
        if deadline is None:
            return
        world = self.device.world
        moment = world.now + min((deadline - now) / 1000, LOOK_AGAIN_S)
        if self._timer is not None and world.now <= self._timer <= moment:
            return  # it looks again then
        self._timer = moment
        self._timers += 1
        this = self._timers
        world.after(moment - world.now, lambda: self._tick(this), self.device.life)

    def _tick(self, timer: int) -> None:
        if timer == self._timers and not self.is_closed:
            self._timer = None
            self._decided(self.machine.decide(self._now()))
