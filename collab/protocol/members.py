"""Who belongs to a room, and with which role: words, and rows as they travel in MEMBERS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from collab import limits
from collab.errors import BadFrame
from collab.protocol.codec import is_role, is_user, pack_rows, unpack_rows

__all__ = [
    "GONE",
    "Member",
    "MemberRow",
    "Role",
    "is_member_name",
    "pack_members",
    "unpack_members",
]

GONE: Final = ""
"""In the place of a role: this user is no member."""

MemberRow = tuple[str, str]
"""A user, and the role or ``GONE``."""


class Role(StrEnum):
    """What a member may do; each includes those before it."""

    READER = "reader"
    WRITER = "writer"
    ADMIN = "admin"  # may change the members too


@dataclass(frozen=True, slots=True)
class Member:
    """A user's ``sub``, and the role in the room."""

    user: str
    role: Role


_ROLES: Final = frozenset(Role) | {GONE}
_ROW: Final = (is_user, is_role)


def is_member_name(user: object) -> bool:
    """Whether a member may have this name: 1 to ``MAX_USER_BYTES`` bytes of UTF-8."""
    try:
        return user != "" and is_user(user)
    except UnicodeEncodeError:
        return False


def pack_members(rows: Iterable[MemberRow]) -> bytes:
    """Rows as the ``data`` of MEMBERS."""
    return pack_rows(rows)


def unpack_members(data: bytes) -> Sequence[MemberRow]:
    """The rows in ``data``: users that are named once. Raises :class:`collab.BadFrame`."""
    rows = [(user, role) for user, role in unpack_rows(data, _ROW, limits.MAX_MEMBERS)]
    if any(not user or role not in _ROLES for user, role in rows):
        raise BadFrame("a member without a name, or with a role that there is not")
    if len({user for user, _ in rows}) != len(rows):
        raise BadFrame("a member that comes twice")
    return rows
