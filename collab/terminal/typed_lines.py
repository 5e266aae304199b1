"""Lines that somebody typed, done one after the other: messages go in the order of the keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

__all__ = ["TypedLines"]

logger = logging.getLogger(__name__)

_WAITING: Final = 100  # typed and not done yet: a slow disk


class TypedLines:
    """``do`` is called with each line that was taken, while they are being done."""

    def __init__(self, do: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        self._do = do
        self._lines: asyncio.Queue[str] = asyncio.Queue(_WAITING)
        self._aside: set[asyncio.Task[None]] = set()

    def put(self, line: str) -> bool:
        """Take a line; False if too many wait, and it was not taken."""
        try:
            self._lines.put_nowait(line)
        except asyncio.QueueFull:
            return False
        return True

    @asynccontextmanager
    async def being_done(self) -> AsyncIterator[None]:
        """While the block runs lines are done; after it, what was taken is done to the end."""
        doing = asyncio.create_task(self._do_all())
        try:
            yield
            await self.done()
        finally:
            tasks = [doing, *self._aside]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _do_all(self) -> None:
        while True:
            line = await self._lines.get()
            try:
                if line.split(maxsplit=1)[:1] == ["/more"]:  # may wait for the relay
                    self.aside(self._do(line))
                else:
                    await self._do(line)
            except Exception:  # a task's root: a fault holds up neither other lines nor leaving
                logger.exception("a fault of collab; what was typed is not done: %s", line)
            finally:
                self._lines.task_done()

    def aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this too, and hold up no line."""
        task = asyncio.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def done(self) -> None:
        """Return when all that was taken is done."""
        await self._lines.join()
