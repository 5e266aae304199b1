"""What this file calls itself when it speaks to a relay.

Invariants
1. A number that was given out is never given out again, whatever happens.
2. A name that was returned is on the disk: a crash does not bring the one before it back.
"""

from __future__ import annotations

from typing import Final

from collab.protocol.anybody import user_of_device
from collab.storage.database import Connection, Database
from collab.storage.faults import corrupt
from collab.storage.schema import DEVICE_ID_BYTES

__all__ = ["Identity", "renew"]

_META: Final = "SELECT value FROM meta WHERE key = ?"
_SET_DEVICE: Final = "UPDATE meta SET value = ? WHERE key = 'device_id'"
# An open relay names a user by the device: another name is no other person. A user whom a token
# names stays who it was: who signs in to a copy of the file may be another.
_FORGET_USER: Final = (
    "UPDATE chats SET user = '' WHERE user = ?",
    "UPDATE messages SET sender = '' WHERE state IN ('queued', 'sending') AND sender = ?",
)
_NEXT_CONNECTION: Final = """
    UPDATE meta SET value = max(value + 1, ?) WHERE key = 'connection_number' RETURNING value
"""


def renew(connection: Connection, device_id: bytes) -> None:
    """Take another device id in the caller's transaction."""
    (before,) = connection.execute(_META, ("device_id",)).fetchone()
    connection.execute(_SET_DEVICE, (device_id,))
    for statement in _FORGET_USER:
        connection.execute(statement, (user_of_device(before),))


class Identity:
    """The identity in one ``Database``. All methods raise what ``Database.write`` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def device_id(self) -> bytes:
        """The 16 random bytes that name this file's installation, until they are renewed."""
        row = await self._database.read(
            lambda connection: connection.execute(_META, ("device_id",)).fetchone()
        )
        device_id = row[0] if row is not None else None
        if not isinstance(device_id, bytes) or len(device_id) != DEVICE_ID_BYTES:
            raise corrupt("the device id is damaged", what="store", path=self._database.path)
        return device_id

    async def renew(self, device_id: bytes) -> None:
        """Take another device id, 16 random bytes: somebody else uses a copy of this file."""
        if len(device_id) != DEVICE_ID_BYTES:
            raise ValueError(f"a device id has {DEVICE_ID_BYTES} bytes, not {len(device_id)}")
        await self._database.write(lambda connection: renew(connection, device_id))

    async def next_connection_number(self, at_least: int) -> int:
        """A number above every one given out before, also before a crash, and >= ``at_least``."""

        def advance(connection: Connection) -> int | None:
            # fetchall: RETURNING gives its row before the statement has ended.
            rows = connection.execute(_NEXT_CONNECTION, (at_least,)).fetchall()
            return rows[0][0] if rows else None

        number = await self._database.write(advance)
        if not isinstance(number, int):
            raise corrupt(
                "the connection number is damaged", what="store", path=self._database.path
            )
        return number
