"""One message of a room's chat, as a program holds it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from collab.errors import Closed, NotSent, Rejected, WrongState
from collab.protocol.codec import unpack_map
from collab.protocol.message_state import PATH, MessageState, MessageVerdict
from collab.protocol.messages import Kind, Verdict

if TYPE_CHECKING:
    from collab.storage.message_rows import MessageRow

__all__ = ["Message"]

_VERDICTS: Final[dict[int, MessageVerdict]] = {
    Verdict.AWAITED: MessageVerdict.CONFIRMING,
    Verdict.CONFIRMED: MessageVerdict.CONFIRMED,
    Verdict.REFUSED: MessageVerdict.REFUSED,
}


class Message:
    """A message. It changes as things happen to it; a message is one object while it is held.

    ``readers(seq)`` counts who has received and who has read up to a number.
    """

    def __init__(self, row: MessageRow, readers: Callable[[int], tuple[int, int]]) -> None:
        self._row = row
        self._readers = readers
        self._waiters: set[asyncio.Future[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Message {self.id} {self.state} seq={self.seq}>"

    # What it says

    @property
    def id(self) -> uuid.UUID:
        """Its name for ever, everywhere."""
        return uuid.UUID(bytes=self._row.id)

    @property
    def body(self) -> str:
        """Its text."""
        return self._row.body

    @property
    def meta(self) -> dict[str, Any]:
        """What the program added; empty if another one added what cannot be read here."""
        return unpack_map(self._row.meta) or {}

    @property
    def sender(self) -> str | None:
        """Who wrote it: a user's ``sub``. None while the relay has not told who we are."""
        return self._row.sender or None

    @property
    def is_mine(self) -> bool:
        """Whether this user wrote it, here or on another device."""
        return self._row.mine

    @property
    def is_system(self) -> bool:
        """Whether it is the relay's own, about the room."""
        return self._row.kind == Kind.SYSTEM

    @property
    def sent_at(self) -> float:
        """When it was written, by its writer's clock, which may be wrong; as ``time.time``."""
        return self._row.sent_at / 1000

    @property
    def accepted_at(self) -> float | None:
        """When the relay took it, by the relay's clock; as ``time.time``."""
        at = self._row.accepted_at
        return None if at is None else at / 1000

    # How it stands

    @property
    def seq(self) -> int | None:
        """Its number in the room, from 1; None while the relay has not taken it."""
        return self._row.seq

    @property
    def state(self) -> MessageState:
        """Where it is on its way: "queued", "sending", "accepted", "delivered", "read", or an end.

        What others wrote is "accepted".
        """
        return self._row.state

    @property
    def replaced(self) -> bool:
        """Whether it is kept here only: the relay has another history, without it.

        Then ``seq`` is the number that it had.
        """
        return self._row.replaced

    @property
    def code(self) -> str:
        """Why it was rejected, or given up: the protocol's name, or the application's; else ""."""
        return self._row.code

    @property
    def reason(self) -> str:
        """The same as a sentence, if the relay gave one."""
        return self._row.reason

    @property
    def verdict(self) -> MessageVerdict | None:
        """What the application at the relay said of it: "confirming", "confirmed" or "refused".

        None if nobody was asked (``confirm=True`` asks), and as long as the relay has not accepted
        it. "confirming" is all that a message may be taken for that is not "confirmed": the relay
        has it, and what it asks for is not known to be done.
        """
        if self._row.verdict == Verdict.NOT_ASKED or self.state not in PATH[2:]:
            return None
        return _VERDICTS.get(self._row.verdict)

    @property
    def verdict_reason(self) -> str:
        """Why it was refused, as a sentence, if the application gave one."""
        return self._row.verdict_reason if self.verdict is MessageVerdict.REFUSED else ""

    @property
    def delivered_by(self) -> int:
        """How many other users have received it."""
        return self._readers(self._row.place)[0] if self._row.is_in_log else 0

    @property
    def read_by(self) -> int:
        """How many other users have read it."""
        return self._readers(self._row.place)[1] if self._row.is_in_log else 0

    async def wait(self, state: str = MessageState.ACCEPTED, timeout: float | None = None) -> None:
        """Return when it is in ``state``, or beyond it on the way from queued to read.

        ``state`` may also be a verdict: "confirmed" returns once the application at the relay has
        said so.

        ``timeout`` is in seconds. Raises TimeoutError; :class:`Rejected` when the relay refuses it
        for good, or the application does ("refused"); :class:`NotSent` when it ends otherwise, so
        that it cannot get there unless the program acts; :class:`WrongState` when the relay has it
        and it therefore never will; :class:`Closed` when the room is closed; ValueError if there is
        no such state.
        """
        goal = MessageVerdict(state) if state in set(MessageVerdict) else MessageState(state)
        async with asyncio.timeout(timeout):
            while not self._has_reached(goal):
                if self._closed:
                    raise Closed(
                        "The room was closed while this waited. The message is on disk as it was; "
                        "open the room again."
                    )
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiters.add(waiter)
                try:
                    await waiter
                finally:
                    self._waiters.discard(waiter)

    def _has_reached(self, goal: MessageState | MessageVerdict) -> bool:
        if isinstance(goal, MessageVerdict):
            return self._has_verdict(goal)
        state = self.state
        if state is goal:
            return True
        if state in PATH and goal in PATH:
            return PATH.index(state) > PATH.index(goal)
        if state is MessageState.REJECTED:
            raise Rejected(
                f"The relay refused this message for good: {self.reason or self.code}. Its body is "
                f"kept on this device; send it anew if you can mend that.",
                code=self.code,
            )
        if state in PATH[2:]:
            raise WrongState(
                f"This message is {state}: the relay has it, and it will not become {goal}."
            )
        if state not in PATH:
            raise NotSent(
                f"This message is {state}, so it will not become {goal} by itself. It is kept on "
                f"this device with its body.",
                state=state,
            )
        return False

    def _has_verdict(self, goal: MessageVerdict) -> bool:
        if self._row.verdict == Verdict.NOT_ASKED:
            raise WrongState(
                f"This message asks nobody to confirm it, so it will not become {goal}. Send it "
                f"with confirm=True if the application at the relay is to be asked."
            )
        if not self._has_reached(MessageState.ACCEPTED):
            return False
        verdict = self.verdict
        if verdict is goal or goal is MessageVerdict.CONFIRMING:
            return True
        if verdict is MessageVerdict.REFUSED:
            raise Rejected(
                f"The application at the relay refused what this message asks for: "
                f"{self.verdict_reason or 'it gave no reason'}. The message is in the room, and "
                f"nothing was done.",
                code=MessageVerdict.REFUSED,
            )
        if verdict is MessageVerdict.CONFIRMED:
            raise WrongState("This message is confirmed, and will not be refused any more.")
        return False

    # For its chat

    def _set(self, row: MessageRow) -> None:
        self._row = row
        self._wake()

    def _end(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
