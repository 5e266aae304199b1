"""What the people in a room ask of a kernel, read from their presence; without I/O.

A participant's awareness state may have

- ``run``: {"cell": id, "request": id, "sha256": digest} or a list of them, to be run in that order;
  the digest, in hexadecimal, is of the source in UTF-8 as who asks sees it, and may be left out:
  presence overtakes edits, so the kernel waits a moment for a source that fits;
- ``control``: {"act": "interrupt" or "restart", "request": id}.

A request id is made of random bytes by whoever asks (at most 64 characters) and is done once. It
may stay in the state: what was taken is written in the document. A kernel's own state has
``role``: "kernel", ``status``: "starting", "idle", "busy" or "standby", ``running``: a cell's id,
``queue``: ids of cells, ``since``: when it came, in milliseconds of ``time.time``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from collab import limits

__all__ = ["Act", "Request", "asked", "digest", "is_kernel", "leads"]

Act: TypeAlias = Literal["run", "interrupt", "restart"]
States: TypeAlias = Mapping[int, Mapping[str, Any]]

ROLE: Final = "kernel"


@dataclass(frozen=True, slots=True)
class Request:
    """One wish of somebody. ``cell`` is of a run, and ``sha256`` of its source, if it was said."""

    id: str
    act: Act
    cell: str = ""
    sha256: str = ""

    def fits(self, source: str) -> bool:
        """Whether this is the source that was meant, as far as that was said."""
        return self.sha256 in ("", digest(source))


def asked(states: States) -> Iterator[Request]:
    """Everything that is asked for in these states, of each person in the order that they gave.

    What is malformed is passed over: anybody may write anything into their own state.
    """
    for _, state in sorted(states.items()):
        for wish in _several(state.get("run")):
            cell = wish.get("cell")
            if _is_id(wish.get("request")) and _is_id(cell):
                sha256 = wish.get("sha256")
                said = sha256 if isinstance(sha256, str) and len(sha256) == 64 else ""
                yield Request(wish["request"], "run", str(cell), said)
        for wish in _several(state.get("control")):
            act = wish.get("act")
            if _is_id(wish.get("request")) and act in ("interrupt", "restart"):
                yield Request(wish["request"], act)


def digest(source: str) -> str:
    """What stands for a source in a request."""
    return hashlib.sha256(source.encode()).hexdigest()


def is_kernel(state: Mapping[str, Any]) -> bool:
    """Whether this is the state of a kernel."""
    return state.get("role") == ROLE


def leads(own_id: int, since: int, others: States) -> bool:
    """Whether, of the kernels in a room, it is this one that runs cells: who has been here longest.

    So a second one never runs a cell again that the first is running, and takes over when it goes.
    """
    rivals = [(_since(state), client) for client, state in others.items() if is_kernel(state)]
    return all((since, own_id) < rival for rival in rivals)


def _since(state: Mapping[str, Any]) -> float:
    since = state.get("since")
    return since if isinstance(since, int | float) else 0


def _several(value: Any) -> list[dict[str, Any]]:
    found = value if isinstance(value, list) else [value]
    return [one for one in found[: limits.MAX_WISHES] if isinstance(one, dict)]


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= limits.MAX_TAKEN_ID_CHARACTERS
