"""Who does not play along ends the demo with a reason, and nothing is left running."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from collab.demo.board import Board, Replica
from collab.demo.player import Part, Report
from collab.demo.stage import DemoFailed, Stage
from collab.storage.lock import FileLock

Act = Callable[[Stage], Coroutine[Any, Any, None]]


def failure(folder: Path, act: Act) -> str:
    """Why the stage failed while ``act`` was played on it."""

    async def main() -> None:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            stage = Stage(
                folder, Board(1), tasks=tasks, tell=lambda _: None, hear=lambda _, __: None
            )
            try:
                await act(stage)
            finally:
                await stage.clear()

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    (error,) = caught.value.exceptions
    assert isinstance(error, DemoFailed)
    return str(error)


def test_a_relay_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "relay").mkdir()
    lock = FileLock.acquire(tmp_path / "relay" / "relay.db")
    try:
        said = failure(tmp_path, lambda stage: stage.start_relay())
    finally:
        lock.release()
    assert "the relay did not start" in said
    assert "is in use" in said


def test_a_client_that_ends_by_itself_is_quoted(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        part = Part(text="paper", trace="no such trace")
        await stage.start_client(Replica("A", "paper", total=1), part)
        await asyncio.Event().wait()

    said = failure(tmp_path, act)
    assert "A ended by itself" in said
    assert "no such trace" in said


def test_a_relay_that_ends_by_itself_is_noticed(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.start_relay()
        assert stage._relay is not None
        stage._relay.kill_now()  # behind the stage's back
        await asyncio.Event().wait()

    assert "the relay ended by itself" in failure(tmp_path, act)


def test_what_it_hears_are_the_reports_of_each_client(tmp_path: Path) -> None:
    async def main() -> None:
        heard: list[tuple[str, Report]] = []
        ready = asyncio.Event()

        def hear(replica: Replica, report: Report) -> None:
            heard.append((replica.name, report))
            ready.set()

        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            stage = Stage(tmp_path, Board(1), tasks=tasks, tell=lambda _: None, hear=hear)
            try:
                await stage.start_client(Replica("A", None), Part())
                await ready.wait()
                await stage.end()
            finally:
                await stage.clear()
        assert heard[0] == ("A", heard[0][1])
        assert heard[0][1].resumed
        assert stage.copies("A", ("paper", "post")) == {"paper": "", "post": ""}

    asyncio.run(main())
