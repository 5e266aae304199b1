"""Keys that are pressed on an app in this process. Not a test."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.pilot import Pilot


async def press(pilot: Pilot[Any], *keys: str) -> None:
    """Press keys and let what they do be done. Textual's own pilot knows no key for an emoji."""
    for key in keys:
        if len(key) == 1 and not key.isascii():
            pilot.app.post_message(events.Key(key, key))
            await pilot.pause()
        else:
            await pilot.press(key)
    await pilot.pause()
