"""``collab demo``: the notebook, its relay and a sample participant, served from one process."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console

import collab
from collab.errors import CollabError, LocalError
from collab.notebook.document import FRESH
from collab.notebook.participant import NAME, take_part
from collab.notebook.site import routes

__all__ = ["DEFAULT_PORT", "ROOM", "run_notebook"]

DEFAULT_PORT: Final = 8765
"""Always the same one: what a browser keeps belongs to an address."""

ROOM: Final = "notebook"
_HOST: Final = "127.0.0.1"


def run_notebook(console: Console, *, port: int, data: Path, kernel: bool) -> int:
    """Serve until Ctrl-C or SIGTERM; returns the exit status.

    Everything is kept in ``data``. ``port`` 0 takes a free one. Raises :class:`LocalError` if it
    cannot be served, and what a kernel raises if there is none.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(
            f"The notebook has no place for its files: {error}. Nothing was started. Give it a "
            f"folder that this user may write: --data DIR."
        ) from error
    try:
        asyncio.run(_serve(console, port, data, kernel))
    except* CollabError as errors:
        raise _first(errors) from None
    return 0


def _first(errors: BaseExceptionGroup[CollabError]) -> CollabError:
    """Somebody who takes part failed: what is said is the first of what they said."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _serve(console: Console, port: int, data: Path, kernel: bool) -> None:
    from collab_server.app import Relay
    from collab_server.serving import listen, served
    from collab_server.settings import Settings

    if port == 0:
        free = listen(Settings(data=data, open=True, port=0))
        port = free.getsockname()[1]
        free.close()
    origins = (f"http://{_HOST}:{port}", f"http://localhost:{port}")
    settings = Settings(data=data, host=_HOST, port=port, open=True, origins=origins)
    relay = Relay(settings)
    relay.routes.extend(routes())
    stop = asyncio.Event()
    with _stopped_by_signals(stop):
        async with served(relay, settings) as url, asyncio.TaskGroup() as tasks:
            taking_part = [tasks.create_task(_participant(url, data))]
            if kernel:
                taking_part.append(tasks.create_task(_kernel(url, data)))
            console.print(f"notebook: {origins[0]}/", highlight=False, soft_wrap=True)
            console.print(
                f"Its files are in {data}.", markup=False, highlight=False, soft_wrap=True
            )
            if kernel:
                console.print(
                    "A kernel runs whatever code somebody writes into this notebook, as you, on "
                    "this machine.",
                    style="yellow",
                    soft_wrap=True,
                )
            console.print("Ctrl-C ends it.")
            await stop.wait()
            for task in taking_part:
                task.cancel()


async def _participant(relay: str, data: Path) -> None:
    async with collab.open(data / "participant.db", relay=relay, user={"name": NAME}) as client:
        await take_part(await client.room(ROOM, template=FRESH), random.Random())


async def _kernel(relay: str, data: Path) -> None:
    from collab.notebook.kernel import serve_kernel

    async with collab.open(data / "kernel.db", relay=relay, user={"name": "Kernel"}) as client:
        await serve_kernel(await client.room(ROOM, template=FRESH), folder=data)


@contextlib.contextmanager
def _stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    if sys.platform == "win32":  # Ctrl-C is an exception there
        with contextlib.suppress(KeyboardInterrupt):
            yield
        return
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
