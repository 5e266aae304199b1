"""Who belongs to one open room, as far as this device knows; and changes that are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from collab.errors import Closed, OfflineError
from collab.events import Observers, RoomEvent
from collab.protocol.chat_changes import Answered
from collab.protocol.members import Member, MemberRow, Role
from collab.protocol.membership import Membership

__all__ = ["MembersChanged", "RoomMembers"]


@dataclass(frozen=True, slots=True)
class MembersChanged(RoomEvent):
    """Members came, got another role, or went. All of it is on this disk by then."""

    added: tuple[Member, ...]
    changed: tuple[Member, ...]
    removed: tuple[Member, ...]


class RoomMembers:
    """The members of one room: what is stored of them, and who waits for a change.

    ``wake`` is called when there is something to go up.
    """

    def __init__(
        self, stored: Iterable[MemberRow], membership: Membership, wake: Callable[[], None]
    ) -> None:
        self.observers: Final[Observers[MembersChanged]] = Observers()
        self.now: dict[str, Member] = _by_name(stored)
        self._membership = membership
        self._wake = wake
        self._waiting: dict[int, asyncio.Future[Answered]] = {}
        self._closing = False

    async def change(self, user: str, role: str) -> Answered:
        """Ask the relay for a change; what it answers, once that is stored here.

        Raises :class:`OfflineError` and :class:`Closed` when the connection, or the room, ends
        before that.
        """
        request = self._membership.ask(user, role)
        answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._waiting[request] = answer
        self._wake()
        try:
            return await answer
        finally:
            del self._waiting[request]
            self._membership.give_up(request)

    def answered(self, answer: Answered) -> None:
        """The relay has answered, and what it said before is stored."""
        waiter = self._waiting.get(answer.request)
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    def cut_off(self) -> None:
        """The room is not entered any more: who gets no answer has to look for himself.

        What was answered and is on its way to the disk goes on.
        """
        for request, was_sent in self._membership.take_lost().items():
            self._fail(request, was_sent=was_sent)

    def close(self) -> None:
        """The room is being closed."""
        self._closing = True

    def go_on(self) -> None:
        """The room is not closed after all."""
        self._closing = False

    def end(self) -> None:
        """The room is closed: nothing more is stored, and nobody waits."""
        self.cut_off()
        for request in list(self._waiting):
            self._fail(request, was_sent=True)
        self.observers.clear()

    def _fail(self, request: int, *, was_sent: bool) -> None:
        waiter = self._waiting.get(request)
        if waiter is None or waiter.done():
            return
        what = "The room was closed" if self._closing else "The connection to the relay was lost"
        if was_sent:
            how = (
                "before the relay said what became of the change of the members: it may be done or "
                "not. Once there is a connection again, room.members says which; to ask for the "
                "same change again does no harm."
            )
        else:
            how = "before the change of the members was sent. Nothing was changed."
        waiter.set_exception((Closed if self._closing else OfflineError)(f"{what} {how}"))

    def show(self, stored: Iterable[MemberRow]) -> None:
        """The members as they are stored now."""
        before, self.now = self.now, _by_name(stored)
        event = MembersChanged(
            added=tuple(one for user, one in self.now.items() if user not in before),
            changed=tuple(one for user, one in self.now.items() if before.get(user, one) != one),
            removed=tuple(one for user, one in before.items() if user not in self.now),
        )
        self.observers.emit(event)


def _by_name(rows: Iterable[MemberRow]) -> dict[str, Member]:
    return {user: Member(user, Role(role)) for user, role in rows}
