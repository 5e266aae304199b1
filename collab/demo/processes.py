"""The demo's child processes: started, listened to, killed, and never left behind."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_END_S: Final = 15.0  # the relay itself promises ten
_LINE_BYTES: Final = 1024 * 1024


class Child:
    """One process. It has a process group of its own: Ctrl-C reaches the demo alone, which then
    ends its children in order."""

    def __init__(self, process: Process, log: Path, *, terminates: bool) -> None:
        self._process = process
        self._terminates = terminates
        self.log = log

    @classmethod
    async def start(
        cls, module: str, arguments: Sequence[str], *, log: Path, terminates: bool = False
    ) -> Child:
        """``python -m module``; what it says on stderr goes to the end of ``log``."""
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, *arguments,
                stdin=PIPE, stdout=PIPE, stderr=errors, limit=_LINE_BYTES,
                process_group=None if sys.platform == "win32" else 0,
            )  # fmt: skip
        return cls(process, log, terminates=terminates)

    async def lines(self) -> AsyncIterator[str]:
        """What it prints, until it ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            yield line.decode("utf-8", "replace").rstrip("\n")

    async def wait(self) -> int:
        """Return when it has ended: its exit status."""
        return await self._process.wait()

    def kill_now(self) -> None:
        """SIGKILL. It may be gone already."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.kill_now()
        await self._process.wait()

    async def end(self) -> int:
        """Ask it to end: a client by closing its stdin, the relay by SIGTERM. Its exit status.

        Raises TimeoutError, after killing it, if it has not ended within some seconds.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._terminates:
            with suppress(ProcessLookupError):
                self._process.terminate()
        try:
            async with asyncio.timeout(_END_S):
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            raise

    def last_words(self, lines: int = 8) -> str:
        """The end of its log."""
        with suppress(OSError):
            text = self.log.read_text("utf-8", "replace")
            return "\n".join(text.splitlines()[-lines:])
        return ""
