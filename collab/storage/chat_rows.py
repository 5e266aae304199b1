"""What is stored of a room's chat besides its messages: lane, mark, gaps, receipts, unread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from collab import limits
from collab.protocol.gaps import Gap, Gaps
from collab.protocol.members import GONE, MemberRow
from collab.protocol.messages import Receipt
from collab.storage.database import Connection
from collab.storage.message_rows import TAIL

__all__ = [
    "FORGET", "ChatRow", "chat", "cut_receipts", "farthest", "gaps", "make_chat", "members",
    "merge_receipts", "move", "receipts", "set_chat", "set_gaps", "set_members", "unread",
]  # fmt: skip

FORGET: Final = (
    "DELETE FROM messages WHERE room_id = ?",
    "DELETE FROM gaps WHERE room_id = ?",
    "DELETE FROM receipts WHERE room_id = ?",
    "DELETE FROM members WHERE room_id = ?",
    "DELETE FROM chats WHERE room_id = ?",
)
"""All that is stored of a room's chat; ``documents`` deletes it together with the room."""

_MOVE: Final = (
    "UPDATE messages SET room_id = ? WHERE room_id = ?",
    "UPDATE gaps SET room_id = ? WHERE room_id = ?",
    "UPDATE receipts SET room_id = ? WHERE room_id = ?",
    "UPDATE members SET room_id = ? WHERE room_id = ?",
    "UPDATE chats SET room_id = ? WHERE room_id = ?",
)

_CHAT: Final = """
    SELECT lane_epoch, bound, positions, generation, seq, read_upto, user,
           relay_read, relay_head, relay_unread
    FROM chats WHERE room_id = ?
"""
_MAKE_CHAT: Final = """
    INSERT INTO chats (room_id, lane_epoch) SELECT id, ? FROM rooms WHERE id = ?
    ON CONFLICT (room_id) DO NOTHING
"""
_GAPS: Final = "SELECT low, high, lost FROM gaps WHERE room_id = ? ORDER BY low"
_DROP_GAPS: Final = "DELETE FROM gaps WHERE room_id = ?"
_ADD_GAP: Final = "INSERT INTO gaps (room_id, low, high, lost) VALUES (?, ?, ?, ?)"
_RECEIPTS: Final = "SELECT user, delivered_upto, read_upto FROM receipts WHERE room_id = ?"
_USERS: Final = "SELECT count(*) FROM receipts WHERE room_id = ?"
_MEMBERS: Final = "SELECT user, role FROM members WHERE room_id = ? ORDER BY user"
_DROP_MEMBERS: Final = "DELETE FROM members WHERE room_id = ?"
_DROP_MEMBER: Final = "DELETE FROM members WHERE room_id = ? AND user = ?"
_SET_MEMBER: Final = """
    INSERT INTO members (room_id, user, role) VALUES (?, ?, ?)
    ON CONFLICT (room_id, user) DO UPDATE SET role = excluded.role
"""
_RAISE: Final = """
    UPDATE receipts SET delivered_upto = max(delivered_upto, ?), read_upto = max(read_upto, ?)
    WHERE room_id = ? AND user = ?
"""
_CUT: Final = """
    UPDATE receipts
    SET delivered_upto = min(delivered_upto, :head), read_upto = min(read_upto, :head)
    WHERE room_id = :room AND max(delivered_upto, read_upto) > :head
"""
_ADD_RECEIPT: Final = """
    INSERT INTO receipts (delivered_upto, read_upto, room_id, user) VALUES (?, ?, ?, ?)
"""
_FARTHEST: Final = """
    SELECT coalesce(max(max(delivered_upto, read_upto)), 0), coalesce(max(read_upto), 0)
    FROM receipts WHERE room_id = ?
"""
_COUNT: Final = f"""
    SELECT count(*) FROM (
        SELECT 1 FROM messages
        WHERE room_id = ? AND place > ? AND place <= ? AND place < {TAIL} AND tie = 0
          AND kind = 0 AND NOT mine
        LIMIT {limits.MAX_UNREAD_COUNTED}
    )
"""  # noqa: S608 (numbers of our own)


@dataclass(frozen=True, slots=True)
class ChatRow:
    """A room's chat. ``relay_*`` is what the relay counted as unread, and of what."""

    lane_epoch: bytes
    bound: int
    positions: int
    generation: bytes
    seq: int
    read_upto: int
    user: str
    relay_read: int
    relay_head: int
    relay_unread: int


def move(connection: Connection, room_id: int, other_id: int) -> None:
    """Give a room's chat to another room, in the place of what that one has."""
    for statement in FORGET:
        connection.execute(statement, (other_id,))
    for statement in _MOVE:
        connection.execute(statement, (other_id, room_id))


def chat(connection: Connection, room_id: int) -> ChatRow | None:
    """The chat of a room; None if the room was forgotten, or has none yet."""
    values = connection.execute(_CHAT, (room_id,)).fetchone()
    return None if values is None else ChatRow(*values)


def make_chat(connection: Connection, room_id: int, lane_epoch: bytes) -> None:
    """Begin the chat of a room, with a lane of this name; nothing if there is one."""
    connection.execute(_MAKE_CHAT, (lane_epoch, room_id))


def set_chat(connection: Connection, room_id: int, **columns: object) -> None:
    """Set columns of a room's chat."""
    names = ", ".join(f"{name} = ?" for name in columns)
    connection.execute(
        f"UPDATE chats SET {names} WHERE room_id = ?",  # noqa: S608 (our own names)
        (*columns.values(), room_id),
    )


def gaps(connection: Connection, room_id: int) -> Gaps:
    """What is missing here, lowest first."""
    rows = connection.execute(_GAPS, (room_id,))
    return tuple(Gap(low, high, bool(lost)) for low, high, lost in rows)


def set_gaps(connection: Connection, room_id: int, new: Gaps) -> None:
    """Put these in the place of all that was missing."""
    connection.execute(_DROP_GAPS, (room_id,))
    connection.executemany(_ADD_GAP, [(room_id, gap.low, gap.high, gap.lost) for gap in new])


def receipts(connection: Connection, room_id: int) -> list[Receipt]:
    """How far others are."""
    return [Receipt(*row) for row in connection.execute(_RECEIPTS, (room_id,))]


def merge_receipts(connection: Connection, room_id: int, news: Iterable[Receipt]) -> None:
    """Raise what is known of others; users beyond ``MAX_RECEIPT_USERS`` are not kept."""
    for one in news:
        values = (one.delivered_upto, one.read_upto, room_id, one.user)
        if connection.execute(_RAISE, values).rowcount:
            continue
        (users,) = connection.execute(_USERS, (room_id,)).fetchone()
        if users < limits.MAX_RECEIPT_USERS:
            connection.execute(_ADD_RECEIPT, values)


def members(connection: Connection, room_id: int) -> list[MemberRow]:
    """The members of a room as the relay last told of them, by name."""
    return [(user, role) for user, role in connection.execute(_MEMBERS, (room_id,))]


def set_members(
    connection: Connection, room_id: int, news: Iterable[MemberRow], *, whole: bool
) -> None:
    """Store what these users are now; ``whole``: nobody else is a member.

    Beyond ``MAX_MEMBERS`` nobody is kept: no relay of ours has more.
    """
    if whole:
        connection.execute(_DROP_MEMBERS, (room_id,))
    here = dict(members(connection, room_id))
    for user, role in news:
        if role == GONE:
            connection.execute(_DROP_MEMBER, (room_id, user))
            here.pop(user, None)
        elif user in here or len(here) < limits.MAX_MEMBERS:
            connection.execute(_SET_MEMBER, (room_id, user, role))
            here[user] = role


def cut_receipts(connection: Connection, room_id: int, head: int) -> bool:
    """Forget that others were beyond the log's end: it was another log. Whether any was."""
    return connection.execute(_CUT, {"room": room_id, "head": head}).rowcount > 0


def farthest(connection: Connection, room_id: int) -> tuple[int, int]:
    """The highest seq that another user has received, and that one has read."""
    delivered, read = connection.execute(_FARTHEST, (room_id,)).fetchone()
    return delivered, read


def unread(connection: Connection, room_id: int) -> int:
    """Other people's messages after ``read_upto``, at most ``MAX_UNREAD_COUNTED``.

    Counted here. Where some of them lie in a gap, the relay's count at the last joining stands
    for what was in the log by then.
    """
    row = chat(connection, room_id)
    if row is None:
        return 0

    def here(after: int, upto: int = TAIL) -> int:
        (count,) = connection.execute(_COUNT, (room_id, after, upto)).fetchone()
        return int(count)

    counted = here(row.read_upto)
    hidden = any(gap.high > row.read_upto and not gap.lost for gap in gaps(connection, room_id))
    if not hidden:
        return counted
    told = row.relay_unread + here(max(row.relay_head, row.read_upto))
    if row.relay_unread < limits.MAX_UNREAD_COUNTED:  # else it stands for more
        told -= here(row.relay_read, min(row.read_upto, row.relay_head))
    return min(max(counted, told), limits.MAX_UNREAD_COUNTED)
