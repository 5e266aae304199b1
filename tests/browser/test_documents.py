"""A browser is a device like any other: saved here first, merged when there is a relay."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from pathlib import Path

import collab
import collab.testing
from tests.browser.conftest import browser
from tests.browser.pages import QUICK, tab, until
from tests.browser.site import site


def test_two_profiles_and_a_python_client_merge_what_they_typed_apart(
    tmp_path: Path, harness: str
) -> None:
    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness) as relay,
            browser(tmp_path / "ada") as ada,
            browser(tmp_path / "ben") as ben,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            hers, his = await tab(ada, relay.url), await tab(ben, relay.url)
            room = await client.room("design")
            text = room.text("body")
            await hers.insert(0, "你好. ")
            await until(lambda: _is("你好. ", hers.text, his.text, _of(text)))
            async with relay.offline():
                await hers.insert(0, "Ada. ")
                await his.insert(0, "Ben 📊. ")
                text.insert(0, "Cem. ")
                await room.wait_saved()
                assert await hers.text() == "Ada. 你好. "
                assert (await hers.ask("room.status"))["synced"] is False
                assert (await hers.ask("room.status"))["pendingUpdates"] == 1
            for each in (hers, his):
                await each.ask("client.connect()")
            client.connect()
            await hers.synced()
            await his.synced()
            await room.wait_synced(20)
            together = str(text)
            assert sorted(together.split()) == sorted(["Ada.", "Ben", "📊.", "Cem.", "你好."])
            await until(lambda: _is(str(text), hers.text, his.text, _of(text)))
            assert not hers.faults + his.faults

    asyncio.run(main())


def test_a_page_that_is_loaded_again_without_a_relay_has_everything(
    tmp_path: Path, harness: str
) -> None:
    async def main() -> None:
        async with site(tmp_path / "relay", harness) as relay, browser(tmp_path / "ada") as ada:
            first = await tab(ada, relay.url)
            await first.insert(0, "one ")
            await first.synced()
            await first.ask("client.goOffline()")
            await until(lambda: _is("suspended", first.state))
            await first.insert(4, "two")
            await first.page.close()
            again = await tab(ada, relay.url)
            assert await again.text() == "one two"
            await again.synced()
            async with collab.open(":memory:", relay=relay.url) as client:
                room = await client.room("design")
                await room.wait_synced(20)
                assert str(room.text("body")) == "one two"

    asyncio.run(main())


def test_what_a_tab_calls_synced_is_at_the_relay(tmp_path: Path, harness: str) -> None:
    async def main() -> None:
        async with (
            collab.testing.proxy("ws://127.0.0.1:1") as network,
            site(tmp_path / "relay", harness, network) as relay,
            browser(tmp_path / "ada") as ada,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("design")
            body = room.text("body")
            leader, follower = await tab(ada, network.url), await tab(ada, network.url)
            await leader.synced()
            network.delay_s = 0.05  # longer than it takes to cut: what is on its way is lost
            for turn, writer in enumerate([leader, follower] * 3):
                await writer.ask(
                    """async (word) => {
                        room.doc.getText("body").insert(0, word);
                        await room.waitSynced({ timeoutMs: 20000 });
                    }""",
                    f"{turn} ",
                )
                with network.offline():
                    await until(functools.partial(_says, body, range(turn, -1, -1)))
                await writer.ask("client.connect()")

    asyncio.run(main())


def test_a_long_history_is_compacted_and_opens_with_everything(
    tmp_path: Path, harness: str
) -> None:
    async def main() -> None:
        async with site(tmp_path / "relay", harness) as relay, browser(tmp_path / "ada") as ada:
            first = await tab(ada, relay.url)
            for _ in range(4):
                await first.ask(
                    """async () => {
                        const body = room.doc.getText("body");
                        for (let n = 0; n < 200; n += 1) body.insert(body.length, "x".repeat(100));
                        await room.waitSynced({ timeoutMs: 20000 });
                    }"""
                )
            rows = """async () => {
                const request = indexedDB.open("collab:test");
                await new Promise((resolve) => (request.onsuccess = resolve));
                const count = request.result.transaction("updates").objectStore("updates").count();
                await new Promise((resolve) => (count.onsuccess = resolve));
                request.result.close();
                return count.result;
            }"""
            await until(lambda: _below(3, lambda: first.ask(rows)))
            again = await tab(ada, relay.url)
            assert await again.text() == "x" * 80_000

    asyncio.run(main())


def test_presence_is_seen_both_ways_and_ends_with_the_tab(tmp_path: Path, harness: str) -> None:
    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness) as relay,
            browser(tmp_path / "ada") as ada,
            collab.open(":memory:", relay=relay.url) as client,
        ):
            room = await client.room("design")
            room.presence.set({"name": "Cem"})
            first, second = await tab(ada, relay.url), await tab(ada, relay.url)
            for each, name in ((first, "Ada"), (second, "Ada too")):
                await each.ask("(name) => room.awareness.setLocalStateField('name', name)", name)
            names = """() => [...room.awareness.getStates().values()]
                .map((state) => state.name).sort()"""
            everybody = ["Ada", "Ada too", "Cem"]
            await until(lambda: _is(everybody, *(_asking(each, names) for each in (first, second))))
            await until(lambda: _is(2, _count(room)))
            await second.ask("client.close()")
            await until(lambda: _is(["Ada", "Cem"], _asking(first, names)))
            await until(lambda: _is(1, _count(room)))

    asyncio.run(main())


async def _is(expected: object, *asked: object) -> bool:
    return all([await one() == expected for one in asked])  # type: ignore[operator]


async def _below(bound: int, ask: object) -> bool:
    return int(await ask()) < bound  # type: ignore[operator]


async def _says(text: collab.Text, numbers: Iterable[int]) -> bool:
    return str(text) == "".join(f"{number} " for number in numbers)


def _of(text: collab.Text) -> object:
    async def ask() -> str:
        return str(text)

    return ask


def _asking(each: object, expression: str) -> object:
    async def ask() -> object:
        return await each.ask(expression)  # type: ignore[attr-defined]

    return ask


def _count(room: collab.Room) -> object:
    async def ask() -> int:
        return len(room.presence.others())

    return ask
