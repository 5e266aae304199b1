"""What the log's transactions do with the members of rooms. Rules in ``chat_port``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from collab import limits
from collab.protocol.codec import pack_map
from collab.protocol.members import GONE, MemberRow, Role, is_member_name
from collab_server.log import schema
from collab_server.log.chat_port import ChangeCode, MemberChange

__all__ = ["change", "members", "role_in_room", "standing"]


def change(
    connection: sqlite3.Connection, change: MemberChange
) -> tuple[ChangeCode, tuple[str, bytes] | None]:
    """Write a change of a room that exists.

    Returns what became of it, and the body and meta of the message that is to tell of it; None if
    nothing has changed. Done again, it changes nothing.
    """
    if change.admins_only and _role(connection, change.room_id, change.by) != Role.ADMIN:
        return ChangeCode.FORBIDDEN, None
    if not is_member_name(change.user) or change.role not in {GONE, *Role}:
        return ChangeCode.INVALID, None
    was = _role(connection, change.room_id, change.user)
    if was == change.role:
        return ChangeCode.DONE, None
    if was == GONE:
        (count,) = connection.execute(schema.COUNT_MEMBERS, (change.room_id,)).fetchone()
        if count >= limits.MAX_MEMBERS:
            return ChangeCode.LIMIT, None
    if change.role == GONE:
        connection.execute(schema.REMOVE_MEMBER, (change.room_id, change.user))
    else:
        connection.execute(schema.SET_MEMBER, (change.room_id, change.user, change.role))
    meta = pack_map({"member": change.user, "role": change.role, "was": was})
    return ChangeCode.DONE, (_sentence(change, was), meta)


def _sentence(change: MemberChange, was: str) -> str:
    """The change as people read it."""
    if change.role == GONE:
        return f"{change.by} removed {change.user}"
    article = "an" if change.role == Role.ADMIN else "a"
    if was == GONE:
        return f"{change.by} added {change.user} as {article} {change.role}"
    return f"{change.by} made {change.user} {article} {change.role}"


def _role(connection: sqlite3.Connection, room_id: int, user: str) -> str:
    row = connection.execute(schema.MEMBER_ROLE, (room_id, user)).fetchone()
    return GONE if row is None else str(row[0])


def standing(
    connection: sqlite3.Connection, changes: Iterable[MemberChange]
) -> dict[int, Sequence[MemberRow]]:
    """What those users are now whom changes are about, by room."""
    found: dict[int, list[MemberRow]] = {}
    for one in changes:
        if is_member_name(one.user):
            role = _role(connection, one.room_id, one.user)
            found.setdefault(one.room_id, []).append((one.user, role))
    return dict(found)


def members(connection: sqlite3.Connection, room_id: int) -> list[MemberRow]:
    """The members of a room, by name."""
    return [(user, role) for user, role in connection.execute(schema.MEMBERS, (room_id,))]


def role_in_room(connection: sqlite3.Connection, room: str, user: str) -> str:
    """The role of a user in the room of this name."""
    row = connection.execute(schema.ROLE_IN_ROOM, (room, user)).fetchone()
    return GONE if row is None else str(row[0])
