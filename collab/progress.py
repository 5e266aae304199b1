"""Where one room is on its way to being level with the relay."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from collab.protocol.chat_sync import ChatSync
from collab.protocol.document_sync import DocumentSync, Phase

__all__ = ["Progress", "ProgressMeter", "RoomState", "room_state"]

_WHOLE: Final = 1000  # steps of each part: document down, messages down, and what goes up


class RoomState(StrEnum):
    """Where one room is; a huge one does not make the others look unsynced."""

    OFFLINE = "offline"  # there is no connection
    JOINING = "joining"  # the relay was asked to open it
    SYNCING = "syncing"  # open; what the relay had at joining, messages too, is not all here yet
    LIVE = "live"  # it is; edits and messages come and go as they are made
    DENIED = "denied"  # the relay does not open it: status.error says why
    STOPPED = "stopped"  # nothing goes up or comes down until the program decides: status.error


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a room has caught up since it was opened at the relay; ``done`` never falls.

    Steps, not bytes: as many for the document that comes down as for the messages and, if anything
    waited, as many again for what goes up. A document that comes in one piece counts by its bytes.
    """

    done: int
    total: int


class ProgressMeter:
    """Measures one joining of a room."""

    def __init__(self) -> None:
        self._start = 0
        self._head = 0
        self._waiting = 0  # updates and messages of ours
        self._of_piece = 0
        self._best = 0
        self._is_over = False

    def joined(self, machine: DocumentSync, chat: ChatSync, head: int, *, good: bool) -> None:
        """JOINED came, and ``machine`` has taken it."""
        self._start = machine.position.offset if good else head
        self._head = head
        self._waiting = machine.pending_updates + chat.outbox.pending
        self._of_piece = self._best = 0
        self._is_over = False

    def level(self) -> None:
        """It was level, once: what is written since is another story."""
        self._is_over = True

    def received(self, so_far: int, total: int) -> None:
        """So many of the bytes of a frame that comes in parts are here."""
        self._of_piece = _WHOLE * so_far // total

    def measure(self, machine: DocumentSync, chat: ChatSync) -> Progress | None:
        """How far it is; None while the room is not open."""
        if machine.phase is not Phase.OPEN:
            return None
        pending = machine.pending_updates + chat.outbox.pending
        up = _WHOLE * max(0, self._waiting - pending) // self._waiting if self._waiting else 0
        total = (3 if self._waiting else 2) * _WHOLE
        is_level = machine.is_level and chat.is_level
        done = self._down(machine) + self._messages(chat) + up
        done = total if self._is_over or is_level else min(done, total - 1)
        self._best = max(self._best, done)
        return Progress(self._best, total)

    def _down(self, machine: DocumentSync) -> int:
        if machine.is_caught_up:
            return _WHOLE
        come = machine.position.offset - self._start
        missing = self._head - self._start
        return max(self._of_piece, _WHOLE * max(0, come) // missing if missing > 0 else 0)

    def _messages(self, chat: ChatSync) -> int:
        """How many steps of the messages are done."""
        if not chat.is_open:
            return 0
        if chat.is_caught_up:
            return _WHOLE
        missing = chat.reader.target - chat.reader.began
        come = chat.reader.stored - chat.reader.began
        return _WHOLE * max(0, come) // missing if missing > 0 else 0


def room_state(machine: DocumentSync, chat: ChatSync, *, is_denied: bool) -> RoomState:
    """The state of the room whose machine this is."""
    if is_denied:
        return RoomState.DENIED
    match machine.phase:
        case Phase.STOPPED:
            return RoomState.STOPPED
        case Phase.DETACHED:
            return RoomState.OFFLINE
        case Phase.JOINING:
            return RoomState.JOINING
        case Phase.OPEN:
            both = machine.is_caught_up and chat.is_caught_up
            return RoomState.LIVE if both else RoomState.SYNCING
