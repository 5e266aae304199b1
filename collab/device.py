"""What the open rooms of one client share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from collab.crdt.replica import CallSoon
from collab.errors import CollabError
from collab.protocol import frames
from collab.protocol.backoff import BackoffSettings
from collab.running_clock import RunningClock
from collab.storage.documents import Documents
from collab.storage.message_acts import OutboxCaps
from collab.storage.messages import Messages
from collab.storage.saver import Saver

if TYPE_CHECKING:
    from collab.room_sync import RoomSync

__all__ = ["Device", "Uplink"]


class Uplink(Protocol):
    """What a room asks of the connection. Without one, all of it waits for the next."""

    @property
    def failure(self) -> CollabError | None:
        """Why the connection has ended for good, or None."""

    @property
    def is_connected(self) -> bool:
        """Whether a relay has welcomed this device, and is not lost yet."""

    def wake(self) -> None:
        """A room may have something to send."""

    def send(self, frame: frames.Frame) -> None:
        """Send a control frame."""

    def join(self, room: RoomSync) -> None:
        """Open the room at the relay."""

    def leave(self, room: RoomSync) -> None:
        """Close the room at the relay."""

    def levels(self) -> None:
        """Some room's state changed: perhaps all are caught up."""


@dataclass(eq=False)
class Device:
    """One client, as its rooms see it. ``uplink`` is None when no relay is configured.

    ``run`` owns a task until it ends or the client does. ``is_asleep``: the program has suspended
    the connection, and no timer is to run.
    """

    documents: Documents
    saver: Saver
    engine: str
    user: Mapping[str, Any] | None
    backoff: BackoffSettings
    call_soon: CallSoon
    run: Callable[[Coroutine[Any, Any, Any]], object]
    messages: Messages
    clock: RunningClock
    retry_pauses_s: Sequence[float]
    outbox: OutboxCaps
    uplink: Uplink | None = None
    is_asleep: bool = False
    requests: Iterator[int] = field(default_factory=lambda: count(1))  # numbers of calls
