"""The tables of the log's file, and every statement that speaks to them."""

from __future__ import annotations

from typing import Final

from collab.storage.opening import Migration

APPLICATION_ID: Final = 0x434C4F47  # "CLOG": a file that says otherwise is not ours

# A version that was released is never edited: what must change is a new entry at the end.
#
# An update's offset is its row id: rows of one room are then in offset order in the index without
# the index storing the offset, and appending is at the end of the table's tree.
_FIRST: Final[Migration] = (
    """
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        relay_id BLOB NOT NULL CHECK (length(relay_id) = 16),
        head INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE generations (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
        start_offset INTEGER NOT NULL,
        opened_at INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE rooms (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        epoch BLOB NOT NULL CHECK (length(epoch) = 16),
        base INTEGER NOT NULL DEFAULT 0
    ) STRICT
    """,
    """
    CREATE TABLE snapshots (
        room_id INTEGER PRIMARY KEY,
        "offset" INTEGER NOT NULL,
        data BLOB NOT NULL,
        coverage BLOB
    ) STRICT
    """,
    """
    CREATE TABLE updates (
        "offset" INTEGER PRIMARY KEY,
        room_id INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT
    """,
    "CREATE INDEX updates_by_room ON updates (room_id)",
)

# What is left of a room that was deleted. ``deleted_at`` is in milliseconds, and for people.
_DELETED_ROOMS: Final[Migration] = (
    """
    CREATE TABLE deleted_rooms (
        room_id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        epoch BLOB NOT NULL CHECK (length(epoch) = 16),
        deleted_at INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX deleted_rooms_by_name ON deleted_rooms (name, epoch)",
)

# Messages and lanes are kept in the order in which they are read, in the table itself. A body comes
# last in its row: counting what is unread does not read it.
_CHAT: Final[Migration] = (
    """
    CREATE TABLE chats (
        room_id INTEGER PRIMARY KEY,
        head INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE messages (
        room_id INTEGER NOT NULL,
        seq INTEGER NOT NULL CHECK (seq > 0),
        id BLOB NOT NULL CHECK (length(id) = 16),
        sender TEXT NOT NULL,
        sent_at INTEGER NOT NULL,
        accepted_at INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        verdict INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        as_sent BLOB,
        meta BLOB NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (room_id, seq)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX messages_by_id ON messages (room_id, id)",
    """
    CREATE TABLE lanes (
        room_id INTEGER NOT NULL,
        sub TEXT NOT NULL,
        device BLOB NOT NULL,
        epoch BLOB NOT NULL CHECK (length(epoch) = 16),
        last INTEGER NOT NULL,
        used_at INTEGER NOT NULL,
        outcomes BLOB NOT NULL,
        PRIMARY KEY (room_id, sub, device, epoch)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE marks (
        room_id INTEGER NOT NULL,
        sub TEXT NOT NULL,
        delivered_upto INTEGER NOT NULL,
        read_upto INTEGER NOT NULL,
        PRIMARY KEY (room_id, sub)
    ) STRICT, WITHOUT ROWID
    """,
)

# ``lane`` names the lane of a message that asked for a verdict: those of one are judged in order.
_MEMBERS_AND_VERDICTS: Final[Migration] = (
    """
    CREATE TABLE members (
        room_id INTEGER NOT NULL,
        user TEXT NOT NULL,
        role TEXT NOT NULL,
        PRIMARY KEY (room_id, user)
    ) STRICT, WITHOUT ROWID
    """,
    "ALTER TABLE messages ADD COLUMN lane BLOB",
    "ALTER TABLE messages ADD COLUMN verdict_reason TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX messages_awaited ON messages (room_id, seq) WHERE verdict = 1",
)

MIGRATIONS: Final = (_FIRST, _DELETED_ROOMS, _CHAT, _MEMBERS_AND_VERDICTS)

# --- a start of the relay ----------------------------------------------------------------------

CREATE_META: Final = "INSERT OR IGNORE INTO meta (id, relay_id, head) VALUES (1, ?, 0)"
RELAY_ID: Final = "SELECT relay_id FROM meta"
# Compactions and deletions take rows away, so the last row alone does not say what was given out:
# meta.head does, and it is moved in the transaction that deletes.
HEAD: Final = """
    SELECT max(
        (SELECT head FROM meta),
        (SELECT ifnull(max("offset"), 0) FROM updates),
        (SELECT ifnull(max(start_offset), 0) FROM generations)
    )
"""
GENERATIONS: Final = "SELECT id, start_offset FROM generations ORDER BY number"
ADD_GENERATION: Final = "INSERT INTO generations (id, start_offset, opened_at) VALUES (?, ?, ?)"

# --- rooms ---------------------------------------------------------------------------------------

FIND_ROOM: Final = "SELECT id, name, epoch, base FROM rooms WHERE name = ?"
# Makes none if there is one of this name, or if one of this name and epoch was deleted. An id is
# never given again: what is still under way for the room that had it must not meet another one.
CREATE_ROOM: Final = """
    INSERT OR IGNORE INTO rooms (id, name, epoch)
    SELECT 1 + max(
        (SELECT ifnull(max(id), 0) FROM rooms),
        (SELECT ifnull(max(room_id), 0) FROM deleted_rooms)
    ), :name, :epoch
    WHERE NOT EXISTS (SELECT 1 FROM deleted_rooms WHERE name = :name AND epoch = :epoch)
"""
BASE: Final = "SELECT base FROM rooms WHERE id = ?"

# --- rooms that are deleted ----------------------------------------------------------------------

IS_DELETED: Final = "SELECT 1 FROM deleted_rooms WHERE name = ? AND epoch = ?"
REMEMBER_DELETED: Final = """
    INSERT INTO deleted_rooms (room_id, name, epoch, deleted_at)
    SELECT id, name, epoch, ? FROM rooms WHERE id = ?
"""
# In this order, each with the room's id.
DELETE_ROOM: Final = (
    "DELETE FROM updates WHERE room_id = ?",
    "DELETE FROM snapshots WHERE room_id = ?",
    "DELETE FROM messages WHERE room_id = ?",
    "DELETE FROM lanes WHERE room_id = ?",
    "DELETE FROM marks WHERE room_id = ?",
    "DELETE FROM members WHERE room_id = ?",
    "DELETE FROM chats WHERE room_id = ?",
    "DELETE FROM rooms WHERE id = ?",
)

# --- updates -------------------------------------------------------------------------------------

APPEND: Final = 'INSERT INTO updates ("offset", room_id, data) VALUES (?, ?, ?)'
# For a batch that is tried again when nobody can know how the first attempt ended (a cancelled
# wait). Offsets start above all that is stored and rise: no other row can be hit.
APPEND_AGAIN: Final = 'INSERT OR REPLACE INTO updates ("offset", room_id, data) VALUES (?, ?, ?)'
READ_AFTER: Final = """
    SELECT "offset", data FROM updates WHERE room_id = ? AND "offset" > ? ORDER BY "offset"
"""

# --- snapshots -----------------------------------------------------------------------------------

SNAPSHOT: Final = 'SELECT data, "offset", coverage FROM snapshots WHERE room_id = ?'
WRITE_SNAPSHOT: Final = """
    INSERT INTO snapshots (room_id, "offset", data, coverage) VALUES (?, ?, ?, ?)
    ON CONFLICT (room_id) DO UPDATE SET
        "offset" = excluded."offset", data = excluded.data, coverage = excluded.coverage
    WHERE excluded."offset" >= snapshots."offset"
"""
SAVE_HEAD: Final = "UPDATE meta SET head = max(head, ?)"
DELETE_UP_TO: Final = 'DELETE FROM updates WHERE room_id = ? AND "offset" <= ?'
MOVE_BASE: Final = "UPDATE rooms SET base = max(base, ?) WHERE id = ?"

# --- messages ------------------------------------------------------------------------------------

_COLUMNS: Final = "seq, id, sender, body, meta, sent_at, accepted_at, kind, verdict"

# A row if there is such a room.
CHAT_HEAD: Final = """
    SELECT ifnull((SELECT head FROM chats WHERE room_id = rooms.id), 0) FROM rooms WHERE id = ?
"""
MOVE_CHAT_HEAD: Final = """
    INSERT INTO chats (room_id, head) VALUES (?, ?)
    ON CONFLICT (room_id) DO UPDATE SET head = excluded.head
"""
# Nothing if the room has a message of this id. This run of the relay is the newest generation.
ADD_MESSAGE: Final = f"""
    INSERT INTO messages (room_id, {_COLUMNS}, as_sent, generation, lane)
    SELECT :room_id, :seq, :id, :sender, :body, :meta, :sent_at, :accepted_at, :kind, :verdict,
        :as_sent, (SELECT max(number) FROM generations), :lane
    WHERE true
    ON CONFLICT (room_id, id) DO NOTHING
"""  # noqa: S608 (our own column names)
STORED_MESSAGE: Final = """
    SELECT seq, sender, body, meta, as_sent, verdict FROM messages WHERE room_id = ? AND id = ?
"""
FIND_MESSAGE: Final = f"SELECT {_COLUMNS} FROM messages WHERE room_id = ? AND id = ?"  # noqa: S608
_BETWEEN: Final = f"""
    SELECT {_COLUMNS} FROM messages WHERE room_id = ? AND seq > ? AND seq < ?
"""  # noqa: S608
OLDEST_BETWEEN: Final = f"{_BETWEEN} ORDER BY seq LIMIT ?"
NEWEST_BETWEEN: Final = f"{_BETWEEN} ORDER BY seq DESC LIMIT ?"
OLDEST_MESSAGE: Final = "SELECT min(seq) FROM messages WHERE room_id = ?"
# The number of a generation that is known, and of the one that wrote a message that is retained.
WRITTEN_IN: Final = """
    SELECT number, (SELECT generation FROM messages WHERE room_id = :room_id AND seq = :seq)
    FROM generations WHERE id = :generation
"""
# Of the newest :scanned messages: somebody who writes and never reads costs no more than that.
UNREAD: Final = """
    SELECT count(*) FROM (
        SELECT 1 FROM (
            SELECT sender, kind FROM messages WHERE room_id = :room_id AND seq > :read_upto
            ORDER BY seq DESC LIMIT :scanned
        )
        WHERE sender <> :sub AND kind = 0 LIMIT :most
    )
"""

# --- members -------------------------------------------------------------------------------------

MEMBERS: Final = "SELECT user, role FROM members WHERE room_id = ? ORDER BY user"
COUNT_MEMBERS: Final = "SELECT count(*) FROM members WHERE room_id = ?"
MEMBER_ROLE: Final = "SELECT role FROM members WHERE room_id = ? AND user = ?"
ROLE_IN_ROOM: Final = """
    SELECT role FROM members WHERE room_id = (SELECT id FROM rooms WHERE name = ?) AND user = ?
"""
SET_MEMBER: Final = """
    INSERT INTO members (room_id, user, role) VALUES (?, ?, ?)
    ON CONFLICT (room_id, user) DO UPDATE SET role = excluded.role
"""
REMOVE_MEMBER: Final = "DELETE FROM members WHERE room_id = ? AND user = ?"

# --- verdicts ------------------------------------------------------------------------------------

# The first verdict stays.
GIVE_VERDICT: Final = """
    UPDATE messages SET verdict = ?, verdict_reason = ?
    WHERE room_id = ? AND id = ? AND verdict = 1
"""
VERDICT: Final = """
    SELECT seq, verdict, verdict_reason FROM messages
    WHERE room_id = ? AND id = ? AND verdict IN (2, 3)
"""
AWAITED: Final = """
    SELECT room_id, seq, id, lane FROM messages
    WHERE verdict = 1 AND (room_id, seq) > (?, ?) ORDER BY room_id, seq LIMIT ?
"""
ROOM_NAME: Final = "SELECT name FROM rooms WHERE id = ?"

# --- lanes ---------------------------------------------------------------------------------------

LANE: Final = """
    SELECT last, outcomes FROM lanes WHERE room_id = ? AND sub = ? AND device = ? AND epoch = ?
"""
SAVE_LANE: Final = """
    INSERT INTO lanes (room_id, sub, device, epoch, last, used_at, outcomes)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (room_id, sub, device, epoch) DO UPDATE SET
        last = excluded.last, used_at = excluded.used_at, outcomes = excluded.outcomes
"""
# All but the lanes of a user that were used last.
FORGET_LANES: Final = """
    DELETE FROM lanes
    WHERE room_id = :room_id AND sub = :sub AND (device, epoch) IN (
        SELECT device, epoch FROM lanes WHERE room_id = :room_id AND sub = :sub
        ORDER BY used_at DESC LIMIT -1 OFFSET :kept
    )
"""

# --- marks ---------------------------------------------------------------------------------------

SAVE_MARK: Final = """
    INSERT INTO marks (room_id, sub, delivered_upto, read_upto)
    SELECT :room_id, :sub, :delivered_upto, :read_upto
    WHERE EXISTS (SELECT 1 FROM rooms WHERE id = :room_id)
    ON CONFLICT (room_id, sub) DO UPDATE SET
        delivered_upto = max(delivered_upto, excluded.delivered_upto),
        read_upto = max(read_upto, excluded.read_upto)
"""
READ_UPTO: Final = "SELECT read_upto FROM marks WHERE room_id = ? AND sub = ?"
MARKS: Final = """
    SELECT sub, delivered_upto, read_upto FROM marks WHERE room_id = ?
    ORDER BY max(delivered_upto, read_upto) DESC LIMIT ?
"""

# --- retention -----------------------------------------------------------------------------------

FIRST_NEWER: Final = """
    SELECT seq FROM messages WHERE room_id = ? AND accepted_at >= ? ORDER BY seq LIMIT 1
"""
DELETE_OLDEST: Final = """
    DELETE FROM messages WHERE room_id = :room_id AND seq < :before
        AND seq < (SELECT min(seq) FROM messages WHERE room_id = :room_id) + :most
"""

# What else a room has that is deleted, each with its id.
DELETE_CHAT: Final = (
    "DELETE FROM messages WHERE room_id = ?",
    "DELETE FROM lanes WHERE room_id = ?",
    "DELETE FROM marks WHERE room_id = ?",
    "DELETE FROM members WHERE room_id = ?",
    "DELETE FROM chats WHERE room_id = ?",
)
