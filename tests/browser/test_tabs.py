"""Tabs of one profile: one store, one connection, and whoever leads may go at any time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import collab
from tests.browser.conftest import browser
from tests.browser.pages import QUICK, tab, until
from tests.browser.site import site


def test_three_tabs_have_one_connection_and_hand_it_over_within_two_seconds(
    tmp_path: Path, harness: str
) -> None:
    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness) as relay,
            browser(tmp_path / "ada") as ada,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            text = (await client.room("design")).text("body")
            tabs = [await tab(ada, relay.url) for _ in range(3)]
            shared = relay._app._shared
            assert shared is not None
            assert len(shared.connections) == 2  # the browser's, and the Python client's
            assert [await each.is_leader() for each in tabs] == [True, False, False]
            for number, each in enumerate(tabs):
                await each.insert(0, f"tab {number}. ")
            await tabs[2].synced()

            # The leader goes in the middle of what the others type.
            async def keep_typing() -> None:
                for number in range(20):
                    await tabs[1].insert(0, f"{number} ")
                    await tabs[2].insert(0, f"{number} ")

            typing = asyncio.create_task(keep_typing())
            await tabs[0].page.close()

            async def led() -> bool:
                leaders = [await each.is_leader() for each in tabs[1:]]
                states = [await each.state() for each in tabs[1:]]
                return sum(leaders) == 1 and states == ["live", "live"]

            assert await until(led) < 2.0
            await typing
            for each in tabs[1:]:
                await each.synced()

            async def same() -> bool:
                return [await each.text() for each in tabs[1:]] == [str(text)] * 2

            await until(same)
            typed = [f"tab {number}." for number in range(3)]
            assert all(str(text).count(words) == 1 for words in typed)
            numbers = [word for word in str(text).split() if word.isdigit()]
            assert sorted(numbers) == sorted([*map(str, range(20))] * 2)
            assert len(shared.connections) == 2
            assert not [fault for each in tabs[1:] for fault in each.faults]

    asyncio.run(main())


def test_a_switch_in_one_tab_takes_all_of_them_offline_and_back(
    tmp_path: Path, harness: str
) -> None:
    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness) as relay,
            browser(tmp_path / "ada") as ada,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            text = (await client.room("design")).text("body")
            leader, other = await tab(ada, relay.url), await tab(ada, relay.url)
            await other.synced()
            await other.ask("client.goOffline()")

            async def states(wanted: str) -> bool:
                return [await leader.state(), await other.state()] == [wanted, wanted]

            await until(lambda: states("suspended"))
            await leader.insert(0, "one ")

            async def seen() -> bool:
                return await other.text() == "one "

            await until(seen)  # through the store
            assert str(text) == ""
            await leader.page.close()  # who leads next stays away too

            async def led() -> bool:
                return await other.is_leader()

            await until(led)
            assert await other.state() == "suspended"
            await other.ask("client.goOnline()")
            await other.synced()

            async def arrived() -> bool:
                return str(text) == "one "

            await until(arrived)

    asyncio.run(main())
