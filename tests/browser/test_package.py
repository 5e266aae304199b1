"""What is published is smaller than its sources, and does the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import collab
from tests.browser.conftest import browser
from tests.browser.pages import WITHIN_S, tab
from tests.browser.site import build_harness, site


def test_the_built_package_is_small_enough_and_works(tmp_path: Path, harness: str) -> None:
    script = build_harness(tmp_path, published=True)  # which fails above the size that we promise
    assert script != harness

    async def main() -> None:
        async with site(tmp_path / "relay", script) as relay, browser(tmp_path / "ada") as ada:
            leader, other = await tab(ada, relay.url), await tab(ada, relay.url)
            await leader.insert(0, "typed")
            await other.ask("room.chat.send('said', { meta: { to: 'all' } })")
            await leader.synced()
            await other.synced()
            name = "room.chat.send('no', { ttlMs: -1 }).catch((error) => error.name)"
            assert await other.ask(name) == "BadMessage"
            async with collab.open(":memory:", relay=relay.url) as client:
                room = await client.room("design")
                await room.wait_synced(WITHIN_S)
                assert str(room.text("body")) == "typed"
                (message,) = await room.chat.history()
                assert (message.body, message.meta) == ("said", {"to": "all"})
                await room.chat.mark_read()
                read = "room.chat.history().then(({ messages: [one] }) => one.wait('read'))"
                await other.ask(read)
            assert await other.text() == "typed"
            assert not leader.faults + other.faults

    asyncio.run(main())
