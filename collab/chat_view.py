"""What a program sees of one room's chat: its messages, what is missing, and what happens."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

from collab import limits
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
from collab.errors import HistoryReplaced
from collab.events import Observers, Subscription
from collab.message import Message
from collab.protocol import chat_changes as cc
from collab.protocol.gaps import Gaps
from collab.protocol.message_state import MessageState
from collab.protocol.messages import Receipt, Verdict
from collab.storage.chat_work import Stored
from collab.storage.message_rows import MessageRow
from collab.storage.messages import StoredChat

__all__ = ["ChatView"]


class ChatView:
    """A chat as it is on this disk, and who watches it.

    1. Nothing is shown, by event or by property, that is not on this disk.
    2. Who has a message has the one object that stands for it.
    3. What nobody may miss is told to the first observer, also if it came before him.
    """

    def __init__(self, name: str, stored: StoredChat) -> None:
        self.observers: Final[Observers[ChatEvent]] = Observers()
        self.gaps: Gaps = stored.gaps
        self.unread = stored.unread
        self.receipts: list[Receipt] = stored.receipts
        self.has_messages = stored.has_messages
        self._name = name
        self._handles: weakref.WeakValueDictionary[int, Message] = weakref.WeakValueDictionary()
        # What the first observer is still to be told; None once there was one.
        self._untold: deque[ChatEvent] | None = deque(maxlen=limits.MAX_OUTBOX_MESSAGES)

    def message(self, row: MessageRow) -> Message:
        """The one object that stands for a message, which is now as ``row`` says."""
        message = self._handles.get(row.row)
        if message is None:
            message = self._handles[row.row] = Message(row, self._readers)
        else:
            message._set(row)
        return message

    def found(self, row: MessageRow) -> Message:
        """The object for a message that was read from the disk: as it was shown last, if it was."""
        return self._handles.get(row.row) or self.message(row)

    def is_own(self, message: Message) -> bool:
        """Whether the message is of this open room."""
        return self._handles.get(message._row.row) is message

    def show(self, row: MessageRow, *, is_new: bool = False) -> None:
        """A message is stored, or stored anew."""
        self.has_messages = True
        if row.row not in self._handles and not self.observers:
            return
        message = self.message(row)
        self.observers.emit(MessageAdded(message) if is_new else MessageChanged(message))

    def observe(self, callback: Callable[[ChatEvent], object]) -> Subscription:
        """Call ``callback`` with every event; the first one also with what ended before it came."""
        subscription = self.observers.add(callback)
        untold, self._untold = self._untold, None
        for event in untold or ():
            self.observers.emit(event)
        return subscription

    def show_unread(self, unread: int) -> None:
        """What is unread was counted again."""
        if unread != self.unread:
            self.unread = unread
            self.observers.emit(UnreadChanged(unread))

    def end(self) -> None:
        """The room is closed: nothing of it changes any more."""
        for message in list(self._handles.values()):
            message._end()
        self.observers.clear()
        self._untold = None

    # What came of decisions

    def took(self, change: cc.Change, stored: Stored) -> None:
        """A decision is on the disk: show what it changed."""
        emit = self.observers.emit
        if isinstance(change, cc.NewLane) and change.rolled_back:
            self._tell(
                StoreRolledBack(
                    "The relay has seen more of this device's messages than this file knows: it "
                    "was copied or put back. What was not decided is sent again under its old ids."
                )
            )
        if stored.receipts is not None:
            self.receipts = stored.receipts
            emit(ReceiptsChanged())
        for gone, row in stored.merged.items():
            twin = self._handles.pop(gone, None)
            if twin is not None:
                twin._set(row)
        for row in stored.added:
            self.show(row, is_new=True)
        for row in stored.changed:
            self.show(row)
        self._show_endings(change, stored)
        self._show_verdicts(stored)
        if stored.gaps is not None:
            self.gaps = stored.gaps
            emit(GapsChanged(stored.gaps))
        for gap in stored.lost:
            self._tell(MessagesLost(gap.low, gap.high))
        if isinstance(change, cc.Replace) or stored.reoffered or stored.replaced:
            error = _replaced(self._name, stored)
            self._tell(MessagesReplaced(stored.reoffered, stored.replaced, error))
        if stored.unread is not None:
            self.show_unread(stored.unread)

    def _show_endings(self, change: cc.Change, stored: Stored) -> None:
        """Bodies go back to the program where nothing else will come of them."""
        if not isinstance(change, cc.Decide | cc.Expire):
            return
        for row in stored.changed:
            if row.state is MessageState.EXPIRED:
                self._tell(MessageExpired(self.message(row)))
            elif row.state is MessageState.REJECTED:
                self._tell(MessageRejected(self.message(row), row.code, row.reason))

    def _tell(self, event: ChatEvent) -> None:
        """Emit what nobody may miss: messages end while a room is opened, too."""
        if self._untold is None:
            self.observers.emit(event)
        else:
            self._untold.append(event)

    def _show_verdicts(self, stored: Stored) -> None:
        """The application at the relay has spoken."""
        for row in stored.decided:
            message = self.message(row)
            if row.verdict == Verdict.CONFIRMED:
                self._tell(MessageConfirmed(message))
            else:
                self._tell(MessageRefused(message, row.verdict_reason))

    def _readers(self, seq: int) -> tuple[int, int]:
        """How many others have received, and have read, up to ``seq``."""
        delivered = sum(max(one.delivered_upto, one.read_upto) >= seq for one in self.receipts)
        return delivered, sum(one.read_upto >= seq for one in self.receipts)


def _replaced(name: str, stored: Stored) -> HistoryReplaced:
    return HistoryReplaced(
        f"The relay's chat of the room {name!r} has another history than this device knew; it may "
        f"have been put back from a backup. {stored.reoffered} messages of ours are sent to it "
        f"again, under their ids. {stored.replaced} others are kept here and are not there; they "
        f"are marked. Everything else is fetched again."
    )
