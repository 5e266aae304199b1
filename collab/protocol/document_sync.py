"""One room's document on a device, and how it comes level with the relay's log.

The shell (``collab.room``) tells this machine what happened and carries out the effects that it
answers with; it asks ``next_frame`` whenever the socket takes more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum, auto

from collab import limits
from collab.errors import BadUpdate
from collab.protocol import frames
from collab.protocol.frames import Access, Code
from collab.protocol.held_updates import HeldUpdates
from collab.protocol.losses import lacking
from collab.protocol.position import NOWHERE, Position
from collab.protocol.sync_effects import (
    Adopt,
    Apply,
    Differ,
    Effect,
    Lacks,
    Refusal,
    Rejoin,
    Replaced,
    Row,
    Store,
)
from collab.protocol.update import Coverage, Fit, Walk, cut, decode_state_vector, walk

__all__ = [
    "Adopt",
    "Apply",
    "Differ",
    "DocumentSync",
    "Effect",
    "Lacks",
    "Phase",
    "Refusal",
    "Rejoin",
    "Replaced",
    "Row",
    "Store",
]


class Phase(Enum):
    """Where a room is on its connection."""

    DETACHED = auto()  # no connection, or not joined on it
    JOINING = auto()  # JOIN is to be sent, or sent
    OPEN = auto()  # JOINED came
    STOPPED = auto()  # replaced: the program must decide


class DocumentSync:
    """The state machine of one room's document.

    Invariants:

    1. Nothing goes up that is not on this disk, and nothing before JOINED.
    2. After a JOIN without a good offset, or a RESYNC, or while an OFFER is owed (6), an OFFER goes
       up before any UPDATE.
    3. The position never passes an update that was not given to the replica.
    4. A row is acked only by an ACK for a number that covered it.
    5. No update reaches the replica before all that it needs, and of each only what is new to it.
    6. A JOIN without a good offset makes an OFFER due, until one is acked: on this connection or a
       later one, and of who may only read, once he may write. While it is due no position is
       stored. What the relay lost, and we have acked rows of, would otherwise never be offered
       again. Who has nothing, and may only read, owes nothing.
    """

    def __init__(
        self,
        *,
        epoch: bytes | None,
        position: Position,
        unacked: Iterable[Row],
    ) -> None:
        self.coverage = Coverage()
        self.epoch = epoch
        self.position = position
        self.phase = Phase.DETACHED
        self.prepared = False
        self.refusal: Refusal | None = None
        self.access = Access.NONE
        self.channel = -1
        self._unacked: deque[Row] = deque(unacked)
        self._unprepared: list[Row] = []
        self._unsent: deque[Row] = deque()
        self._in_flight: deque[tuple[int, int]] = deque()  # number, the last row it covers
        self._number = 0
        self._offer: tuple[bytes, int] | None = None
        self._turn = 0
        self._awaiting_offer = False
        self._awaiting_difference = False
        self._owes_offer = False
        self._offered = 0  # the number of the last offer of this join, 0 before it
        self._generation = b""
        self._target = 0
        self._held = HeldUpdates()
        self._resyncs = 0
        self._began_anew = False

    # What the shell asks

    @property
    def pending_updates(self) -> int:
        """How many saved rows the relay has not acked."""
        return len(self._unacked)

    @property
    def may_write(self) -> bool:
        """Whether the relay, when it was asked last, gave the right to write; True before that."""
        return self.access in (Access.NONE, Access.WRITE, Access.ADMIN)

    @property
    def unacked(self) -> tuple[Row, ...]:
        """The saved rows that the relay has not acked, oldest first."""
        return tuple(self._unacked)

    @property
    def is_level(self) -> bool:
        """Whether all that was in the log at joining has come, and all of ours is acked."""
        return (
            self.phase is Phase.OPEN
            and not self._awaiting_difference
            and not self._awaiting_offer
            and not self._held
            and not self._unacked
            and self.position.offset >= self._target
        )

    @property
    def is_caught_up(self) -> bool:
        """Whether all that was in the log at joining has come."""
        return (
            self.phase is Phase.OPEN
            and not self._awaiting_difference
            and not self._held
            and self.position.offset >= self._target
        )

    # What happens to the room

    def prepare(self, coverage: Coverage) -> None:
        """What the replica contains, before the first join; rows saved since are added."""
        for row in self._unprepared:
            coverage.add(walk(row.data))
        self._unprepared.clear()
        self.coverage = coverage
        self.prepared = True

    def saved(self, rows: Iterable[Row]) -> list[Effect]:
        """Local rows are on this disk now; they may go up."""
        effects: list[Effect] = []
        for row in rows:
            self._unacked.append(row)
            if self.phase is Phase.OPEN:
                self._unsent.append(row)
            if not self.prepared:
                self._unprepared.append(row)
                continue
            try:
                self.coverage.add(walk(row.data))
            except BadUpdate as error:
                # The edit is the program's own and stays; no relay would take it. Those that build
                # on it fail for no reason of their own.
                if self.refusal is None:
                    self.refusal = Refusal(Code.INVALID, str(error))
                    effects.append(self.refusal)
        return effects + self._refuse_readers()

    def join(self, request: int, room: str) -> frames.Join:
        """The frame that opens the room on a fresh connection, or again on this one."""
        self.phase = Phase.JOINING
        return frames.Join(
            request=request,
            room=room,
            epoch=self.epoch,
            generation=self.position.generation,
            offset=self.position.offset,
            state_vector=self.coverage.state_vector(),
        )

    def detach(self) -> None:
        """The connection is gone. What was in flight is resolved at the next joining."""
        if self.phase is not Phase.STOPPED:
            self.phase = Phase.DETACHED
        self._in_flight.clear()
        self._unsent.clear()
        self._offer = None
        self._awaiting_offer = self._awaiting_difference = False
        self._began_anew = False
        self._held.clear()

    def stop(self) -> None:
        """Nothing of this room goes up or comes down until it is opened anew."""
        self.detach()
        self.phase = Phase.STOPPED

    def deleted(self, *, unsaved: bool = False) -> list[Effect]:
        """The relay deleted the room of our epoch; another one may have its name by now.

        Who has nothing of it has nothing to decide, and joins that one: once a connection, or a
        relay that says this for ever would be asked for ever. ``unsaved``: there are edits that are
        in no row yet.
        """
        if self.phase is Phase.STOPPED:
            return []
        began_anew = self._began_anew
        self.detach()
        if began_anew or unsaved or not self._is_empty():
            self.phase = Phase.STOPPED
            return [Replaced(deleted=True)]
        self._began_anew = True
        self.epoch = None
        return [*self._lose_position(), Rejoin()]

    def joined(
        self, frame: frames.Joined, generation: bytes, *, unsaved: bool = False
    ) -> list[Effect]:
        """The relay opened the room. ``unsaved``: there are edits that are in no row yet."""
        if self.phase is Phase.STOPPED:
            return []
        effects: list[Effect] = []
        is_known = self.epoch is not None
        if frame.epoch != self.epoch:
            has_content = unsaved or not self._is_empty()
            if self.epoch is not None and has_content and frame.state_vector != b"\0":
                self.phase = Phase.STOPPED
                return [Replaced()]
            self.epoch = frame.epoch
            effects.append(Adopt(frame.epoch))
        self.phase = Phase.OPEN
        self.channel = frame.channel
        self.access = Access(min(frame.access, Access.ADMIN))
        self._generation = generation
        self._target = frame.head
        self._number = 0
        self._resyncs = 0  # a connection that was lost is no fault of the difference
        self._in_flight.clear()
        self._offer = None
        self._offered = 0
        self._unsent = deque(self._unacked)
        may_write = self.access >= Access.WRITE
        if may_write and self.refusal is not None and self.refusal.code == Code.FORBIDDEN:
            self.refusal = None  # the right to write is back
        good = frame.good and self.position != NOWHERE
        if not good:
            # What is applied from now on is not covered by the old place, should it ever be good
            # again at a relay that came back from a backup.
            effects += self._lose_position()
            self._owes_offer |= may_write or not self._is_empty()
        self._awaiting_difference = not good
        self._awaiting_offer = False
        effects += self._refuse_readers()
        offers = self._owes_offer and may_write and self.refusal is None
        if is_known and not good:
            lacks = lacking(self.coverage.clocks, decode_state_vector(frame.state_vector))
            if lacks:
                effects.append(Lacks(lacks, self.unacked, offers))
        if offers:
            effects.append(self._differ(frame.state_vector))
        return effects

    def updates(self, offset: int, update: bytes, walked: Walk) -> list[Effect]:
        """The log from our place to ``offset``."""
        if self.phase is Phase.STOPPED:
            return []
        position = Position(self._generation, offset)
        moves = self._moves()
        fit = self.coverage.fit(walked)
        if fit is Fit.EARLY:
            return self._hold(update, walked)
        if fit is Fit.NOTHING:
            return self._move(position) if moves else []
        effects = self._apply(update, walked, fit, position if moves else None)
        effects += self._release()
        return effects

    def difference(self, offset: int, update: bytes, walked: Walk) -> list[Effect]:
        """All that we lacked; our place is ``offset`` now.

        One comes after a joining without a good offset, and whenever the relay's log was compacted
        beyond our place.
        """
        if self.phase is not Phase.OPEN:
            return []
        position = Position(self._generation, offset)
        fit = self.coverage.fit(walked)
        if fit is Fit.EARLY:
            raise BadUpdate("the relay's difference leaves out what it builds on")
        self._awaiting_difference = False
        # The held ones came before this difference was made, so it contains them.
        self._held.clear()
        if fit is Fit.NOTHING:
            return self._move(position)
        return self._apply(update, walked, fit, position)

    def ack(self, number: int, offset: int) -> list[Effect]:
        """Every number up to ``number`` is committed at the relay."""
        through: int | None = None
        while self._in_flight and self._in_flight[0][0] <= number:
            through = self._in_flight.popleft()[1]
        if through is not None:
            self._resyncs = 0
            while self._unacked and self._unacked[0].id <= through:
                self._unacked.popleft()
        settles = self._owes_offer and 0 < self._offered <= number
        if settles:
            self._owes_offer = False
        position = None
        if self._moves():
            position = self._advance(Position(self._generation, offset))
            if settles:
                position = self.position
        if through is None and position is None:
            return []
        return [Store(position, through)]

    def resync(self, state_vector: bytes) -> list[Effect]:
        """The relay missed something that our update builds on."""
        self._resyncs += 1
        if self._resyncs > limits.MAX_RESYNCS_IN_A_ROW:
            self.refusal = Refusal(Code.INVALID, "the relay asks for the same difference for ever")
            return [self.refusal]
        return [self._differ(state_vector)]

    def refused(self, code: str, reason: str) -> list[Effect]:
        """The relay refused our updates for good."""
        self.refusal = Refusal(code, reason)
        return [self.refusal]

    def offer(self, update: bytes, through_row: int, turn: int) -> None:
        """The difference that ``Differ`` asked for; all that it holds is on this disk."""
        if len(update) > limits.MAX_UPDATE_BYTES:
            self.refusal = Refusal(Code.TOO_LARGE, f"no relay takes {len(update)} bytes at once")
        elif self._awaiting_offer and turn == self._turn:
            self._offer = (update, through_row)

    # What goes up

    def next_frame(self) -> frames.Frame | None:
        """The next frame of this room, or None."""
        if self.phase is not Phase.OPEN or self.refusal or self.access < Access.WRITE:
            return None
        if self._awaiting_offer:
            if self._offer is None:
                return None
            update, through = self._offer
            self._offer = None
            self._awaiting_offer = False
            while self._unsent and self._unsent[0].id <= through:
                self._unsent.popleft()
            self._number += 1
            self._offered = self._number
            self._in_flight.append((self._number, through))
            return frames.Offer(self.channel, self._number, update)
        if self._unsent:
            row = self._unsent.popleft()
            self._number += 1
            self._in_flight.append((self._number, row.id))
            return frames.Update(self.channel, self._number, row.data)
        return None

    # How it decides

    def _refuse_readers(self) -> list[Effect]:
        """Who may only read learns at the first edit that it stays here."""
        may_write = self.phase is not Phase.OPEN or self.access >= Access.WRITE
        if may_write or not self._unacked or self.refusal is not None:
            return []
        self.refusal = Refusal(Code.FORBIDDEN, "this user may read the room, not write it")
        return [self.refusal]

    def _is_empty(self) -> bool:
        return not self._unacked and self.coverage.state_vector() == b"\0"

    def _differ(self, state_vector: bytes) -> Differ:
        decode_state_vector(state_vector)  # it goes into an engine
        self._awaiting_offer = True
        self._offer = None
        self._offered = 0
        self._turn += 1
        return Differ(state_vector, self._turn)

    def _moves(self) -> bool:
        return self.phase is Phase.OPEN and not self._awaiting_difference and not self._held

    def _lose_position(self) -> list[Effect]:
        if self.position == NOWHERE:
            return []
        self.position = NOWHERE
        return [Store(NOWHERE, None)]

    def _advance(self, position: Position) -> Position | None:
        """Move to ``position``, and return it if it is to be stored."""
        known = self.position
        if known.generation == position.generation and known.offset >= position.offset:
            return None
        self.position = position
        return None if self._owes_offer else position

    def _move(self, position: Position) -> list[Effect]:
        moved = self._advance(position)
        return [Store(moved, None)] if moved else []

    def _apply(
        self, update: bytes, walked: Walk, fit: Fit, position: Position | None
    ) -> list[Effect]:
        if fit is Fit.OVERLAPS:
            # The guard judges what is new of it. An engine would go by what it says of the rest.
            update = cut(update, walked, self.coverage)
            walked = walk(update)
        self.coverage.add(walked)
        if position is not None:
            position = self._advance(position)
        return [Apply(update, position)]

    def _hold(self, update: bytes, walked: Walk) -> list[Effect]:
        self._held.hold(update, walked)
        if self.phase is not Phase.OPEN or self._awaiting_difference:
            return []  # the difference that is on its way contains it, held or not
        self._awaiting_difference = True
        return [*self._lose_position(), Rejoin()]

    def _release(self) -> list[Effect]:
        """Apply held updates that fit by now."""
        effects: list[Effect] = []
        for update, walked, fit in self._held.release(self.coverage):
            effects += self._apply(update, walked, fit, None)
        return effects
