"""The tables of a device's own file, version by version.

A version that was released is never edited: what must change is a new entry at the end. The SQL
that speaks to a table is in the modules that own it: ``meta`` is ``identity``'s; those that begin
with ``message`` or ``chat`` own the later ones; the rest is ``documents``' and ``copies``'.
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
    return (_documents(device_id), _messages(), _members_and_verdicts())


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


def _messages() -> Migration:
    return (
        # lane_epoch, bound: our lane, and the highest slot that was ever bound in it.
        # positions: how many places in the order of sending were given out.
        # generation, seq: the mark: every message up to it is here, or lies in a gap.
        # relay_*: what the relay counted as unread, beyond which seq, and at which head.
        """
        CREATE TABLE chats (
            room_id      INTEGER PRIMARY KEY REFERENCES rooms (id),
            lane_epoch   BLOB    NOT NULL,
            bound        INTEGER NOT NULL DEFAULT 0,
            positions    INTEGER NOT NULL DEFAULT 0,
            generation   BLOB    NOT NULL DEFAULT x'00000000000000000000000000000000',
            seq          INTEGER NOT NULL DEFAULT 0,
            read_upto    INTEGER NOT NULL DEFAULT 0,
            user         TEXT    NOT NULL DEFAULT '',
            relay_read   INTEGER NOT NULL DEFAULT 0,
            relay_head   INTEGER NOT NULL DEFAULT 0,
            relay_unread INTEGER NOT NULL DEFAULT 0
        ) STRICT
        """,
        # What was written here and what came. ``message_rows`` says what the columns mean.
        # position: the place in the order of sending; NULL of what was not sent from this file.
        # as_sent: a digest of what was sent from here, where the relay keeps something else.
        # AUTOINCREMENT: the program holds messages by their ids, and one may go (it was found to be
        # another one) in the transaction that brings the next.
        """
        CREATE TABLE messages (
            id            INTEGER PRIMARY KEY AUTOINCREMENT,
            room_id       INTEGER NOT NULL REFERENCES rooms (id),
            message_id    BLOB    NOT NULL,
            place         INTEGER NOT NULL,
            tie           INTEGER NOT NULL,
            seq           INTEGER,
            state         TEXT    NOT NULL,
            mine          INTEGER NOT NULL,
            replaced      INTEGER NOT NULL DEFAULT 0,
            sender        TEXT    NOT NULL,
            body          TEXT    NOT NULL,
            meta          BLOB    NOT NULL,
            sent_at       INTEGER NOT NULL,
            accepted_at   INTEGER,
            kind          INTEGER NOT NULL DEFAULT 0,
            verdict       INTEGER NOT NULL DEFAULT 0,
            code          TEXT    NOT NULL DEFAULT '',
            reason        TEXT    NOT NULL DEFAULT '',
            position      INTEGER,
            slot          INTEGER,
            size          INTEGER NOT NULL,
            written_after INTEGER,
            written_ms    INTEGER,
            ttl_ms        INTEGER,
            expires_ms    INTEGER,
            refusals      INTEGER NOT NULL DEFAULT 0,
            giving_up     TEXT,
            offered       INTEGER NOT NULL DEFAULT 0,
            as_sent       BLOB,
            CHECK (slot IS NULL OR position IS NOT NULL),
            CHECK (state <> 'sending' OR slot IS NOT NULL),
            CHECK (state <> 'queued' OR slot IS NULL),
            CHECK (giving_up IS NULL OR slot IS NOT NULL)
        ) STRICT
        """,
        # One message at one place; a message of the log is at (seq, 0).
        "CREATE UNIQUE INDEX messages_by_place ON messages (room_id, place, tie)",
        "CREATE INDEX messages_by_id ON messages (room_id, message_id)",
        # What was sent from this file is sent once under its id.
        """
        CREATE UNIQUE INDEX messages_sent ON messages (room_id, message_id)
        WHERE position IS NOT NULL
        """,
        """
        CREATE INDEX messages_outbox ON messages (room_id, position)
        WHERE state = 'queued' OR slot IS NOT NULL
        """,
        # What is bound: a window's worth, however much waits behind it.
        """
        CREATE INDEX messages_bound ON messages (room_id, slot) WHERE slot IS NOT NULL
        """,
        # What somebody may not have read.
        """
        CREATE INDEX messages_of_others ON messages (room_id, place)
        WHERE tie = 0 AND kind = 0 AND NOT mine
        """,
        # What a receipt may move.
        """
        CREATE INDEX messages_not_read ON messages (room_id, seq)
        WHERE mine AND state IN ('accepted', 'delivered')
        """,
        """
        CREATE INDEX messages_not_delivered ON messages (room_id, seq)
        WHERE mine AND state = 'accepted'
        """,
        """
        CREATE TABLE gaps (
            room_id INTEGER NOT NULL REFERENCES rooms (id),
            low     INTEGER NOT NULL,
            high    INTEGER NOT NULL,
            lost    INTEGER NOT NULL,
            PRIMARY KEY (room_id, low)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE receipts (
            room_id        INTEGER NOT NULL REFERENCES rooms (id),
            user           TEXT    NOT NULL,
            delivered_upto INTEGER NOT NULL,
            read_upto      INTEGER NOT NULL,
            PRIMARY KEY (room_id, user)
        ) STRICT, WITHOUT ROWID
        """,
        # How much waits to be sent in all rooms. Counting it anew for each message that is written
        # takes time with every one that waits.
        """
        CREATE TABLE outbox (
            one      INTEGER PRIMARY KEY CHECK (one = 1),
            messages INTEGER NOT NULL,
            bytes    INTEGER NOT NULL
        ) STRICT
        """,
        "INSERT INTO outbox VALUES (1, 0, 0)",
        """
        CREATE TRIGGER messages_written AFTER INSERT ON messages WHEN new.state = 'queued'
        BEGIN
            UPDATE outbox SET messages = messages + 1, bytes = bytes + new.size;
        END
        """,
        """
        CREATE TRIGGER messages_moved AFTER UPDATE OF state, slot, size ON messages
        BEGIN
            UPDATE outbox SET
                messages = messages + (new.state = 'queued' OR new.slot IS NOT NULL)
                                    - (old.state = 'queued' OR old.slot IS NOT NULL),
                bytes = bytes + new.size * (new.state = 'queued' OR new.slot IS NOT NULL)
                              - old.size * (old.state = 'queued' OR old.slot IS NOT NULL);
        END
        """,
        """
        CREATE TRIGGER messages_forgotten AFTER DELETE ON messages
        WHEN old.state = 'queued' OR old.slot IS NOT NULL
        BEGIN
            UPDATE outbox SET messages = messages - 1, bytes = bytes - old.size;
        END
        """,
        # The anchor of the device's running time; see protocol/device_clock.py.
        """
        CREATE TABLE device_clock (
            one        INTEGER PRIMARY KEY CHECK (one = 1),
            running_ms INTEGER NOT NULL,
            boot       BLOB    NOT NULL,
            up_ms      INTEGER NOT NULL,
            wall_ms    INTEGER NOT NULL,
            by_process INTEGER NOT NULL
        ) STRICT
        """,
    )


def _members_and_verdicts() -> Migration:
    return (
        # The members of a room as the relay last told of them.
        """
        CREATE TABLE members (
            room_id INTEGER NOT NULL REFERENCES rooms (id),
            user    TEXT    NOT NULL,
            role    TEXT    NOT NULL,
            PRIMARY KEY (room_id, user)
        ) STRICT, WITHOUT ROWID
        """,
        "ALTER TABLE messages ADD COLUMN verdict_reason TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX messages_awaited ON messages (room_id, place) WHERE verdict = 1",
    )
