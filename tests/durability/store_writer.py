"""The programs that the storage tests kill, starve or let run. Not a test.

``python -m tests.durability.store_writer <program> <path> [<argument>]``. A program prints a line
only for what the store has said is saved.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from collab.errors import DiskFull
from collab.storage.database import Connection, Database, Migration
from collab.storage.documents import Batch, Documents, Position, Stored
from collab.storage.identity import Identity
from collab.storage.schema import APPLICATION_ID, migrations
from collab_server.log import schema, transactions
from tests.durability.mortal import arm
from tests.unit.storage.files import TOY, TOY_ID, documents

GENERATION = b"g" * 16


def say(*words: object) -> None:
    print(*words, flush=True)


def contents(stored: Stored) -> list[bytes]:
    """Every update that snapshot and tail contain, in order: our snapshots list them."""
    return (stored.snapshot or b"").split() + [data.strip() for data in stored.updates]


async def append(path: str, _: str) -> None:
    """Local and remote updates, numbered on from what is there, until killed."""
    async with documents(path) as (_database, store):
        room = await store.create("room")
        number = len(contents(await store.load(room.id)))
        offset = room.position.offset if room.position else 0
        while True:
            rows = [(False, b"remote-%d" % (offset + 1)), (True, b"local-%d" % number)]
            rows += [(False, b"remote-%d" % (offset + 2))]
            offset, number = offset + 2, number + 3
            batch = Batch(room.id, rows, position=Position(GENERATION, offset))
            [[row]] = await store.append([batch])
            say(offset, row, rows[1][1].decode())


async def compact(path: str, _: str) -> None:
    """Like ``append``, with acks of half of it and a compaction after every few."""
    async with documents(path) as (_database, store):
        room = await store.create("room")
        while True:
            stored = await store.load(room.id)
            known = contents(stored)
            ids: list[int] = []
            for number in range(len(known), len(known) + 12):
                update = b"local-%d" % number + b" " * 600
                ids += (await store.append([Batch(room.id, [(True, update)])]))[0]
                known.append(update.strip())
                say(ids[-1], update.strip().decode())
            say("acking", ids[6])
            await store.append([Batch(room.id, acked_through=ids[6])])
            say("acked", ids[6])
            await store.compact(room.id, b" ".join(known), ids[-1])


def in_child(main: Callable[[], Awaitable[None]], *, dies_at: int = 0) -> bool:
    """Run ``main`` in a child of its own; True if it was killed, False if it got to its end.

    With ``dies_at`` it kills itself as it begins its so many-th statement.
    """
    child = os.fork()
    if child == 0:
        if dies_at:
            arm("while opening", dies_at)
        asyncio.run(main())  # type: ignore[arg-type]
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"the child failed: {status}")
    return os.WIFSIGNALED(status)


def at_every_statement(
    prepare: Callable[[str], Awaitable[None]],
    act: Callable[[str], Awaitable[None]],
    check: Callable[[str], Awaitable[None]],
    path: str,
) -> None:
    """Kill ``act`` at its first, second, … statement, each on a file of its own, and check it."""
    count, killed = 0, True
    while killed:
        count += 1
        file = f"{path}-{count}"
        in_child(partial(prepare, file))
        killed = in_child(partial(act, file), dies_at=count)
        in_child(partial(check, file))
    say(count)


def migrate(path: str, version: str) -> None:
    """Bring a toy file from ``version`` to the newest, killed at every statement of it."""

    async def prepare(file: str) -> None:
        if int(version):
            old = TOY[: int(version)]
            database = await Database.open(file, application_id=TOY_ID, migrations=old)
            await database.write(lambda c: c.execute("INSERT INTO notes (body) VALUES ('kept')"))
            await database.close()

    async def act(file: str) -> None:
        database = await Database.open(file, application_id=TOY_ID, migrations=TOY)
        await database.close()

    async def check(file: str) -> None:
        database = await Database.open(file, application_id=TOY_ID, migrations=TOY)
        kept = await database.read(lambda c: c.execute("SELECT body FROM notes").fetchall())
        assert kept == ([("kept",)] if int(version) else []), kept
        await database.write(lambda c: c.execute("INSERT INTO tags VALUES (1, 'x')"))
        await database.close()

    at_every_statement(prepare, act, check, path)


NEXT_VERSION: Migration = (
    "ALTER TABLE rooms ADD COLUMN artificial INTEGER NOT NULL DEFAULT 7",
    "UPDATE rooms SET artificial = artificial + 1",
    "CREATE TABLE artificial (room_id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT",
    "INSERT INTO artificial SELECT id, name FROM rooms",
    "CREATE INDEX artificial_by_name ON artificial (name)",
)
"""What some later version of the store, or of the log, may do to a file that is full."""


async def took_the_next_version(database: Database, rooms: int) -> None:
    """It was taken whole, and once; the file is sound."""
    seen = await database.read(lambda c: c.execute("SELECT artificial FROM rooms").fetchall())
    assert seen == [(8,)] * rooms, seen
    names = await database.read(lambda c: c.execute("SELECT count(*) FROM artificial").fetchone())
    assert names == (rooms,), names
    verdict = await database.read(lambda c: c.execute("PRAGMA integrity_check").fetchall())
    assert verdict == [("ok",)], verdict


def upgrade_store(path: str, version: str) -> None:
    """Bring a device's file to a version after the newest, killed at every statement of it."""
    old = migrations(b"o" * 16)[: int(version)]
    later = (*migrations(b"n" * 16), NEXT_VERSION)
    updates = [b"local-%d" % number + b" " * 3000 for number in range(6)]

    async def prepare(file: str) -> None:
        if not old:
            return
        database = await Database.open(file, application_id=APPLICATION_ID, migrations=old)
        store = Documents(database)
        room = await store.create("room")
        [ids] = await store.append([Batch(room.id, [(True, data) for data in updates])])
        await store.append([Batch(room.id, acked_through=ids[2])])
        await database.close()

    async def open_later(file: str) -> Database:
        return await Database.open(file, application_id=APPLICATION_ID, migrations=later)

    async def act(file: str) -> None:
        await (await open_later(file)).close()

    async def check(file: str) -> None:
        database = await open_later(file)
        store = Documents(database)
        await took_the_next_version(database, 1 if old else 0)
        if old:
            stored = await store.load(1)
            assert stored.updates == updates
            assert [data for _, data in stored.unacked] == updates[3:]
        names = b"o" * 16 if old else b"n" * 16
        assert await Identity(database).device_id() == names
        room = await store.create("room")
        await store.append([Batch(room.id, [(True, b"after")])])
        assert (await store.load(room.id)).updates[-1] == b"after"
        await database.close()

    at_every_statement(prepare, act, check, path)


def upgrade_log(path: str, version: str) -> None:
    """Bring a relay's file to a version after the newest, killed at every statement of it."""
    old, later = schema.MIGRATIONS[: int(version)], (*schema.MIGRATIONS, NEXT_VERSION)
    lines = [b"line %d" % number for number in range(1, 6)]

    async def open_as(file: str, versions: Sequence[Migration]) -> Database:
        return await Database.open(
            file, application_id=schema.APPLICATION_ID, migrations=versions, what="log"
        )

    async def prepare(file: str) -> None:
        if not old:
            return
        database = await open_as(file, old)

        def fill(connection: Connection) -> None:
            transactions.start(connection, b"g" * 16, b"r" * 16, 0)
            connection.execute(
                "INSERT INTO rooms (id, name, epoch) VALUES (1, 'r', ?)", (b"e" * 16,)
            )
            connection.executemany(schema.APPEND, [(n, 1, x) for n, x in enumerate(lines, 1)])

        await database.write(fill)
        await database.close()

    async def act(file: str) -> None:
        await (await open_as(file, later)).close()

    async def check(file: str) -> None:
        database = await open_as(file, later)
        await took_the_next_version(database, 1 if old else 0)
        start = await database.write(lambda c: transactions.start(c, b"h" * 16, b"s" * 16, 0))
        assert start.relay_id == (b"r" * 16 if old else b"s" * 16)
        assert start.head == (len(lines) if old else 0)
        if old:
            stored = await database.read(lambda c: transactions.load(c, 1))
            assert stored is not None
            assert [data for _, data in stored.updates] == lines
        await database.close()

    at_every_statement(prepare, act, check, path)


def compact_once(path: str, slack: str) -> None:
    """One compaction, killed at every statement of it, shrinking and closing included.

    Without ``slack`` bytes in the snapshot it stands for the updates that are not acked.
    """
    updates = [b"local-%d" % number + b" " * 3000 for number in range(30)]
    before = [data.strip() for data in updates]

    async def prepare(file: str) -> None:
        async with documents(file) as (_database, store):
            room = await store.create("room")
            [ids] = await store.append([Batch(room.id, [(True, data) for data in updates])])
            await store.append([Batch(room.id, acked_through=ids[19])])

    async def act(file: str) -> None:
        async with documents(file) as (_database, store):
            room = await store.create("room")
            snapshot = b" ".join(before) + b" " * int(slack)
            await store.compact(room.id, snapshot, await store.last_row(room.id))

    async def check(file: str) -> None:
        async with documents(file) as (database, store):
            stored = await store.load(1)
            assert contents(stored) == before
            unacked = [data for _, data in stored.unacked]
            folded = stored.snapshot is not None and slack == "0"
            assert unacked == ([stored.snapshot] if folded else updates[20:])
            verdict = await database.read(lambda c: c.execute("PRAGMA integrity_check").fetchall())
            assert verdict == [("ok",)], verdict

    at_every_statement(prepare, act, check, path)


async def fill(path: str, limit: str) -> None:
    """Append until the disk is full, twice, with room made in between. Prints what it saw.

    ``limit``: bytes that a file may have (RLIMIT_FSIZE), or 0 for a disk that is really small.
    """
    ballast = Path(path).with_name("ballast")

    def make_room(*, more: bool) -> None:
        if int(limit):
            soft = resource.RLIM_INFINITY if more else int(limit)
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))
        elif more:
            ballast.unlink()
        else:
            ballast.write_bytes(bytes(128 * 1024))

    async def until_full(store: Documents, room: int, saved: list[str]) -> list[str]:
        errors: list[str] = []
        for number in range(2000):
            name = f"update-{number}"
            try:
                await store.append([Batch(room, [(True, name.encode() + b" " * 900)])])
            except DiskFull as error:
                errors.append(str(error))
                if len(errors) == 3:  # it goes on refusing, and goes on being usable
                    return errors
            else:
                saved.append(name)
        raise SystemExit("the disk never filled up")

    make_room(more=False)
    saved: list[str] = []
    async with documents(path) as (database, store):
        room = (await store.create("room")).id
        errors = await until_full(store, room, saved)
        while_full = [data.decode() for data in contents(await store.load(room))]
        make_room(more=True)
        await store.append([Batch(room, [(True, b"after")])])
        after = [data.decode() for data in contents(await store.load(room))]
        verdict = await database.read(lambda c: c.execute("PRAGMA integrity_check").fetchone())
    say(
        json.dumps(
            {
                "errors": errors,
                "saved": saved,
                "while_full": while_full,
                "after": after,
                "verdict": verdict[0],
            }
        )
    )


PROGRAMS: dict[str, Callable[[str, str], Awaitable[None] | None]] = {
    program.__name__: program
    for program in (append, compact, migrate, upgrade_store, upgrade_log, compact_once, fill)
}


def main(program: str, path: str, argument: str = "") -> None:
    running = PROGRAMS[program](path, argument)
    if running is not None:
        asyncio.run(running)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
