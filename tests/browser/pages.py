"""Tabs that run the package, and what a test asks of them. Not a test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import BrowserContext, Page

import collab
from collab.protocol.backoff import BackoffSettings

WITHIN_S = 20.0

QUICK = collab.ClientSettings(
    connection=collab.ConnectionSettings(
        backoff=BackoffSettings(base_s=0.1, cap_s=0.5, attempts_per_hour=100_000)
    )
)


@dataclass
class Tab:
    """One tab with the room ``design`` open. ``faults`` are errors that nobody caught."""

    page: Page
    faults: list[str] = field(default_factory=list)

    async def ask(self, expression: str, argument: Any = None) -> Any:
        """What a JavaScript expression or function comes to, in the page."""
        return await self.page.evaluate(expression, argument)

    async def insert(self, index: int, text: str) -> None:
        """Type into the document, and return once that is saved."""
        await self.ask(
            """async ([index, text]) => {
                room.doc.getText("body").insert(index, text);
                await room.waitSaved();
            }""",
            [index, text],
        )

    async def text(self) -> str:
        return str(await self.ask("room.doc.getText('body').toString()"))

    async def state(self) -> str:
        return str(await self.ask("client.connection.state"))

    async def is_leader(self) -> bool:
        return bool(await self.ask("client.isLeader"))

    async def synced(self) -> None:
        await self.ask(f"room.waitSynced({{ timeoutMs: {WITHIN_S * 1000:.0f} }})")


async def tab(context: BrowserContext, relay: str, *, store: str = "test") -> Tab:
    """A new tab of this profile, with the store and the room open."""
    opened = Tab(await context.new_page())
    opened.page.on("pageerror", lambda error: opened.faults.append(str(error)))
    await opened.page.goto(relay.replace("ws", "http", 1))
    await opened.page.wait_for_function("globalThis.collab !== undefined")
    await opened.ask(
        """async ([name, relay]) => {
            globalThis.client = await collab.open({ name, relay });
            globalThis.room = await client.room("design");
        }""",
        [store, relay],
    )
    return opened


async def until(holds: Callable[[], Awaitable[bool]], *, within_s: float = WITHIN_S) -> float:
    """Wait until something holds; how long that took."""
    began = time.monotonic()
    while not await holds():
        assert time.monotonic() - began < within_s, "it never came"
        await asyncio.sleep(0.02)
    return time.monotonic() - began
