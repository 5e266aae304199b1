"""One room's chat as the connection sees it: carries out what ``ChatSync`` decides."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from collab import limits
from collab.chat_view import ChatView
from collab.device import Device
from collab.errors import CollabError
from collab.message import Message
from collab.protocol import chat_changes as cc
from collab.protocol import frames
from collab.protocol.chat_sync import ChatFrame, ChatSync, Moment
from collab.protocol.device_clock import Anchor
from collab.protocol.gaps import Gaps
from collab.room_members import RoomMembers
from collab.storage.chat_work import Stored
from collab.storage.database import Connection
from collab.storage.ledger import Ledger
from collab.storage.messages import Place, StoredChat

__all__ = ["RoomChat"]

R = TypeVar("R")

_BEHIND: Final = 32  # decisions that wait for the disk before the network is read on
_LOOK_AGAIN_S: Final = 60.0  # the loop's clock stands still while a device sleeps; ours does not


class RoomChat:
    """The chat of one open room: its machine, its ledger, and what a program sees of it.

    ``error`` is why the last commit failed, or None. ``on_change`` is called whenever something of
    its state changed.
    """

    def __init__(self, device: Device, room_id: int, name: str, stored: StoredChat) -> None:
        self.room_id: Final = room_id
        self.on_change: Callable[[], None] = lambda: None
        self.view: Final = ChatView(name, stored)
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
        view, machine = self.view, self.machine
        return view.has_messages or bool(
            machine.reader.seq or machine.outbox.pending or view.gaps or view.receipts
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
                return [self.view.found(row) for row in rows], self.view.gaps

    async def finish(self) -> None:
        """Take nothing more from the relay, and store what was decided, if the disk takes it."""
        self.members.close()
        self.detach()
        self._finishing = True
        await self._ledger.flush()

    def go_on(self) -> None:
        """It was not to be the end: what comes after the next joining is taken again."""
        self._finishing = False
        self.members.go_on()

    def end(self) -> None:
        """The room is closed. What is on its way to the disk is stored to its end."""
        self._closed = True
        self.members.close()
        self.detach()
        self._ledger.close()
        if self._timer is not None:
            self._timer.cancel()
        self.view.end()
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
        self.view.took(change, stored)
        if stored.members is not None:
            self.members.show(stored.members)
        if isinstance(change, cc.Fill):
            page = self._pages.get(change.request)
            if page is not None and not page.done():
                page.set_result(True)
        if isinstance(change, cc.Answered):
            self.members.answered(change)
        self._decided(more)

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
