"""Databases for tests: a numbered toy schema, the device's own, and what a folder looks like."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from collab.storage.database import Connection, Database, Factory, Migration
from collab.storage.documents import Documents
from collab.storage.schema import APPLICATION_ID, migrations

TOY_ID = 0x544F5930
TOY: tuple[Migration, ...] = (
    ("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL)",),
    ("ALTER TABLE notes ADD COLUMN author TEXT", "UPDATE notes SET author = 'nobody'"),
    ("CREATE TABLE tags (note_id INTEGER, tag TEXT)", "CREATE INDEX tags_by_tag ON tags (tag)"),
)


@asynccontextmanager
async def toy(
    path: Path | str,
    versions: Sequence[Migration] = TOY,
    *,
    factory: Factory | None = None,
    application_id: int = TOY_ID,
) -> AsyncIterator[Database]:
    database = await Database.open(
        path, application_id=application_id, migrations=versions, factory=factory, what="toy"
    )
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def documents(
    path: Path | str, *, factory: Factory | None = None
) -> AsyncIterator[tuple[Database, Documents]]:
    database = await Database.open(
        path, application_id=APPLICATION_ID, migrations=migrations(os.urandom(16)), factory=factory
    )
    try:
        yield database, Documents(database)
    finally:
        await database.close()


def add_note(body: str) -> Callable[[Connection], int]:
    def transact(connection: Connection) -> int:
        return connection.execute("INSERT INTO notes (body) VALUES (?)", (body,)).lastrowid or 0

    return transact


def bodies(connection: Connection) -> list[str]:
    return [body for (body,) in connection.execute("SELECT body FROM notes ORDER BY id")]


def folder(path: Path) -> dict[str, bytes]:
    """The bytes of every file in a folder, to compare before and after."""
    return {entry.name: entry.read_bytes() for entry in sorted(path.iterdir()) if entry.is_file()}
