"""Forks the programs that are to be killed, so that none of them waits for its imports. Not a test.

``python -m tests.durability.zygote`` reads one line of JSON for each: which program, its arguments,
where it dies (see ``mortal``) and for how many seconds it lives at most. What the program prints
comes out here, and when it is gone, ``gone <exit status> late|there``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from tests.durability import mortal
from tests.e2e.support import ROOT, soon

__all__ = ["Job", "Zygote"]

_ORPHAN_S: Final = 120  # a program whose zygote is gone ends by itself


@dataclass(frozen=True, slots=True)
class Job:
    """One life of a program. It dies at ``point``, at the latest after ``alive_s``."""

    program: str
    arguments: tuple[str, ...]
    point: str | None
    count: int
    alive_s: float
    broken: str | None = None  # see ``broken``: as it would be, were it written badly


class Zygote:
    """The forking process, as its parent sees it: one program at a time.

    ``was_late`` tells whether the last one was killed by the clock.
    """

    was_late = False

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.durability.zygote",
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await soon(self._process.wait())

    def start(self, job: Job) -> None:
        """Begin the life of a program; the one before is gone."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")

    async def line(self) -> list[str] | None:
        """The words of the next line that the program prints; None when it was killed."""
        assert self._process.stdout is not None
        line = (await soon(self._process.stdout.readline())).decode()
        words = line.split()
        assert words, "the zygote ended"
        if words[0] != "gone":
            return words
        assert words[1] == str(-signal.SIGKILL), f"the program was not killed: {line}"
        self.was_late = words[2] == "late"
        return None


def main() -> None:
    """One child after the other."""
    from tests.durability.broken import BREAK
    from tests.durability.mortal_programs import PROGRAMS

    for line in sys.stdin:
        given: dict[str, Any] = json.loads(line)
        job = Job(**given | {"arguments": tuple(given["arguments"])})
        child = os.fork()
        if child == 0:
            signal.alarm(_ORPHAN_S)
            if job.broken is not None:
                BREAK[job.broken]()
            if job.point is not None:
                mortal.arm(job.point, job.count)
            try:
                asyncio.run(PROGRAMS[job.program](*job.arguments))
            finally:
                sys.stdout.flush()
                os._exit(1)  # they never end by themselves
        deadline = time.monotonic() + job.alive_s
        status, was_late = _wait_or_kill(child, deadline)
        print("gone", status, "late" if was_late else "there", flush=True)


def _wait_or_kill(child: int, deadline: float) -> tuple[int, bool]:
    was_late = False
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), was_late
        if not was_late and time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            was_late = True
        time.sleep(0.002)


if __name__ == "__main__":
    main()
