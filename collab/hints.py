"""Where hints about the network come from: a small port, for a program to fill."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

__all__ = ["HintSource", "follow"]

logger = logging.getLogger(__name__)


class HintSource(Protocol):
    """Something that knows of the network: an operating system, a phone's radio, a menu entry.

    What it says need not be true. ``up`` begins an attempt, or makes a connection that looks live
    prove itself; nothing is sent on its word, and nothing ends by it.
    """

    async def watch(self, hint: Callable[[bool], object]) -> None:
        """Call ``hint(up)`` at every change, until cancelled.

        It may return or raise when there is nothing to watch here: then there are no hints.
        """


async def follow(source: HintSource, hint: Callable[[bool], object]) -> None:
    """Watch ``source``; if it fails, do without."""
    try:
        await source.watch(hint)
    except asyncio.CancelledError:
        raise
    except Exception as error:  # noqa: BLE001 - a task's root: hints are a convenience
        logger.warning("no hints about the network from here on, which costs only time: %s", error)
