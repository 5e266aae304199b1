"""Offline-first collaboration: shared documents and chat, on this device's disk first."""

from collab.client import Client, ClientSettings, open
from collab.connection import ConnectionStatus, State
from collab.crdt.replica import Delete, Insert, Retain
from collab.errors import (
    BadFrame,
    BadUpdate,
    Closed,
    CollabError,
    DiskFull,
    HistoryReplaced,
    LocalError,
    OfflineError,
    OutboxFull,
    ReadOnly,
    Rejected,
    RemoteError,
    RoomReplaced,
    StoreCorrupt,
    StoreLocked,
    TooLarge,
    Unsupported,
    UnsupportedVersion,
    WrongThread,
)
from collab.events import (
    DocumentChanged,
    Failed,
    Recovered,
    RelayRolledBack,
    RoomEvent,
    StatusChanged,
    StoreRolledBack,
    Subscription,
)
from collab.link import ConnectionSettings
from collab.room import Room, Status
from collab.template import Template
from collab.text import RelativePosition, Text, TextChanged
from collab.undo import Undo

__all__ = [
    "BadFrame",
    "BadUpdate",
    "Client",
    "ClientSettings",
    "Closed",
    "CollabError",
    "ConnectionSettings",
    "ConnectionStatus",
    "Delete",
    "DiskFull",
    "DocumentChanged",
    "Failed",
    "HistoryReplaced",
    "Insert",
    "LocalError",
    "OfflineError",
    "OutboxFull",
    "ReadOnly",
    "Recovered",
    "Rejected",
    "RelativePosition",
    "RelayRolledBack",
    "RemoteError",
    "Retain",
    "Room",
    "RoomEvent",
    "RoomReplaced",
    "State",
    "Status",
    "StatusChanged",
    "StoreCorrupt",
    "StoreLocked",
    "StoreRolledBack",
    "Subscription",
    "Template",
    "Text",
    "TextChanged",
    "TooLarge",
    "Undo",
    "Unsupported",
    "UnsupportedVersion",
    "WrongThread",
    "open",
]
