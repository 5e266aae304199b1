"""The guard: may this Yjs v1 update reach an engine, and what does it contain?

The engines trust what they decode: 80 KB of nested arrays end the process, a length prefix asks
for terabytes, a malformed struct is read as something else. So every update from outside is
walked first, by this module's own rules, which are stricter than any engine's:

1. Every count and length is bounded by the bytes that remain; nothing is left over at the end.
2. Numbers are in their shortest form, strings strict UTF-8, JSON what serde_json also takes.
3. Values nest at most ``MAX_VALUE_DEPTH`` levels, JSON ``MAX_JSON_DEPTH``; shared types are
   ``coverage``'s business, because their chains reach across updates.
4. No struct is empty, no client appears twice, no clock passes ``MAX_CLOCK``.
5. The structs can be put in some order in which each comes after what it refers to.
6. What engines read differently from each other is refused: ContentJSON (yrs reads one string
   more than Yjs writes), XmlHook (Yjs writes a name, yrs reads none), weak links, moves.
7. No item stands between another one and itself: where engines put it depends on where they have
   cut up that other one, so one update would read differently from replica to replica.

Format: yjs ``src/utils/encoding.js`` and ``src/structs``; behaviour of yrs 0.28 as in pycrdt
0.14.13, tried.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from collab.errors import BadUpdate
from collab.limits import MAX_CLOCK, MAX_UPDATE_BYTES
from collab.protocol.any_value import skip_any
from collab.protocol.bounded_json import parse_bounded_json
from collab.protocol.causal_order import CrossReference, check_order
from collab.protocol.contents import (
    ANY,
    ARRAY_REF,
    BINARY,
    DELETED,
    DOC,
    EMBED,
    FORMAT,
    GC,
    NO_CLIENT,
    SKIP,
    STRING,
    TYPE,
    Block,
    Struct,
    Walk,
)
from collab.protocol.keystroke import MAX_KEYSTROKE_BYTES, walk_keystroke
from collab.protocol.ysync import read_var_bytes, read_var_string, read_var_uint, utf16_units

__all__ = ["Walk", "structs_of", "walk"]

_XML_ELEMENT: Final = 3
_XML_HOOK: Final = 5
_LAST_TYPE_REF: Final = 6  # YXmlText

_MAP_TAG: Final = 118  # of an Any: the options of a subdocument are a map


def walk(update: bytes) -> Walk:
    """Check an update from outside and tell what it contains.

    Raises ``BadUpdate``, with the offset, if it must not reach an engine. A keystroke takes a few
    microseconds, larger updates time in proportion to their bytes.
    """
    if len(update) > MAX_UPDATE_BYTES:
        raise BadUpdate(f"update has {len(update)} bytes, {MAX_UPDATE_BYTES} are allowed")
    if len(update) <= MAX_KEYSTROKE_BYTES:
        walk = walk_keystroke(update)
        if walk is not None:
            return walk
    return _walk_any(update, None)


def structs_of(update: bytes) -> list[Struct]:
    """List the structs of an update, Skips left out, in the order of its bytes.

    Raises ``BadUpdate`` as ``walk`` does.
    """
    structs: list[Struct] = []
    _walk_any(update, structs)
    return structs


def _walk_any(data: bytes, structs: list[Struct] | None) -> Walk:
    try:
        return _walk_unsafely(data, structs)
    except IndexError:
        raise BadUpdate(f"update is cut off at offset {len(data)}") from None


def _check_json(data: bytes, pos: int) -> int:
    text, end = read_var_string(data, pos)
    try:
        parse_bounded_json(text)
    except ValueError as error:
        raise BadUpdate(f"JSON at offset {pos} {error}") from None
    return end


def _walk_unsafely(data: bytes, structs: list[Struct] | None) -> Walk:
    """Walk every struct; ``IndexError`` where a single byte is missing."""
    size = len(data)
    ranges: list[tuple[int, int, int]] = []
    gone: list[tuple[int, int, int]] = []
    types: list[tuple[int, int]] = []
    arrays: list[tuple[int, int]] = []
    second_halves: list[tuple[int, int]] = []
    blocks: list[Block] = []
    needs: dict[int, int] = {}
    crossing: list[CrossReference] = []
    has_parents = has_skips = leaves_roots = False
    seen: set[int] = set()
    known_ids: dict[bytes, int] = {}  # five bytes to the client id that they are, all of them

    client_count, pos = read_var_uint(data, 0)
    if client_count > (size - pos) // 5:
        raise BadUpdate(f"{client_count} clients are announced, {size - pos} bytes remain")
    for _ in range(client_count):
        header = pos
        count, pos = read_var_uint(data, pos)
        client, pos = read_var_uint(data, pos)
        clock, pos = read_var_uint(data, pos)
        if not count or count > (size - pos) // 2:
            raise BadUpdate(f"{count} structs are announced at offset {header}")
        if client in seen:
            raise BadUpdate(f"client {client} comes twice, at offset {header}")
        seen.add(client)
        block_start = pos
        block_clock = range_start = clock
        for _ in range(count):
            start = pos
            info = data[pos]
            pos += 1
            lc = rc = pc = NO_CLIENT
            lk = rk = pk = 0
            if info > 31:
                kind = info & 31
                if info & 0xC0:
                    if info & 0x80:
                        raw = data[pos : pos + 5]
                        if raw in known_ids:
                            lc = known_ids[raw]
                            pos += 5
                        else:
                            lc, pos = _read_client(data, pos, known_ids)
                        lk = data[pos]
                        pos += 1
                        if lk > 127:
                            lk, pos = _read_rest(data, pos, lk)
                        if lc == client:
                            if lk >= clock:
                                raise BadUpdate(f"struct at offset {start} refers to a later one")
                        else:
                            if lk >= needs.get(lc, 0):
                                needs[lc] = lk + 1
                            if client_count > 1:
                                crossing.append((client, clock, lc, lk))
                    if info & 0x40:
                        raw = data[pos : pos + 5]
                        if raw in known_ids:
                            rc = known_ids[raw]
                            pos += 5
                        else:
                            rc, pos = _read_client(data, pos, known_ids)
                        rk = data[pos]
                        pos += 1
                        if rk > 127:
                            rk, pos = _read_rest(data, pos, rk)
                        if rc == client:
                            if rk >= clock:
                                raise BadUpdate(f"struct at offset {start} refers to a later one")
                        else:
                            if rk >= needs.get(rc, 0):
                                needs[rc] = rk + 1
                            if client_count > 1:
                                crossing.append((client, clock, rc, rk))
                        if rk == lk and rc == lc:
                            raise BadUpdate(
                                f"item at offset {start} stands between another and itself"
                            )
            else:
                kind = info
            if 0 < kind < SKIP:
                if info < 64:
                    parent_info = data[pos]
                    pos += 1
                    if parent_info == 1:
                        _, pos = read_var_string(data, pos)
                    elif parent_info == 0:
                        raw = data[pos : pos + 5]
                        if raw in known_ids:
                            pc = known_ids[raw]
                            pos += 5
                        else:
                            pc, pos = _read_client(data, pos, known_ids)
                        pk = data[pos]
                        pos += 1
                        if pk > 127:
                            pk, pos = _read_rest(data, pos, pk)
                        has_parents = leaves_roots = True
                        if pc == client:
                            if pk >= clock:
                                raise BadUpdate(f"struct at offset {start} refers to a later one")
                        else:
                            if pk >= needs.get(pc, 0):
                                needs[pc] = pk + 1
                            if client_count > 1:
                                crossing.append((client, clock, pc, pk))
                    else:
                        raise BadUpdate(f"parent at offset {pos - 1} is neither name nor id")
                    if info & 0x20:
                        _, pos = read_var_string(data, pos)
                        leaves_roots = True
                content = pos
                length = 1
                if kind == STRING:
                    length = data[pos]
                    pos += 1
                    if length > 127:
                        length, pos = _read_rest(data, pos, length)
                    raw = data[pos : pos + length]
                    if len(raw) != length:
                        raise BadUpdate(f"string at offset {content} is cut off")
                    pos += length
                    if not raw.isascii():
                        length, offsets = utf16_units(raw, content)
                        for offset in offsets:
                            second_halves.append((client, clock + offset))
                elif kind == DELETED:
                    length, pos = read_var_uint(data, pos)
                    gone.append((client, clock, clock + length))
                elif kind == ANY:
                    length, pos = read_var_uint(data, pos)
                    if length > size - pos:
                        raise BadUpdate(f"{length} values are announced at offset {content}")
                    for _ in range(length):
                        pos = skip_any(data, pos, size)
                elif kind == FORMAT:
                    _, pos = read_var_string(data, pos)
                    pos = _check_json(data, pos)
                elif kind == EMBED:
                    pos = _check_json(data, pos)
                elif kind == TYPE:
                    pos = _check_type(data, pos)
                    types.append((client, clock))
                    if data[content] == ARRAY_REF:
                        arrays.append((client, clock))
                elif kind == BINARY:
                    _, pos = read_var_bytes(data, pos)
                elif kind == DOC:
                    _, pos = read_var_string(data, pos)
                    if data[pos] != _MAP_TAG:
                        raise BadUpdate(f"options at offset {pos} of a subdocument are no map")
                    pos = skip_any(data, pos, size)
                else:
                    raise BadUpdate(
                        f"struct at offset {start} is ContentJSON, which engines read differently"
                    )
            elif info == GC:
                content = pos
                length, pos = read_var_uint(data, pos)
                gone.append((client, clock, clock + length))
                leaves_roots = True
            elif info == SKIP:
                length, pos = read_var_uint(data, pos)
                if not length:
                    raise BadUpdate(f"struct at offset {start} is empty")
                has_skips = True
                if range_start < clock:
                    ranges.append((client, range_start, clock))
                clock += length
                range_start = clock
                if clock > MAX_CLOCK:
                    raise BadUpdate(f"struct at offset {start} ends above clock {MAX_CLOCK}")
                continue
            else:
                raise BadUpdate(f"struct at offset {start} has the unknown kind {info:#04x}")
            if not length:
                raise BadUpdate(f"struct at offset {start} is empty")
            if structs is not None:
                structs.append(
                    Struct(
                        client,
                        clock,
                        clock + length,
                        kind,
                        start,
                        content,
                        pos,
                        lc,
                        lk,
                        rc,
                        rk,
                        pc,
                        pk,
                    )
                )
            clock += length
            if clock > MAX_CLOCK:
                raise BadUpdate(f"struct at offset {start} ends above clock {MAX_CLOCK}")
        if range_start < clock:
            ranges.append((client, range_start, clock))
        blocks.append(Block(client, block_clock, clock, count, block_start, pos))

    deletes = _read_deletes(data, pos)
    if crossing:
        check_order(_within(crossing, ranges))
    if needs:
        for client, end in {client: end for client, _, end in ranges}.items():
            if needs.get(client, end + 1) <= end:  # its own, or below where the range starts
                del needs[client]
        if max(needs.values(), default=0) > MAX_CLOCK:
            raise BadUpdate(f"a struct refers to a clock above {MAX_CLOCK}")
    return Walk(
        data,
        tuple(ranges),
        needs,
        deletes,
        tuple(blocks),
        tuple(gone),
        tuple(types),
        has_parents,
        has_skips,
        None,
        tuple(second_halves),
        tuple(arrays),
        leaves_roots,
    )


def _read_client(data: bytes, pos: int, known_ids: dict[bytes, int]) -> tuple[int, int]:
    client, end = read_var_uint(data, pos)
    if end - pos == 5:  # 32-bit ids, which nearly all are; any five bytes tell where they end
        known_ids[data[pos:end]] = client
    return client, end


def _read_rest(data: bytes, pos: int, first: int) -> tuple[int, int]:
    """Read a number whose first byte, above 127, was read already."""
    second = data[pos]
    if 0 < second < 128:
        return first & 0x7F | second << 7, pos + 1
    third = data[pos + 1]
    if second and 0 < third < 128:
        return first & 0x7F | (second & 0x7F) << 7 | third << 14, pos + 2
    return read_var_uint(data, pos - 1)


def _check_type(data: bytes, pos: int) -> int:
    """Check the kind of a shared type; yrs knows more kinds, which no engine of ours makes."""
    ref = data[pos]
    if ref > _LAST_TYPE_REF:
        raise BadUpdate(f"shared type at offset {pos} has the unknown kind {ref}")
    if ref == _XML_HOOK:
        raise BadUpdate(f"shared type at offset {pos} is XmlHook, which engines read differently")
    if ref == _XML_ELEMENT:
        _, pos = read_var_string(data, pos + 1)
        return pos
    return pos + 1


def _read_deletes(data: bytes, pos: int) -> tuple[tuple[int, int, int], ...]:
    """Read the delete set, which ends the update. Engines take the ranges for sorted."""
    size = len(data)
    start = pos
    client_count, pos = read_var_uint(data, pos)
    if not client_count and pos == size:
        return ()
    if client_count > (size - pos) // 2:
        raise BadUpdate(f"{client_count} clients with deletes are announced at offset {start}")
    deletes: list[tuple[int, int, int]] = []
    seen: set[int] = set()
    for _ in range(client_count):
        start = pos
        client, pos = read_var_uint(data, pos)
        count, pos = read_var_uint(data, pos)
        if client in seen:
            raise BadUpdate(f"client {client} has two lists of deletes, at offset {start}")
        seen.add(client)
        if count > (size - pos) // 2:
            raise BadUpdate(f"{count} delete ranges are announced at offset {start}")
        end = 0
        for _ in range(count):
            start = pos
            clock = data[pos]
            pos += 1
            if clock > 127:
                clock, pos = _read_rest(data, pos, clock)
            length = data[pos]
            pos += 1
            if length > 127:
                length, pos = _read_rest(data, pos, length)
            if not length or clock < end:
                raise BadUpdate(f"delete range at offset {start} is empty or out of order")
            end = clock + length
            deletes.append((client, clock, length))
        if end > MAX_CLOCK:
            raise BadUpdate(f"a delete range before offset {pos} ends above {MAX_CLOCK}")
    if pos != size:
        raise BadUpdate(f"{size - pos} bytes follow the update at offset {pos}")
    return tuple(deletes)


def _within(
    crossing: list[CrossReference], ranges: list[tuple[int, int, int]]
) -> Iterator[CrossReference]:
    """The references to what the update itself brings."""
    brought: dict[int, tuple[list[int], list[int]]] = {}
    for client, start, end in ranges:
        starts, ends = brought.setdefault(client, ([], []))
        starts.append(start)
        ends.append(end)
    for reference in crossing:
        if reference[2] in brought:
            starts, ends = brought[reference[2]]
            at = bisect_right(starts, reference[3]) - 1
            if at >= 0 and reference[3] < ends[at]:
                yield reference
