"""The notebook's page in a browser, and what a test asks of it. Not a test."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pycrdt
from playwright.async_api import BrowserContext, Locator, Page, expect

import collab
from collab.fault_proxy import FaultProxy
from collab.notebook.site import routes
from collab.testing import TestRelay
from tests.browser.site import relay_with

WITHIN_MS = 20_000

expect.set_options(timeout=WITHIN_MS)


@dataclass
class Notebook:
    """A tab with the notebook. ``faults`` are errors that nobody caught, and what was forbidden."""

    page: Page
    faults: list[str] = field(default_factory=list)

    @property
    def cells(self) -> Locator:
        return self.page.locator(".cell")

    @property
    def status(self) -> Locator:
        return self.page.locator("#status")

    @property
    def messages(self) -> Locator:
        return self.page.locator(".log .words")

    async def write(self, place: int, text: str) -> None:
        """Type at the end of a cell, the way that a user does."""
        editor = self.cells.nth(place).locator(".cm-content")
        await editor.click()
        await self.page.keyboard.press("Control+End")
        await self.page.keyboard.type(text)
        await self.page.keyboard.press("Escape")

    async def waits(self, more: str = "") -> None:
        """Wait until all that was typed is saved here, and said to wait for a network."""
        await expect(self.status).to_have_text(re.compile(rf"^Offline: \d+ changes?{more} waits?$"))

    async def say(self, text: str) -> None:
        field_ = self.page.locator(".chat textarea")
        await field_.fill(text)
        await field_.press("Enter")

    async def shows(self, text: str) -> None:
        """Wait until the status bar says this."""
        await expect(self.status).to_have_text(text)

    async def flip_offline(self) -> None:
        await self.page.get_by_role("switch", name="Work offline").click()

    async def connect(self) -> None:
        """Press "Try now", whether it is still there or the page came back by itself."""
        button = self.page.locator("button[aria-label='Try to connect now']")
        await button.evaluate("(button) => button.click()")

    async def file(self) -> dict[str, Any]:
        """The notebook, as the page saves it into a file."""
        async with self.page.expect_download() as saving:
            save = self.page.get_by_role("button", name="Save as a notebook file")
            await save.evaluate("(button) => button.click()")  # the focus stays where it is
        download = await saving.value
        content: dict[str, Any] = json.loads(Path(await download.path()).read_text())
        return content

    async def sources(self) -> list[str]:
        return ["".join(cell["source"]) for cell in (await self.file())["cells"]]

    async def reload(self) -> None:
        await self.page.reload()
        await self.page.wait_for_selector(".notebook")


async def notebook(context: BrowserContext, url: str, name: str, query: str = "") -> Notebook:
    """Open the notebook at ``url`` (a relay's, or that of a proxy before it) under a name."""
    opened = Notebook(await context.new_page())
    opened.page.on("pageerror", lambda error: opened.faults.append(str(error)))
    opened.page.on("console", lambda said: _keep_refusals(opened.faults, said.text))
    await opened.page.goto(url.replace("ws", "http", 1) + "/" + query)
    await opened.page.wait_for_selector(".notebook")
    await opened.page.get_by_label("Your name").fill(name)
    await opened.page.get_by_label("Your name").press("Enter")
    # The page is kept for when there is no network.
    await opened.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    return opened


def _keep_refusals(faults: list[str], said: str) -> None:
    # Chromium's own editing tries to keep a style where lines are joined; CodeMirror draws anew.
    if "Content Security Policy" in said and not said.startswith("Applying inline style"):
        faults.append(said)


@asynccontextmanager
async def notebook_site(data: Path, *origins: FaultProxy) -> AsyncIterator[TestRelay]:
    """A relay with the notebook's page; its users may also come through these proxies."""
    async with relay_with(routes(), data, *origins) as relay:
        yield relay


def cells_of(room: collab.Room) -> Any:
    """The notebook's shared array of cells."""
    return room.document.get("cells", type=pycrdt.Array)


def source_of(room: collab.Room, place: int) -> collab.Text:
    """The text of a cell, for a Python client to edit."""
    return room.text(cells_of(room)[place]["source"])


async def sources_of(room: collab.Room) -> list[str]:
    return [str(cell["source"]) for cell in cells_of(room)]


async def until_equal(expected: object, ask: Any, *, within_s: float = WITHIN_MS / 1000) -> None:
    """Wait until ``await ask()`` gives what is expected."""
    found: object = None
    try:
        async with asyncio.timeout(within_s):
            while (found := await ask()) != expected:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{found!r} instead of {expected!r}") from None
