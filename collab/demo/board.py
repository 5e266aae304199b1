"""What is known of everybody in the demo, for the display and for the final table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

TEXTS: Final = ("paper", "post")


@dataclass(slots=True)
class Replica:
    """One client. Bytes are those of its TCP connections; ``converged_s`` counts from the last
    edit that anybody made (a reader's: from its start)."""

    name: str
    text: str | None  # the text that it types; None: it only reads
    total: int = 0
    edits: int = 0
    saved: int = 0
    unsent: int = 0
    messages: int = 0
    said: int = 0
    repeated: int = 0
    accepted: int = 0
    in_order: bool | None = None  # whether all messages of all came here as they were sent
    state: str = "not started"
    alive: bool = False
    linked: bool = True
    windows: int = 0
    kills: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    converged_s: float | None = None
    clocks: str = ""  # a digest of its state vector
    chat: str = ""  # a digest of its messages
    digests: Mapping[str, str] = field(default_factory=dict)
    synced: bool = False

    @property
    def finished(self) -> bool:
        """Whether it has typed and said all that it will."""
        return self.edits >= self.total and self.said >= self.messages

    @property
    def content(self) -> tuple[Mapping[str, str], str, str] | None:
        """What must be equal everywhere in the end; None while it is not known or not synced."""
        if not (self.alive and self.synced and self.digests and self.finished):
            return None
        return self.digests, self.clocks, self.chat


@dataclass(slots=True)
class Board:
    """Everybody. ``relay_alive`` and ``relay_kills`` are the relay's."""

    seed: int
    replicas: dict[str, Replica] = field(default_factory=dict)
    relay_alive: bool = False
    relay_kills: int = 0
