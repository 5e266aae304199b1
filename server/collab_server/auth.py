"""Who somebody is, and what they may do in a room. Deny by default."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from starlette.requests import HTTPConnection

from collab import limits
from collab.errors import LocalError
from collab.protocol import anybody
from collab.protocol.frames import Access
from collab.protocol.members import GONE, Role
from collab_server.settings import Settings, is_loopback


@dataclass(frozen=True, slots=True)
class User:
    """``sub`` identifies; everything else about a user is for display and comes from presence.

    Others see it as the sender of messages. Raises ``ValueError`` above ``MAX_USER_BYTES``.
    """

    sub: str

    def __post_init__(self) -> None:
        if len(self.sub.encode()) > limits.MAX_USER_BYTES:
            raise ValueError(f"a user's sub has at most {limits.MAX_USER_BYTES} bytes")


def user_of_device(device: bytes) -> User:
    """Who a device is at a relay that lets everybody in. Its id cannot be told from that."""
    return User(anybody.user_of_device(device))


Authenticate = Callable[[str | None, HTTPConnection], Awaitable[User | None]]
"""The user of a token, or None: then the connection is closed with 4401."""

Authorize = Callable[[User, str], Awaitable[Access]]
"""What a user may do in the room of this name. Asked at joining and again while joined.

If it fails nobody gets in, or stays, for now: this one room is busy, and its device comes again.
"""


class MembersDecide(Enum):
    """Rights that are kept in the relay's own log."""

    MEMBERS_DECIDE = auto()


MEMBERS_DECIDE: Final = MembersDecide.MEMBERS_DECIDE
"""In the place of an ``authorize``: a member's role is the access, and nobody else has any.

A room gets its first member by ``relay.room(name).set_member``. A change takes effect on open
connections at once.
"""

_ACCESS: Final = {
    GONE: Access.NONE,
    Role.READER: Access.READ,
    Role.WRITER: Access.WRITE,
    Role.ADMIN: Access.ADMIN,
}


def access_of_role(role: str) -> Access:
    """What a role allows where roles are rights."""
    return _ACCESS.get(role, Access.NONE)


_FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


async def _everybody(_token: str | None, _request: HTTPConnection) -> User | None:
    return User("anybody")


async def _everything(_user: User, _room: str) -> Access:
    return Access.ADMIN


async def _nothing(_user: User, _room: str) -> Access:
    return Access.NONE


@dataclass(frozen=True, slots=True)
class Rights:
    """The two questions that a relay asks about rights.

    ``by_device``: everybody is let in, and a device of our own protocol is a user of its own.
    ``by_members``: the roles in the log decide; ``from_roles`` gives the rights to serve with.
    """

    authenticate: Authenticate
    authorize: Authorize
    by_device: bool = False
    by_members: bool = False

    def from_roles(self, role: Callable[[str, str], Awaitable[str]]) -> Rights:
        """These rights, where roles are looked up with ``role(room, user)`` if they decide."""
        if not self.by_members:
            return self

        async def authorize(user: User, room: str) -> Access:
            return access_of_role(await role(room, user.sub))

        return replace(self, authorize=authorize)


def rights_of(
    settings: Settings,
    authenticate: Authenticate | None,
    authorize: Authorize | MembersDecide | None,
) -> Rights:
    """The rights that a relay runs with; raises :class:`LocalError` when there are none."""
    if authenticate is not None and authorize is MEMBERS_DECIDE:
        return Rights(authenticate, _nothing, by_members=True)
    if authenticate is not None and callable(authorize):
        return Rights(authenticate, authorize)
    if authenticate is not None or authorize is not None:
        raise LocalError(
            "A relay needs both authenticate and authorize; nothing was started. Give both."
        )
    if settings.open:
        return Rights(_everybody, _everything, by_device=True)
    raise LocalError(
        "This relay has no rights set up, and it denies by default; nothing was started. Pass "
        "authenticate and authorize to Relay, or start it with --open on a loopback address to "
        "let everybody on this machine in."
    )


def refusal(settings: Settings, request: HTTPConnection) -> str | None:
    """Why this request may not even say who it is; None if it may."""
    origin = request.headers.get("origin")
    if origin is not None and origin not in settings.origins:
        return "this origin is not on the relay's list"
    if not settings.open:
        return None
    if any(name in request.headers for name in _FORWARDING):
        return "an open relay takes no forwarded requests"
    host = request.headers.get("host", "")
    name = host.rsplit(":", 1)[0].strip("[]") if not host.endswith("]") else host.strip("[]")
    if not is_loopback(name):
        return "an open relay answers to loopback names only"
    return None
