"""What in a browser depends on the connection's state: told before it is tried."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.browser.conftest import browser
from tests.browser.pages import Tab, tab, until
from tests.browser.site import site


async def availability(page: Tab, *features: str) -> list[str]:
    """How these features are now, in this tab."""
    told = await page.ask("client.capabilities()")
    return [told[feature]["availability"] for feature in features]


def test_every_tab_is_told_what_works_now(tmp_path: Path, harness: str) -> None:
    asked = ("documents", "messages", "history", "membership", "broadcasts")

    async def main() -> None:
        async with site(tmp_path / "relay", harness) as relay, browser(tmp_path / "ada") as ada:
            leader, other = await tab(ada, relay.url), await tab(ada, relay.url)

            async def both_are(*expected: str) -> bool:
                return all(
                    [await availability(page, *asked) == list(expected) for page in (leader, other)]
                )

            await until(lambda: both_are(*["available"] * 5))
            await other.ask("client.goOffline()")
            await until(lambda: both_are("queued", "queued", "cached", "cached", "unavailable"))
            why = await other.ask("client.capabilities().messages.why")
            assert why.endswith("later, once and in order: the program suspended the connection")
            alone = """async () => {
                const client = await collab.open({ name: "alone" });
                return client.capabilities()["others' edits"].why;
            }"""
            assert await other.ask(alone) == "no relay is configured"
            assert not leader.faults + other.faults

    asyncio.run(main())
