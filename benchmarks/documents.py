"""What a document costs: editing, opening, its file, and coming back to the relay."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pycrdt

import collab
from benchmarks.forwarder import Forwarder
from benchmarks.measure import Row
from collab import testing
from tests.traces import Patch, sequential

YIELD_EVERY = 100
OFFLINE_EDITS = 10_000


def _ascii(text: str) -> str:
    return "".join(char if char.isascii() else "x" for char in text)


def replay_bare(patches: list[Patch]) -> float:
    """Seconds for the patches in pycrdt with an observer that copies the update."""
    document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
    text = document.get("body", type=pycrdt.Text)
    updates: list[bytes] = []
    document.observe(lambda event: updates.append(event.update))
    started = time.perf_counter()
    for position, deleted, inserted in patches:
        if deleted:
            del text[position : position + deleted]
        if inserted:
            text.insert(position, inserted)
    return time.perf_counter() - started


async def replay(patches: list[Patch], path: Path, end: str) -> float:
    """Seconds for the patches through ``Room.text``, until they are on the disk."""
    async with collab.open(path) as client:
        room = await client.room("paper")
        text = room.text("body")
        started = time.perf_counter()
        for number, (position, deleted, inserted) in enumerate(patches):
            if deleted:
                text.delete(position, deleted)
            if inserted:
                text.insert(position, inserted)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        await room.wait_saved()
        seconds = time.perf_counter() - started
        assert str(text) == end
        await room.close()
    return seconds


def cost(rounds: int) -> list[Row]:
    """Editing with persistence, over the bare engine; both in turn, so that noise meets both."""
    paper, paper_end = sequential("automerge-paper")
    blog, blog_end = sequential("json-crdt-blog-post")
    plain = [(position, deleted, _ascii(inserted)) for position, deleted, inserted in blog]
    over_bare, over_ascii = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            ours = asyncio.run(replay(paper, Path(folder, "paper.db"), paper_end))
        over_bare.append(ours / replay_bare(paper))
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            ours = asyncio.run(replay(blog, Path(folder, "blog.db"), blog_end))
            other = asyncio.run(replay(plain, Path(folder, "plain.db"), _ascii(blog_end)))
        over_ascii.append(ours / other)
    return [
        Row(
            "automerge-paper through Room.text until saved, over bare pycrdt",
            tuple(over_bare), "times", 1.5,
        ),
        Row(
            "json-crdt-blog-post through Room.text, over its text in ASCII",
            tuple(over_ascii), "times", 1.5,
        ),
    ]  # fmt: skip


async def _open(path: Path, expected: str) -> tuple[float, float]:
    started = time.perf_counter()
    async with collab.open(path) as client:
        opened = time.perf_counter()
        text = (await client.room("paper")).text("body")
        ended = time.perf_counter()
        assert str(text) == expected
    return ended - started, ended - opened


def opening(rounds: int) -> list[Row]:
    """Opening a finished document from its file, over the engine's load of the same bytes."""
    patches, end = sequential("automerge-paper")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "paper.db")
        asyncio.run(replay(patches, path, end))
        with sqlite3.connect(path) as store:
            (snapshot,) = store.execute("SELECT data FROM snapshots").fetchone()
        store.close()
        size = sum(os.path.getsize(Path(folder, name)) for name in os.listdir(folder))
        whole, room = [], []
        for _ in range(max(rounds, 5)):
            started = time.perf_counter()
            pycrdt.Doc[pycrdt.Text]().apply_update(snapshot)
            bare = time.perf_counter() - started
            both, alone = asyncio.run(_open(path, end))
            whole.append(both / bare)
            room.append(alone / bare)
    return [
        Row("client.room() of automerge-paper, over the engine's load", tuple(room), "times", 5.0),
        Row(
            "collab.open() and client.room() of it, over the engine's load",
            tuple(whole), "times", 5.0,
        ),
        Row(
            "its file after compaction, over the encoded document",
            (size / len(snapshot),), "times", 2.0,
        ),
    ]  # fmt: skip


@asynccontextmanager
async def _pair(relay: testing.TestRelay, url: str) -> AsyncIterator[list[collab.Client]]:
    with tempfile.TemporaryDirectory() as folder:
        clients = [collab.open(Path(folder, f"{name}.db"), relay=url) for name in "ab"]
        for client in clients:
            await client.start()
        try:
            yield clients
        finally:
            for client in clients:
                await client.close()


async def _edit(text: collab.Text, words: str) -> None:
    for number in range(OFFLINE_EDITS):
        text.insert(number // 2, words[number % len(words)])
        if number % YIELD_EVERY == 0:
            await asyncio.sleep(0)


async def _reconnect() -> float:
    async with testing.relay() as relay, _pair(relay, relay.url) as clients:
        rooms = [await client.room("paper") for client in clients]
        for room in rooms:
            await room.wait_synced(timeout=30)
        async with relay.offline():
            await _edit(rooms[0].text("body"), "offline ")
            await _edit(rooms[1].text("body"), "离线 ")
            for room in rooms:
                await room.wait_saved()
        started = time.perf_counter()
        for client in clients:
            client.connect()
        async with asyncio.timeout(60):
            while len(rooms[0].text("body")) < 2 * OFFLINE_EDITS or str(
                rooms[0].text("body")
            ) != str(rooms[1].text("body")):
                await asyncio.sleep(0.005)
            for room in rooms:
                await room.wait_synced()
        return time.perf_counter() - started


async def _idle_reconnect() -> tuple[float, float]:
    """Bytes that a reconnect with nothing to say takes, both ways, and rows that it adds."""
    with tempfile.TemporaryDirectory() as data:
        async with (
            testing.relay(Path(data)) as relay,
            Forwarder(relay.url) as link,
            _pair(relay, link.url) as clients,
        ):
            rooms = [await client.room("paper") for client in clients]
            await _edit(rooms[0].text("body"), "some text ")
            for room in rooms:
                await room.wait_synced(timeout=30)
            await rooms[1].wait_synced(timeout=30)
            while str(rooms[0].text("body")) != str(rooms[1].text("body")):
                await asyncio.sleep(0.01)
            end = _log_end(Path(data))
            link.cut()
            before = link.bytes
            for client in clients:
                client.connect()
            await asyncio.sleep(0.2)
            for room in rooms:
                await room.wait_synced(timeout=30)
            return (link.bytes - before) / len(clients), _log_end(Path(data)) - end


def _log_end(data: Path) -> int:
    """The last offset of the log: rows may go while this is measured, as it is compacted."""
    log = sqlite3.connect(f"file:{data / 'relay.db'}?mode=ro", uri=True)
    try:
        (end,) = log.execute(
            'SELECT max(coalesce((SELECT max("offset") FROM updates), 0),'
            " coalesce((SELECT max(base) FROM rooms), 0))"
        ).fetchone()
        return int(end)
    finally:
        log.close()


def reconnect(rounds: int) -> list[Row]:
    """Coming back after a time offline."""
    seconds = tuple(asyncio.run(_reconnect()) for _ in range(rounds))
    idle = [asyncio.run(_idle_reconnect()) for _ in range(rounds)]
    return [
        Row("two clients with 10,000 offline edits each, until converged", seconds, "s", 2.0),
        Row(
            "a reconnect with nothing to say, bytes both ways a client, handshake included",
            tuple(size for size, _ in idle), "bytes", 1024,
        ),
        Row("rows that it adds to the log", tuple(rows for _, rows in idle), "rows", 0),
    ]  # fmt: skip
