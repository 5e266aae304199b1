"""The notebook in real browsers: what two people and a program do apart is one in the end."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import expect

import collab
from tests.browser.conftest import browser
from tests.browser.notebook import (
    notebook,
    notebook_site,
    source_of,
    sources_of,
    until_equal,
)
from tests.browser.pages import QUICK


@pytest.mark.timeout(300)
def test_two_people_and_a_program_go_on_apart_and_come_out_identical(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            collab.testing.proxy("ws://127.0.0.1:1") as network,
            notebook_site(tmp_path / "relay", network) as relay,
            browser(tmp_path / "ada") as adas,
            browser(tmp_path / "ben") as bens,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            await ada.write(0, "# together\n")
            await ada.shows("Synced")
            ben = await notebook(bens, network.url, "Ben")
            await expect(ben.cells.first).to_contain_text("# together")
            await ben.shows("Synced")
            room = await client.room("notebook")
            await room.wait_synced(20)
            await ada.say("one from Ada")
            await expect(ben.messages).to_have_text(["one from Ada"])

            with network.offline():
                await ben.shows("Offline: saved on this device")
                await ben.write(0, "ben = 1\n")
                await ben.waits()
                await ada.write(0, "ada = 2\n")
                await ada.shows("Synced")
                await ben.say("one from Ben")
                await ben.waits(" and 1 message")
                await ben.reload()  # the service worker has the page, the store the rest
                await ben.waits(" and 1 message")
                await expect(ben.cells.first).to_contain_text("ben = 1")
                await expect(ben.messages).to_have_text(["one from Ada", "one from Ben"])
                await ben.write(0, "ben += 1\n")
                source_of(room, 0).insert(0, "cem = 3  # 你好\n")
                await room.chat.send("one from Cem")
                await room.wait_synced(20)
                await ada.say("two from Ada")
                await expect(ada.messages.last).to_have_text("two from Ada")

            await ben.connect()
            await ben.shows("Synced")
            await ada.shows("Synced")
            await room.wait_synced(20)

            merged = await ada.sources()
            await until_equal(merged, ben.sources)
            await until_equal(merged, lambda: sources_of(room))
            assert merged[0].startswith("cem = 3  # 你好\n# together\n")
            lines = ["", "# together", "ada = 2", "ben += 1", "ben = 1", "cem = 3  # 你好"]
            assert sorted(merged[0].split("\n")) == lines
            assert (await ada.file()) == (await ben.file())

            said = ["one from Ada", "one from Cem", "two from Ada", "one from Ben"]
            for each in (ada, ben):
                await expect(each.messages).to_have_text(said)
            history = await room.chat.history()
            assert [message.body for message in history] == said
            assert not ada.faults + ben.faults

    asyncio.run(main())


@pytest.mark.timeout(120)
def test_who_chose_to_work_offline_does_so_after_a_reload_and_in_every_tab(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            notebook_site(tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            room = await client.room("notebook")
            await ada.write(0, "together")
            await ada.shows("Synced")
            await until_equal(["together"], lambda: sources_of(room))
            await ada.flip_offline()
            await ada.shows("Working offline: saved on this device")
            await ada.write(0, " and alone")
            waits = re.compile(r"^Working offline: \d+ changes? waits?$")
            await expect(ada.status).to_have_text(waits)
            await ada.reload()
            await expect(ada.status).to_have_text(waits)
            await expect(ada.page.locator(".status-detail")).to_contain_text("You chose so")
            switch = ada.page.get_by_role("switch", name="Work offline")
            await expect(switch).to_be_checked()
            other = await notebook(adas, relay.url, "Ada")
            await expect(other.status).to_contain_text("Working offline: ")
            assert await sources_of(room) == ["together"]
            await other.flip_offline()
            for each in (ada, other):
                await each.shows("Synced")
                await each.reload()
                await each.shows("Synced")
            await until_equal(["together and alone"], lambda: sources_of(room))
            assert not ada.faults + other.faults

    asyncio.run(main())
