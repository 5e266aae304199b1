"""What y-py can hold: checked before it sees an update, since it fails silently or for ever.

Rules, each measured with y-py 0.6.2 (yrs 0.12):

1. Client ids are below 2^32. Larger ones are cut off, and what was known comes a second time.
2. A document is flat: root texts, maps and arrays of plain values. Of 60 random histories each,
   38 with types in maps and 11 with types in arrays came out wrong or ended in a panic.
3. No subdocuments (panic), and no Skips (an encoding that no engine takes).
4. Nothing arrives before what it needs: 385 of 400 such histories came out wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from collab.errors import BadUpdate, Unsupported
from collab.protocol.contents import DOC
from collab.protocol.update import Walk
from collab.protocol.walk import structs_of

__all__ = ["MAX_CLIENT_ID", "check_fits", "check_holds", "plain"]

MAX_CLIENT_ID: Final = 2**32 - 1

_KEPT: Final = (
    "it was neither applied nor stored, and all that is here stays. Open this file with "
    "engine='pycrdt'"
)


def check_holds(walk: Walk) -> None:
    """Raise Unsupported for an update that y-py cannot hold (rules 1, 2 and 3)."""
    ids = [client for client, _, _ in walk.ranges]
    ids += walk.needs
    ids += [client for client, _, _ in walk.deletes]
    if ids and max(ids) > MAX_CLIENT_ID:
        raise Unsupported(
            f"an update names the client {max(ids)}, and y-py holds ids of 32 bits; {_KEPT}"
        )
    if walk.types or walk.has_parents:
        raise Unsupported(
            "an update has shared types inside others, which y-py merges wrongly; " + _KEPT
        )
    if walk.neighbours is None:  # else it is one plain insert
        for struct in structs_of(walk.update):
            if struct.kind == DOC:
                raise Unsupported(f"an update has a subdocument, which y-py cannot hold; {_KEPT}")


def check_fits(walk: Walk, clocks: Mapping[int, int]) -> None:
    """Raise BadUpdate if something is missing that the update continues, needs or deletes.

    ``clocks`` is the state vector of the replica that is to take it.
    """
    after: dict[int, int] = {}
    for client, start, end in walk.ranges:
        known = max(clocks.get(client, 0), after.get(client, 0))
        if start > known:
            raise BadUpdate(f"an update of client {client} continues at {start}, too early")
        after[client] = max(known, end)
    for client, clock in walk.needs.items():
        if clock > clocks.get(client, 0):
            raise BadUpdate(f"an update needs client {client} up to {clock}, too early")
    for client, clock, length in walk.deletes:
        if clock + length > after.get(client, clocks.get(client, 0)):
            raise BadUpdate(f"an update deletes what client {client} has not written, too early")


def plain(value: Any) -> Any:
    """A JSON value, already checked, in the types that y-py takes: dict, list and scalars."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value
