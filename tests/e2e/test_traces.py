"""Real keystroke histories, through ``Room.text`` with persistence, and through the relay."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

import collab
from collab import testing
from collab.protocol.update import decode_state_vector, walk
from tests.traces import concurrent, sequential

YIELD_EVERY = 100


@pytest.mark.parametrize("name", ["automerge-paper", "json-crdt-blog-post"])
def test_a_trace_ends_in_its_text_and_is_there_after_reopening(name: str, tmp_path: Path) -> None:
    patches, end = sequential(name)

    async def write() -> None:
        async with collab.open(tmp_path / "store.db") as client:
            room = await client.room("paper")
            text = room.text("body")
            for number, (position, deleted, inserted) in enumerate(patches):
                if deleted:
                    text.delete(position, deleted)
                if inserted:
                    text.insert(position, inserted)
                if number % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
            await room.wait_saved()
            assert str(text) == end

    async def read() -> None:
        async with collab.open(tmp_path / "store.db") as client:
            assert str((await client.room("paper")).text("body")) == end

    asyncio.run(write())
    asyncio.run(read())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_concurrent_trace_ends_in_its_text_however_its_authors_interleave(
    seed: int, tmp_path: Path
) -> None:
    print(f"seed {seed}")
    history = concurrent("friendsforever", "body")
    rng = random.Random(seed)

    async def author(room: collab.Room, updates: list[bytes]) -> None:
        """Write as the author did: an update only when all that it builds on has arrived."""
        arrived = asyncio.Event()
        room.observe(lambda event: arrived.set())
        burst = 0
        for update in updates:
            walked = walk(update)
            own = {client: end for client, _, end in walked.ranges}
            needs = [
                *walked.needs.items(),
                *((client, clock + length) for client, clock, length in walked.deletes),
            ]
            while True:
                arrived.clear()
                known = decode_state_vector(room.document.get_state())
                if all(max(known.get(at, 0), own.get(at, 0)) >= clock for at, clock in needs):
                    break
                await arrived.wait()
            room.document.apply_update(update)
            burst -= 1
            if burst <= 0:
                burst = rng.randrange(1, 400)
                await asyncio.sleep(0)

    async def main() -> None:
        async with testing.relay() as relay:
            paths = [tmp_path / f"{number}.db" for number in range(3)]
            clients = [collab.open(path, relay=relay.url) for path in paths]
            for client in clients:
                await client.start()
            rooms = [await client.room("friends") for client in clients]
            async with asyncio.TaskGroup() as tasks:
                for room, updates in zip(rooms, history.updates, strict=False):
                    tasks.create_task(author(room, updates))
            for room in rooms:
                await room.wait_synced(timeout=60)
            await _until_equal(rooms, history.end)
            for client in clients:
                await client.close()

    asyncio.run(main())


async def _until_equal(rooms: list[collab.Room], end: str) -> None:
    """What was acked to its writer is on its way to the others; wait for it."""
    async with asyncio.timeout(60):
        for room in rooms:
            if str(room.text("body")) == end:
                continue
            async for _ in room.events():
                if str(room.text("body")) == end:
                    break
