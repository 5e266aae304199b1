"""Has a relay lost what it had, or has it only not been given it yet?

What is made on a device gets clocks without a gap and is acked in order. So what of a client id was
never acked is an end: from its first clock in a row that is not acked. What a relay lacks below
that, it had, or had from whoever wrote it. A snapshot that stands for rows that are not acked
contains everything, so beside one nothing counts as lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from collab.errors import BadUpdate
from collab.protocol.sync_effects import Row
from collab.protocol.update import walk

__all__ = ["Lack", "lacking", "was_lost"]

Lack = tuple[int, int, int]
"""A client id, up to where the relay has it, and up to where this device does."""


def lacking(ours: Mapping[int, int], relays: Mapping[int, int]) -> tuple[Lack, ...]:
    """What a device with these clocks has beyond a relay with those."""
    return tuple(
        (client, relays.get(client, 0), clock)
        for client, clock in ours.items()
        if clock > relays.get(client, 0)
    )


def was_lost(lacks: Iterable[Lack], unacked: Iterable[Row]) -> bool:
    """Whether some of what a relay lacks is not explained by rows that it never acked.

    Deletions alone are not noticed: clocks do not cover them. Walks rows until all is explained.
    """
    unexplained = {client: start for client, start, _ in lacks}
    for row in unacked:
        if not unexplained:
            return False
        try:
            ranges = walk(row.data).ranges
        except BadUpdate:
            continue  # no relay would take it, and our clocks leave it out
        for client, first, _ in ranges:
            start = unexplained.get(client)
            if start is None:
                continue
            if first > start:
                return True
            del unexplained[client]
    return bool(unexplained)
