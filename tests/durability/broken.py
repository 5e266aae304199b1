"""Clients and relays that break a promise: each must be caught by a kill loop. Not a test.

A function here spoils the process that it runs in, for the rest of its life.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from collab.errors import Closed
from collab.local_room import LocalRoom
from collab.protocol import chat_changes
from collab.storage import database
from collab.storage.database import Database
from collab.storage.documents import Batch, Documents
from collab.storage.log_changes import LogChanges
from collab.storage.messages import Messages, StoredChat
from collab.storage.outbox_changes import OutboxChanges
from collab_server.log import messages, schema, transactions
from collab_server.log.sqlite import SqliteLog
from collab_server.log.transactions import Compaction

__all__ = ["BREAK"]

_append = Documents.append
_compact = Documents.compact
_commit_log = SqliteLog._commit
_compact_log = transactions.compact
_write = Database.write
_bind = OutboxChanges.bind
_receive = LogChanges.receive
_load = Messages.load

_QUEUED_ANEW: Final = """
    UPDATE messages SET message_id = randomblob(16), state = 'queued', slot = NULL
    WHERE room_id = ? AND state = 'sending'
"""


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


def told_before_the_commit() -> None:
    """What is written is told of, and committed a little later. Of clients and of relays."""

    def commit(connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("COMMIT")

    async def commit_later(store: Database) -> None:
        await asyncio.sleep(0.01)
        with contextlib.suppress(Closed):
            await store._run(commit)

    async def write(store: Database, transact: Callable[[sqlite3.Connection], Any]) -> Any:
        result = await _write(store, transact)
        later.add(asyncio.create_task(commit_later(store)))
        return result

    later: set[asyncio.Task[None]] = set()
    _put(database, _commit=lambda _: None, _roll_back=commit)
    _put(Database, write=write)


def bound_after_it_was_sent() -> None:
    """Slots are bound in memory alone."""

    def bind(work: OutboxChanges, change: chat_changes.Bind) -> None:
        work.connection.execute("SAVEPOINT bound")
        _bind(work, change)
        work.connection.execute("ROLLBACK TO bound")
        work.connection.execute("RELEASE bound")

    _put(OutboxChanges, bind=bind)


def sent_again_under_new_ids() -> None:
    """What was on its way at a crash is sent again, but as if it were another message."""

    async def load(store: Messages, room_id: int, fresh_epoch: bytes) -> StoredChat:
        await store.write(lambda connection: connection.execute(_QUEUED_ANEW, (room_id,)).rowcount)
        return await _load(store, room_id, fresh_epoch)

    _put(Messages, load=load)


def mark_before_its_messages() -> None:
    """The mark is committed on its own, and then the messages that it covers."""

    def receive(work: LogChanges, change: chat_changes.Receive) -> None:
        work._set_mark(change.generation, change.upto)
        _in_another_transaction(work.connection)
        _receive(work, change)

    _put(LogChanges, receive=receive)


def relay_head_after_its_messages() -> None:
    """The relay commits messages, and then how many there are."""

    class Late(messages._Arbiter):
        def finish(self) -> Any:
            _in_another_transaction(self._connection)
            return super().finish()

    _put(messages, _Arbiter=Late)


def _in_another_transaction(connection: sqlite3.Connection) -> None:
    connection.execute("COMMIT")
    connection.execute("BEGIN IMMEDIATE")


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
        told_before_the_commit,
        bound_after_it_was_sent,
        sent_again_under_new_ids,
        mark_before_its_messages,
        relay_head_after_its_messages,
    )
}
