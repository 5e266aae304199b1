"""Can the structs of an update be put in an order in which each comes after what it refers to?

An engine keeps a struct back until all that it refers to is there. Two structs that wait for each
other wait for ever, while the log would count them as known.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

from collab.errors import BadUpdate

__all__ = ["CrossReference", "check_order"]

CrossReference = tuple[int, int, int, int]
"""(client, clock) refers to (other client, clock); per client in the order of clocks."""


def check_order(references: Iterable[CrossReference]) -> None:
    """Raise ``BadUpdate`` if the references, with each client's own order, form a circle.

    Takes O(n log n): each reference waits at most once, on the one client that it needs.
    """
    waits: dict[int, list[tuple[int, int, int]]] = {}
    for client, clock, other, other_clock in references:
        waits.setdefault(client, []).append((clock, other, other_clock))
    reached = {client: waiting[0][0] for client, waiting in waits.items()}  # absent: all of it
    passed = dict.fromkeys(waits, 0)
    blocked: dict[int, list[tuple[int, int]]] = {}  # per client: heap of (clock awaited, who)
    ready = list(waits)
    while ready:
        client = ready.pop()
        waiting = waits[client]
        at = passed[client]
        while at < len(waiting):
            clock, other, other_clock = waiting[at]
            if other in reached and reached[other] <= other_clock:
                reached[client] = clock
                heappush(blocked.setdefault(other, []), (other_clock, client))
                break
            at += 1
        else:
            del reached[client]
        passed[client] = at
        sleepers = blocked.get(client, [])
        while sleepers and (client not in reached or sleepers[0][0] < reached[client]):
            ready.append(heappop(sleepers)[1])
    if reached:
        raise BadUpdate(f"structs of client {min(reached)} wait for each other in a circle")
