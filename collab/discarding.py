"""Give up what the relay refuses, and go on with the relay's copy.

The local copy is destroyed only when the relay's is whole on this disk: it is fetched into a
*staged* room beside it, which then takes its place in one transaction. Until that moment nothing
has changed but who speaks to the relay for the name.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from collab.cancelling import to_the_end
from collab.errors import BadUpdate, LocalError, OfflineError, Rejected, RoomReplaced, Unsupported
from collab.protocol.losses import lacking, was_lost

if TYPE_CHECKING:
    from collab.device import Uplink
    from collab.open_rooms import OpenRooms
    from collab.room import Room

__all__ = ["discard_refused"]

_KEPT = "Nothing was given up, and the room is as it was."
_WAYS_OUT = (
    "Keep this copy under another name with room.fork(name), or give it up with "
    "client.forget(name)."
)


async def discard_refused(rooms: OpenRooms, room: Room, timeout: float | None) -> Room:
    """See ``Room.discard_refused``."""
    async with rooms.lock(room.name):
        room._check()
        machine = room._sync.machine
        if machine.refusal is None:
            raise LocalError(
                f"Nothing of the room {room.name!r} is refused by the relay, so there is nothing "
                f"to give up. Nothing was changed."
            )
        uplink = _connected(room)
        staged = await rooms.stage(room)
        try:
            try:
                async with asyncio.timeout(timeout):
                    await _fetched(uplink, staged)
            except TimeoutError:
                raise room._device.saver.error or TimeoutError(
                    f"The relay's copy of {room.name!r} was not on this disk after {timeout} "
                    f"seconds. {_KEPT} Try again."
                ) from None
            await _check_it_is_the_same(room, staged)
            return await to_the_end(rooms.promote(room, staged))
        except BaseException:
            if rooms.is_staged(staged):
                await to_the_end(rooms.unstage(room, staged))
            raise


def _connected(room: Room) -> Uplink:
    uplink = room._device.uplink
    if uplink is not None and uplink.failure is not None:
        raise uplink.failure
    if uplink is None or not uplink.is_connected:
        raise OfflineError(
            f"There is no connection to a relay, so its copy of {room.name!r} cannot be fetched. "
            f"{_KEPT} Try again when client.connection says syncing or live."
        )
    return uplink


async def _fetched(uplink: Uplink, staged: Room) -> None:
    """Return when all that the relay has is on this disk."""
    local, sync = staged._local, staged._sync
    while not (sync.machine.is_caught_up and local.is_saved):
        error = sync.error
        if isinstance(error, Rejected) and not error.retryable:
            raise Rejected(
                f"The relay does not let this user read the room {staged.name!r} ({error.code}). "
                f"{_KEPT} {_WAYS_OUT}",
                code=error.code,
            )
        if isinstance(error, (RoomReplaced, BadUpdate, Unsupported)):
            raise error
        _connected(staged)
        await local.change()


async def _check_it_is_the_same(room: Room, staged: Room) -> None:
    """Raise unless the relay has all of ``room`` but what it never acked."""
    machine, fetched = room._sync.machine, staged._sync.machine
    if machine.epoch is not None and machine.epoch != fetched.epoch:
        raise RoomReplaced(
            f"The relay has another room named {room.name!r} now. {_KEPT} {_WAYS_OUT}"
        )
    lacks = lacking(machine.coverage.clocks, fetched.coverage.clocks)
    lost = await asyncio.to_thread(was_lost, lacks, machine.unacked)
    if lost:
        raise RoomReplaced(
            f"The relay lacks edits of {room.name!r} that it once had; this device may be the last "
            f"that has them. {_KEPT} Other devices may give them back to the relay, then try "
            f"again. {_WAYS_OUT}"
        )
