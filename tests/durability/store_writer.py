"""The programs that the storage tests kill, starve or let run. Not a test.

``python -m tests.durability.store_writer <program> <path> [<argument>]``. A program prints a line
only for what the store has said is saved.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from collab.errors import DiskFull
from collab.storage.database import Database
from collab.storage.documents import Batch, Documents, Position, Stored
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
            await store.append([Batch(room.id, acked_through=ids[6])])
            say("acked", ids[6])
            await store.compact(room.id, b" ".join(known), ids[-1])


def killed_at(count: int) -> Callable[[str], sqlite3.Connection]:
    """A factory whose connections kill the process as they begin their ``count``-th statement."""
    left = count

    def trace(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def factory(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path)
        connection.set_trace_callback(trace)
        return connection

    return factory


def in_child(main: Callable[[], Awaitable[None]]) -> bool:
    """Run ``main`` in a child of its own; True if it was killed, False if it got to its end."""
    child = os.fork()
    if child == 0:
        asyncio.run(main())  # type: ignore[arg-type]
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"the child failed: {status}")
    return os.WIFSIGNALED(status)


def at_every_statement(
    prepare: Callable[[str], Awaitable[None]],
    act: Callable[[str, Callable[[str], sqlite3.Connection]], Awaitable[None]],
    check: Callable[[str], Awaitable[None]],
    path: str,
) -> None:
    """Kill ``act`` at its first, second, … statement, each on a file of its own, and check it."""
    count, killed = 0, True
    while killed:
        count += 1
        file = f"{path}-{count}"
        in_child(lambda file=file: prepare(file))  # type: ignore[misc]
        factory = killed_at(count)
        killed = in_child(lambda file=file, factory=factory: act(file, factory))  # type: ignore[misc]
        in_child(lambda file=file: check(file))  # type: ignore[misc]
    say(count)


def migrate(path: str, version: str) -> None:
    """Bring a toy file from ``version`` to the newest, killed at every statement of it."""

    async def prepare(file: str) -> None:
        if int(version):
            old = TOY[: int(version)]
            database = await Database.open(file, application_id=TOY_ID, migrations=old)
            await database.write(lambda c: c.execute("INSERT INTO notes (body) VALUES ('kept')"))
            await database.close()

    async def act(file: str, factory: Callable[[str], sqlite3.Connection]) -> None:
        database = await Database.open(file, application_id=TOY_ID, migrations=TOY, factory=factory)
        await database.close()

    async def check(file: str) -> None:
        database = await Database.open(file, application_id=TOY_ID, migrations=TOY)
        kept = await database.read(lambda c: c.execute("SELECT body FROM notes").fetchall())
        assert kept == ([("kept",)] if int(version) else []), kept
        await database.write(lambda c: c.execute("INSERT INTO tags VALUES (1, 'x')"))
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

    async def act(file: str, factory: Callable[[str], sqlite3.Connection]) -> None:
        async with documents(file, factory=factory) as (_database, store):
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
    program.__name__: program for program in (append, compact, migrate, compact_once, fill)
}


def main(program: str, path: str, argument: str = "") -> None:
    running = PROGRAMS[program](path, argument)
    if running is not None:
        asyncio.run(running)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
