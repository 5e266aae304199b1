"""What a room's chat tells those who watch it. All of it is on this disk by then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from collab.errors import HistoryReplaced
from collab.events import RoomEvent
from collab.protocol.gaps import Gap

if TYPE_CHECKING:
    from collab.message import Message

__all__ = [
    "ChatEvent",
    "GapsChanged",
    "MessageAdded",
    "MessageChanged",
    "MessageConfirmed",
    "MessageExpired",
    "MessageRefused",
    "MessageRejected",
    "MessagesLost",
    "MessagesReplaced",
    "ReceiptsChanged",
    "StoreRolledBack",
    "UnreadChanged",
]


@dataclass(frozen=True, slots=True)
class ChatEvent(RoomEvent):
    """The base of all events of a chat."""


@dataclass(frozen=True, slots=True)
class MessageAdded(ChatEvent):
    """There is a new message: it was written here, or it came."""

    message: Message


@dataclass(frozen=True, slots=True)
class MessageChanged(ChatEvent):
    """A message changed its state, its number or its body."""

    message: Message


@dataclass(frozen=True, slots=True)
class MessageExpired(ChatEvent):
    """The time of a message of ours was over before the relay took it: ``message.body`` is back."""

    message: Message


@dataclass(frozen=True, slots=True)
class MessageRejected(ChatEvent):
    """The relay refused a message of ours for good: ``message.body`` is back.

    ``code`` is the protocol's or the application's name for why, ``reason`` a sentence.
    """

    message: Message
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class MessageConfirmed(ChatEvent):
    """The application at the relay has confirmed a message that asked for it."""

    message: Message


@dataclass(frozen=True, slots=True)
class MessageRefused(ChatEvent):
    """The application at the relay has refused what a message asks for; ``reason``: a sentence."""

    message: Message
    reason: str


@dataclass(frozen=True, slots=True)
class GapsChanged(ChatEvent):
    """What is not on this device is more, or less: ``gaps`` is all of it."""

    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class MessagesLost(ChatEvent):
    """Messages ``low`` to ``high`` never reached this device, and the relay keeps them no more."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class UnreadChanged(ChatEvent):
    """Another number of messages is unread."""

    unread: int


@dataclass(frozen=True, slots=True)
class ReceiptsChanged(ChatEvent):
    """Others have received or read more: ``message.delivered_by`` and ``read_by`` count them."""


@dataclass(frozen=True, slots=True)
class StoreRolledBack(ChatEvent):
    """This device's file was copied or put back; ``reason`` is a sentence.

    It is an event of the room and of its chat. This copy goes on with all that it has, as a device
    of its own. Nothing is lost by that, and nothing doubled: edits of all copies meet at the
    relay, and messages that were undecided are sent again under their old ids, and come once.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class MessagesReplaced(ChatEvent):
    """The relay has another history than this device knew: it was put back, say.

    ``resent`` of our own messages are sent again, under their ids; ``kept`` are here and not
    there (``message.replaced``). ``error`` says it in words.
    """

    resent: int
    kept: int
    error: HistoryReplaced
