"""Does an update cut a character in two?

Clocks count UTF-16 units, so a character beyond U+FFFF has two of them. An update can refer to, or
delete, one half alone. Yjs then turns both halves into U+FFFD; yrs 0.28 keeps the character whole
on one side, so that what it encodes later has a unit less, and every later item of that client
another id: the document is damaged for all. Careless bindings do this (a difference of 😀 and 😁
by UTF-16 units is their second half), so it is looked for, at the price of four bytes for each
such character.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping

from collab.errors import BadUpdate
from collab.protocol.contents import NO_CLIENT, Walk
from collab.protocol.walk import structs_of

__all__ = ["check_characters_stay_whole"]


def check_characters_stay_whole(
    walk: Walk, clocks: Mapping[int, int], second_halves: Mapping[int, array[int]]
) -> None:
    """Raise ``BadUpdate`` if an update stands between, deletes or continues one of two halves.

    ``clocks`` says how far each client is known; ``second_halves`` are the known ones, per client
    in ascending order. The update's own count too.
    """
    brought = set(walk.second_halves)
    if not brought and not second_halves:
        return
    for client, clock in brought:
        if clocks.get(client) == clock:
            raise BadUpdate(f"half a character of client {client} is known as something else")

    def is_second_half(client: int, clock: int) -> bool:
        if (client, clock) in brought:
            return True
        known = second_halves.get(client)
        if known is None:
            return False
        at = bisect_left(known, clock)
        return at < len(known) and known[at] == clock

    for client, clock, length in walk.deletes:
        if is_second_half(client, clock) or is_second_half(client, clock + length):
            raise BadUpdate(f"deletes half a character of client {client} near clock {clock}")
    if walk.neighbours is not None:
        pairs = [walk.neighbours]
    elif walk.ranges:
        pairs = [struct[7:11] for struct in structs_of(walk.update)]
    else:
        return
    for left, left_clock, right, right_clock in pairs:
        if left != NO_CLIENT and is_second_half(left, left_clock + 1):
            raise BadUpdate(f"an item stands inside a character of client {left}")
        if right != NO_CLIENT and is_second_half(right, right_clock):
            raise BadUpdate(f"an item stands inside a character of client {right}")
