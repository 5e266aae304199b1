"""What in a browser depends on the connection's state: told before it is tried, never queued."""

from __future__ import annotations

import asyncio
from pathlib import Path

import collab
from tests.browser.conftest import browser
from tests.browser.pages import QUICK, WITHIN_S, Tab, tab, until
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
            assert why == "the program suspended the connection"
            alone = """async () => {
                const client = await collab.open({ name: "alone" });
                return client.capabilities()["others' edits"].why;
            }"""
            assert await other.ask(alone) == "no relay is configured"
            assert not leader.faults + other.faults

    asyncio.run(main())


async def members(page: Tab) -> dict[str, str]:
    """Who belongs to the room, as a tab shows it."""
    listed = await page.ask("room.members.all()")
    return {member["user"]: member["role"] for member in listed}


async def fails(page: Tab, act: str) -> str:
    """The name of the error in which something ends."""
    return str(await page.ask(f"{act}.then(() => 'it worked', (error) => error.name)"))


def test_members_are_told_to_every_tab_and_changed_from_any_while_there_is_a_connection(
    tmp_path: Path, harness: str
) -> None:
    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness) as relay,
            browser(tmp_path / "ada") as ada,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("design")
            await room.wait_synced(WITHIN_S)
            await room.members.set("cem", "admin")
            leader, other = await tab(ada, relay.url), await tab(ada, relay.url)

            async def both_list(expected: dict[str, str]) -> bool:
                return all([await members(page) == expected for page in (leader, other)])

            await until(lambda: both_list({"cem": "admin"}))
            await leader.ask(
                """() => {
                    globalThis.told = [];
                    room.members.observe(({ added }) => told.push(added[0].user));
                }"""
            )
            await other.ask("room.members.set('ben', 'writer')")
            assert await members(other) == {"ben": "writer", "cem": "admin"}
            await until(lambda: both_list({"ben": "writer", "cem": "admin"}))
            assert await leader.ask("told") == ["ben"]
            await until(lambda: is_true(room.members.get("ben") is not None))
            await leader.ask("room.members.remove('cem')")
            await until(lambda: both_list({"ben": "writer"}))
            await other.ask("client.goOffline()")
            await until(lambda: is_state(leader, "suspended"))
            for page in (leader, other):
                assert await fails(page, "room.members.set('dov', 'reader')") == "OfflineError"
                assert await fails(page, "room.members.set('dov', 'owner')") == "BadArgument"
                await page.page.close()
            again = await tab(ada, relay.url)
            await again.ask("client.goOffline()")
            assert await members(again) == {"ben": "writer"}
            assert not leader.faults + other.faults

    asyncio.run(main())


async def is_true(value: bool) -> bool:
    return value


async def is_state(page: Tab, expected: str) -> bool:
    return await page.state() == expected
