"""This system's clocks, and the device's running time on them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from collab.errors import CollabError
from collab.protocol.device_clock import BORN, Anchor, Reading, advance

__all__ = ["RunningClock", "keep_forever", "read_clocks"]

KEEP_S: Final = 600.0

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")  # Linux; random, new at every boot
_PROCESS: Final = os.urandom(16)  # stands for the boot where nothing tells it


def _boot() -> tuple[bytes, bool]:
    """A name of this boot, and whether it is of this process alone."""
    try:
        named = bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        named = b""
    return (named, False) if named and hasattr(time, "CLOCK_BOOTTIME") else (_PROCESS, True)


_BOOT, _BY_PROCESS = _boot()


def _up_ms() -> int:
    """Milliseconds that this system has been up, asleep ones included where it counts them."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    return time.monotonic_ns() // 1_000_000  # pragma: no cover - macOS, Windows


def read_clocks() -> Reading:
    """What this system's clocks say now."""
    return Reading(_BOOT, _up_ms(), time.time_ns() // 1_000_000, _BY_PROCESS)


class RunningClock:
    """The running time of one device file; it goes on where the stored ``anchor`` left off."""

    def __init__(self, anchor: Anchor | None, read: Callable[[], Reading] = read_clocks) -> None:
        self._anchor = anchor or BORN
        self._read = read

    def anchor(self) -> Anchor:
        """The running time now, with what it was read from: to be stored."""
        self._anchor = advance(self._anchor, self._read())
        return self._anchor

    def now(self) -> int:
        """Milliseconds of running time."""
        return self.anchor().running_ms


async def keep_forever(clock: RunningClock, store: Callable[[Anchor], Awaitable[None]]) -> None:
    """Store the anchor every ``KEEP_S``: what is behind it no reboot can hide."""
    while True:
        await asyncio.sleep(KEEP_S)
        with contextlib.suppress(CollabError):  # a full disk: the next time
            await store(clock.anchor())
