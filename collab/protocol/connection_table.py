"""The connection's states and events, and the whole table of what leads where."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum, auto
from typing import Final

from collab.protocol.frames import Close, is_permanent

__all__ = ["TRANSITIONS", "Answer", "Event", "Meaning", "State", "meaning_of"]


class State(StrEnum):
    """Where the connection is."""

    OFFLINE = "offline"  # no network, the relay cannot be reached, or it has too much to do
    CONNECTING = "connecting"  # from the token to WELCOME
    PROBING = "probing"  # after a failed attempt: does somebody else answer?
    CAPTIVE = "captive"  # somebody else does
    SYNCING = "syncing"  # welcome; some open room has not caught up
    LIVE = "live"  # all have
    SUSPENDED = "suspended"  # the program went to sleep
    FAILED = "failed"  # the relay will not have us, and says that this is for good


class Event(Enum):
    """What changes the state."""

    WELCOME = "WELCOME echoed the nonce"
    CAUGHT_UP = "every open room has caught up"
    LOST = "the attempt or the connection ended"
    UNTRIED = "the attempt never reached the network"
    EXPIRED = "the token is not accepted, and the program may give another"
    COPIED = "another copy of the device's file is in use, and this one becomes a device of its own"
    REFUSED = "a permanent close"
    RELAY = "the probe was answered by the relay"
    STRANGER = "the probe was answered by somebody else"
    NOTHING = "nobody answered the probe"
    TIMER = "the wait is over"
    TRY = "many looks found a stranger: perhaps only the probe does not get through"
    HINT = "the system says that there is a network"
    CONNECT = "the program says: now"
    RESUME = "the program is in the foreground again"
    SYNC_ONCE = "the program has a moment"
    SYNCED_ONCE = "the moment is over"
    SUSPEND = "the program goes to sleep"


_NOW: Final = (Event.TIMER, Event.CONNECT, Event.RESUME, Event.SYNC_ONCE)
_SLEEP: Final = {Event.SUSPEND: State.SUSPENDED, Event.SYNCED_ONCE: State.SUSPENDED}
_LINKED: Final = {
    Event.LOST: State.OFFLINE,
    Event.EXPIRED: State.CONNECTING,
    Event.COPIED: State.CONNECTING,
    Event.REFUSED: State.FAILED,
    **_SLEEP,
}

# What is not here changes nothing.
TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = {
    State.OFFLINE: {
        **dict.fromkeys(_NOW, State.CONNECTING),  # when the budget has an attempt
        Event.HINT: State.OFFLINE,  # its wait becomes short
        **_SLEEP,
    },
    State.CONNECTING: {
        Event.WELCOME: State.SYNCING,
        Event.LOST: State.PROBING,
        Event.UNTRIED: State.OFFLINE,
        Event.EXPIRED: State.CONNECTING,
        Event.COPIED: State.CONNECTING,
        Event.REFUSED: State.FAILED,
        **_SLEEP,
    },
    State.PROBING: {
        Event.RELAY: State.OFFLINE,
        Event.STRANGER: State.CAPTIVE,
        Event.NOTHING: State.OFFLINE,
        **_SLEEP,
    },
    State.CAPTIVE: {
        **dict.fromkeys(_NOW, State.CAPTIVE),  # a check begins
        Event.HINT: State.CAPTIVE,  # its wait becomes short
        Event.TRY: State.CONNECTING,
        Event.RELAY: State.CONNECTING,
        Event.STRANGER: State.CAPTIVE,
        Event.NOTHING: State.OFFLINE,
        **_SLEEP,
    },
    State.SYNCING: {Event.CAUGHT_UP: State.LIVE, **_LINKED},
    State.LIVE: _LINKED,
    State.SUSPENDED: dict.fromkeys(
        (Event.CONNECT, Event.RESUME, Event.SYNC_ONCE), State.CONNECTING
    ),
    State.FAILED: {Event.CONNECT: State.CONNECTING},
}


class Answer(Enum):
    """Who answered a probe; the value is the event."""

    RELAY = Event.RELAY
    STRANGER = Event.STRANGER
    NOTHING = Event.NOTHING


class Meaning(Enum):
    """What the end of an attempt or a connection means for the next one."""

    TRANSIENT = auto()  # try again later
    UNTRIED = auto()  # try again later; the network has no part in it
    TOKEN = auto()  # with another token it may succeed
    ANOTHER = auto()  # somebody connected under this device's id: as another device it may succeed
    PERMANENT = auto()  # not before somebody has mended something


def meaning_of(close_code: int | None) -> Meaning:
    """What a close code (None: no close frame came) means for the next attempt."""
    if close_code is None or not is_permanent(close_code):
        return Meaning.TRANSIENT
    match close_code:
        case Close.UNAUTHENTICATED:
            return Meaning.TOKEN
        case Close.FENCED:
            return Meaning.ANOTHER
        case _:
            return Meaning.PERMANENT
