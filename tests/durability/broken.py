"""Clients and relays that break a promise: each must be caught by a kill loop. Not a test.

A function here spoils the process that it runs in, for the rest of its life.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from collab.local_room import LocalRoom
from collab.storage.documents import Batch, Documents
from collab_server.log import schema, transactions
from collab_server.log.sqlite import SqliteLog
from collab_server.log.transactions import Compaction

__all__ = ["BREAK"]

_append = Documents.append
_compact = Documents.compact
_commit_log = SqliteLog._commit
_compact_log = transactions.compact


def saved_before_the_commit() -> None:
    """``wait_saved`` does not wait."""

    async def wait_saved(_: LocalRoom) -> None:
        return

    _put(LocalRoom, wait_saved=wait_saved)


def position_before_its_updates() -> None:
    """The position is committed on its own, and then what it covers."""

    async def append(documents: Documents, batches: Sequence[Batch]) -> list[list[int]]:
        await _append(documents, [Batch(one.room_id, position=one.position) for one in batches])
        return await _append(documents, [replace(one, position=None) for one in batches])

    _put(Documents, append=append)


def acked_before_the_relay_has_it() -> None:
    """What was stored counts as acked at once, and is never sent again."""

    async def append(documents: Documents, batches: Sequence[Batch]) -> list[list[int]]:
        stored = await _append(documents, batches)
        acks = [
            Batch(one.room_id, acked_through=ids[-1])
            for one, ids in zip(batches, stored, strict=True)
            if ids
        ]
        await _append(documents, acks)
        return stored

    _put(Documents, append=append)


def rows_gone_before_their_snapshot() -> None:
    """A compaction in two transactions, the wrong one first."""

    async def compact(documents: Documents, room: int, snapshot: bytes, through: int) -> None:
        def delete(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM updates WHERE room_id = ? AND id <= ?", (room, through))

        await documents._database.write(delete)
        await _compact(documents, room, snapshot, through)

    _put(Documents, compact=compact)


def relay_acks_before_the_commit() -> None:
    """The relay acks what it has in memory, and commits it then."""

    async def commit(log: SqliteLog) -> None:
        rooms = frozenset(room for _, room, _ in log._updates)
        if rooms:
            log._committed = log._head
            for callback in tuple(log._callbacks):
                callback(log._head, rooms)
            await asyncio.sleep(0.01)
        await _commit_log(log)

    _put(SqliteLog, _commit=commit)


def relay_rows_gone_before_their_snapshot() -> None:
    """The relay compacts in two transactions, the wrong one first."""

    def compact(connection: sqlite3.Connection, compaction: Compaction, committed: int) -> bool:
        base = min(compaction.offset, compaction.keep_after)
        connection.execute(schema.DELETE_UP_TO, (compaction.room_id, base))
        connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        return _compact_log(connection, compaction, committed)

    _put(transactions, compact=compact)


def _put(spoilt: object, **instead: object) -> None:
    """Put something else in the place of what is there."""
    for name, what in instead.items():
        assert hasattr(spoilt, name), f"{name} is not there any more"
        setattr(spoilt, name, what)


BREAK: Final[dict[str, Callable[[], None]]] = {
    spoil.__name__: spoil
    for spoil in (
        saved_before_the_commit,
        position_before_its_updates,
        acked_before_the_relay_has_it,
        rows_gone_before_their_snapshot,
        relay_acks_before_the_commit,
        relay_rows_gone_before_their_snapshot,
    )
}
