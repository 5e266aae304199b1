"""The sample participant writes for people alone, keeps its cell small, and takes a no."""

from __future__ import annotations

import asyncio
import random

import collab
import collab.testing
from collab.notebook.document import FRESH, Notebook
from collab.notebook.participant import NAME, take_part


def notes(notebook: Notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.metadata.get("sample")]


def test_with_nobody_there_it_makes_its_cell_and_writes_nothing_more() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            room = await client.room("notebook", template=FRESH)
            taking = asyncio.create_task(take_part(room, random.Random(1), pause=_at_once))
            notebook = Notebook(room)
            while not notes(notebook):
                await asyncio.sleep(0)
            before = notes(notebook)
            for _ in range(200):
                await asyncio.sleep(0)
            assert notes(notebook) == before
            assert not list(await room.chat.history())
            await _end(taking)

    asyncio.run(main())


def test_it_leaves_a_notebook_that_somebody_began_as_it_is() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            room = await client.room("notebook", template=FRESH)
            notebook = Notebook(room)
            notebook.source("first").insert(0, "mine")
            taking = asyncio.create_task(take_part(room, random.Random(1), pause=_at_once))
            for _ in range(200):
                await asyncio.sleep(0)
            assert [cell.source for cell in notebook.cells] == ["mine"]
            await _end(taking)

    asyncio.run(main())


def test_while_somebody_is_there_it_writes_a_little_until_its_cell_is_deleted() -> None:
    async def main() -> None:
        async with (
            collab.testing.relay() as relay,
            collab.open(":memory:", relay=relay.url, user={"name": NAME}) as robin,
            collab.open(":memory:", relay=relay.url, user={"name": "Ada"}) as ada,
        ):
            room = await robin.room("notebook", template=FRESH)
            taking = asyncio.create_task(take_part(room, random.Random(1), pause=_at_once))
            hers = Notebook(await ada.room("notebook", template=FRESH))
            lengths: list[int] = []
            async with asyncio.timeout(60):
                while max(lengths, default=0) <= 400:  # then the oldest line goes
                    await asyncio.sleep(0.01)
                    lengths += [len(source) for source in notes(hers)]
                for _ in range(50):
                    await asyncio.sleep(0.01)
                    lengths += [len(source) for source in notes(hers)]
            assert max(lengths) < 500
            number = next(n for n, cell in enumerate(hers.cells) if cell.metadata.get("sample"))
            hers.delete_cell(hers.cells[number].id)
            await hers.room.wait_synced(20)
            for _ in range(50):
                await asyncio.sleep(0.01)
            assert notes(Notebook(room)) == notes(hers) == []
            await _end(taking)

    asyncio.run(main())


async def _at_once(_seconds: float) -> None:
    await asyncio.sleep(0.001)


async def _end(taking: asyncio.Task[None]) -> None:
    taking.cancel()
    await asyncio.wait([taking])
    assert taking.cancelled()
