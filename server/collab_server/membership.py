"""Changes of a room's members as the relay asks its log for them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Final

from collab import limits
from collab.protocol.message_id import RANDOM_BYTES, make_id
from collab_server.log.chat_port import ChangeCode, ChangeDecision, MemberChange

__all__ = ["CHANGE_REASONS", "change_of"]

CHANGE_REASONS: Final[Mapping[ChangeCode, str]] = {
    ChangeCode.DONE: "",
    ChangeCode.FORBIDDEN: "this user may not change the members",
    ChangeCode.INVALID: "there is no such role, or no such name",
    ChangeCode.LIMIT: f"a room has at most {limits.MAX_MEMBERS} members",
}


def change_of(
    room_id: int,
    user: str,
    role: str,
    *,
    by: str,
    admins_only: bool,
    decided: Callable[[ChangeDecision], None],
) -> MemberChange:
    """A change that is asked for now."""
    now_ms = time.time_ns() // 1_000_000
    message_id = make_id(now_ms, os.urandom(RANDOM_BYTES))
    return MemberChange(room_id, user, role, by, message_id, now_ms, admins_only, decided)
