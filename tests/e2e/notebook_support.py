"""What the tests of the notebook share: kernels in processes of their own, and who asks them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import collab
from collab.notebook.document import Cell, Notebook, open_notebook
from collab.notebook.requests import digest, is_kernel
from tests.e2e.support import ROOT, soon, until

LONG_S = 60.0  # a kernel is a Python with half of IPython, and this machine may be busy


class Kernel:
    """A running ``collab kernel``; ``pids`` are the kernels that it started."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pids: list[int] = []

    async def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        line = (await soon(self.process.stdout.readline(), within_s=LONG_S)).decode().rstrip()
        assert line, "the kernel's program has ended"
        return line

    async def ready(self) -> int:
        """The process of the next kernel that it starts."""
        word, _, pid = (await self.line()).rpartition(" ")
        assert word == "kernel: ready, process"
        self.pids.append(int(pid))
        return int(pid)

    async def kill(self) -> None:
        """SIGKILL, without a goodbye."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.process.terminate()
        return await soon(self.process.wait(), within_s=LONG_S)


@asynccontextmanager
async def kernel(url: str, store: Path | None = None) -> AsyncIterator[Kernel]:
    """``collab kernel`` in the room "nb", ready; killed at the latest with the block."""
    arguments = ["nb", "--relay", url] + ([] if store is None else ["--store", str(store)])
    with tempfile.TemporaryDirectory(prefix="k-") as folder:  # for sockets, whose paths are short
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "collab.notebook.kernel", *arguments,
            cwd=ROOT, stdout=asyncio.subprocess.PIPE, env={**os.environ, "TMPDIR": folder},
        )  # fmt: skip
        running = Kernel(process)
        try:
            assert "runs any code" in await running.line()
            await running.ready()
            yield running
        finally:
            await running.kill()
            for pid in running.pids:
                if not is_gone(pid):
                    os.kill(pid, signal.SIGKILL)


def is_gone(pid: int) -> bool:
    """Whether a process runs no more; one that nobody has waited for yet counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class Person:
    """Somebody who has the notebook open and asks the kernel to run cells."""

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook
        self._asked = 0

    def write(self, source: str) -> str:
        """A new code cell."""
        return self.notebook.add_cell("code", source)

    def ask(self, *cells: str) -> list[str]:
        """Ask for these cells, in this order; returns the requests."""
        wishes = []
        for cell in cells:
            self._asked += 1
            request = f"{self.notebook.room.awareness.client_id}-{self._asked}"
            found = self.notebook.cell(cell)
            source = "" if found is None else found.source
            wishes.append({"cell": cell, "request": request, "sha256": digest(source)})
        self.notebook.room.presence.set({"run": wishes})
        return [wish["request"] for wish in wishes]

    def tell(self, act: str) -> None:
        """Ask for an interrupt or a restart."""
        self._asked += 1
        request = f"{self.notebook.room.awareness.client_id}-{self._asked}"
        self.notebook.room.presence.set({"control": {"act": act, "request": request}})

    async def run(self, *cells: str) -> list[Cell]:
        """Ask for these cells; they, when all have run."""
        requests = self.ask(*cells)
        await self.took(*requests)
        await self.rests(*cells)
        return [self.cell(cell) for cell in cells]

    async def took(self, *requests: str) -> None:
        """Return when the kernel has taken these requests."""
        await until(lambda: all(map(self.notebook.is_taken, requests)), timeout_s=LONG_S)

    async def rests(self, *cells: str) -> None:
        """Return when none of these cells runs."""
        await until(lambda: not set(cells) & set(self.notebook.running()), timeout_s=LONG_S)

    async def shows(self, cell: str, text: str) -> None:
        """Return when this text is in the outputs of the cell."""
        try:
            await until(lambda: text in self.text(cell), timeout_s=LONG_S)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in {self.cell(cell)}") from None

    def cell(self, cell: str) -> Cell:
        """The cell as it is here."""
        found = self.notebook.cell(cell)
        assert found is not None
        return found

    def text(self, cell: str) -> str:
        """All text that the cell shows."""
        return "".join(
            str(one.get("text") or one.get("evalue") or one.get("data", {}).get("text/plain", ""))
            for one in self.cell(cell).outputs
        )

    def kernels(self) -> list[dict[str, Any]]:
        """How the kernels that are here show themselves."""
        others = self.notebook.room.presence.others()
        return [state for state in others.values() if is_kernel(state)]

    async def sees(self, *statuses: str) -> None:
        """Return when the kernels here have these states, and no others."""
        try:
            await until(
                lambda: sorted(one["status"] for one in self.kernels()) == sorted(statuses),
                timeout_s=LONG_S,
            )
        except AssertionError:
            raise AssertionError(f"{self.kernels()} instead of {statuses}") from None


async def person(client: collab.Client) -> Person:
    """Somebody in the room "nb"."""
    one = Person(await open_notebook(client, "nb"))
    await one.notebook.room.wait_synced(20)
    return one
