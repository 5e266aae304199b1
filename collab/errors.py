"""Everything that collab raises, in one tree.

CollabError
├── LocalError            the caller's mistake, or this device
│   ├── Closed            the client or the room was closed
│   ├── TooLarge          above a bound of limits.py
│   ├── ReadOnly          this user may read the room, not write it
│   ├── WrongThread       documents belong to the thread of their event loop
│   ├── Unsupported       this engine, platform or file version cannot do it
│   ├── OutboxFull        too much waits to be sent
│   ├── BadMessage        no message can be made of this
│   ├── IdConflict        another message has this id
│   ├── BadNotebook       this is no notebook that nbformat takes
│   ├── RoomNotEmpty      a notebook goes into a room of its own
│   ├── WrongState        this message has gone too far for that, or not far enough
│   ├── StoreLocked       another process owns the file
│   ├── StoreCorrupt      the file is damaged, or is not ours; it is never overwritten
│   └── DiskFull          the disk would not take it
├── OfflineError          needs the relay, and there is no connection
├── NotSent               a message ended as expired, cancelled or stalled
├── RemoteError           the peer broke the protocol; knows its close code
│   ├── BadFrame          a frame that the protocol does not allow
│   ├── BadUpdate         an update, state vector or awareness that must not reach an engine
│   └── UnsupportedVersion
├── Rejected              the relay said no: .code, .retryable
├── RoomReplaced          the relay's room has another history, or was deleted
└── HistoryReplaced       the relay's messages have another history

A message says what happened, what it means for the user's data, and what to do.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BadFrame",
    "BadMessage",
    "BadNotebook",
    "BadUpdate",
    "Closed",
    "CollabError",
    "DiskFull",
    "HistoryReplaced",
    "IdConflict",
    "LocalError",
    "NotSent",
    "OfflineError",
    "OutboxFull",
    "ReadOnly",
    "Rejected",
    "RemoteError",
    "RoomNotEmpty",
    "RoomReplaced",
    "StoreCorrupt",
    "StoreLocked",
    "TooLarge",
    "Unsupported",
    "UnsupportedVersion",
    "WrongState",
    "WrongThread",
]


class CollabError(Exception):
    """The root of all errors that collab raises on purpose."""


class LocalError(CollabError):
    """The caller's mistake, or a fault of this device. Nothing was sent."""


class Closed(LocalError):
    """The client or the room was closed. What was saved is on disk; open it again."""


class TooLarge(LocalError, ValueError):
    """Above a bound of ``collab.limits``. Nothing was stored."""


class ReadOnly(LocalError):
    """This user may read the room but not write it."""


class WrongThread(LocalError):
    """A document was touched outside the thread of its event loop."""


class Unsupported(LocalError):
    """This engine, platform or file version cannot do what was asked."""


class OutboxFull(LocalError):
    """Too much waits to be sent; what was queued before stays queued."""


class BadMessage(LocalError, ValueError):
    """No message can be made of this body, meta, id or ttl. Nothing was stored."""


class IdConflict(LocalError):
    """Another message of this room has this id. Nothing was stored."""


class BadNotebook(LocalError, ValueError):
    """This is no notebook, or none that a document can hold. Nothing was stored."""


class RoomNotEmpty(LocalError):
    """A notebook is read into a room that has nothing yet. What is in this one was left alone."""


class WrongState(LocalError):
    """A message is not, or no longer, in a state that allows this. It was left as it is."""


class StoreLocked(LocalError):
    """Another process (or another client of this one) owns the file."""


class StoreCorrupt(LocalError):
    """The file is damaged or is not a store of ours. It was left as it is."""


class DiskFull(LocalError):
    """The disk took no more. What was not stored is still in memory and is tried again."""


class OfflineError(CollabError):
    """What was asked needs the relay, and there is no connection. Nothing was queued."""


class NotSent(CollabError):
    """A message ended before the relay had it. It is kept on this device; ``state`` says how."""

    def __init__(self, message: str, *, state: str) -> None:
        super().__init__(message)
        self.state = state


class RemoteError(CollabError):
    """The peer broke the protocol. ``close_code`` is what the connection is closed with."""

    close_code: ClassVar[int] = 4400


class BadFrame(RemoteError):
    """A frame that is malformed, too large, or not allowed in this state."""


class BadUpdate(RemoteError):
    """An update, state vector or awareness that must not reach an engine."""

    close_code: ClassVar[int] = 4422


class UnsupportedVersion(RemoteError):
    """The peer speaks no version of the protocol that we speak."""

    close_code: ClassVar[int] = 4406


class Rejected(CollabError):
    """The relay said no.

    ``code`` is the protocol's name for the reason; ``retryable`` says whether the same request
    can succeed later without a change by the user.
    """

    def __init__(self, message: str, *, code: str, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


class RoomReplaced(CollabError):
    """The relay's room of this name has another history, or ours was deleted there.

    Everything here is kept, and unsent.
    """


class HistoryReplaced(CollabError):
    """The relay's messages of this room have another history."""
