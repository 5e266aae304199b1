"""One room's chat as the connection sees it: carries out what ``ChatSync`` decides."""

from __future__ import annotations

import asyncio
import os
import random
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from collab import limits
from collab.chat_events import (
    ChatEvent,
    GapsChanged,
    MessageAdded,
    MessageChanged,
    MessageConfirmed,
    MessageExpired,
    MessageRefused,
    MessageRejected,
    MessagesLost,
    MessagesReplaced,
    ReceiptsChanged,
    StoreRolledBack,
    UnreadChanged,
)
from collab.device import Device
from collab.errors import CollabError, HistoryReplaced
from collab.events import Observers, Subscription
from collab.message import Message
from collab.protocol import chat_changes as cc
from collab.protocol import frames
from collab.protocol.chat_sync import ChatFrame, ChatSync, Moment
from collab.protocol.device_clock import Anchor
from collab.protocol.gaps import Gaps
from collab.protocol.message_state import MessageState
from collab.protocol.messages import Receipt, Verdict
from collab.room_members import RoomMembers
from collab.storage.chat_work import Stored
from collab.storage.database import Connection
from collab.storage.ledger import Ledger
from collab.storage.message_rows import MessageRow
from collab.storage.messages import Place, StoredChat

__all__ = ["RoomChat"]

R = TypeVar("R")

_BEHIND: Final = 32  # decisions that wait for the disk before the network is read on
_LOOK_AGAIN_S: Final = 60.0  # the loop's clock stands still while a device sleeps; ours does not


class RoomChat:
    """The chat of one open room: its machine, its ledger, and who watches it.

    Nothing is shown, by event or by property, that is not on this disk. ``error`` is why the last
    commit failed, or None. ``on_change`` is called whenever something of its state changed.
    """

    def __init__(self, device: Device, room_id: int, name: str, stored: StoredChat) -> None:
        self.name: Final = name
        self.room_id: Final = room_id
        self.observers: Final[Observers[ChatEvent]] = Observers()
        self.on_change: Callable[[], None] = lambda: None
        self.gaps: Gaps = stored.gaps
        self.unread = stored.unread
        self.error: CollabError | None = None
        self.machine: Final = ChatSync(
            lane_epoch=stored.lane_epoch,
            bound=stored.bound,
            waiting=stored.waiting,
            slots=stored.slots,
            generation=stored.generation,
            seq=stored.seq,
            read_upto=stored.read_upto,
            user=stored.user,
        )
        self.members: Final = RoomMembers(stored.members, self.machine.membership, self._wake)
        self._device = device
        self._finishing = self._closed = False
        self._receipts: list[Receipt] = stored.receipts
        self._has_messages = stored.has_messages
        self._handles: weakref.WeakValueDictionary[int, Message] = weakref.WeakValueDictionary()
        # What the first observer is still to be told; None once there was one.
        self._untold: deque[ChatEvent] | None = deque(maxlen=limits.MAX_OUTBOX_MESSAGES)
        self._pages: dict[int, asyncio.Future[bool]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._told = 0  # how often something was stored
        self._ledger = Ledger(
            room_id,
            device.messages.write,
            run=device.run,
            on_stored=self._stored,
            on_error=self._disk,
            retry_pauses_s=device.retry_pauses_s,
        )
        self._put(self.machine.decide(self._now()))

    # How it stands

    @property
    def is_level(self) -> bool:
        """Whether all of ours is decided and all that was in the log at entering is here."""
        return self.machine.is_level and not self._ledger.pending

    @property
    def is_settled(self) -> bool:
        """Whether nobody has to wait for it: it has caught up, or cannot."""
        return self.machine.is_caught_up or self.is_over

    @property
    def is_over(self) -> bool:
        """Whether nothing comes or goes any more: the room was closed, or its chat failed."""
        return self._finishing or self._ledger.closed

    @property
    def is_told(self) -> bool:
        """Whether the relay knows how far this device and its user are."""
        return self.machine.is_told

    @property
    def has_content(self) -> bool:
        """Whether there is anything that belongs to this room and no other."""
        return self._has_messages or bool(
            self.machine.reader.seq or self.machine.outbox.pending or self.gaps or self._receipts
        )

    # For the connection

    def joined(self, channel: int, generation: bytes) -> None:
        """The room is open at the relay."""
        self.detach()
        if not self._finishing:
            self.machine.joined(channel, generation)
        self._decided(())

    def detach(self) -> None:
        """The room is not open at the relay: left, joined again, or the connection is gone."""
        self.machine.detach()
        self.members.cut_off()
        for page in self._pages.values():
            if not page.done():
                page.set_result(False)

    async def receive(self, frame: ChatFrame) -> None:
        """A frame of this chat came. Raises :class:`BadFrame`, which ends the connection."""
        if self._finishing or self._closed or self._ledger.closed:
            return
        moment = Moment(self._now(), random.random(), os.urandom(16))
        changes = self.machine.receive(frame, moment)
        if any(isinstance(change, cc.NewLane | cc.NewUser) for change in changes):
            self.members.cut_off()  # to enter again is to hear nothing more of what was asked
        self._decided(changes)
        if self._ledger.pending > _BEHIND:
            await self._ledger.settled()

    def next_enter(self) -> frames.Enter | None:
        """ENTER, if it is due: before anything else of the room goes up."""
        return None if self._closed else self.machine.next_enter(self._now())

    def next_frame(self) -> frames.Frame | None:
        """The next frame of this chat, or None."""
        if self._closed:
            return None
        frame = self.machine.next_frame(self._now())
        if isinstance(frame, frames.Mark):
            asyncio.get_running_loop().call_soon(self.on_change)
        return frame

    def look(self) -> None:
        """The program fell asleep or woke up: see what is due, and set the timer or none."""
        if not self._closed:
            self._tick()

    async def flush(self) -> None:
        """Return when all that was decided is on the disk, or the disk takes nothing now."""
        await self._ledger.flush()

    # For the program

    async def ask(
        self,
        act: Callable[[Connection], R],
        then: Callable[[R], None],
        failed: Callable[[], None] = lambda: None,
    ) -> R:
        """Do something to what is stored, then to what is in memory. Raises what ``act`` raises."""

        def go_on() -> None:
            self._decided(self.machine.decide(self._now()))

        def stored(result: R) -> None:
            self._told += 1
            then(result)
            go_on()

        def refused() -> None:
            failed()
            go_on()

        return await self._ledger.ask(act, stored, refused)

    async def fetch(self, low: int, high: int, *, newest: bool) -> bool:
        """Ask the relay for a page of what is missing; False if it cannot be had now."""
        reader = self.machine.reader
        if self._closed or not self.machine.is_open or high > reader.seq:
            return False
        request = reader.ask(low, high, newest=newest)
        page: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._pages[request] = page
        self._wake()
        try:
            async with asyncio.timeout(limits.FETCH_TIMEOUT_S):
                return await page
        except TimeoutError:
            return False
        finally:
            del self._pages[request]
            reader.give_up(request)

    def anchor(self) -> Anchor:
        """The device's running time, to be stored."""
        return self._device.clock.anchor()

    async def reach(self, after: Place, before: Place, limit: int, *, newest: bool) -> int | None:
        """How far the messages that are here reach, from one end of a range."""
        return await self._device.messages.reach(self.room_id, after, before, limit, newest=newest)

    async def find(
        self, after: Place, before: Place, limit: int, *, newest: bool
    ) -> tuple[list[Message], Gaps]:
        """Messages between two places as they are now, and all that is missing."""
        while True:
            told = self._told
            rows = await self._device.messages.between(
                self.room_id, after, before, limit, newest=newest
            )
            if told == self._told:  # else some of them may have changed since they were read
                found = [self._handles.get(row.row) or self.handle(row) for row in rows]
                return found, self.gaps

    def handle(self, row: MessageRow) -> Message:
        """The one object that stands for a message, which is now as ``row`` says."""
        message = self._handles.get(row.row)
        if message is None:
            message = self._handles[row.row] = Message(row, self._readers)
        else:
            message._set(row)
        return message

    def is_own(self, message: Message) -> bool:
        """Whether the message is of this open room."""
        return self._handles.get(message._row.row) is message

    def show(self, row: MessageRow, *, is_new: bool = False) -> None:
        """A message is stored, or stored anew."""
        self._has_messages = True
        if row.row not in self._handles and not self.observers:
            return
        message = self.handle(row)
        self.observers.emit(MessageAdded(message) if is_new else MessageChanged(message))

    def observe(self, callback: Callable[[ChatEvent], object]) -> Subscription:
        """Call ``callback`` with every event; the first one also with what ended before it came."""
        subscription = self.observers.add(callback)
        untold, self._untold = self._untold, None
        for event in untold or ():
            self.observers.emit(event)
        return subscription

    def show_unread(self, unread: int) -> None:
        """What is unread was counted again."""
        if unread != self.unread:
            self.unread = unread
            self.observers.emit(UnreadChanged(unread))

    async def finish(self) -> None:
        """Take nothing more from the relay, and store what was decided, if the disk takes it."""
        self.members.close()
        self.detach()
        self._finishing = True
        await self._ledger.flush()

    def end(self) -> None:
        """The room is closed. What is on its way to the disk is stored to its end."""
        self._closed = True
        self.members.close()
        self.detach()
        self._ledger.close()
        if self._timer is not None:
            self._timer.cancel()
        for message in list(self._handles.values()):
            message._end()
        self.observers.clear()
        self._untold = None
        self.members.end()

    # What was decided, and what came of it

    def _now(self) -> int:
        return self._device.clock.now()

    def _put(self, changes: Sequence[cc.Change]) -> None:
        self._ledger.put(changes)
        self._arm()

    def _decided(self, changes: Sequence[cc.Change]) -> None:
        self._put(changes)
        self._wake()
        self.on_change()

    def _stored(self, change: cc.Change, stored: Stored) -> None:
        """A decision is on the disk: now it may be shown, and built upon."""
        self._told += 1
        more = self.machine.stored(
            change,
            now=self._now(),
            slots=stored.slots,
            waiting=stored.waiting,
            logged=stored.logged,
            awaited=stored.awaited,
        )
        self._show(change, stored)
        if isinstance(change, cc.Fill):
            page = self._pages.get(change.request)
            if page is not None and not page.done():
                page.set_result(True)
        if isinstance(change, cc.Answered):
            self.members.answered(change)
        self._decided(more)

    def _show(self, change: cc.Change, stored: Stored) -> None:
        emit = self.observers.emit
        if isinstance(change, cc.NewLane) and change.rolled_back:
            self._tell(
                StoreRolledBack(
                    "The relay has seen more of this device's messages than this file knows: it "
                    "was copied or put back. What was not decided is sent again under its old ids."
                )
            )
        if stored.receipts is not None:
            self._receipts = stored.receipts
            emit(ReceiptsChanged())
        for gone, row in stored.merged.items():
            twin = self._handles.pop(gone, None)
            if twin is not None:
                twin._set(row)
        for row in stored.added:
            self.show(row, is_new=True)
        for row in stored.changed:
            self.show(row)
        self._show_endings(change, stored)
        self._show_verdicts(stored)
        if stored.members is not None:
            self.members.show(stored.members)
        if stored.gaps is not None:
            self.gaps = stored.gaps
            emit(GapsChanged(stored.gaps))
        for gap in stored.lost:
            self._tell(MessagesLost(gap.low, gap.high))
        if isinstance(change, cc.Replace) or stored.reoffered or stored.replaced:
            error = _replaced(self.name, stored)
            self._tell(MessagesReplaced(stored.reoffered, stored.replaced, error))
        if stored.unread is not None:
            self.show_unread(stored.unread)

    def _show_endings(self, change: cc.Change, stored: Stored) -> None:
        """Bodies go back to the program where nothing else will come of them."""
        if not isinstance(change, cc.Decide | cc.Expire):
            return
        for row in stored.changed:
            if row.state is MessageState.EXPIRED:
                self._tell(MessageExpired(self.handle(row)))
            elif row.state is MessageState.REJECTED:
                self._tell(MessageRejected(self.handle(row), row.code, row.reason))

    def _tell(self, event: ChatEvent) -> None:
        """Emit what nobody may miss: messages end while a room is opened, too."""
        if self._untold is None:
            self.observers.emit(event)
        else:
            self._untold.append(event)

    def _show_verdicts(self, stored: Stored) -> None:
        """The application at the relay has spoken."""
        for row in stored.decided:
            message = self.handle(row)
            if row.verdict == Verdict.CONFIRMED:
                self._tell(MessageConfirmed(message))
            else:
                self._tell(MessageRefused(message, row.verdict_reason))

    def _readers(self, seq: int) -> tuple[int, int]:
        """How many others have received, and have read, up to ``seq``."""
        delivered = sum(max(one.delivered_upto, one.read_upto) >= seq for one in self._receipts)
        return delivered, sum(one.read_upto >= seq for one in self._receipts)

    def _disk(self, error: CollabError | None) -> None:
        self.error = error
        if self._ledger.closed:
            self.members.end()  # nothing is stored any more
        self.on_change()

    # Time

    def _wake(self) -> None:
        if self._device.uplink is not None:
            self._device.uplink.wake()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._now()
        is_still = self._closed or self._device.is_asleep
        deadline = None if is_still else self.machine.deadline(now)
        if deadline is not None:
            delay_s = min((deadline - now) / 1000, _LOOK_AGAIN_S)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._decided(self.machine.decide(self._now()))


def _replaced(name: str, stored: Stored) -> HistoryReplaced:
    return HistoryReplaced(
        f"The relay's chat of the room {name!r} has another history than this device knew; it may "
        f"have been put back from a backup. {stored.reoffered} messages of ours are sent to it "
        f"again, under their ids. {stored.replaced} others are kept here and are not there; they "
        f"are marked. Everything else is fetched again."
    )
