"""All tests here need Debian's Chromium, Node and npm: without them they skip, and fail on CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Error, Playwright, async_playwright

from tests.browser.site import build_harness

CHROMIUM = "/usr/bin/chromium"
# As root there is no sandbox; the rest keeps Chromium from calling anybody but the test's pages.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

Profile = Callable[[Path], AbstractAsyncContextManager[BrowserContext]]


@pytest.fixture(scope="session", autouse=True)
def harness(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of the test page."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if not Path(CHROMIUM).exists():
        missing.append("chromium")
    if missing:
        why = f"{' and '.join(missing)} missing: nothing is tried in a browser"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return build_harness(tmp_path_factory.mktemp("harness"))


@asynccontextmanager
async def browser(profile: Path) -> AsyncIterator[BrowserContext]:
    """Chromium with a profile of its own, whose storage is in that folder."""
    async with async_playwright() as playwright:
        context = await launch(playwright, profile)
        try:
            yield context
        finally:
            with suppress(Error):  # a test may have killed it
                await context.close()


async def launch(playwright: Playwright, profile: Path) -> BrowserContext:
    return await playwright.chromium.launch_persistent_context(
        profile, executable_path=CHROMIUM, args=FLAGS, headless=True
    )
