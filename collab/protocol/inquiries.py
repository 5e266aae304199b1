"""Messages about whose verdict a device asks the relay, on one connection."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from collab import limits
from collab.protocol import frames
from collab.protocol.verdicts import pack_inquiry

__all__ = ["Inquiries"]


class Inquiries:
    """The INQUIREs of one room.

    Invariants:

    1. Each id goes up once for each time that it is asked about, and none that is decided by then.
    2. What is asked about is on this disk, as awaiting its verdict: what is lost with a connection
       is asked again on the next one.
    """

    def __init__(self) -> None:
        self._ids: dict[bytes, None] = {}  # in the order of asking

    def ask(self, ids: Iterable[bytes]) -> None:
        """Ask about these messages."""
        self._ids.update(dict.fromkeys(ids))

    def decided(self, ids: Iterable[bytes]) -> None:
        """These verdicts are known."""
        for message_id in ids:
            self._ids.pop(message_id, None)

    def next_frame(self, channel: int) -> frames.Inquire | None:
        """The next INQUIRE, or None."""
        if not self._ids:
            return None
        asked = list(islice(self._ids, limits.PAGE_MESSAGES))
        self.decided(asked)
        return frames.Inquire(channel, pack_inquiry(asked))

    def detach(self) -> None:
        """The connection is gone, or the room is joined again."""
        self._ids.clear()
