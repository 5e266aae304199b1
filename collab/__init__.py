"""Offline-first collaboration: shared documents and chat, on this device's disk first."""

from collab.background import SyncReport
from collab.capabilities import Availability, Capability
from collab.chat import Chat
from collab.chat_events import (
    ChatEvent,
    GapsChanged,
    MessageAdded,
    MessageChanged,
    MessageConfirmed,
    MessageExpired,
    MessageRefused,
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
    BadNotebook,
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
    RoomNotEmpty,
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
from collab.hints import HintSource
from collab.history import History
from collab.link import ConnectionSettings
from collab.members import Members
from collab.message import Message
from collab.progress import Progress, RoomState
from collab.protocol.gaps import Gap
from collab.protocol.members import Member, Role
from collab.protocol.message_state import MessageState, MessageVerdict
from collab.room import Room, Status
from collab.room_live import Broadcast
from collab.room_members import MembersChanged
from collab.storage.message_acts import OutboxCaps
from collab.template import Template
from collab.text import RelativePosition, Text, TextChanged
from collab.undo import Undo

__all__ = [
    "Availability",
    "BadFrame",
    "BadMessage",
    "BadNotebook",
    "BadUpdate",
    "Broadcast",
    "Capability",
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
    "HintSource",
    "History",
    "HistoryReplaced",
    "IdConflict",
    "Insert",
    "LocalError",
    "Member",
    "Members",
    "MembersChanged",
    "Message",
    "MessageAdded",
    "MessageChanged",
    "MessageConfirmed",
    "MessageExpired",
    "MessageRefused",
    "MessageRejected",
    "MessageState",
    "MessageVerdict",
    "MessagesLost",
    "MessagesReplaced",
    "NotSent",
    "OfflineError",
    "OutboxCaps",
    "OutboxFull",
    "Progress",
    "ReadOnly",
    "ReceiptsChanged",
    "Recovered",
    "Rejected",
    "RelativePosition",
    "RelayRolledBack",
    "RemoteError",
    "Retain",
    "Role",
    "Room",
    "RoomEvent",
    "RoomNotEmpty",
    "RoomReplaced",
    "RoomState",
    "State",
    "Status",
    "StatusChanged",
    "StoreCorrupt",
    "StoreLocked",
    "StoreRolledBack",
    "Subscription",
    "SyncReport",
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
