"""The connection's state machine: which state it is in, and what the shell is to be doing.

1. The proof of a network is the relay's own answer to a fresh nonce, in WELCOME or from ``/probe``,
   never the operating system's word. A hint, a timer or the program only ever *begins* an attempt
   or a check.
2. The shell (``collab.connection``) tells the machine what happened and when, carries out the one
   errand that it names, and calls ``due`` at its deadline. The machine reads no clock and no dice.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from collab import limits
from collab.protocol.backoff import HOUR_S, Backoff, BackoffSettings
from collab.protocol.connection_table import (
    TRANSITIONS,
    Answer,
    Event,
    Meaning,
    State,
    meaning_of,
)
from collab.protocol.liveness import Liveness

__all__ = [
    "RESET_AFTER_S",
    "TRANSITIONS",
    "Answer",
    "ConnectionMachine",
    "Errand",
    "Event",
    "Meaning",
    "State",
    "Timers",
    "meaning_of",
]

RESET_AFTER_S: Final = 30.0  # good for so long, the next failure is a new story
HINT_PAUSE_S: Final = 5.0  # at least, between two looks at a portal that hints begin
LOOKS_PER_TRY: Final = 4  # a gateway that does not pass /probe on must not keep us out for ever

_SAVED: Final = "Edits are saved on this device and go up when the relay answers"
_SUSPENDED: Final = (
    "The program suspended the connection. Edits are saved on this device; client.resume() sends "
    "them."
)
_CAPTIVE: Final = (
    "Somebody else answers in the relay's place ({}): a login page of this network, most likely. "
    "Nothing was sent, and edits are saved on this device. Log in to the network, then call "
    "client.portal_done(); otherwise it is looked at again by itself. Where there is no login "
    "page, check the relay's address."
)
_FAILED: Final = (
    "The relay ended the connection for good: {} Everything is kept on this device and edits are "
    "saved. Mend the cause, then call client.connect()."
)


class Errand(Enum):
    """What the shell is to be doing."""

    REST = auto()  # nothing: it waits for the deadline, or for an event
    DIAL = auto()  # an attempt, and then the connection that it became
    PROBE = auto()  # GET /probe


@dataclass(frozen=True, slots=True)
class Timers:
    """Seconds. ``token_timeout_s`` bounds the program's token function."""

    connect_timeout_s: float = 10.0
    token_timeout_s: float = 60.0
    probe_timeout_s: float = 5.0
    ping_s: float = 25.0
    silence_s: float = 10.0
    captive_first_s: float = 15.0
    captive_cap_s: float = 600.0
    backoff: BackoffSettings = field(default_factory=BackoffSettings)


class ConnectionMachine:
    """One device's connection. Moments (``now``) are seconds of any clock that only rises.

    ``chance`` is uniform in [0, 1), fresh at every call. ``reason`` is for people: what happened,
    what it means for their work, what to do.

    Invariants:

    1. The state changes along ``TRANSITIONS`` only.
    2. There is one errand at a time; ``turn`` names it, and what an earlier one reports is ignored.
    3. An attempt begins only when the budget has one.
    4. ``syncing`` and ``live`` are entered through WELCOME alone: in no other state may a frame of
       a room go up.
    5. In ``probing`` and ``captive`` nothing goes out but probes; they are left for an attempt only
       by the relay's own answer or, where a stranger answers again and again, every few looks.
    6. In ``suspended`` and ``failed`` nothing is under way and there is no deadline.
    7. In every other state there is a deadline: nothing waits for the world alone.
    8. To be fenced means that another copy of this device's file is in use, as there are never two
       attempts here. Then ``is_copied``: the next attempt is made under another id. A few times an
       hour; beyond that it is permanent.
    """

    def __init__(self, timers: Timers, *, token_is_renewable: bool = False) -> None:
        self.state = State.OFFLINE
        self.reason = "Not connected yet."
        self.errand = Errand.REST
        self.turn = 0
        self._timers = timers
        self._backoff = Backoff(timers.backoff)
        self._deadline: float | None = float("-inf")  # the first attempt begins at once
        self._liveness: Liveness | None = None  # of a link
        self._welcomed = 0.0
        self._token_is_renewable = token_is_renewable
        self._may_renew = token_is_renewable  # not twice before a connection was good
        self.is_copied = False  # until the other id is on the disk, also on a full one
        self._renewals: deque[float] = deque()  # of the id, in the last hour
        self._dialed = False
        self._hurry = False  # the program said "now" while an attempt was under way
        self._woken = False  # by sync_once, from suspended: there it returns
        self._cause = ""  # what went wrong last
        self._looks = 0  # at this portal
        self._looked = 0.0

    # What the shell asks

    @property
    def is_linked(self) -> bool:
        """Whether frames of rooms may go up."""
        return self.state in (State.SYNCING, State.LIVE)

    @property
    def next_attempt(self) -> float | None:
        """When the next attempt or look begins by itself, if one is waited for."""
        return self._deadline if self.errand is Errand.REST else None

    def next_deadline(self) -> float | None:
        """When :meth:`due` is to be called; None in ``suspended`` and ``failed``."""
        return self._deadline if self._liveness is None else self._liveness.deadline

    # Time

    def due(self, now: float, chance: float) -> int | None:
        """The deadline may have passed. The number of a PING that is to be sent now, or None."""
        deadline, timers = self.next_deadline(), self._timers
        if deadline is None or now < deadline:
            return None
        if self._liveness is not None:
            ping = self._liveness.due(now)
            if ping is None:
                silence = "the relay stopped answering"
                self.lost(self.turn, Meaning.TRANSIENT, silence, now, chance)
            return ping
        match self.errand:
            case Errand.REST if self._looks and self._looks % LOOKS_PER_TRY == 0:
                self._go(Event.TRY, now, chance)
            case Errand.REST:
                self._go(Event.TIMER, now, chance)
            case Errand.PROBE:
                nobody = f"no answer within {timers.probe_timeout_s:g} s"
                self.probed(self.turn, Answer.NOTHING, nobody, now, chance)
            case Errand.DIAL if self._dialed:
                nobody = f"no answer within {timers.connect_timeout_s:g} s"
                self.lost(self.turn, Meaning.TRANSIENT, nobody, now, chance)
            case Errand.DIAL:
                nothing = f"the program gave no token within {timers.token_timeout_s:g} s"
                self.lost(self.turn, Meaning.UNTRIED, nothing, now, chance)
        return None

    # What the errand reports

    def dialing(self, turn: int, now: float) -> None:
        """The attempt has its token and its number; from now on it is the network's time."""
        if turn == self.turn and self.state is State.CONNECTING:
            self._dialed = True
            self._deadline = now + self._timers.connect_timeout_s

    def welcomed(self, turn: int, now: float) -> bool:
        """WELCOME came with this attempt's nonce; False if it comes too late to count."""
        if turn != self.turn or self.state is not State.CONNECTING:
            return False
        self._go(Event.WELCOME, now, 0.0)
        return True

    def caught_up(self, now: float) -> None:
        """Every open room has caught up to the head that its JOINED named."""
        self._go(Event.CAUGHT_UP, now, 0.0)

    def heard(self, now: float) -> None:
        """Bytes came from the relay."""
        if self._liveness is not None:
            self._liveness.heard(now)

    def ponged(self, number: int, now: float) -> None:
        """The relay's application answered the PING of this number."""
        if self._liveness is not None:
            self._liveness.ponged(number, now)

    def is_sure(self, since: float) -> bool:
        """Whether the relay has answered what was asked at ``since`` or later."""
        return self._liveness is not None and self._liveness.proven >= since

    def lost(self, turn: int, meaning: Meaning, reason: str, now: float, chance: float) -> None:
        """The attempt, or the connection that it became, has ended."""
        if turn != self.turn or self.errand is not Errand.DIAL:
            return
        was_linked = self.is_linked
        if was_linked and now - self._welcomed >= RESET_AFTER_S:
            self._backoff.reset()
            self._may_renew = self._token_is_renewable
        self._cause = reason
        event = Event.LOST
        if meaning is Meaning.TOKEN and self._may_renew:
            self._may_renew = False
            event = Event.EXPIRED
        elif meaning is Meaning.ANOTHER and self._may_become_another(now):
            self.is_copied = True
            event = Event.COPIED
        elif meaning in (Meaning.PERMANENT, Meaning.ANOTHER) or (
            meaning is Meaning.TOKEN and not was_linked
        ):
            # A token that was accepted a moment ago and is not any more is worth another try, but
            # not at once, again and again.
            event = Event.REFUSED
        elif meaning is Meaning.UNTRIED and not was_linked:
            event = Event.UNTRIED
        self._go(event, now, chance)

    def renewed(self) -> None:
        """The device has another id now, on its disk."""
        self.is_copied = False

    def probed(self, turn: int, answer: Answer, what: str, now: float, chance: float) -> None:
        """The probe has ended; ``what`` is what came, for people."""
        if turn != self.turn or self.errand is not Errand.PROBE:
            return
        if answer is not Answer.RELAY and (
            answer is Answer.STRANGER or self.state is State.CAPTIVE
        ):
            self._cause = what
        elif answer is Answer.RELAY:
            self._looks = 0
            self._cause = (
                f"{_sentence(self._cause)} The relay answers plain requests, so it has too much to "
                f"do, or something on the way lets no WebSockets through"
            )
        self._go(answer.value, now, chance)

    # What the program and the system say

    def connect(self, now: float, chance: float) -> None:
        """The user's act: try now. It leaves ``failed`` and ``suspended``."""
        self._foreground(Event.CONNECT, now, chance)

    def resume(self, now: float, chance: float) -> None:
        """The program is in the foreground again. What looks live is asked whether it is."""
        self._foreground(Event.RESUME, now, chance)

    def credentials(self, now: float, chance: float, *, renewable: bool) -> None:
        """There is another token. It leaves ``failed``; a good connection goes on."""
        self._token_is_renewable = renewable
        self._may_renew = renewable or self.state is State.CONNECTING  # with the one before
        if self.state in (State.FAILED, State.OFFLINE):
            self.connect(now, chance)

    def sync_once(self, now: float, chance: float) -> None:
        """The program has a moment: connect, and go back to sleep at :meth:`synced_once`."""
        woken = self._woken or self.state is State.SUSPENDED
        self._foreground(Event.SYNC_ONCE, now, chance)
        self._woken = woken

    def synced_once(self, now: float) -> None:
        """The moment is over."""
        if self._woken:
            self._woken = False
            self._go(Event.SYNCED_ONCE, now, 0.0)

    def suspend(self, now: float) -> None:
        """The program goes to sleep. ``failed`` stays what it is."""
        self._woken = False
        self._go(Event.SUSPEND, now, 0.0)

    def hint(self, now: float, chance: float, *, up: bool) -> None:
        """The system says whether there is a network. It may be wrong, so nothing ends by it."""
        if self._liveness is not None:
            self._liveness.make_sure(now)  # another network, or none: the old socket may be dead
        elif up:
            self._backoff.reset()
            self._go(Event.HINT, now, chance)

    def _foreground(self, event: Event, now: float, chance: float) -> None:
        self._woken = False
        self._backoff.reset()
        self._hurry = self.state in (State.CONNECTING, State.PROBING)
        if self._liveness is not None:
            self._liveness.make_sure(now)
        else:
            self._go(event, now, chance)

    # How it changes

    def _may_become_another(self, now: float) -> bool:
        """Whether another device id may be taken."""
        renewals = self._renewals
        while renewals and renewals[0] <= now - HOUR_S:
            renewals.popleft()
        if len(renewals) >= limits.MAX_NEW_DEVICE_IDS_AN_HOUR:
            return False
        renewals.append(now)
        return True

    def _go(self, event: Event, now: float, chance: float) -> None:
        target = TRANSITIONS[self.state].get(event)
        match target:
            case None:
                return
            case State.OFFLINE if event is Event.HINT:
                self._sooner(now + self._backoff.wait(now, chance))
            case State.OFFLINE:
                self._rest(now, 0.0 if self._hurry else self._backoff.wait(now, chance))
            case State.CONNECTING:
                self._begin(now)
            case State.PROBING:
                reason = f"{_sentence(self._cause)} Asking whether somebody else answers."
                self._enter(target, Errand.PROBE, now + self._timers.probe_timeout_s, reason)
            case State.CAPTIVE:
                self._stay_captive(event, now, chance)
            case State.SYNCING:
                self.state, self.reason = target, "The relay answered; rooms catch up."
                self._welcomed = now
                self._liveness = Liveness(self._timers.ping_s, self._timers.silence_s, now)
            case State.LIVE:
                self.state, self.reason = target, "Every open room has caught up."
            case State.SUSPENDED:
                self._enter(target, Errand.REST, None, _SUSPENDED)
            case State.FAILED:
                self._enter(target, Errand.REST, None, _FAILED.format(_sentence(self._cause)))
        self._assert_invariants()

    def _enter(self, state: State, errand: Errand, deadline: float | None, reason: str) -> None:
        """Whatever was under way is over; from now on it is this."""
        if state not in (State.CONNECTING, State.PROBING, State.CAPTIVE):
            self._looks = 0
        self.state, self.errand, self._deadline, self.reason = state, errand, deadline, reason
        self.turn += 1
        self._liveness = None
        self._dialed = False

    def _begin(self, now: float) -> None:
        """An attempt begins, if the budget has one."""
        if self._backoff.blocked_for(now) > 0:
            self._rest(now, 0.0)
            return
        self._hurry = False
        self._backoff.started(now)
        deadline = now + self._timers.token_timeout_s
        self._enter(State.CONNECTING, Errand.DIAL, deadline, "Connecting.")

    def _rest(self, now: float, pause: float) -> None:
        blocked = self._backoff.blocked_for(now)
        reason = f"{_sentence(self._cause or 'not connected')} {_SAVED}; "
        if blocked > 0 and blocked >= pause:
            reason += "there were too many attempts of late, so the next one has to wait."
        else:
            reason += "the next attempt begins by itself."
        self._enter(State.OFFLINE, Errand.REST, now + max(pause, blocked), reason)

    def _stay_captive(self, event: Event, now: float, chance: float) -> None:
        timers = self._timers
        if event is Event.STRANGER:
            looks = self._looks
            ceiling = min(timers.captive_cap_s, timers.captive_first_s * 2.0 ** min(looks, 32))
            pause = ceiling * (1 + chance) / 2
            self._enter(State.CAPTIVE, Errand.REST, now + pause, _CAPTIVE.format(self._cause))
            self._looks, self._looked, self._hurry = looks + 1, now, False
        elif self.errand is Errand.PROBE:
            return  # a look is under way
        elif event is Event.HINT:
            self._sooner(max(now, self._looked + HINT_PAUSE_S))
        else:
            self._enter(State.CAPTIVE, Errand.PROBE, now + timers.probe_timeout_s, self.reason)

    def _sooner(self, moment: float) -> None:
        assert self._deadline is not None
        self._deadline = min(self._deadline, moment)

    def _assert_invariants(self) -> None:
        deadline = self.next_deadline()
        assert (deadline is None) == (self.state in (State.SUSPENDED, State.FAILED))
        assert self.is_linked == (self._liveness is not None)
        dials = self.state is State.CONNECTING or self.is_linked
        assert dials == (self.errand is Errand.DIAL)
        assert self.state is not State.PROBING or self.errand is Errand.PROBE


def _sentence(text: str) -> str:
    """``text`` with a capital and a full stop."""
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"
