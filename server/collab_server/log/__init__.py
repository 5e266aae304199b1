"""The log: the relay's durable record. ``port`` says what it is, ``sqlite`` keeps it in a file."""

from collab_server.log.chat_port import ChatLog
from collab_server.log.port import CommitCallback, Log, RoomDeleted, RoomRow, StoredRoom

__all__ = ["ChatLog", "CommitCallback", "Log", "RoomDeleted", "RoomRow", "StoredRoom"]
