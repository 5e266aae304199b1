"""Updates put together by hand, for what no engine would write."""

from __future__ import annotations

from collab.protocol.ysync import write_var_uint

__all__ = ["deletes", "item", "number", "string", "update"]


def number(value: int) -> bytes:
    out = bytearray()
    write_var_uint(out, value)
    return bytes(out)


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return number(len(raw)) + raw


def item(
    kind: int,
    content: bytes,
    *,
    left: tuple[int, int] | None = None,
    right: tuple[int, int] | None = None,
    parent: str | tuple[int, int] = "root",
    key: str | None = None,
) -> bytes:
    """One struct that is not GC or Skip, with the parent where the format wants one."""
    info = kind | (0x80 if left else 0) | (0x40 if right else 0) | (0x20 if key else 0)
    out = bytes([info])
    for neighbour in (left, right):
        if neighbour is not None:
            out += number(neighbour[0]) + number(neighbour[1])
    if left is None and right is None:
        if isinstance(parent, str):
            out += b"\x01" + string(parent)
        else:
            out += b"\x00" + number(parent[0]) + number(parent[1])
        if key is not None:
            out += string(key)
    return out + content


def text(content: str | bytes, **place: object) -> bytes:
    return item(4, string(content), **place)  # type: ignore[arg-type]


def shared_type(ref: int = 1, **place: object) -> bytes:
    return item(7, bytes([ref]), **place)  # type: ignore[arg-type]


def deletes(*clients: tuple[int, list[tuple[int, int]]]) -> bytes:
    out = number(len(clients))
    for client, ranges in clients:
        out += number(client) + number(len(ranges))
        for clock, length in ranges:
            out += number(clock) + number(length)
    return out


def update(*blocks: tuple[int, int, list[bytes]], delete_set: bytes = b"\x00") -> bytes:
    """(client, first clock, structs) per client, then the delete set."""
    out = number(len(blocks))
    for client, clock, structs in blocks:
        out += number(len(structs)) + number(client) + number(clock) + b"".join(structs)
    return out + delete_set
