"""A room's chat: what a program sends, reads and watches."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from collab.chat_events import ChatEvent
from collab.draft import check_body, make_draft
from collab.errors import Closed, LocalError, OfflineError, WrongState
from collab.events import Subscription
from collab.history import History, missing_between, place_of
from collab.message import Message
from collab.protocol.chat_changes import Waiting
from collab.protocol.message_state import MessageState
from collab.room_chat import RoomChat
from collab.storage import message_acts
from collab.storage.message_acts import OutboxCaps
from collab.storage.message_rows import TAIL, MessageRow
from collab.storage.messages import BEGINNING, END

__all__ = ["DEFAULT_TTL", "Chat"]

DEFAULT_TTL: Final = timedelta(days=7)


class Chat:
    """The messages of one room. Get it from ``room.chat``.

    What is sent is on this disk first and goes to the relay in its order, once; what comes is on
    this disk before it is shown. Everything here belongs to the thread of the client's event loop.
    """

    def __init__(self, chat: RoomChat, caps: OutboxCaps, check: Callable[[], None]) -> None:
        self._chat = chat
        self._caps = caps
        self._check = check

    # --- sending -------------------------------------------------------------------------------

    async def send(
        self,
        body: str,
        *,
        id: uuid.UUID | str | None = None,
        meta: Mapping[str, Any] | None = None,
        ttl: timedelta | float | None = DEFAULT_TTL,
        confirm: bool = False,
    ) -> Message:
        """Queue a message; it is on this disk when this returns, and goes up when it can.

        ``id`` is the caller's own, for retries: the same id with the same body and meta gives the
        message that is there. ``meta`` is a mapping of what msgpack can carry. ``ttl`` (seconds)
        is how long it may wait: None for ever, 0 only if it can go now.

        ``confirm`` is for acts that need the server's own word, an order, a payment: once accepted
        the message is ``message.verdict`` "confirming" until the application at the relay has
        confirmed or refused it (``await message.wait("confirmed")``). It is part of what the
        message is: its id stands for one that asks, or for one that does not. A relay whose
        application gives no verdicts rejects the message as ``invalid``.

        If this is cancelled, by a timeout say, the message may be stored and sent all the same.
        Give it an ``id``, so that a second attempt is the same message.

        Raises :class:`TooLarge` (body above 32 KiB, meta above 8), :class:`BadMessage`,
        :class:`IdConflict`, :class:`OutboxFull`, :class:`DiskFull`, :class:`OfflineError` (with
        ``ttl=0``). Then nothing was stored and nothing will be sent.
        """
        self._check()
        draft = make_draft(body, id, meta, ttl, confirm=confirm)
        if ttl == 0 or ttl == timedelta(0):
            self._check_live()
        chat, anchor = self._chat, self._chat.anchor()
        sent: list[Message] = []

        def queued(result: tuple[MessageRow, Waiting | None]) -> None:
            row, waiting = result
            sent.append(chat.view.message(row))
            if waiting is not None:
                chat.machine.outbox.queued(waiting)
                chat.view.show(row, is_new=True)

        await chat.ask(
            lambda connection: message_acts.write(
                connection, chat.room_id, draft, anchor, self._caps
            ),
            queued,
        )
        if not sent:
            raise Closed(
                "The room was closed meanwhile. Unless it was forgotten, the message is stored and "
                "will be sent when the room is open again; find it with history()."
            )
        return sent[0]

    async def edit(self, message: Message, body: str) -> None:
        """Change the body of a message that was not sent yet.

        Raises :class:`WrongState` once the relay may have it, :class:`TooLarge`,
        :class:`BadMessage`, :class:`OutboxFull`, :class:`DiskFull`; it is then as it was.
        """
        row = self._row_of(message)
        check_body(body)
        await self._chat.ask(
            lambda connection: message_acts.edit(connection, row, body, self._caps),
            self._chat.view.show,
        )

    async def cancel(self, message: Message) -> None:
        """Take a message back: at once if it waits here; else its place in the lane is given up.

        Then it becomes ``cancelled``, or ``accepted`` if the relay had it already: wait for it.
        Raises :class:`WrongState` if it is decided, :class:`DiskFull`; it is then as it was.
        """
        row = self._row_of(message)
        chat, outbox, message_id = self._chat, self._chat.machine.outbox, message.id.bytes
        outbox.hold(message_id)

        def cancelled(row: MessageRow) -> None:
            if row.state is MessageState.CANCELLED:
                outbox.removed(message_id)
                chat.view.show(row)
            else:
                outbox.let_go(message_id)
                outbox.given_up(message_id, MessageState.CANCELLED)

        await chat.ask(
            lambda connection: message_acts.cancel(connection, row),
            cancelled,
            lambda: outbox.let_go(message_id),
        )

    async def retry(self, message: Message) -> None:
        """Queue a stalled message again, behind all others; its time to live begins anew.

        One that stalled because another user wrote it (``code`` is "other_user") goes out as the
        present user's.

        Raises :class:`WrongState` if it did not stall, :class:`DiskFull`; it is then as it was.
        """
        row = self._row_of(message)
        chat, anchor = self._chat, self._chat.anchor()

        def queued(result: tuple[MessageRow, Waiting]) -> None:
            chat.machine.outbox.queued(result[1])
            chat.view.show(result[0])

        await chat.ask(
            lambda connection: message_acts.retry(connection, chat.room_id, row, anchor), queued
        )

    # --- reading -------------------------------------------------------------------------------

    async def history(
        self,
        limit: int = 100,
        before: int | Message | None = None,
        after: int | Message | None = None,
    ) -> History:
        """Messages, oldest first: the newest ``limit``, or those next to ``before`` or ``after``.

        ``before`` and ``after`` are messages, or their numbers, and not in the result. What is not
        on this device is fetched when there is a connection; ``History.gaps`` says what is still
        missing. Messages of ours that wait come last.
        """
        self._check()
        if type(limit) is not int or limit < 1:
            raise LocalError(f"limit is a number of messages, at least 1; {limit!r:.80} is not.")
        low = BEGINNING if after is None else place_of(after)
        high = END if before is None else place_of(before, -TAIL)
        newest = after is None or before is not None
        while True:
            reach = await self._chat.reach(low, high, limit, newest=newest)
            self._check()
            missing = missing_between(self._chat.view.gaps, low, high, reach, newest=newest)
            wanted = [gap for gap in missing if not gap.lost]
            if not wanted:
                break
            gap = wanted[-1 if newest else 0]
            if not await self._chat.fetch(gap.low, gap.high, newest=newest):
                break
        messages, gaps = await self._chat.find(low, high, limit, newest=newest)
        self._check()
        at = 0 if newest else -1
        reach = messages[at]._row.place if len(messages) == limit else None
        return History(messages, missing_between(gaps, low, high, reach, newest=newest))

    async def mark_read(self, upto: int | Message | None = None) -> None:
        """The user has read up to here; None: all there is. It never goes back.

        It is on this disk when this returns; others learn of it when there is a connection.
        Raises :class:`DiskFull`; then nothing has changed.
        """
        self._check()
        seq = None if upto is None else place_of(upto)[0]
        chat = self._chat

        def read(result: tuple[int, int]) -> None:
            chat.machine.marks.read(result[0])
            chat.view.show_unread(result[1])

        await chat.ask(lambda connection: message_acts.read(connection, chat.room_id, seq), read)

    @property
    def unread(self) -> int:
        """How many messages of others the user has not read; counted up to 1,000."""
        self._check()
        return self._chat.view.unread

    def observe(self, callback: Callable[[ChatEvent], object]) -> Subscription:
        """Call ``callback(event)`` on the event loop for everything that happens here.

        The events are in ``collab.chat_events``. The first observer of a room is also told which
        messages expired or were rejected, and what was lost, replaced or rolled back, since the
        room was opened.
        """
        self._check()
        return self._chat.view.observe(callback)

    # --- inside --------------------------------------------------------------------------------

    def _check_live(self) -> None:
        if not self._chat.machine.is_open:
            raise OfflineError(
                "There is no connection to the relay, and this message is to go now or never "
                "(ttl=0). It was not stored and will not be sent."
            )

    def _row_of(self, message: Message) -> int:
        self._check()
        if not self._chat.view.is_own(message):
            raise WrongState(
                "This message is not of this room, or the room was closed and opened since. It was "
                "left as it is. Find it again with history()."
            )
        return message._row.row
