"""Real editing histories: what their authors typed, keystroke by keystroke."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain, islice
from typing import Final, NamedTuple

PAPER: Final = "automerge-paper"
POST: Final = "json-crdt-blog-post"


class Edit(NamedTuple):
    """Replace ``deleted`` characters from ``position`` on by ``inserted``."""

    position: int
    deleted: int
    inserted: str


@dataclass(frozen=True, slots=True)
class Trace:
    """The edits that lead from an empty text to ``end``."""

    name: str
    edits: list[Edit]
    end: str


def load(name: str, limit: int | None = None) -> Trace:
    """A sequential trace of this package; with ``limit``, its first edits.

    The end of a whole trace is the one that its authors recorded; that of a part is computed on
    a plain string, so that nothing of collab takes part in saying what is right.
    """
    packed = (files("collab.demo") / "traces" / f"{name}.json.gz").read_bytes()
    return parse(name, gzip.decompress(packed), limit)


def parse(name: str, data: bytes, limit: int | None = None) -> Trace:
    """A trace in the format of josephg/editing-traces."""
    trace = json.loads(data)
    start = [Edit(0, 0, trace["startContent"])] if trace["startContent"] else []
    typed = (Edit(*patch) for transaction in trace["txns"] for patch in transaction["patches"])
    every = chain(start, typed)
    edits = list(islice(every, limit))
    is_whole = next(every, None) is None
    return Trace(name, edits, trace["endContent"] if is_whole else replay(edits))


def replay(edits: list[Edit]) -> str:
    """What the edits leave on a plain string."""
    text = ""
    for at, deleted, inserted in edits:
        text = text[:at] + inserted + text[at + deleted :]
    return text


def survived(edits: list[Edit], text: str, *, at_least: int = 0) -> int | None:
    """How many edits made ``text``: the fewest, but not fewer than ``at_least``.

    None if no beginning of ``edits`` of that length or more leaves ``text``: then something that
    should be there was lost, or something is there that nobody typed. Several beginnings may leave
    the same text (a letter typed and deleted again); whichever is resumed from, the end is right.
    """
    now = ""
    for count, (at, deleted, inserted) in enumerate(edits):
        if count >= at_least and len(now) == len(text) and now == text:
            return count
        now = now[:at] + inserted + now[at + deleted :]
    return len(edits) if now == text else None
