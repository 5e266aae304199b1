"""A room in the hands of the program that the relay runs in."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final
from uuid import UUID

from collab import limits
from collab.errors import BadMessage, Closed, IdConflict, LocalError, TooLarge
from collab.payload import pack_payload
from collab.protocol.codec import is_body, is_meta, is_user, pack_map
from collab.protocol.members import GONE, Member, Role, is_member_name
from collab.protocol.message_id import RANDOM_BYTES, make_id
from collab.protocol.messages import OutcomeCode, SlotOutcome
from collab_server.log.chat_port import (
    NO_SUCH_ROOM,
    ChangeCode,
    ChangeDecision,
    Decision,
    Offered,
    Submission,
)
from collab_server.membership import change_of

if TYPE_CHECKING:
    from collab_server.gateway.connection import Shared


class RoomHandle:
    """One room of a relay, by its name; whether there is such a room is asked at each call.

    Made by :meth:`collab_server.app.Relay.room`. Belongs to the event loop that the relay runs in.
    """

    def __init__(self, name: str, shared: Callable[[], Shared]) -> None:
        self.name: Final = name
        self._shared = shared

    async def send(
        self,
        body: str,
        meta: Mapping[str, object] | None = None,
        id: UUID | None = None,
        *,
        sender: str,
    ) -> int:
        """Put a message of this program's into the room's log; its seq, once it is durable.

        A room that nobody has joined yet is made. ``on_message`` is not asked. With an ``id`` of
        one's own this can be tried again, also after a crash or a cancelled call: the same message
        is in the log once as long as it is retained. Without one, a call that was cut off may have
        sent it.

        Raises :class:`collab.TooLarge`, :class:`collab.BadMessage` and
        :class:`collab.IdConflict` (another message has this id), and has sent nothing; and
        :class:`collab.Closed` if the relay is stopped before it is known to be durable.
        """
        shared = self._shared()
        offered = _offered(body, meta, sender)
        now_ms = time.time_ns() // 1_000_000
        message_id = make_id(now_ms, os.urandom(RANDOM_BYTES)) if id is None else id.bytes
        loaded = await shared.rooms.hold(self.name, epoch=None)
        try:
            await shared.log.wait_for_room()
            outcome: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()

            def decided(decision: Decision) -> None:
                if not outcome.done():  # who asked may have been cancelled
                    outcome.set_result(decision)

            shared.log.chat.submit(
                Submission(loaded.room.id, None, 0, message_id, now_ms, offered, decided)
            )
            return _seq_of(await outcome, self.name)
        finally:
            shared.rooms.release(loaded)

    async def broadcast(self, payload: object, *, sender: str) -> None:
        """Tell ``payload`` to every device that is in the room now; nothing of it is kept.

        ``sender`` is who they are told it is from. ``payload`` is any value that msgpack carries,
        at most ``limits.MAX_CAST_BYTES`` when packed. Nobody waits for a slow device: the oldest
        are dropped. Stock Yjs providers do not hear it.

        Raises :class:`collab.TooLarge` or :class:`collab.BadMessage`, and has told nobody.
        """
        shared = self._shared()
        packed = pack_payload(payload, limits.MAX_CAST_BYTES, "a broadcast")
        if not _is_sender(sender):
            raise BadMessage(
                f"A sender is text of at most {limits.MAX_USER_BYTES} bytes, and {sender!r:.80} "
                f"is not. Nobody was told."
            )
        loaded = shared.rooms.named(self.name)
        if loaded is not None:
            loaded.audience.tell(packed, sender)

    async def members(self) -> tuple[Member, ...]:
        """Who is a member, by name; nobody if there is no such room."""
        shared = self._shared()
        row = await shared.log.find_room(self.name)
        rows = [] if row is None else await shared.log.chat.members(row.id)
        return tuple(Member(user, Role(role)) for user, role in rows)

    async def set_member(self, user: str, role: str, *, by: str) -> None:
        """Make a user a member with this role ("reader", "writer", "admin"), or give another one.

        Durable when this returns, with the system message that tells of it; ``by`` is its sender.
        A room that nobody has joined yet is made. Nobody's rights are asked: this is the program
        that the relay runs in. Done again it changes nothing.

        Raises :class:`collab.LocalError` for a name or role that there cannot be,
        :class:`collab.TooLarge` if the room has ``MAX_MEMBERS`` already, and has changed nothing;
        and :class:`collab.Closed` if the relay is stopped before it is known to be durable.
        """
        if role not in set(Role):
            raise LocalError(
                f"{role!r:.80} is no role, so no member was changed. Roles are: {', '.join(Role)}."
            )
        await self._change(user, role, by)

    async def remove_member(self, user: str, *, by: str) -> None:
        """Make a user no member any more; nothing happens to who is none. As ``set_member``."""
        await self._change(user, GONE, by)

    async def _change(self, user: str, role: str, by: str) -> None:
        for name in (user, by):
            if not is_member_name(name):
                raise LocalError(
                    f"{name!r:.80} is no name of a user, so no member was changed. A name has 1 to "
                    f"{limits.MAX_USER_BYTES} bytes of UTF-8."
                )
        shared = self._shared()
        loaded = await shared.rooms.hold(self.name, epoch=None)
        try:
            await shared.log.wait_for_room()
            outcome: asyncio.Future[ChangeDecision] = asyncio.get_running_loop().create_future()

            def decided(decision: ChangeDecision) -> None:
                if not outcome.done():  # who asked may have been cancelled
                    outcome.set_result(decision)

            shared.log.chat.change_member(
                change_of(loaded.room.id, user, role, by=by, admins_only=False, decided=decided)
            )
            _raise_unless_done(await outcome, self.name)
        finally:
            shared.rooms.release(loaded)

    async def delete(self) -> None:
        """Delete the room; nobody can undo that. Durable when this returns.

        All of its updates go, and it stays known that they did: a device that had joined the room
        is told so, now or whenever it comes back, and keeps its own copy without sending it. Who
        joins without such a copy makes a new room of the same name. A stock Yjs provider cannot
        know the one from the other: one that connects again offers what it still has.

        While the disk takes nothing this waits. Cancelling it does not stop the deletion. Raises
        :class:`collab.LocalError`, and has deleted nothing, if there is no such room or the relay
        does not run; :class:`collab.Closed` if the relay is stopped before the outcome is known.
        """
        await self._shared().rooms.delete(self.name, now_ms=time.time_ns() // 1_000_000)


def _is_sender(sender: str) -> bool:
    try:
        return is_user(sender)
    except UnicodeEncodeError:
        return False


def _offered(body: str, meta: Mapping[str, object] | None, sender: str) -> Offered:
    try:
        if type(body) is not str:
            raise TypeError(f"its body is {type(body).__name__}")  # noqa: TRY301
        packed = b"" if meta is None else pack_map(dict(meta))
        within = is_body(body) and is_meta(packed) and is_user(sender)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadMessage(
            f"No message can be made of this: {error}. Nothing was sent. A body is text without "
            "half surrogate pairs, a meta a map of what msgpack can pack."
        ) from error
    if not within:
        raise TooLarge(
            f"A body has at most {limits.MAX_BODY_BYTES} bytes of text, a packed meta "
            f"{limits.MAX_META_BYTES}, and a sender {limits.MAX_USER_BYTES}. Nothing was sent. "
            "Longer things are documents, or files."
        )
    return Offered(sender, body, packed, time.time_ns() // 1_000_000)


def _seq_of(decision: Decision, room: str) -> int:
    if isinstance(decision, SlotOutcome) and decision.code == OutcomeCode.ACCEPTED:
        return decision.seq
    if isinstance(decision, SlotOutcome):
        raise IdConflict(
            f"Room {room!r} has another message of this id. Nothing was sent. Give each message an "
            "id of its own."
        )
    if decision is NO_SUCH_ROOM:
        raise LocalError(
            f"Room {room!r} was deleted meanwhile. Nothing was sent. Send it again; that makes a "
            "new room."
        )
    raise Closed(
        "The relay was stopped before it was known whether the message is in the log. Send it "
        "again under the same id when the relay runs."
    )


def _raise_unless_done(decision: ChangeDecision, room: str) -> None:
    if decision is ChangeCode.DONE:
        return
    if decision is ChangeCode.LIMIT:
        raise TooLarge(
            f"Room {room!r} has {limits.MAX_MEMBERS} members, and may not have more. Nobody was "
            "added. Remove some, or decide the rights in an authorize of your own."
        )
    if decision is NO_SUCH_ROOM:
        raise LocalError(
            f"Room {room!r} was deleted meanwhile, with its members. Change them again; that makes "
            "a new room."
        )
    raise Closed(
        "The relay was stopped before it was known whether the member is changed. Ask for the "
        "members when it runs, or change them again."
    )
