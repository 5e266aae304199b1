"""The messages of one room that the relay has not decided, and the lane in which they go up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import islice, takewhile
from typing import Final

from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.chat_changes import (
    Bind,
    Bound,
    Change,
    CountRefusal,
    Decide,
    Expire,
    GiveUp,
    NewLane,
    Waiting,
)
from collab.protocol.message_state import MessageState
from collab.protocol.messages import OutcomeCode, SlotOutcome, is_transient

__all__ = ["Outbox"]

_SPARE_EXPIRIES: Final = 64


@dataclass(frozen=True, slots=True)
class _Pause:
    """Nothing is sent from ``slot`` on before ``until`` (running time)."""

    slot: int
    until: int


class Outbox:
    """The lane of one room: queued, bound, decided. Times are milliseconds of running time.

    Invariants:

    1. A SEND goes up only for a slot that is bound on this disk, and a SKIP only for one whose
       giving up is on it.
    2. At most ``LANE_WINDOW`` slots are bound and undecided.
    3. Messages are bound in the order of sending, to slots without a hole, and a slot is bound
       once in a lane. They go up in that order, beginning again at any of them.
    4. A bound message leaves by an outcome for its slot *and* its id. A slot that holds another
       id, or nobody remembers, begins a new lane under a fresh epoch.
    5. A message that may be at the relay never expires here.
    """

    def __init__(
        self, *, lane_epoch: bytes, bound: int, waiting: Iterable[Waiting], slots: Iterable[Bound]
    ) -> None:
        self.lane_epoch = lane_epoch
        self.bound = bound  # the highest slot of this lane, also one that is not on the disk yet
        self._slots: dict[int, Bound] = {slot.lane_seq: slot for slot in slots}
        self._binding: dict[int, bytes] = {}  # slots whose binding is on its way to the disk
        self._leaving: set[int] = set()  # slots whose giving up is on its way to the disk
        self._held: set[bytes] = set()  # the program is changing them
        self._readings = 0  # how often the whole queue is about to be read from the disk
        self._waiting: dict[bytes, Waiting] = {}  # in the order of sending
        self._expiries: list[tuple[int, bytes]] = []
        self._fill(waiting)
        self._open = False
        self._next = 1  # the lowest slot that was not sent since ENTERED
        self._skips: list[int] = []  # slots to be skipped although they were sent
        self._pause: _Pause | None = None
        self._stumbles = 0  # EXPECTEDs of one slot in a row
        self._stumbled_at = 0

    @property
    def pending(self) -> int:
        """How many messages are queued or sending."""
        sending = sum(not slot.logged for slot in self._slots.values())
        return len(self._waiting) + len(self._binding) + sending

    @property
    def is_reading(self) -> bool:
        """Whether a new lane, or the queue, is not on this disk yet."""
        return self._readings > 0

    # What the program does. Each of these is on this disk when it is told.

    def queued(self, message: Waiting) -> None:
        """A message was queued."""
        self._waiting[message.id] = message
        self._watch(message)

    def hold(self, message_id: bytes) -> None:
        """Do not bind a message until it is let go: the program is changing it."""
        self._held.add(message_id)

    def let_go(self, message_id: bytes) -> None:
        """A message that was held may be bound."""
        self._held.discard(message_id)
        message = self._waiting.get(message_id)
        if message is not None:
            self._watch(message)  # its time may have come meanwhile

    def removed(self, message_id: bytes) -> None:
        """A queued message is none any more."""
        self._held.discard(message_id)
        self._waiting.pop(message_id, None)

    def given_up(self, message_id: bytes, state: MessageState) -> None:
        """A bound message shall be skipped."""
        slot = next((slot for slot in self._slots.values() if slot.id == message_id), None)
        if slot is None:
            return  # decided meanwhile
        number = slot.lane_seq
        self._slots[number] = replace(slot, giving_up=state)
        self._leaving.discard(number)
        if number < self._next:
            self._skips.append(number)
        if self._pause is not None and self._pause.slot == number:
            self._pause = None

    # What came of changes, in the order in which they were decided

    def is_bound(self, change: Bind, slots: Iterable[Bound]) -> None:
        """Messages are bound on this disk."""
        if change.lane_epoch != self.lane_epoch:
            return  # the new lane has queued them again
        for number in range(change.first_slot, change.first_slot + len(change.ids)):
            self._binding.pop(number, None)
        self._slots.update((slot.lane_seq, slot) for slot in slots)

    def reads_again(self) -> None:
        """The queue is about to be read from the disk: nothing is bound until it was."""
        self._readings += 1

    def was_read(self, waiting: Iterable[Waiting]) -> None:
        """The queue as it is on the disk."""
        self._readings -= 1
        self._fill(waiting)

    def logged(self, ids: Iterable[bytes]) -> None:
        """These were found in the log, and are kept so on this disk."""
        found = set(ids)
        for message_id in found & self._waiting.keys():
            del self._waiting[message_id]
        for number, slot in self._slots.items():
            if slot.id in found:
                self._slots[number] = replace(slot, logged=True)

    def queued_again(self, messages: Iterable[Waiting]) -> None:
        """The relay has lost these, which it had accepted; each takes its place in the order."""
        again = [message for message in messages if message.id not in self._waiting]
        if again:
            self._fill([*self._waiting.values(), *again])

    def are_off_log(self, slots: Iterable[Bound]) -> None:
        """Of these it was said that they are in the log, and they are not."""
        for slot in slots:
            known = self._slots.get(slot.lane_seq)
            if known is not None and known.id == slot.id:
                self._slots[slot.lane_seq] = replace(known, logged=slot.logged)

    # What the relay says

    def entered(
        self, last: int, outcomes: Sequence[SlotOutcome], fresh_epoch: bytes
    ) -> list[Change]:
        """The lane as the relay has it. What it has decided is decided; the rest is sent again."""
        for outcome in outcomes:
            if is_transient(outcome.code):
                raise BadFrame("an outcome that is recorded, and transient")
            _check(outcome.code, outcome.seq)
        known = {outcome.lane_seq: outcome for outcome in outcomes}
        changes: list[Change] = []
        # Nothing has gone up in a slot whose binding is not stored yet.
        foreign = last > self.bound or any(number <= last for number in self._binding)
        for slot in list(self._slots.values()):
            if slot.lane_seq > last:
                continue
            found = known.get(slot.lane_seq)
            if found is None or not _is_of(slot, found.message_id, found.code):
                foreign = True
            else:
                changes.append(self._decide(slot, found.code, found.seq, ""))
        self._skips.clear()
        if foreign or last < self._decided_through():
            return [*changes, self._renew(fresh_epoch, rolled_back=foreign)]
        self._open = True
        self._next = last + 1
        return changes

    def outcome(
        self, frame: frames.Outcome, now: int, chance: float, fresh_epoch: bytes
    ) -> list[Change]:
        """What became of a slot. ``chance`` is uniform in [0, 1)."""
        _check(frame.code, frame.seq)
        slot = self._slots.get(frame.lane_seq)
        if slot is None:
            return []  # decided before
        if not _is_of(slot, frame.message_id, frame.code):
            if slot.lane_seq >= self._next:
                return []  # of an earlier lane: this slot was not sent yet
            return [self._renew(fresh_epoch, rolled_back=True)]
        if is_transient(frame.code):
            return self._refused_for_now(slot, frame, now, chance)
        return [self._decide(slot, frame.code, frame.seq, frame.reason)]

    def expected(self, number: int, now: int, fresh_epoch: bytes) -> list[Change]:
        """The relay has dropped what came before its turn: begin again at slot ``number``."""
        if not self._open:
            return []
        if number <= self._decided_through() or number > self.bound + 1:
            return [self._renew(fresh_epoch, rolled_back=number > self.bound)]
        if number in self._slots and number < self._next:
            self._stumble(number, now)
            self._next = number
        return []

    def begin_lane(self, epoch: bytes) -> None:
        """This lane is another user's: what is undecided of it is about to be queued again."""
        self._renew(epoch, rolled_back=False)

    def detach(self) -> None:
        """The connection is gone, or the room is joined again."""
        self._open = False
        self._skips.clear()

    # What is to be done

    def expire(self, now: int) -> list[Change]:
        """Those whose time is over before the relay could see them."""
        if self._readings:
            return []
        over: dict[int, bytes] = {}
        while self._expiries and self._expiries[0][0] <= now:
            message = self._waiting.get(heappop(self._expiries)[1])
            if message is not None and message.id not in self._held and _is_over(message, now):
                over[message.position] = message.id
        ids = tuple(over[position] for position in sorted(over))
        for message_id in ids:
            del self._waiting[message_id]
        return [Expire(ids)] if ids else []

    def bind(self) -> list[Change]:
        """Bind what the window has room for."""
        room = limits.LANE_WINDOW - len(self._slots) - len(self._binding)
        if not self._open or self._readings or room <= 0:
            return []
        free = takewhile(lambda message_id: message_id not in self._held, self._waiting)
        ids = tuple(islice(free, room))
        if not ids:
            return []
        first = self.bound + 1
        self.bound += len(ids)
        for number, message_id in enumerate(ids, first):
            del self._waiting[message_id]
            self._binding[number] = message_id
        return [Bind(self.lane_epoch, first, ids)]

    def next_frame(self, channel: int, now: int) -> frames.Send | frames.Skip | None:
        """The next SEND or SKIP, or None."""
        if not self._open:
            return None
        while self._skips:
            skipped = self._slots.get(self._skips.pop(0))
            if skipped is not None:
                return frames.Skip(channel, skipped.lane_seq, skipped.id)
        slot = self._due()
        if slot is None or self._paused_until(now):
            return None
        self._next = slot.lane_seq + 1
        if slot.giving_up is not None:
            return frames.Skip(channel, slot.lane_seq, slot.id)
        return frames.Send(
            channel=channel,
            lane_seq=slot.lane_seq,
            message_id=slot.id,
            body=slot.body,
            meta=slot.meta,
            sent_at=slot.sent_at,
            ttl_ms=None if slot.expires_at is None else max(0, slot.expires_at - now),
            confirm=slot.confirm,
        )

    def deadline(self, now: int) -> int | None:
        """When ``expire`` or ``next_frame`` has something again, at the earliest."""
        times = [self._expiries[0][0]] if self._expiries and not self._readings else []
        if self._open and self._due() is not None and (until := self._paused_until(now)):
            times.append(until)
        return min(times, default=None)

    # How it decides

    def _fill(self, waiting: Iterable[Waiting]) -> None:
        in_order = sorted(waiting, key=lambda message: message.position)
        self._waiting = {message.id: message for message in in_order}
        self._watch_all()

    def _watch_all(self) -> None:
        self._expiries = [
            (message.expires_at, message.id)
            for message in self._waiting.values()
            if message.expires_at is not None and not message.offered
        ]
        heapify(self._expiries)

    def _watch(self, message: Waiting) -> None:
        if message.expires_at is not None and not message.offered:
            heappush(self._expiries, (message.expires_at, message.id))
            # What was bound is still in it: days of messages, of which a handful wait.
            if len(self._expiries) > 2 * len(self._waiting) + _SPARE_EXPIRIES:
                self._watch_all()

    def _decided_through(self) -> int:
        """The slot up to which all are decided."""
        return min((*self._slots, *self._binding), default=self.bound + 1) - 1

    def _due(self) -> Bound | None:
        """The lowest slot that was not sent since ENTERED, unless it is being given up."""
        number = min((number for number in self._slots if number >= self._next), default=None)
        return None if number is None or number in self._leaving else self._slots[number]

    def _paused_until(self, now: int) -> int:
        return self._pause.until if self._pause is not None and self._pause.until > now else 0

    def _decide(self, slot: Bound, code: str, seq: int, reason: str) -> Decide:
        del self._slots[slot.lane_seq]
        self._leaving.discard(slot.lane_seq)
        if self._pause is not None and self._pause.slot == slot.lane_seq:
            self._pause = None
        if slot.logged:
            return Decide(slot.id, MessageState.ACCEPTED, seq, OutcomeCode.ACCEPTED, "")
        return Decide(slot.id, _state(slot, code), seq, code, reason)

    def _refused_for_now(
        self, slot: Bound, frame: frames.Outcome, now: int, chance: float
    ) -> list[Change]:
        number = slot.lane_seq
        self._next = min(self._next, number)
        wait_ms = min(frame.retry_after_ms, limits.MAX_RETRY_AFTER_MS)
        changes: list[Change] = []
        limited = frame.code == OutcomeCode.RATE_LIMITED
        if not limited and slot.giving_up is None and number not in self._leaving:
            slot = replace(slot, refusals=slot.refusals + 1)
            self._slots[number] = slot
            changes.append(CountRefusal(slot.id, slot.refusals))
            if slot.refusals >= limits.MAX_TRANSIENT_REFUSALS:
                self._leaving.add(number)
                return [*changes, GiveUp(slot.id, MessageState.STALLED)]
        if not wait_ms:
            ceiling = limits.RETRY_BASE_MS * 2 ** min(slot.refusals, 16)
            wait_ms = int(min(limits.RETRY_CAP_MS, ceiling) * (0.5 + chance / 2))
        self._pause = _Pause(number, now + wait_ms)
        return changes

    def _stumble(self, number: int, now: int) -> None:
        """A relay that asks for the same slot again and again is not answered at that pace."""
        self._stumbles = self._stumbles + 1 if number == self._stumbled_at else 0
        self._stumbled_at = number
        if self._stumbles:
            wait_ms = min(limits.RETRY_CAP_MS, 100 * 2 ** min(self._stumbles, 16))
            until = max(now + wait_ms, self._paused_until(now))
            self._pause = _Pause(number, until)

    def _renew(self, fresh_epoch: bytes, *, rolled_back: bool) -> NewLane:
        self.lane_epoch = fresh_epoch
        self.bound = 0
        self._slots.clear()
        self._binding.clear()
        self._leaving.clear()
        self._skips.clear()
        self._pause = None
        self._next = 1
        self._open = False
        self.reads_again()
        return NewLane(fresh_epoch, rolled_back)


def _is_over(message: Waiting, now: int) -> bool:
    """Whether its time is; the one it has now, and not the one before a retry."""
    at = message.expires_at
    return at is not None and at <= now and not message.offered


def _check(code: str, seq: int) -> None:
    accepted = code == OutcomeCode.ACCEPTED
    if seq > limits.MAX_SEQ or accepted != (seq > 0):
        raise BadFrame(f"the outcome {code!r} with the seq {seq}")


def _is_of(slot: Bound, message_id: bytes, code: str) -> bool:
    return message_id == slot.id and code != OutcomeCode.FORGOTTEN


def _state(slot: Bound, code: str) -> MessageState:
    match code:
        case OutcomeCode.ACCEPTED:
            return MessageState.ACCEPTED
        case OutcomeCode.SKIPPED:
            # Skipped by somebody else than us: a copy of this file. It stays where it can be seen.
            return slot.giving_up or MessageState.STALLED
        case OutcomeCode.EXPIRED:
            return MessageState.EXPIRED
        case _:
            return MessageState.REJECTED
