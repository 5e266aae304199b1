"""A player goes on where its own document says it was, and complains when that is too early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import collab
from collab.demo import talk
from collab.demo.board import TEXTS
from collab.demo.player import ROOM, Part, Player, Report, digest
from collab.demo.traces import POST, load

LIMIT = 300
PART = Part(text="post", trace=POST, limit=LIMIT, rate=1e9)


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main

    asyncio.run(bounded())


async def reports(store: Path, part: Part, until: Callable[[Report], bool]) -> list[Report]:
    """What a player on this store says, to the first report that ``until`` likes."""
    async with collab.open(store) as client:
        said: asyncio.Queue[Report] = asyncio.Queue()
        one = Player(part, client, await client.room(ROOM), said.put_nowait)
        playing = asyncio.create_task(one.play())
        heard = [await said.get()]
        while not until(heard[-1]):
            heard.append(await said.get())
        playing.cancel()
        await asyncio.wait([playing])
        return heard


async def type_first(store: Path, count: int, *, and_then: str = "") -> None:
    async with collab.open(store) as client:
        text = (await client.room(ROOM)).text("post")
        for position, deleted, inserted in load(POST).edits[:count]:
            text.replace(position, deleted, inserted)
        text.append(and_then)


def test_a_player_types_its_trace_and_says_what_came_out(tmp_path: Path) -> None:
    async def main() -> None:
        heard = await reports(tmp_path / "store.db", PART, lambda report: bool(report.digests))
        assert (heard[0].resumed, heard[0].edits) == (True, 0)
        assert not any(report.resumed for report in heard[1:])
        assert heard[-1].edits == LIMIT
        assert heard[-1].digests["post"] == digest(load(POST, LIMIT).end.encode())
        assert heard[-1].digests["paper"] == digest(b"")

    run(main())


def test_what_it_reports_as_saved_rises_to_all_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        heard = await reports(tmp_path / "store.db", PART, lambda report: report.saved == LIMIT)
        saved = [report.saved for report in heard]
        assert saved == sorted(saved)
        assert all(report.saved <= report.edits for report in heard)

    run(main())


@pytest.mark.parametrize("promised", [0, 120])
def test_it_resumes_after_the_edits_that_its_disk_holds(tmp_path: Path, promised: int) -> None:
    part = Part(text="post", trace=POST, limit=LIMIT, rate=1e9, saved=promised)

    async def main() -> None:
        await type_first(tmp_path / "store.db", 120)
        heard = await reports(tmp_path / "store.db", part, lambda report: bool(report.digests))
        assert heard[0].resumed
        assert heard[0].edits <= 120  # fewer edits may leave the same text
        assert promised <= heard[0].edits
        assert heard[-1].digests["post"] == digest(load(POST, LIMIT).end.encode())

    run(main())


@pytest.mark.parametrize(("promised", "foreign"), [(200, ""), (0, "§")])
def test_it_says_what_is_lost_or_not_its_own_and_types_nothing(
    tmp_path: Path, promised: int, foreign: str
) -> None:
    part = Part(text="post", trace=POST, limit=LIMIT, rate=1e9, saved=promised)

    async def main() -> None:
        await type_first(tmp_path / "store.db", 120, and_then=foreign)
        (said,) = await reports(tmp_path / "store.db", part, lambda report: True)
        assert f"{promised} edits were reported as saved" in said.lost
        assert said.edits == 0

    run(main())


def test_one_that_only_reads_says_what_it_has(tmp_path: Path) -> None:
    async def main() -> None:
        heard = await reports(tmp_path / "store.db", Part(), lambda report: bool(report.digests))
        assert heard[-1].digests == {name: digest(b"") for name in TEXTS}

    run(main())


TALKING = Part(text="post", trace=POST, limit=LIMIT, rate=1e9, name="A", messages=5)


def all_said(report: Report) -> bool:
    return report.said == TALKING.messages and bool(report.digests)


async def stored(store: Path) -> list[tuple[str, str]]:
    async with collab.open(store) as client:
        found = await (await client.room(ROOM)).chat.history()
        return [(message.body, str(message.state)) for message in found]


def test_it_sends_its_messages_in_order_beside_its_typing(tmp_path: Path) -> None:
    async def main() -> None:
        heard = await reports(tmp_path / "store.db", TALKING, all_said)
        assert (heard[-1].repeated, heard[-1].accepted) == (0, 0)
        assert await stored(tmp_path / "store.db") == [
            (talk.body("A", number), "queued") for number in range(1, 6)
        ]

    run(main())


def test_another_life_sends_them_all_again_and_each_comes_out_once(tmp_path: Path) -> None:
    async def main() -> None:
        await reports(tmp_path / "store.db", replace(TALKING, messages=3), lambda r: r.said == 3)
        heard = await reports(tmp_path / "store.db", replace(TALKING, said=3), all_said)
        assert not any(report.lost for report in heard)
        assert heard[-1].repeated == 3
        assert [body for body, _ in await stored(tmp_path / "store.db")] == [
            talk.body("A", number) for number in range(1, 6)
        ]

    run(main())


def test_it_says_which_messages_are_lost(tmp_path: Path) -> None:
    async def main() -> None:
        await reports(tmp_path / "store.db", replace(TALKING, messages=3), lambda r: r.said == 3)
        part = replace(TALKING, said=5)
        (said,) = await reports(tmp_path / "store.db", part, lambda report: True)
        assert "messages [4, 5] were reported as saved" in said.lost

    run(main())
