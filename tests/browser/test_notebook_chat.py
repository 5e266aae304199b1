"""The chat beside the notebook: what is unread, how far a message got, and how it is taken back."""

from __future__ import annotations

import asyncio
from pathlib import Path

from playwright.async_api import expect

import collab
from tests.browser.conftest import browser
from tests.browser.notebook import notebook, notebook_site
from tests.browser.pages import QUICK


def test_what_is_unread_is_counted_and_what_is_sent_says_how_far_it_got(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            collab.testing.proxy("ws://127.0.0.1:1") as network,
            notebook_site(tmp_path / "relay", network) as relay,
            browser(tmp_path / "ada") as adas,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, network.url, "Ada")
            room = await client.room("notebook")
            await room.wait_synced(20)
            opener = ada.page.locator(".opener")
            await opener.click()
            await expect(opener).to_have_attribute("aria-expanded", "false")
            sent = await room.chat.send("are you there?", meta={"name": "Cem"})
            await expect(opener).to_have_text("Chat 1")
            await expect(opener).to_have_accessible_name("Chat, 1 unread")
            await expect(ada.page).to_have_title("(1) Notebook")
            await sent.wait("delivered", 20)
            assert sent.state == "delivered"
            await opener.click()
            await expect(opener).to_have_text("Chat")
            await expect(ada.page).to_have_title("Notebook")
            await sent.wait("read", 20)

            standing = ada.page.locator(".log .standing").last
            await ada.say("here I am")
            await expect(standing).to_have_text("delivered")
            await room.chat.mark_read()
            await expect(standing).to_have_text("read")

            with network.offline():
                await ada.shows("Offline: saved on this device")
                await ada.say("no, wait")
                await ada.shows("Offline: 1 message waits")
                await ada.page.get_by_role("button", name="Take this message back").click()
                await expect(standing).to_have_text("taken back")
                await ada.shows("Offline: saved on this device")
                await ada.say("in a minute")
                await expect(standing).to_contain_text("waits on this device")
            await ada.connect()
            await expect(standing).to_have_text("delivered")
            bodies = [message.body for message in await room.chat.history()]
            assert bodies == ["are you there?", "here I am", "in a minute"]
            assert not ada.faults

    asyncio.run(main())
