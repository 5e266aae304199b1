"""One room on this device: what a program edits, watches and waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from collab.chat import Chat
from collab.device import Device
from collab.discarding import discard_refused
from collab.errors import (
    BadUpdate,
    Closed,
    CollabError,
    OfflineError,
    Rejected,
    RoomReplaced,
    Unsupported,
)
from collab.events import RoomEvent, Stream, Subscription
from collab.local_room import LocalRoom
from collab.members import Members
from collab.presence import Presence
from collab.progress import Progress, RoomState
from collab.protocol.gaps import Gap
from collab.room_chat import RoomChat
from collab.room_live import Broadcast
from collab.room_sync import RoomSync
from collab.storage.documents import RoomRow, Stored
from collab.storage.messages import StoredChat
from collab.text import Text
from collab.undo import Undo

if TYPE_CHECKING:
    import pycrdt

    from collab.open_rooms import OpenRooms


@dataclass(frozen=True, slots=True)
class Status:
    """How a room stands. Times are seconds since the epoch of ``time.time``.

    ``state`` is this room's own, whatever others are in; ``progress`` is how far it has caught up
    since the relay opened it, None while it is not open there.
    ``pending_updates`` counts saved local updates that the relay has not acked; a run of
    keystrokes may be one. ``pending_messages`` counts messages that the relay has not decided,
    ``gaps`` are those that are not on this device. ``refused`` says why the relay refuses this
    room's updates for good: then they stay here. ``may_write`` is False once the relay has said
    that this user may only read. ``error`` is why the last commit or the sync of this room failed.
    """

    state: RoomState
    progress: Progress | None
    saved: bool
    synced: bool
    pending_updates: int
    pending_messages: int
    gaps: tuple[Gap, ...]
    last_saved: float | None
    last_synced: float | None
    refused: str | None
    may_write: bool
    error: CollabError | None


class Room:
    """One name's document, chat, presence and members. Get one from ``client.room(name)``.

    Everything here belongs to the thread of the client's event loop.
    """

    def __init__(
        self,
        device: Device,
        row: RoomRow,
        stored: Stored,
        client_id: int,
        *,
        name: str,
        messages: StoredChat,
        rooms: OpenRooms,
    ) -> None:
        self.name: Final = name
        self._device = device
        self._rooms = rooms
        self._local = LocalRoom(device, row, stored, client_id)
        self._chat = RoomChat(device, row.id, name, messages)
        self._sync = RoomSync(device, self._local, self._chat, row, stored, name=name)
        self.presence: Final[Presence] = self._sync.presence
        self.chat: Final = Chat(self._chat, device.outbox, self._check)
        self.members: Final = Members(self._chat, self._check)

    # --- the document --------------------------------------------------------------------------

    @property
    def document(self) -> pycrdt.Doc[Any]:
        """The engine's document; raw edits of it are saved and sent like any other.

        With ``engine="y-py"`` it is a ``y_py.YDoc``.
        """
        self._check()
        return self._local.replica.document

    @property
    def awareness(self) -> pycrdt.Awareness:
        """The y-protocols awareness, for bindings made for pycrdt."""
        self._check()
        return self.presence.awareness

    def text(self, name_or_nested: str | pycrdt.Text) -> Text:
        """The shared text of this name, or that a ``pycrdt.Text`` of the document stands for."""
        self._check()
        return self._local.replica.text(name_or_nested)

    def transaction(self, origin: object = None) -> AbstractContextManager[None]:
        """One synchronous block, one update at its end; no rollback on error."""
        self._check()
        return self._local.replica.transaction(origin)

    def undo(self, *scopes: Any, capture_timeout_ms: int = 500) -> Undo:
        """Undo and redo of this user's own edits of ``scopes`` (texts or shared types)."""
        self._check()
        return Undo(self._local.replica, scopes, capture_timeout_ms=capture_timeout_ms)

    # --- how it stands -------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """How this room stands with the disk and with the relay."""
        machine, refusal = self._sync.machine, self._sync.machine.refusal
        saved = self._local.is_saved
        return Status(
            state=self._sync.state,
            progress=self._sync.progress,
            saved=saved,
            synced=saved and self._sync.is_level,
            pending_updates=machine.pending_updates,
            pending_messages=self._chat.machine.outbox.pending,
            gaps=self._chat.view.gaps,
            last_saved=self._local.last_saved,
            last_synced=self._sync.last_synced,
            refused=f"{refusal.code}: {refusal.reason}" if refusal else None,
            may_write=machine.may_write,
            error=self._sync.error or self._device.saver.error or self._chat.error,
        )

    def observe(self, callback: Callable[[RoomEvent], object]) -> Subscription:
        """Call ``callback(event)`` on the event loop for everything that happens here."""
        self._check()
        return self._local.observers.add(callback)

    def events(self) -> AsyncIterator[RoomEvent]:
        """What happens here from now on: bounded, coalesced, never holds up sync.

        The iterator ends when the room is closed.
        """
        self._check()
        return Stream(self._local.observers)

    async def wait_saved(self) -> None:
        """Return when everything edited until now is committed to this device's disk.

        While the disk refuses (``status.error``), this waits: the edits are in memory and are
        tried again. Raises :class:`Closed` if the client was closed before that, and
        ``status.error`` where nothing is tried again, by a fault of collab itself.
        """
        self._check()
        await self._local.wait_saved()

    async def wait_synced(self, timeout: float | None = None) -> None:
        """Return when all local work is committed at the relay and all it had at joining is here.

        Of messages: the relay has decided all of ours, and what it held when the chat was joined is
        here, or a gap that ``status.gaps`` shows.

        ``timeout`` is in seconds. Raises TimeoutError; :class:`OfflineError` when no relay is
        configured; :class:`Rejected` when the relay has refused something for good;
        :class:`RoomReplaced` when it has another room of this name.
        """
        self._check()
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._raise_if_stuck()
                    if self._local.is_saved and self._sync.is_level:
                        return
                    await self._local.change()
        except TimeoutError as error:
            raise TimeoutError(self._why_not_synced(timeout)) from error

    # --- what needs the relay now ----------------------------------------------------------------

    async def broadcast(self, payload: Any) -> None:
        """Tell ``payload`` to everybody else who is in the room now, and keep nothing of it.

        To other devices of this user too, never back to this one. ``payload`` is any value that
        msgpack carries, at most ``limits.MAX_CAST_BYTES`` when packed; a tuple comes as a list.
        There is no acknowledgement: to whom the network or this device is slow the oldest are not
        sent, and above ``limits.CASTS_PER_S`` the relay drops them. What must arrive is a message,
        or an edit.

        Raises :class:`OfflineError` at once if the room is not open at a relay, and
        :class:`ReadOnly`, :class:`BadMessage` or :class:`TooLarge`; nothing is queued then.
        """
        self._check()
        self._sync.live.broadcast(payload)

    def on_broadcast(self, callback: Callable[[Broadcast], object]) -> Subscription:
        """Call ``callback(broadcast)`` on the event loop for everything that others broadcast."""
        self._check()
        return self._sync.live.observers.add(callback)

    async def call(self, service: str, payload: Any = None, timeout: float | None = 30.0) -> Any:
        """Ask a service of the application at the relay; what it answers.

        ``payload`` is any value that msgpack carries, at most ``limits.MAX_CALL_BYTES`` when
        packed. ``timeout`` is in seconds. Nothing about a call is stored, here or there, and it is
        not tried again. To cancel this forgets the call; the service may go on.

        Raises :class:`OfflineError` at once if the room is not open at a relay, and also if it is
        lost before the answer: then it is not known whether the call was carried out; so with
        :class:`Closed` if the room is closed meanwhile, and with TimeoutError. Raises
        :class:`Rejected` if it is refused: ``.code`` is ``unknown_service``, ``forbidden``,
        ``invalid``, ``failed``, ``timeout`` or ``busy`` (the last two are ``.retryable``), or a
        word of the application's own. :class:`BadMessage` or :class:`TooLarge`: nothing was sent.
        """
        self._check()
        return await self._sync.live.call(service, payload, timeout)

    # --- when its history and the relay's have parted --------------------------------------------

    async def fork(self, name: str) -> Room:
        """Keep this copy under another name: a new room, saved when this returns, sent like any.

        Its content is this room's document as it is now, as one update; this room is unchanged,
        and its messages stay with it.
        Needs no network, and works however the relay stands to this room: refused, replaced,
        deleted. Should the relay have another room ``name``, the two do not mix: the fork then
        raises :class:`RoomReplaced` where this would sync.

        Raises :class:`LocalError` for a bad name, and if a room of that name is open or has content
        on this device; :class:`TooLarge` if no relay could take the content. Nothing has changed
        then.
        """
        self._check()
        return await self._rooms.fork(self, name)

    async def discard_refused(self, timeout: float | None = 30.0) -> Room:
        """Give up the edits that the relay refuses (``status.refused``); go on with its copy.

        Returns a new room of the same name; this one is closed, with its texts, its presence and
        its events, and what was edited in it meanwhile is given up too. The relay's document is
        fetched whole to this disk first, in ``timeout`` seconds; then the rooms change places in
        one transaction. If the program dies before that, this room stays as it was.

        So it does when this raises: :class:`LocalError` if nothing is refused;
        :class:`OfflineError` without a connection; TimeoutError; :class:`Rejected` if this user
        may not read the room; :class:`RoomReplaced` if the relay has another room of this name, or
        lacks edits that it once had. ``fork`` and ``client.forget`` work then.
        """
        self._check()
        return await discard_refused(self._rooms, self, timeout)

    async def close(self) -> None:
        """Save what waits, leave the room, and free the document.

        While the disk refuses, this waits, as :meth:`wait_saved` does. If it is cancelled, the
        room is open as before.
        """
        if self._local.closed:
            return
        await self.wait_saved()
        await self._local.tidy()
        try:
            await self._rooms.leave(self)
        except BaseException:
            self._rooms.come_back(self)
            raise
        self._end()

    # --- inside ----------------------------------------------------------------------------------

    def _why_not_synced(self, timeout: float | None) -> str:
        uplink = self._device.uplink
        connected = uplink is not None and uplink.is_connected
        why = "the relay has not confirmed everything" if connected else "no relay is reached"
        kept = "on this device's disk" if self._local.is_saved else "in memory, and not saved yet"
        return (
            f"The room {self.name!r} was not synced within {timeout} s: {why}. What was edited is "
            f"{kept}; it goes up by itself. client.connection says how it stands, and "
            f"client.connect() tries at once."
        )

    def _raise_if_stuck(self) -> None:
        uplink, error = self._device.uplink, self._sync.error
        if uplink is None:
            raise OfflineError(
                "No relay is configured, so nothing can be synced. Edits are saved on this device; "
                "pass relay=… to collab.open."
            )
        refusal = self._sync.machine.refusal
        if refusal is not None:
            raise Rejected(
                f"The relay refuses this room's updates for good: {refusal.reason} "
                f"({refusal.code}). They are kept on this device. Keep them as a room of their own "
                f"with room.fork(name), or give them up with room.discard_refused().",
                code=refusal.code,
            )
        if isinstance(error, (RoomReplaced, BadUpdate, Unsupported)):
            raise error
        if isinstance(error, Rejected) and not error.retryable:
            raise error
        if self._chat.error is not None and self._chat.is_over:
            raise self._chat.error
        if uplink.failure is not None:
            raise uplink.failure

    def _check(self) -> None:
        self._local.replica.check_thread()
        if self._local.closed:
            raise Closed(
                f"The room {self.name!r} was closed; what was saved is on disk. Open it again with "
                f"client.room(name)."
            )

    def _end(self) -> None:
        if not self._local.closed:
            self._sync.end()
            self._chat.end()
            self._rooms.ended(self)
            self._local.end()
