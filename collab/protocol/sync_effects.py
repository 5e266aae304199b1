"""What a room's sync machine asks its shell to do: see ``document_sync``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from collab.protocol.position import Position

__all__ = [
    "Adopt",
    "Apply",
    "Differ",
    "Effect",
    "Lacks",
    "Refusal",
    "Rejoin",
    "Replaced",
    "Row",
    "Store",
]


@dataclass(frozen=True, slots=True)
class Row:
    """A local update that is on this disk; ``id`` rises with the order of the edits."""

    id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Apply:
    """Give ``update`` to the replica, and store it with ``position`` in one transaction.

    A ``position`` of None leaves the stored one as it is.
    """

    update: bytes
    position: Position | None


@dataclass(frozen=True, slots=True)
class Store:
    """Store that rows through ``acked_through`` are acked, and the new ``position``."""

    position: Position | None
    acked_through: int | None


@dataclass(frozen=True, slots=True)
class Adopt:
    """Store the room's ``epoch``."""

    epoch: bytes


@dataclass(frozen=True, slots=True)
class Differ:
    """Make the replica's difference against ``state_vector``, save all it holds, then ``offer``.

    ``turn`` comes back with the offer: one that was asked for before a reconnect is out of date.
    """

    state_vector: bytes
    turn: int


@dataclass(frozen=True, slots=True)
class Lacks:
    """The relay lacks what ``clocks`` say: (client, up to where it has it, up to where we do).

    Whether it lost that or never had it the ``unacked`` rows tell: see ``losses``. ``offers``:
    whether this device now offers all of it.
    """

    clocks: tuple[tuple[int, int, int], ...]
    unacked: tuple[Row, ...]
    offers: bool


@dataclass(frozen=True, slots=True)
class Rejoin:
    """Join again on this connection, without a position."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """The relay's room has another history than ours: nothing goes up, nothing is applied.

    ``deleted``: the relay says that ours was deleted.
    """

    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """The relay refused our updates for good; they stay here."""

    code: str
    reason: str


Effect: TypeAlias = Apply | Store | Adopt | Differ | Lacks | Rejoin | Replaced | Refusal
