"""Stock providers that are alone in their rooms for a while. Not a test."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.e2e.support import running
from tests.interop.node import running_node

CLIENTS: dict[str, dict[str, Any]] = {
    "3.x": {"version": 3, "state": {"user": {"name": "Ada"}}},
    "3.x without a state": {"version": 3, "state": None},
    "1.5.x": {"version": 1, "state": {"user": {"name": "Bob"}}},
    "1.5.x without a state": {"version": 1, "state": None},
}


async def stay(data: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """What each of them has seen of its connection after ``seconds``."""
    async with running(data) as (url, _), running_node("providers.mjs") as node:
        for name, how in CLIENTS.items():
            version = how["version"]
            await node.do("open", name, version=version, url=url + "/y", room=name)
            await node.do("say", name, state=how["state"])
        await asyncio.sleep(seconds)
        return {name: await node.do("status", name) for name in CLIENTS}
