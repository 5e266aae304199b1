"""How do updates that follow each other become one, and how is one cut to what is new?

No engine is needed: in a log without gaps per client, a run of updates is the concatenation of
their structs and the union of their deletes.
"""

from __future__ import annotations

from collections.abc import Sequence

from collab.protocol.any_value import skip_any
from collab.protocol.clock_runs import ClockRuns
from collab.protocol.contents import (
    ANY,
    DELETED,
    GC,
    HAS_ORIGIN,
    HAS_RIGHT_ORIGIN,
    STRING,
    Struct,
    Walk,
)
from collab.protocol.coverage import Coverage
from collab.protocol.walk import structs_of
from collab.protocol.ysync import read_var_bytes, read_var_uint, write_var_bytes, write_var_uint

__all__ = ["cut", "merge"]


def merge(parts: Sequence[tuple[bytes, Walk]]) -> bytes:
    """Merge updates, each with its walk, that stand next to each other in a log.

    Per client, each part must continue where the one before ended, without Skips: what ``NEW``
    says of each in turn. Raises ``ValueError`` otherwise, and for no parts. One part comes back
    unchanged. Structs are not joined: the result says what the parts say, in as many structs.
    """
    if not parts:
        raise ValueError("there is nothing to merge")
    if len(parts) == 1:
        return parts[0][0]
    counts: dict[int, int] = {}
    firsts: dict[int, int] = {}
    ends: dict[int, int] = {}
    bodies: dict[int, list[bytes]] = {}
    deleted: dict[int, ClockRuns] = {}
    for data, walk in parts:
        if walk.has_skips:
            raise ValueError("an update with Skips cannot be concatenated; cut it first")
        for client, clock, end_clock, count, start, end in walk.blocks:
            if client in ends:
                if ends[client] != clock:
                    raise ValueError(f"client {client} continues at {clock}, not {ends[client]}")
                counts[client] += count
                bodies[client].append(data[start:end])
            else:
                firsts[client] = clock
                counts[client] = count
                bodies[client] = [data[start:end]]
            ends[client] = end_clock
        for client, clock, length in walk.deletes:
            runs = deleted.get(client)
            if runs is None:
                runs = deleted[client] = ClockRuns()
            runs.add(clock, clock + length)
    out = bytearray()
    write_var_uint(out, len(counts))
    for client in sorted(counts, reverse=True):
        write_var_uint(out, counts[client])
        write_var_uint(out, client)
        write_var_uint(out, firsts[client])
        out += b"".join(bodies[client])
    _write_deletes(out, deleted)
    return bytes(out)


def cut(update: bytes, walk: Walk, coverage: Coverage) -> bytes:
    """Keep of an update that ``OVERLAPS`` only what is new to ``coverage``.

    The result is ``NEW`` to it: known structs, known deletes and Skips are left out, and a struct
    whose head is known is cut there, its tail standing after its head, as Yjs does
    (``Item.write`` with an offset). Raises ``ValueError`` if there is a gap before a new struct,
    or if the cut goes through a character (``fit`` refuses such an update).
    """
    clocks = coverage.clocks
    bodies: dict[int, bytearray] = {}
    counts: dict[int, int] = {}
    firsts: dict[int, int] = {}
    ends: dict[int, int] = {}
    for struct in structs_of(update):
        client = struct.client
        known = ends.get(client, clocks.get(client, 0))
        if struct.end_clock <= known:
            continue
        if struct.clock > known:
            raise ValueError(f"client {client} has a gap from {known} to {struct.clock}")
        body = bodies.setdefault(client, bytearray())
        if struct.clock < known:
            body += _tail(update, struct, known)
        else:
            body += update[struct.start : struct.end]
        counts[client] = counts.get(client, 0) + 1
        firsts.setdefault(client, known)
        ends[client] = struct.end_clock
    deleted: dict[int, ClockRuns] = {}
    for client, clock, length in coverage.missing_deletes(walk):
        deleted.setdefault(client, ClockRuns()).add(clock, clock + length)
    out = bytearray()
    write_var_uint(out, len(bodies))
    for client in sorted(bodies, reverse=True):
        write_var_uint(out, counts[client])
        write_var_uint(out, client)
        write_var_uint(out, firsts[client])
        out += bodies[client]
    _write_deletes(out, deleted)
    return bytes(out)


def _write_deletes(out: bytearray, deleted: dict[int, ClockRuns]) -> None:
    """Append a delete set, lower clients first as yrs does; readers take any order."""
    write_var_uint(out, len(deleted))
    for client in sorted(deleted):
        runs = deleted[client]
        write_var_uint(out, client)
        write_var_uint(out, len(runs))
        for start, end in runs:
            write_var_uint(out, start)
            write_var_uint(out, end - start)


def _tail(update: bytes, struct: Struct, clock: int) -> bytes:
    """The part of a struct from ``clock`` on, which is inside it."""
    offset = clock - struct.clock
    out = bytearray()
    if struct.kind == GC:
        out.append(GC)
        write_var_uint(out, struct.end_clock - clock)
        return bytes(out)
    info = update[struct.start]
    out.append(info | HAS_ORIGIN)  # its own head; an item with a neighbour names no parent
    write_var_uint(out, struct.client)
    write_var_uint(out, clock - 1)
    if info & HAS_RIGHT_ORIGIN:
        write_var_uint(out, struct.right_client)
        write_var_uint(out, struct.right_clock)
    if struct.kind == DELETED:
        write_var_uint(out, struct.end_clock - clock)
    elif struct.kind == STRING:
        raw, _ = read_var_bytes(update, struct.content)
        write_var_bytes(out, _utf16_tail(raw, offset))
    else:
        assert struct.kind == ANY, "no other kind is longer than one clock"
        write_var_uint(out, struct.end_clock - clock)
        out += update[_skip_values(update, struct, offset) : struct.end]
    return bytes(out)


def _utf16_tail(raw: bytes, offset: int) -> bytes:
    units = raw.decode().encode("utf-16-le")[offset * 2 :]
    return units.decode("utf-16-le").encode()


def _skip_values(update: bytes, struct: Struct, count: int) -> int:
    _, pos = read_var_uint(update, struct.content)
    for _ in range(count):
        pos = skip_any(update, pos, struct.end)
    return pos
