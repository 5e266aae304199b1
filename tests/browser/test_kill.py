"""What a page was told is saved survives the death of the browser."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.browser.conftest import browser
from tests.browser.pages import tab
from tests.browser.site import site

KILLS = int(os.environ.get("BROWSER_KILLS", "5"))


def processes_of(profile: Path) -> list[int]:
    """The browser's own process first: it is the oldest one that names the profile."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"--user-data-dir={profile}".encode() in command:
            found.append(int(entry.name))
    return sorted(found)


@pytest.mark.timeout(30 + 30 * KILLS)
def test_an_edit_that_was_saved_is_there_after_the_browser_was_killed(
    tmp_path: Path, harness: str
) -> None:
    async def main() -> None:
        profile = tmp_path / "ada"
        async with site(tmp_path / "relay", harness) as relay:
            for kill in range(KILLS):
                async with browser(profile) as ada:
                    page = await tab(ada, relay.url)
                    found = (await page.text()).split()
                    assert found == [f"edit{number}" for number in range(kill)]
                    if kill % 2:
                        await page.ask("client.goOffline()")
                    await page.insert(len(" ".join(found)) + bool(found), f"edit{kill} ")
                    for process in processes_of(profile):
                        os.kill(process, signal.SIGKILL)

    asyncio.run(main())
