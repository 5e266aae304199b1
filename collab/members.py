"""Who belongs to a room: what a program reads, watches and changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from collab import limits
from collab.errors import LocalError, OfflineError, Rejected
from collab.events import Subscription
from collab.protocol.members import GONE, Member, Role, is_member_name
from collab.protocol.messages import is_transient
from collab.room_chat import RoomChat
from collab.room_members import MembersChanged

__all__ = ["Members"]

_DONE: Final = "done"


class Members:
    """The members of one room. Get it from ``room.members``.

    Read here it is the list that the relay last told of, also without a connection. A user who is
    a member may have no more rights than others: what a role allows is for the relay to decide.
    Everything here belongs to the thread of the client's event loop.
    """

    def __init__(self, chat: RoomChat, check: Callable[[], None]) -> None:
        self._chat = chat
        self._check = check

    def all(self) -> tuple[Member, ...]:
        """Every member, by name."""
        self._check()
        return tuple(self._chat.members.now.values())

    def get(self, user: str) -> Member | None:
        """The member of this name (a user's ``sub``); None if there is none."""
        self._check()
        return self._chat.members.now.get(user)

    def observe(self, callback: Callable[[MembersChanged], object]) -> Subscription:
        """Call ``callback(event)`` on the event loop when members come, change or go."""
        self._check()
        return self._chat.members.observers.add(callback)

    async def set(self, user: str, role: str) -> None:
        """Make a user a member with this role ("reader", "writer", "admin"), or give another one.

        It is done at the relay when this returns, and the list here says so; everybody learns of it
        by a message in the room too. Needs a connection, and the right to administer the room.

        Raises :class:`LocalError` for a name or a role that there cannot be; :class:`OfflineError`
        without a connection: nothing was changed and nothing is queued. If the connection is lost
        meanwhile it says that the outcome is not known. :class:`Rejected` when the relay refuses:
        ``forbidden``, ``limit`` (the room is full).
        """
        if role not in set(Role):
            raise LocalError(
                f"{role!r:.80} is no role, so no member was changed. Roles are: {', '.join(Role)}."
            )
        await self._change(user, Role(role))

    async def remove(self, user: str) -> None:
        """Make a user no member any more; nothing happens to who is none. As ``set``."""
        await self._change(user, GONE)

    async def _change(self, user: str, role: str) -> None:
        self._check()
        if not is_member_name(user):
            raise LocalError(
                f"{user!r:.80} is no name of a user, so no member was changed. A name has 1 to "
                f"{limits.MAX_USER_BYTES} bytes of text."
            )
        if not self._chat.machine.is_open:
            raise OfflineError(
                "There is no connection to the relay, and members are changed there at once or not "
                "at all. Nothing was changed and nothing is queued. Try again when there is one."
            )
        answer = await self._chat.members.change(user, role)
        if answer.code != _DONE:
            raise Rejected(
                f"The relay did not change the members: {answer.reason or answer.code}. They are "
                f"as they were.",
                code=answer.code,
                retryable=is_transient(answer.code),
            )
