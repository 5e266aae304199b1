"""How a room's work stands, said in a badge and a line. No I/O; ``now`` is an argument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from collab.terminal import safe, wording

if TYPE_CHECKING:
    from collab.connection import ConnectionStatus
    from collab.room import Status

__all__ = ["Badge", "badge", "leaving", "waiting"]

_LABELS: Final = {
    "live": "ONLINE",
    "syncing": "ONLINE",
    "captive": "SIGN-IN PAGE",
    "failed": "DISCONNECTED",
}  # of the connection's states; every other is offline, until the relay has answered
_DOING: Final = {
    "connecting": "connecting …",
    "probing": "connecting …",
    "suspended": "working offline",
}
_MOODS: Final = {"SIGN-IN PAGE": "captive", "DISCONNECTED": "bad"}


@dataclass(frozen=True, slots=True)
class Badge:
    """``mood`` ("good", "busy", "away", "captive", "bad") is for the colour; the rest says all.

    ``label`` is short and in capitals, ``text`` one line, ``detail`` a sentence or several. All of
    it is harmless for a terminal.
    """

    mood: str
    label: str
    text: str
    detail: str = ""


def badge(status: Status, connection: ConnectionStatus | None, now: float) -> Badge:
    """What to say of a room and of the connection."""
    trouble = "" if status.error is None else wording.fault(status.error)
    if status.refused:
        refused = safe.one_line(status.refused)
        trouble = f"The relay refuses edits of the document ({refused}). They are kept here."
    if not status.saved and status.error is not None:
        return Badge("bad", "NOT SAVED", "kept in memory, tried again", trouble)
    kept = "saved on this device" if status.saved else "saving …"
    waits = waiting(status.pending_updates, status.pending_messages)
    parts = [kept, waits]
    if trouble:
        return Badge("bad", "NOT SYNCED", _joined(parts), trouble)
    if connection is None:
        return Badge("away", "OFFLINE", _joined([kept, "no relay given (--relay URL)"]))
    state = str(connection.state)
    label = _LABELS.get(state, "OFFLINE")
    if label == "ONLINE":
        if status.synced:
            return Badge("good", label, "saved and synced")
        parts.append("" if waits else "catching up")
        return Badge("good" if state == "live" else "busy", label, _joined(parts))
    parts.append(_DOING.get(state) or wording.attempt(connection, now))
    mood = _MOODS.get(label, "away")
    detail = wording.trouble(connection) if mood in ("bad", "captive") else ""
    return Badge(mood, label, _joined(parts), detail)


def waiting(changes: int, messages: int) -> str:
    """What the relay does not have yet; "" if that is nothing."""
    parts = [_counted(changes, "change"), _counted(messages, "message")]
    said = " and ".join(part for part in parts if part)
    if not said:
        return ""
    return f"{said} {'waits' if changes + messages == 1 else 'wait'}"


def leaving(changes: int) -> str:
    """What is said of the document on leaving; "" if nothing waits."""
    if not changes:
        return ""
    return f"{waiting(changes, 0)} to be sent, saved here"


def _counted(count: int, thing: str) -> str:
    return "" if not count else f"{count:,} {thing}{'' if count == 1 else 's'}"


def _joined(parts: list[str]) -> str:
    return " · ".join(part for part in parts if part)
