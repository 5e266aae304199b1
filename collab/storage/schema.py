"""The tables of a device's own file, version by version.

A version that was released is never edited: what must change is a new entry at the end. The SQL
that speaks to a table is in the modules that own it: ``meta`` is ``identity``'s, the rest is
``documents``' and ``copies``'.
"""

from __future__ import annotations

from typing import Final

from collab.storage.opening import Migration

__all__ = ["APPLICATION_ID", "DEVICE_ID_BYTES", "migrations"]

APPLICATION_ID: Final = 0x434C4142  # "CLAB" in the file's header: file(1) and we know it by that
DEVICE_ID_BYTES: Final = 16


def migrations(device_id: bytes) -> tuple[Migration, ...]:
    """All versions in order. ``device_id``, 16 random bytes, becomes a new file's own.

    A file that exists keeps the id that it has.
    """
    if len(device_id) != DEVICE_ID_BYTES:
        raise ValueError(f"a device id has {DEVICE_ID_BYTES} bytes, not {len(device_id)}")
    return (_documents(device_id),)


def _documents(device_id: bytes) -> Migration:
    return (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID",
        f"INSERT INTO meta VALUES ('device_id', x'{device_id.hex()}')",  # noqa: S608 (hex digits)
        "INSERT INTO meta VALUES ('connection_number', 0)",
        # AUTOINCREMENT: a batch for a room that was forgotten must not reach a later one.
        # acked_through: every update made here with an id up to it is at the relay. One number, as
        # acks are cumulative: an ack costs one row, not one per update.
        # folded_through: while it is above acked_through, the snapshot itself stands for the
        # updates made here up to it that are not at the relay.
        """
        CREATE TABLE rooms (
            id            INTEGER PRIMARY KEY AUTOINCREMENT,
            name          TEXT    NOT NULL UNIQUE,
            epoch         BLOB,
            generation    BLOB,
            "offset"      INTEGER,
            acked_through INTEGER NOT NULL DEFAULT 0,
            folded_through INTEGER NOT NULL DEFAULT 0,
            CHECK ((generation IS NULL) = ("offset" IS NULL))
        ) STRICT
        """,
        # through_row: the snapshot contains every update of the room with an id up to it.
        """
        CREATE TABLE snapshots (
            room_id     INTEGER PRIMARY KEY REFERENCES rooms (id),
            through_row INTEGER NOT NULL,
            data        BLOB    NOT NULL
        ) STRICT
        """,
        # AUTOINCREMENT: an id that is used again after a compaction would lie at or below
        # through_row, and its update would be taken for a part of the snapshot.
        """
        CREATE TABLE updates (
            id      INTEGER PRIMARY KEY AUTOINCREMENT,
            room_id INTEGER NOT NULL REFERENCES rooms (id),
            local   INTEGER NOT NULL,
            data    BLOB    NOT NULL
        ) STRICT
        """,
        # An index ends with the row's id, so this one lists a room in order of arrival.
        "CREATE INDEX updates_by_room ON updates (room_id)",
    )
