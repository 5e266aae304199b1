"""Who is in a room: awareness states, and which connection each client id belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from collab import limits
from collab.protocol.ysync import AwarenessState

_MAX_NUMBERS_BYTES: Final = 8 + 8 + 3  # client id, clock and length of a state; the count is spare


@dataclass(eq=False, slots=True)
class Seat:
    """One connection's part in a room's presence: whose it is, and what it has yet to be told."""

    sub: str
    due: dict[int, AwarenessState]

    def take(self) -> list[AwarenessState]:
        """The next states that are due, as many as one AWARENESS frame may hold."""
        page: list[AwarenessState] = []
        size = 0
        for state in self.due.values():
            size += len((state.state or "null").encode()) + _MAX_NUMBERS_BYTES
            if page and (
                size > limits.MAX_AWARENESS_BYTES or len(page) == limits.MAX_AWARENESS_STATES
            ):
                break
            page.append(state)
        for state in page:
            del self.due[state.client_id]
        return page


class Presence:
    """A client id belongs to the seat that announced it, and goes when that goes.

    The same user may take over an id, as a half-open socket leaves one behind.
    """

    def __init__(self) -> None:
        self._states: dict[int, tuple[AwarenessState, Seat]] = {}
        self._seats: set[Seat] = set()

    def join(self, sub: str) -> Seat:
        """A new seat; it is due everything that is known."""
        seat = Seat(sub, {client: state for client, (state, _) in self._states.items()})
        self._seats.add(seat)
        return seat

    def leave(self, seat: Seat) -> bool:
        """The seat's ids are gone; True if anybody has to be told."""
        self._seats.discard(seat)
        mine = [client for client, (_, owner) in self._states.items() if owner is seat]
        for client in mine:
            state, _ = self._states.pop(client)
            # The same clock, as y-protocols takes for "left": the user may come back with the next.
            self._tell(AwarenessState(client, state.clock, None), seat)
        return bool(mine)

    def states(self) -> list[AwarenessState]:
        """All that is known."""
        return [state for state, _ in self._states.values()]

    def announce(self, seat: Seat, states: list[AwarenessState]) -> bool:
        """Take in what the seat says of its own ids; True if anybody has to be told."""
        told = False
        for state in states:
            known = self._states.get(state.client_id)
            if known is not None:
                before, owner = known
                if owner is not seat and owner.sub != seat.sub:
                    continue
                newer = state.clock > before.clock
                if not newer and not (state.clock == before.clock and state.state is None):
                    continue
            elif state.state is None:
                continue
            if state.state is None:
                del self._states[state.client_id]
            elif known is None and len(self._states) >= limits.MAX_AWARENESS_STATES:
                continue
            else:
                self._states[state.client_id] = (state, seat)
            self._tell(state, seat)
            told = True
        return told

    def _tell(self, state: AwarenessState, teller: Seat) -> None:
        for seat in self._seats:
            if seat is not teller:
                seat.due[state.client_id] = state
