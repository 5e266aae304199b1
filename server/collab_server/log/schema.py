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

MIGRATIONS: Final = (_FIRST, _DELETED_ROOMS)

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
