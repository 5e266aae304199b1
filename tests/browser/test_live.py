"""What in a browser depends on the connection's state: told before it is tried, never queued."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import collab
from collab_server.services import CallRefused, ServiceCall
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
                    room.members.observe(({ added }) => told.push(...added));
                }"""
            )
            await other.ask("room.members.set('ben', 'writer')")
            assert await members(other) == {"ben": "writer", "cem": "admin"}
            await until(lambda: both_list({"ben": "writer", "cem": "admin"}))
            assert await leader.ask("told") == [{"user": "ben", "role": "writer"}]
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


def test_what_is_broadcast_reaches_everybody_else_who_is_there_and_nobody_later(
    tmp_path: Path, harness: str
) -> None:
    hear = """() => {
        globalThis.heard = [];
        room.onBroadcast(({ payload }) => heard.push(payload));
    }"""

    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness) as relay,
            browser(tmp_path / "ada") as ada,
            browser(tmp_path / "ben") as ben,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("design")
            heard: list[collab.Broadcast] = []
            room.on_broadcast(heard.append)
            await room.wait_synced(WITHIN_S)
            leader, other = await tab(ada, relay.url), await tab(ada, relay.url)
            afar = await tab(ben, relay.url)
            for page in (leader, other, afar):
                await page.synced()
                await page.ask(hear)
            await other.ask("room.broadcast({ caret: 3 })")
            await leader.ask("room.broadcast([1, 'two', null])")
            both = [{"caret": 3}, [1, "two", None]]
            await until(lambda: has_heard(afar, both))
            await until(lambda: is_true([one.payload for one in heard] == both))
            assert await other.ask("heard") == both[1:]
            assert await leader.ask("heard") == both[:1]
            await room.broadcast("from afar")
            await until(lambda: has_heard(leader, [both[0], "from afar"]))
            await until(lambda: has_heard(other, [both[1], "from afar"]))
            await other.ask("client.goOffline()")
            await until(lambda: is_state(leader, "suspended"))
            for page in (leader, other):
                assert await fails(page, "room.broadcast('later')") == "OfflineError"
                assert await fails(page, "room.broadcast(() => 1)") == "BadMessage"
            await other.ask("client.goOnline()")
            await other.synced()
            await other.ask("room.broadcast('again')")
            await until(lambda: is_true(heard[-1].payload == "again"))
            assert [one.payload for one in heard] == [*both, "again"]
            assert not leader.faults + other.faults + afar.faults

    asyncio.run(main())


def test_a_service_at_the_relay_answers_any_tab_while_there_is_a_connection(
    tmp_path: Path, harness: str
) -> None:
    begun = asyncio.Event()

    async def double(call: ServiceCall) -> object:
        assert isinstance(call.payload, dict)
        return {"twice": 2 * call.payload["number"]}

    async def sell(_call: ServiceCall) -> object:
        raise CallRefused("sold_out", "nothing is left")

    async def wait(_call: ServiceCall) -> object:
        begun.set()
        await asyncio.Event().wait()
        return None

    async def main() -> None:
        services = {"double": double, "sell": sell, "wait": wait}
        async with (
            site(tmp_path / "relay", harness, services=services) as relay,
            browser(tmp_path / "ada") as ada,
        ):
            leader, other = await tab(ada, relay.url), await tab(ada, relay.url)
            for page in (leader, other):
                await page.synced()
                assert await page.ask("room.call('double', { number: 21 })") == {"twice": 42}
                refused = """room.call("sell").catch(({ name, code, message }) =>
                    [name, code, message.includes("nothing is left")])"""
                assert await page.ask(refused) == ["Rejected", "sold_out", True]
                assert await fails(page, "room.call('none')") == "Rejected"
                late = "room.call('wait', null, { timeoutMs: 50 })"
                assert await fails(page, late) == "TimeoutError"
            begun.clear()
            await other.ask(
                "() => { globalThis.waiting = room.call('wait'); waiting.catch(() => 0); }"
            )
            await asyncio.wait_for(begun.wait(), WITHIN_S)
            await leader.page.close()  # with whom the call is lost
            assert await fails(other, "waiting") == "OfflineError"
            await until(other.is_leader)
            await other.synced()
            assert await other.ask("room.call('double', { number: 1 })") == {"twice": 2}
            await other.ask("client.goOffline()")
            assert await fails(other, "room.call('double', { number: 1 })") == "OfflineError"
            assert not other.faults

    asyncio.run(main())


async def has_heard(page: Tab, expected: Sequence[object]) -> bool:
    return list(await page.ask("heard")) == list(expected)


async def is_true(value: bool) -> bool:
    return value


async def is_state(page: Tab, expected: str) -> bool:
    return await page.state() == expected
