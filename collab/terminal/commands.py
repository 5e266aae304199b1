"""What a line that somebody typed asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from collab.errors import LocalError

__all__ = ["COMMANDS", "Command", "Say", "parse"]

COMMANDS: Final[Mapping[str, str]] = {
    "more": "older messages, and those that are not here; again for more",
    "edit": "/edit [#N] TEXT  change a message that was not sent yet",
    "cancel": "/cancel [#N]  take a message back, if the relay does not have it",
    "retry": "/retry [#N]  try again what was given up",
    "read": "mark everything as read",
    "fork": "/fork NAME  keep this room's text under another name too; its messages stay here",
    "status": "how the room, the disk and the connection stand",
    "connect": "try to reach the relay now",
    "help": "this; a message that begins with / is typed with two: //",
    "quit": "leave; what waits is saved and sent next time (Ctrl-C, Ctrl-D)",
}
"""Every command and what it does."""

_NUMBERED: Final = re.compile(r"#(\d{1,9})(?:\s+|$)")
_TAKE_NUMBER: Final = frozenset({"edit", "cancel", "retry"})
_NEED: Final = {"edit": "the new text: /edit [#N] TEXT", "fork": "a name: /fork NAME"}


@dataclass(frozen=True, slots=True)
class Say:
    """Send a message."""

    body: str


@dataclass(frozen=True, slots=True)
class Command:
    """Do something. ``number`` is of one of this session's own messages; None: the newest."""

    name: str
    number: int | None = None
    text: str = ""


def parse(line: str) -> Say | Command | None:
    """What ``line`` asks for; None for an empty one. Raises :class:`LocalError`.

    A mistyped command is refused, never sent: it may have been meant for nobody's eyes.
    """
    body = line.rstrip("\r\n")
    if not body.strip():
        return None
    if body.startswith("//"):
        return Say(body[1:])
    if not body.startswith("/"):
        return Say(body)
    name, _, rest = body[1:].strip().partition(" ")
    rest = rest.strip()
    if name not in COMMANDS:
        raise LocalError(
            f"There is no command /{name}; /help lists them. Nothing was sent. A message that "
            f"begins with a slash is typed with two."
        )
    number = None
    if name in _TAKE_NUMBER and (found := _NUMBERED.match(rest)):
        number, rest = int(found[1]), rest[found.end() :]
    if name in _NEED and not rest:
        raise LocalError(f"/{name} needs {_NEED[name]}. Nothing was changed.")
    if name not in _NEED and rest:
        raise LocalError(f"/{name} does not take {rest!r}; /help says what it takes.")
    return Command(name, number, rest)
