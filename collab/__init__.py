"""Offline-first collaboration: shared documents and chat, on this device's disk first."""

from collab.chat import Chat
from collab.chat_events import (
    ChatEvent,
    GapsChanged,
    MessageAdded,
    MessageChanged,
    MessageExpired,
    MessageRejected,
    MessagesLost,
    MessagesReplaced,
    ReceiptsChanged,
    StoreRolledBack,
    UnreadChanged,
)
from collab.client import Client, ClientSettings, open
from collab.connection import ConnectionStatus, State
from collab.crdt.replica import Delete, Insert, Retain
from collab.errors import (
    BadFrame,
    BadMessage,
    BadUpdate,
    Closed,
    CollabError,
    DiskFull,
    HistoryReplaced,
    IdConflict,
    LocalError,
    NotSent,
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
    WrongState,
    WrongThread,
)
from collab.events import (
    DocumentChanged,
    Failed,
    Recovered,
    RelayRolledBack,
    RoomEvent,
    StatusChanged,
    Subscription,
)
from collab.history import History
from collab.link import ConnectionSettings
from collab.message import Message
from collab.protocol.gaps import Gap
from collab.protocol.message_state import MessageState
from collab.room import Room, Status
from collab.room_live import Broadcast
from collab.storage.message_acts import OutboxCaps
from collab.template import Template
from collab.text import RelativePosition, Text, TextChanged
from collab.undo import Undo

__all__ = [
    "BadFrame",
    "BadMessage",
    "BadUpdate",
    "Broadcast",
    "Chat",
    "ChatEvent",
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
    "Gap",
    "GapsChanged",
    "History",
    "HistoryReplaced",
    "IdConflict",
    "Insert",
    "LocalError",
    "Message",
    "MessageAdded",
    "MessageChanged",
    "MessageExpired",
    "MessageRejected",
    "MessageState",
    "MessagesLost",
    "MessagesReplaced",
    "NotSent",
    "OfflineError",
    "OutboxCaps",
    "OutboxFull",
    "ReadOnly",
    "ReceiptsChanged",
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
    "UnreadChanged",
    "Unsupported",
    "UnsupportedVersion",
    "WrongState",
    "WrongThread",
    "open",
]
