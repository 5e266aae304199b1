"""Who else is in a room: y-protocols awareness, seen by Python and web editors alike."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from collab import limits
from collab.crdt.engines import make_awareness
from collab.crdt.replica import Replica
from collab.errors import BadUpdate, TooLarge
from collab.events import Observers, Subscription
from collab.protocol.ysync import AwarenessState, decode_awareness, encode_awareness

if TYPE_CHECKING:
    import pycrdt

logger = logging.getLogger(__name__)

RENEW_S: Final = 15.0  # stock Yjs clients drop a state that was not renewed for 30 s


class Presence:
    """This user's state in a room, and everybody else's. It lives only while there is a network.

    A state is a mapping of JSON values; ``user`` is where editors look for a name and a colour.
    """

    def __init__(
        self, replica: Replica, user: Mapping[str, Any] | None, send: Callable[[bytes], None]
    ) -> None:
        self._send = send
        self._observers: Observers[Presence] = Observers()
        self.awareness: pycrdt.Awareness = make_awareness(replica.document)
        self._client_id = replica.client_id
        if user is not None:
            self.awareness.set_local_state({"user": dict(user)})
        self._subscription = self.awareness.observe(self._changed)

    def set(self, fields: Mapping[str, Any]) -> None:
        """Set fields of this user's state; a value of None removes its field.

        Raises :class:`TooLarge` for a state above 32 KiB of JSON or nested too deeply, and
        TypeError or ValueError for one that JSON cannot carry; the state is then as it was.
        """
        state = dict(self.awareness.get_local_state() or {})
        for name, value in fields.items():
            if value is None:
                state.pop(name, None)
            else:
                state[name] = value
        check_state(state)
        self.awareness.set_local_state(state)

    def others(self) -> dict[int, dict[str, Any]]:
        """The states of everybody else in the room now, by client id."""
        states = self.awareness.states.items()
        return {client: dict(state) for client, state in states if client != self._client_id}

    def observe(self, callback: Callable[[Presence], object]) -> Subscription:
        """Call ``callback(presence)`` after anybody's state changed."""
        return self._observers.add(callback)

    # For the connection

    def announcement(self) -> bytes | None:
        """This user's own state, for a room that was just joined."""
        if self.awareness.get_local_state() is None:
            return None
        # With a new clock: who saw it go with the last connection takes the old one for old news.
        self.awareness.meta[self._client_id]["clock"] += 1
        return self._encode()

    def receive(self, states: list[AwarenessState], data: bytes) -> None:
        """Take in what others announced; ``states`` is what the guard read in ``data``."""
        if any(state.client_id == self._client_id for state in states):
            states = [state for state in states if state.client_id != self._client_id]
            data = encode_awareness(states)
        self.awareness.apply_awareness_update(data, "remote")

    def renew(self) -> None:
        """Say again that this user is here."""
        state = self.awareness.get_local_state()
        if state is not None:
            self.awareness.set_local_state(state)

    def alone(self) -> None:
        """The connection is gone: nobody else is known to be here."""
        others = [client for client in self.awareness.states if client != self._client_id]
        self.awareness.remove_awareness_states(others, "offline")
        for client in others:  # or who is still there would not be seen again before a change
            del self.awareness.meta[client]

    def close(self) -> None:
        """Let go of the document."""
        self.awareness.unobserve(self._subscription)
        self._observers.clear()

    def _changed(self, topic: str, change: tuple[dict[str, Any], Any]) -> None:
        changes, origin = change
        if topic == "change":
            self._observers.emit(self)
        elif origin == "local" and self._client_id in (
            *changes["added"], *changes["updated"], *changes["removed"],
        ):  # fmt: skip
            data = self._encode()
            if data is not None:
                self._send(data)

    def _encode(self) -> bytes | None:
        # pycrdt's own encoder writes string lengths in characters; lib0 wants bytes.
        state = self.awareness.get_local_state()
        clock = self.awareness.meta[self._client_id]["clock"]
        try:
            if state is not None:
                check_state(state)
        except (TypeError, ValueError) as error:
            # Somebody set it past ``set``. Whoever sent it would lose the connection by it.
            logger.warning("a presence state is not sent: %s", error)
            return None
        text = None if state is None else _json(state)
        return encode_awareness([AwarenessState(self._client_id, clock, text)])


def check_state(state: Mapping[str, Any]) -> None:
    """Raise what :meth:`Presence.set` raises for a state that no relay would take."""
    try:
        text = _json(state)
        data = encode_awareness([AwarenessState(0, 0, text)])
        decode_awareness(data)
    except (BadUpdate, RecursionError) as error:
        raise TooLarge(f"a presence state cannot be sent ({error}); it was not set") from error
    if len(data) > limits.MAX_AWARENESS_BYTES // 2:
        raise TooLarge("a presence state is above 32 KiB; it was not set. Set less")


def _json(state: Mapping[str, Any]) -> str:
    return json.dumps(state, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


async def renew_forever(presences: Callable[[], list[Presence]]) -> None:
    """Keep every state from being dropped as outdated."""
    while True:
        await asyncio.sleep(RENEW_S)
        for presence in presences():
            presence.renew()
