"""One process of a real Jupyter kernel: started, asked to run code, interrupted, ended."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty
from typing import Any, Final

from collab.errors import LocalError, Unsupported

__all__ = ["KernelDied", "KernelProcess", "Take"]

Take = Callable[[str, Mapping[str, Any]], None]

_START_S: Final = 60.0  # a loaded machine needs ten
_LISTEN_S: Final = 0.2  # how long nothing may come before we look whether it lives
_QUIET_AFTER_REPLY: Final = 10  # such waits; then outputs that were announced are given up


class KernelDied(Exception):
    """The process has gone. What it had in memory is lost; the document is not."""


class KernelProcess:
    """A kernel of the installed ``kernel_name``, in ``folder`` (None: this one's own).

    It is a child of this process, in a process group of its own, and ends by itself when this one
    dies. Nobody but this user can speak to it.
    """

    def __init__(self, kernel_name: str = "python3", *, folder: Path | None = None) -> None:
        self._name = kernel_name
        self._folder = folder
        self._manager: Any = None
        self._client: Any = None
        self._sockets: tempfile.TemporaryDirectory[str] | None = None

    async def start(self) -> None:
        """Return when it answers.

        Raises :class:`Unsupported` if it is not installed, :class:`LocalError` if it does not come.
        """
        try:
            from jupyter_client.kernelspec import NoSuchKernel
            from jupyter_client.manager import AsyncKernelManager
        except ImportError as error:
            raise Unsupported(
                "A kernel needs jupyter_client and ipykernel, which are not installed; nothing was "
                "started. pip install 'collab-sync[notebook]'"
            ) from error
        self._manager = AsyncKernelManager(kernel_name=self._name, **self._place())
        try:
            await self._manager.start_kernel(
                cwd=None if self._folder is None else str(self._folder)
            )
        except (NoSuchKernel, OSError) as error:
            raise Unsupported(
                f"The kernel {self._name!r} cannot be started: {error}. No cell was run. "
                f"'jupyter kernelspec list' shows what is installed."
            ) from error
        self._client = self._manager.client()
        self._client.start_channels()
        try:
            await self._client.wait_for_ready(timeout=_START_S)
        except RuntimeError as error:
            await self.stop()
            raise LocalError(f"The kernel {self._name!r} did not start: {error}.") from error

    def _place(self) -> dict[str, str]:
        """Where the two speak: sockets in a folder that only this user may enter."""
        if sys.platform == "win32":
            return {}  # it has none; TCP on loopback then, signed with a key
        self._sockets = tempfile.TemporaryDirectory(prefix="collab-kernel-")
        here = Path(self._sockets.name)
        return {
            "transport": "ipc",
            "ip": str(here / "at"),
            "connection_file": str(here / "connection.json"),
        }

    @property
    def pid(self) -> int:
        """The process; 0 when there is none."""
        return 0 if self._manager is None else int(self._manager.provisioner.pid or 0)

    async def is_alive(self) -> bool:
        """Whether the process is there."""
        return self._manager is not None and bool(await self._manager.is_alive())

    async def run(self, source: str, take: Take) -> int | None:
        """Run code; ``take(kind, content)`` is called with all that it shows, in order.

        Returns the number of the run, None if the kernel names none. Raises :class:`KernelDied`.
        """
        number = self._client.execute(source, allow_stdin=False, stop_on_error=False)
        count: int | None = None
        replied, quiet, idle = False, 0, False
        while not (replied and (idle or quiet >= _QUIET_AFTER_REPLY)):
            if not replied and (reply := await self._reply(number)) is not None:
                replied, quiet = True, 0  # the code may have been quiet for long, its outputs come
                count = reply.get("execution_count")
            message = None
            if not idle:
                message = await self._next(self._client.get_iopub_msg, _LISTEN_S)
            elif not replied:
                await asyncio.sleep(_LISTEN_S / 10)
            if message is None:
                quiet += 1
                if not replied and not await self.is_alive():
                    raise KernelDied
                continue
            quiet = 0
            if message.get("parent_header", {}).get("msg_id") != number:
                continue  # of a thread that an earlier cell started
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "status":
                idle = idle or content.get("execution_state") == "idle"
            elif kind == "execute_input":
                count = content.get("execution_count", count)
            else:
                take(kind, content)
        return count if isinstance(count, int) else None

    async def interrupt(self) -> None:
        """As Ctrl-C does; code that catches it goes on."""
        if await self.is_alive():
            await self._manager.interrupt_kernel()

    async def kill(self) -> None:
        """End it at once, with what it started; a run that goes on raises :class:`KernelDied`."""
        if self._manager is not None:
            await self._manager.shutdown_kernel(now=True)

    async def stop(self) -> None:
        """``kill``, and let go of what it was spoken to with. Not while ``run`` goes on."""
        await self.kill()
        if self._client is not None:
            self._client.stop_channels()
        if self._manager is not None:
            self._manager.context.destroy(linger=0)
        self._manager = self._client = None
        if self._sockets is not None:
            self._sockets.cleanup()
            self._sockets = None

    async def _reply(self, number: str) -> dict[str, Any] | None:
        message = await self._next(self._client.get_shell_msg, 0)
        if message is None or message.get("parent_header", {}).get("msg_id") != number:
            return None
        content: dict[str, Any] = message["content"]
        return content

    async def _next(self, get: Any, timeout_s: float) -> dict[str, Any] | None:
        try:
            message: dict[str, Any] = await get(timeout=timeout_s)
        except Empty:
            return None
        return message
