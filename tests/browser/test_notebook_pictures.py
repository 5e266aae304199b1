"""The pictures in README: the notebook online, offline with work that waits, and captive.

They are made anew into ``docs/`` with ``PICTURES=1``; else into the test's own folder.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from playwright.async_api import expect

import collab
from collab.fault_proxy import Portal
from tests.browser.conftest import browser
from tests.browser.notebook import Notebook, cells_of, notebook, notebook_site
from tests.browser.pages import QUICK

DOCS = Path(__file__).parent.parent.parent / "docs"
SIZE = {"width": 1100, "height": 620}
MAX_BYTES = 150_000


async def picture(ada: Notebook, into: Path, name: str) -> None:
    await ada.page.screenshot(path=into / f"{name}.png", animations="disabled", caret="hide")
    size = (into / f"{name}.png").stat().st_size
    assert 10_000 < size < MAX_BYTES


@pytest.mark.timeout(240)
def test_the_bar_says_online_offline_and_captive_and_pictures_are_taken(tmp_path: Path) -> None:
    into = DOCS if os.environ.get("PICTURES") == "1" else tmp_path

    async def main() -> None:
        async with (
            collab.testing.proxy("ws://127.0.0.1:1") as network,
            notebook_site(tmp_path / "relay", network) as relay,
            browser(tmp_path / "ada") as adas,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, network.url, "Ada")
            await ada.page.set_viewport_size(SIZE)  # type: ignore[arg-type]
            await ada.cells.first.focus()
            await ada.page.keyboard.press("m")
            await ada.page.keyboard.press("Enter")
            await ada.page.keyboard.insert_text(
                "# Tide gauge, week 48\n\nReadings from the *harbour* station, before we sail."
            )
            await ada.page.keyboard.press("Escape")
            await ada.page.keyboard.press("b")
            await ada.page.keyboard.press("Enter")
            await ada.page.keyboard.insert_text(
                "levels = [1.42, 1.57, 1.49, 1.61]\nround(sum(levels) / len(levels), 3)"
            )
            await ada.page.keyboard.press("Escape")
            await ada.shows("Synced")
            room = await client.room("notebook")
            await room.wait_synced(20)
            text = room.text(cells_of(room)[1]["source"])
            text.insert(0, "# metres above chart datum\n")
            at = text.relative_position(26).to_json()
            room.presence.set(
                {"user": {"name": "Ben"}, "cell": "", "cursor": {"anchor": at, "head": at}}
            )
            await room.chat.send("I added the unit.", meta={"name": "Ben"})
            await expect(ada.page.locator(".caret")).to_have_count(1)
            await ada.say("Thanks! Will check it on board.")
            await expect(ada.page.locator(".standing").last).to_have_text("delivered")
            await ada.shows("Synced")
            await picture(ada, into, "notebook-online")

            with network.offline():
                await ada.shows("Offline: saved on this device")
                await ada.cells.nth(1).focus()
                await ada.page.keyboard.press("Enter")
                await ada.page.keyboard.press("Control+End")
                await ada.page.keyboard.insert_text("  # checked at sea")
                await ada.page.keyboard.press("Escape")
                await ada.say("Out of reach now; I go on writing.")
                await ada.waits(" and 1 message")
                await picture(ada, into, "notebook-offline")
                network.portal = Portal.HTML
            await ada.connect()
            await expect(ada.status).to_contain_text("A network sign-in page is in the way: ")
            await expect(ada.status).to_contain_text(" and 1 message wait")
            await picture(ada, into, "notebook-captive")
            network.portal = None
            network.cut()
            await ada.connect()
            await ada.shows("Synced")
            await expect(ada.messages).to_have_count(3)
            assert not ada.faults

    asyncio.run(main())
