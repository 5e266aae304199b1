"""What the kill loops share: one life of a program, and a file as its death left it. Not a test."""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.durability.mortal import POINTS
from tests.durability.zygote import Job

__all__ = ["ANYWHERE", "FILE_OPENINGS", "OPENING", "PATIENCE_S", "Tally", "copied", "job"]

ANYWHERE: Final = "at a random moment"
OPENING: Final = "while opening"
FILE_OPENINGS: Final = 3  # a new file; somewhere, so that there is something in it; and again
PATIENCE_S: Final = 15.0  # for a program to come to its point


@dataclass
class Tally:
    """What a loop did."""

    kills: int = 0
    late: int = 0  # did not come to the point, and were killed wherever they were
    promised: int = 0  # edits that were saved or acked, or messages that ``send`` returned for
    accepted: int = 0  # messages that were seen accepted


def job(program: str, point: str, kill: int, dice: random.Random, *arguments: object) -> Job:
    """The ``kill``-th life of a program, which ends at ``point``."""
    words = tuple(map(str, arguments))
    if point == ANYWHERE or (point == OPENING and kill % FILE_OPENINGS == 1):
        return Job(program, words, None, 0, dice.uniform(0.02, 0.8))
    return Job(program, words, point, dice.randrange(POINTS[point].span) + 1, PATIENCE_S)


@asynccontextmanager
async def copied(path: Path) -> AsyncIterator[Path]:
    """A copy of a file that nobody has open, with its WAL."""
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(f"{path}{suffix}", Path(folder) / (path.name + suffix))
        yield Path(folder) / path.name
