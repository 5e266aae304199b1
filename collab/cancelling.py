"""Being cancelled: whether it is we who are, and work that it may not leave half done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["is_cancelled", "to_the_end"]

T = TypeVar("T")


def is_cancelled() -> bool:
    """Whether this task itself is told to end. Else a CancelledError is of what it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work``. If we are cancelled meanwhile it still ends first."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()
        raise cancelled
    return task.result()
