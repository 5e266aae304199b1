"""Changes of members that a device asks the relay for, on one connection."""

from __future__ import annotations

from collections import deque

from collab.protocol import frames
from collab.protocol.chat_changes import Answered

__all__ = ["Membership"]


class Membership:
    """The CHANGEs of one room. Nothing of it is stored, and nothing outlives the connection.

    Invariants:

    1. A CHANGE goes up once, and only on the joining on which it was asked for.
    2. Each is answered once at most. An answer that nobody waits for crossed the end of a joining.
    """

    def __init__(self) -> None:
        self._requests = 0
        self._to_send: deque[tuple[int, str, str]] = deque()
        self._sent: set[int] = set()
        self._lost: dict[int, bool] = {}

    def ask(self, user: str, role: str) -> int:
        """Ask for a change; the number comes back in ``Answered``."""
        self._requests += 1
        self._to_send.append((self._requests, user, role))
        return self._requests

    def give_up(self, request: int) -> None:
        """Nobody waits for it any more: it is not sent, if it was not yet."""
        self._to_send = deque(one for one in self._to_send if one[0] != request)

    def take_lost(self) -> dict[int, bool]:
        """What gets no answer any more, told once: whether the relay may have it."""
        lost, self._lost = self._lost, {}
        return lost

    def next_frame(self, channel: int) -> frames.Change | None:
        """The next CHANGE, or None."""
        if not self._to_send:
            return None
        request, user, role = self._to_send.popleft()
        self._sent.add(request)
        return frames.Change(channel, request, user, role)

    def answer(self, frame: frames.Changed) -> Answered | None:
        """The relay has answered one."""
        if frame.request not in self._sent:
            return None
        self._sent.discard(frame.request)
        return Answered(frame.request, frame.code, frame.reason)

    def detach(self) -> None:
        """The connection is gone, or the room is joined or entered again."""
        self._lost.update({request: False for request, *_ in self._to_send})
        self._lost.update(dict.fromkeys(self._sent, True))
        self._to_send.clear()
        self._sent.clear()
