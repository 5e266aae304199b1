"""Everything that collab raises, in one tree.

CollabError
├── LocalError            the caller's mistake, or this device
│   ├── Closed            the client or the room was closed
│   ├── TooLarge          above a bound of limits.py
│   ├── ReadOnly          this user may read the room, not write it
│   ├── WrongThread       documents belong to the thread of their event loop
│   ├── Unsupported       this engine, platform or file version cannot do it
│   ├── OutboxFull        too much waits to be sent
│   ├── StoreLocked       another process owns the file
│   ├── StoreCorrupt      the file is damaged, or is not ours; it is never overwritten
│   └── DiskFull          the disk would not take it
├── OfflineError          needs the relay, and there is no connection
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
    "BadUpdate",
    "Closed",
    "CollabError",
    "DiskFull",
    "HistoryReplaced",
    "LocalError",
    "OfflineError",
    "OutboxFull",
    "ReadOnly",
    "Rejected",
    "RemoteError",
    "RoomReplaced",
    "StoreCorrupt",
    "StoreLocked",
    "TooLarge",
    "Unsupported",
    "UnsupportedVersion",
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


class StoreLocked(LocalError):
    """Another process (or another client of this one) owns the file."""


class StoreCorrupt(LocalError):
    """The file is damaged or is not a store of ours. It was left as it is."""


class DiskFull(LocalError):
    """The disk took no more. What was not stored is still in memory and is tried again."""


class OfflineError(CollabError):
    """What was asked needs the relay, and there is no connection. Nothing was queued."""


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
