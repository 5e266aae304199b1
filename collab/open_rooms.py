"""Which rooms of a client are open: each name once, one act on a name at a time."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Collection
from contextlib import suppress
from weakref import WeakValueDictionary

from collab import limits
from collab.device import Device
from collab.errors import Closed, CollabError, LocalError, TooLarge
from collab.protocol.codec import is_room_name
from collab.protocol.ysync import decode_state_vector
from collab.room import Room
from collab.room_sync import RoomSync
from collab.storage.copies import Copies
from collab.storage.documents import RoomRow
from collab.template import Template

__all__ = ["OpenRooms"]

_EPOCH_BYTES = 16


class OpenRooms:
    """The open rooms of one client. ``check`` raises ``Closed`` once the client is.

    1. A name has one open room. While another is *staged* to take its place, that one alone speaks
       to the relay, which knows a room by its name.
    2. What opens, forgets, forks or replaces a name holds its ``lock``.
    """

    def __init__(self, device: Device, copies: Copies, *, check: Callable[[], None]) -> None:
        self._device = device
        self._copies = copies
        self._check = check
        self._open: dict[str, Room] = {}
        self._staged: dict[str, Room] = {}
        self._borrowed: set[str] = set()  # open, and no program has asked for them
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def all(self) -> list[Room]:
        """Every room that is open, staged ones too."""
        return [*self._open.values(), *self._staged.values()]

    def syncs(self) -> list[RoomSync]:
        """Who speaks to the relay for each name."""
        return [room._sync for room in {**self._open, **self._staged}.values()]

    def lock(self, name: str) -> asyncio.Lock:
        """Who holds it is alone with this name."""
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock

    # --- what a program asks for -----------------------------------------------------------------

    async def open(self, name: str, template: Template | None) -> Room:
        """The room of this name, from disk; the same object while it is open."""
        _check_name(name)
        async with self.lock(name):
            self._check()
            self._borrowed.discard(name)
            room = self._open.get(name)
            if room is not None:
                if template is not None:
                    await room._local.idle()
                    room._check()
                    room._local.start_from(template.update)
                return room
            room = await self._load(
                await self._device.documents.create(name),
                name,
                template.clients if template else (),
            )
            if template is not None:
                try:
                    room._local.start_from(template.update)
                except CollabError:
                    room._end()
                    raise
            return self._enter(room)

    async def forget(self, name: str) -> None:
        """Delete the room from this device, open or not."""
        async with self.lock(name):
            room = self._open.get(name)
            if room is not None:
                room._end()
            for row in await self._device.documents.rooms():
                if row.name == name:
                    await self._device.documents.forget(row.id)

    async def fork(self, room: Room, name: str) -> Room:
        """A new room whose one update is all that ``room`` has; see ``Room.fork``."""
        _check_name(name)
        if room._local.replica.in_transaction:
            raise LocalError(
                "A transaction of this room is open. Nothing was forked; fork it after its end."
            )
        async with self.lock(name):
            self._check()
            if name in self._open:
                raise _is_taken(name, "is open")
            await room._local.idle()
            room._check()
            replica = room._local.replica
            content = replica.snapshot()
            if len(content) > limits.MAX_UPDATE_BYTES:
                raise TooLarge(
                    f"The room {room.name!r} has {len(content)} bytes; no relay takes more than "
                    f"{limits.MAX_UPDATE_BYTES} at once. Nothing was forked, and everything is kept"
                    f" here as it was. Delete some of it, or copy what you need into a new room."
                )
            has_content = bool(decode_state_vector(replica.state_vector()))
            # An epoch of its own: should the relay have another room of this name, they never mix.
            row = await self._copies.fork(
                name, os.urandom(_EPOCH_BYTES), content if has_content else None
            )
            if row is None:
                raise _is_taken(name, "has content on this device")
            return self._enter(await self._load(row, name))

    # --- for a room that closes ---------------------------------------------------------------

    async def leave(self, room: Room) -> None:
        """Leave the relay, and return when nothing of ``room`` waits for the disk.

        Who opened it anew before that would have a document without what waits, and a snapshot of
        it would take the place of the rows.
        """
        await room._chat.finish()
        room._sync.live.leave()
        room._sync.step_aside()
        await room._local.settled()

    def come_back(self, room: Room) -> None:
        """Speak for the name again: it was not closed, or not replaced, after all."""
        if room._local.closed or room.name in self._staged:
            return  # where one is staged, that one speaks, and this one comes back after it
        room._chat.go_on()
        room._sync.step_back()
        self._join(room)

    # --- for ``background`` ----------------------------------------------------------------------

    async def borrow(self, name: str) -> Room | None:
        """The room of this name. One that is not open is opened until ``give_back``.

        None if it was forgotten.
        """
        async with self.lock(name):
            self._check()
            room = self._open.get(name)
            if room is not None:
                return room
            row = await self._device.documents.find(name)
            if row is None:
                return None
            room = await self._load(row, name)
            self._borrowed.add(name)
            return self._enter(room)

    def give_back(self, name: str) -> None:
        """Close the room of this name, unless a program has asked for it since it was borrowed.

        What it still has to save is saved first: see ``leave``.
        """
        room = self._open.get(name)
        if room is None or name not in self._borrowed:
            return
        if room._local.is_saved:
            room._end()
        else:
            self._device.run(self._end_saved(room))

    async def _end_saved(self, room: Room) -> None:
        with suppress(CollabError):  # it was closed, or nothing is saved any more
            await room._local.settled()
            if self._open.get(room.name) is room and room.name in self._borrowed:
                room._end()

    # --- for ``discarding`` ----------------------------------------------------------------------

    async def stage(self, room: Room) -> Room:
        """An empty room of the same name and epoch, which from now on speaks in its place."""
        row = await self._copies.stage(room.name, room._sync.machine.epoch)
        staged = await self._load(row, room.name)
        await staged._chat.finish()  # the chat stays the other's
        room._sync.step_aside()
        self._staged[room.name] = staged
        self._join(staged)
        return staged

    def is_staged(self, staged: Room) -> bool:
        """Whether it is still to take the other's place."""
        return self._staged.get(staged.name) is staged

    async def unstage(self, room: Room, staged: Room) -> None:
        """Give up the staged room: the other one speaks again."""
        staged._end()
        self.come_back(room)
        with suppress(CollabError):  # then the next start deletes it
            await self._copies.drop(staged._local.id)

    async def promote(self, room: Room, staged: Room) -> Room:
        """Put the staged room in the place of the other, on the disk and then here, opened anew.

        The other one's chat goes on in it, with what was never sent.
        """
        staged._sync.step_aside()
        await staged._local.wait_saved()
        await room._chat.finish()
        await self._copies.replace(room._local.id, staged._local.id, room.name)
        self._staged.pop(room.name, None)
        was_closed = staged._local.closed
        room._end()
        staged._end()
        if was_closed:
            raise Closed(
                f"The client was closed while the room {room.name!r} was replaced by the relay's "
                f"copy. That is done; open it again."
            )
        with suppress(CollabError):  # both rooms are what they are, whether the file shrinks or not
            await self._copies.shrink()
        row = await self._device.documents.create(room.name)
        return self._enter(await self._load(row, room.name))

    # --- inside ----------------------------------------------------------------------------------

    def ended(self, room: Room) -> None:
        """A room was closed."""
        if self._open.get(room.name) is room:
            self._borrowed.discard(room.name)
        for rooms in (self._open, self._staged):
            if rooms.get(room.name) is room:
                del rooms[room.name]

    def _enter(self, room: Room) -> Room:
        self._open[room.name] = room
        self._join(room)
        return room

    def _join(self, room: Room) -> None:
        if self._device.uplink is not None:
            self._device.uplink.join(room._sync)

    async def _load(self, row: RoomRow, name: str, taken: Collection[int] = ()) -> Room:
        stored = await self._device.documents.load(row.id)
        messages = await self._device.messages.load(row.id, os.urandom(_EPOCH_BYTES))
        self._check()
        while True:
            # Fresh at each open and never persisted: a copied or restored file cannot make two
            # devices write under one id.
            client_id = random.SystemRandom().getrandbits(32)
            room = Room(
                self._device, row, stored, client_id, name=name, messages=messages, rooms=self
            )
            replica = room._local.replica
            if client_id not in taken and client_id not in decode_state_vector(
                replica.state_vector()
            ):
                return room
            replica.close()


def _check_name(name: str) -> None:
    if not is_room_name(name):
        raise LocalError(
            f"A room's name is 1 to 255 bytes of UTF-8 without control characters; "
            f"{name!r:.80} is not. Nothing was opened."
        )


def _is_taken(name: str, why: str) -> LocalError:
    return LocalError(
        f"A room {name!r} {why}. Nothing was forked and nothing was changed. Use another name."
    )
