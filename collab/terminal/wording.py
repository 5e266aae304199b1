"""How the chat's states are said to people. No I/O; ``now`` is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from collab.errors import CollabError, RoomReplaced
from collab.protocol.anybody import ANYBODY
from collab.protocol.gaps import Gap
from collab.protocol.message_state import MessageState
from collab.terminal import safe

if TYPE_CHECKING:
    from collab.connection import ConnectionStatus
    from collab.terminal.transcript import Shown

__all__ = [
    "NAME", "attempt", "connection", "fault", "gap", "is_in_log", "leaving", "messages", "sender",
    "standing", "trouble",
]  # fmt: skip

NAME: Final = "name"
"""The field of a message's meta in which ``collab chat --name`` says who writes."""

_YOU: Final = "you"  # somebody else who is called so shows as "you (you)"
_TAG: Final = 6  # characters of an identity beside a name that its owner chose
_IDENTITY: Final = 12  # of an identity alone

_CONNECTED: Final[Mapping[str, str]] = {
    "live": "online",
    "syncing": "online, catching up",
    "connecting": "connecting …",
}

_STATES: Final[Mapping[MessageState, str]] = {
    MessageState.QUEUED: "queued",
    MessageState.SENDING: "sending",
    MessageState.ACCEPTED: "accepted",
    MessageState.DELIVERED: "delivered",
    MessageState.READ: "read",
    MessageState.REJECTED: "refused",
    MessageState.EXPIRED: "expired, not sent",
    MessageState.CANCELLED: "cancelled",
    MessageState.STALLED: "given up; /retry",
}


def is_in_log(message: Shown) -> bool:
    """Whether the relay has it, under the number that it shows."""
    return message.seq is not None and not message.replaced


def sender(message: Shown) -> str:
    """Who wrote it. A name that its writer chose never stands without a part of the identity."""
    if message.is_mine:
        return _YOU
    identity = safe.name((message.sender or "?").removeprefix(ANYBODY))
    chosen = message.meta.get(NAME)
    if isinstance(chosen, str) and chosen.strip():
        return f"{safe.name(chosen)} ({identity[:_TAG]})"
    return identity[:_IDENTITY] if identity != _YOU else f"{identity} ({identity})"


def standing(message: Shown, number: int | None) -> str:
    """How a message of ours stands; "" of what others wrote."""
    if message.replaced:
        return "[not in the relay's history any more]"
    if not message.is_mine:
        return ""
    state, said = message.state, _STATES[message.state]
    if state is MessageState.READ and message.read_by > 1:
        said = f"read by {message.read_by}"
    if state is MessageState.REJECTED:
        said = f"refused: {safe.one_line(message.reason or message.code)}"
    numbered = number is not None and not is_in_log(message)
    return f"[#{number} {said}]" if numbered else f"[{said}]"


def fault(error: CollabError) -> str:
    """What is wrong with a room, and what can be typed about it."""
    typed = " (Typed here, that is /fork NAME.)" if isinstance(error, RoomReplaced) else ""
    return safe.one_line(str(error)) + typed


def gap(missing: Gap) -> str:
    """What is not on this device."""
    count = missing.high - missing.low + 1
    if missing.lost:
        return f"… {messages(count)} never came here, and the relay keeps them no more"
    return f"… {messages(count)} not here; /more to fetch"


def connection(status: ConnectionStatus | None, now: float) -> str:
    """Whether there is a connection; else when one is tried again."""
    if status is None:
        return "no relay given: all stays on this device (--relay URL)"
    state = str(status.state)
    if state in _CONNECTED:
        return _CONNECTED[state]
    return ", ".join(part for part in (state, attempt(status, now)) if part)


def attempt(status: ConnectionStatus, now: float) -> str:
    """When a connection is tried by itself; "" if it is not."""
    if status.next_attempt is None:
        return ""
    return f"next attempt in {max(0, round(status.next_attempt - now))} s"


def trouble(status: ConnectionStatus | None) -> str:
    """Why there is no connection; "" if there is one, or one is being made."""
    if status is None or str(status.state) in _CONNECTED:
        return ""
    return safe.one_line(status.reason)


def messages(count: int) -> str:
    """A number of messages."""
    return "1 message" if count == 1 else f"{count:,} messages"


def leaving(count: int, stalled: int, not_taken: int = 0) -> str:
    """What is said on leaving. ``not_taken`` lines are shown behind it."""
    parts = []
    if count:
        verb = "waits" if count == 1 else "wait"
        parts.append(
            f"{messages(count)} {verb} to be sent, saved here; open this room again and it goes on"
        )
    if stalled:
        parts.append(f"{stalled:,} given up and kept; /retry sends them again")
    if not_taken:
        lines = "1 line was" if not_taken == 1 else f"{not_taken:,} lines were"
        parts.append(f"{lines} not taken, neither sent nor saved")
    return "; ".join(parts) or "everything was sent"
