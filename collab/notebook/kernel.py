"""A kernel as a collaborator: a program that opens a room and runs its cells.

    collab kernel ROOM --relay ws://127.0.0.1:8765
    python -m collab.notebook.kernel ROOM --relay ws://127.0.0.1:8765     the same

Or in a program of your own: ``await serve_kernel(room)`` with a room of a client that is open; it
ends when it is cancelled. ``await run_kernel(KernelProgram(...))`` opens the client too.

**It runs code.** Whoever may write the room, or ask in it, does anything that the user of this
process may do. So it is off unless somebody starts it, and ``run_kernel`` takes a relay on this
machine alone.

What people ask, and how the kernel shows itself: ``requests``. What becomes of it: ``server``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from collab.client import open as open_client
from collab.errors import CollabError, LocalError
from collab.notebook.document import FRESH, Notebook
from collab.notebook.ipython import KernelProcess
from collab.notebook.server import KernelServer
from collab.room import Room

__all__ = ["KernelProgram", "run_kernel", "serve_kernel"]

_LEAVE_S: Final = 3.0  # for what is left to go up at the end


@dataclass(frozen=True, slots=True)
class KernelProgram:
    """What ``collab kernel`` was asked for. ``store`` may be ":memory:"."""

    room: str
    relay: str
    store: Path | str = ":memory:"
    name: str = "Kernel"
    kernel: str = "python3"
    folder: Path | None = None


async def serve_kernel(
    room: Room,
    *,
    name: str = "Kernel",
    kernel: str = "python3",
    folder: Path | None = None,
    on_ready: Callable[[int], object] | None = None,
) -> None:
    """Run the cells of ``room`` until cancelled; then the process is ended and the room left.

    ``on_ready(pid)`` is called with the process of each kernel that has started. Raises
    :class:`Unsupported` or :class:`LocalError` if no kernel starts.
    """
    await KernelServer(room, name, KernelProcess(kernel, folder=folder), on_ready).serve()


async def run_kernel(
    program: KernelProgram,
    *,
    on_opened: Callable[[], object] = lambda: None,
    on_ready: Callable[[int], object] | None = None,
) -> int:
    """Open a client and serve one room until SIGTERM, Ctrl-C or a cancellation.

    Returns how many changes of the notebook the relay has not confirmed by then, not counting what
    every notebook begins with: they are in the store, or lost if that is memory. Raises
    :class:`LocalError` for a relay that is not on this machine; nothing was opened then.
    """
    _check_loopback(program.relay)
    client = open_client(program.store, relay=program.relay, user={"name": program.name})
    async with client:
        room = await client.room(program.room, template=FRESH)
        on_opened()
        serving = asyncio.create_task(
            serve_kernel(
                room,
                name=program.name,
                kernel=program.kernel,
                folder=program.folder,
                on_ready=on_ready,
            )
        )
        with _cancelled_by_signals(serving), contextlib.suppress(asyncio.CancelledError):
            await serving
        with contextlib.suppress(CollabError, TimeoutError):
            await room.wait_synced(_LEAVE_S)
        return 0 if Notebook(room).is_fresh else room.status.pending_updates


def _check_loopback(relay: str) -> None:
    with contextlib.suppress(ValueError):
        host = urlsplit(relay).hostname or ""
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return
    raise LocalError(
        f"A kernel runs any code that somebody in the room asks for, so it takes a relay on this "
        f"machine alone, and {relay!r} is not one. Nothing was opened. Use ws://127.0.0.1:PORT."
    )


@contextlib.contextmanager
def _cancelled_by_signals(task: asyncio.Task[None]) -> Any:
    """A signal is a wish to leave. (Windows has Ctrl-C alone, which asyncio turns into that.)"""
    if sys.platform == "win32":
        yield
        return
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


if __name__ == "__main__":
    from collab.cli import main

    sys.argv.insert(1, "kernel")
    main()
