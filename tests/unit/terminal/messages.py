"""Messages for tests of what shows them. Not a test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from collab.protocol.message_state import MessageState


@dataclass(eq=False)
class Fake:
    """A message as a transcript needs it."""

    body: str = "hello"
    meta: dict[str, Any] = field(default_factory=dict)
    sender: str | None = "anybody-0123456789abcdef"
    is_mine: bool = False
    is_system: bool = False
    sent_at: float = 1_000_000.0
    seq: int | None = None
    state: MessageState = MessageState.ACCEPTED
    replaced: bool = False
    code: str = ""
    reason: str = ""
    read_by: int = 0


def mine(state: MessageState, seq: int | None = None, body: str = "hello") -> Fake:
    """One of ours."""
    return Fake(body, is_mine=True, state=state, seq=seq)


def theirs(seq: int, body: str = "") -> Fake:
    """One of somebody else's."""
    return Fake(body or f"number {seq}", seq=seq)
