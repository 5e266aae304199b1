"""``collab demo --headless``: a folder, a display, the story, and how it ends for the shell."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

from collab.demo.display import display_for
from collab.demo.stage import DemoFailed
from collab.demo.story import FULL, QUICK, Cast, Outcome, Story
from collab.demo.verdict import table
from collab.errors import LocalError

IDENTICAL, DIFFERENT, INTERRUPTED = 0, 1, 130  # exit statuses
_SEEDS: Final = 10_000  # short enough to type again


class _Unread(DemoFailed):
    """Whoever read our output has gone, as ``head`` does."""


class Screen(Console):
    """A console whose reader may go away; then the demo is stopped, and stops in order."""

    def on_broken_pipe(self) -> None:
        try:
            super().on_broken_pipe()  # nothing more is written
        except SystemExit:
            raise _Unread from None


def run_demo(console: Console, *, seed: int | None, quick: bool, data: Path | None) -> int:
    """Run it; returns the exit status.

    Files are in ``data`` and stay there; None: in a temporary folder, deleted unless something
    went wrong. Raises :class:`LocalError` if there is no place for them.
    """
    if seed is None:
        seed = random.randrange(_SEEDS)
    folder = _folder(data)
    try:
        console.print(f"seed: {seed}", highlight=False)
        outcome = asyncio.run(_tell(console, QUICK if quick else FULL, seed, folder))
        status = _judge(console, outcome)
    except _Unread:
        status = INTERRUPTED
    except DemoFailed as error:
        console.print(f"FAILED: {error}", style="red", markup=False, soft_wrap=True)
        status = DIFFERENT
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped; no process is left")
        status = INTERRUPTED
    except BaseException:
        console.print(f"the files are in {folder}", markup=False, highlight=False, soft_wrap=True)
        raise
    if data is not None or status == DIFFERENT:
        console.print(f"the files are in {folder}", markup=False, highlight=False, soft_wrap=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return status


def _judge(console: Console, outcome: Outcome) -> int:
    console.print(table(outcome.board, outcome.expected))
    for line in outcome.differences:
        console.print(f"DIFFERENT: {line}", style="red", markup=False, soft_wrap=True)
    if outcome.differences:
        return DIFFERENT
    console.print("identical", style="bold green")
    return IDENTICAL


async def _tell(console: Console, cast: Cast, seed: int, folder: Path) -> Outcome:
    if sys.platform != "win32":
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGHUP):  # Ctrl-C cancels by itself
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with display_for(console) as display:
        return await Story(cast, seed=seed, folder=folder, display=display).run()


def _folder(data: Path | None) -> Path:
    try:
        if data is None:
            return Path(tempfile.mkdtemp(prefix="collab-demo-"))
        data.mkdir(parents=True, exist_ok=True)
        if any(data.iterdir()):
            raise LocalError(f"{data} is not empty, and was left as it is. Give a new folder.")
    except OSError as error:
        raise LocalError(
            f"The demo has no place for its files: {error}. Nothing was started. Give it a folder "
            f"that this user may write: --data DIR."
        ) from error
    return data
