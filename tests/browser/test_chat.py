"""Messages written in a browser: durable here first, and in the room's log once and in order."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import collab
from collab.protocol.frames import Access
from collab_server.auth import User
from collab_server.confirming import Confirm, ConfirmRequest, Refuse, VerdictRuling
from collab_server.hooks import Accept, IncomingMessage, Reject, Rewrite, Ruling
from tests.browser.conftest import browser
from tests.browser.pages import QUICK, WITHIN_S, Tab, tab, until
from tests.browser.site import site
from tests.browser.test_kill import processes_of

KILLS = int(os.environ.get("BROWSER_KILLS", "5"))

_LOG = """async () => {
    const { messages } = await room.chat.history({ limit: 2000 });
    return messages.map(({ seq, body }) => [seq, body]);
}"""
_WATCH = """() => {
    globalThis.events = [];
    room.chat.observe(({ type, message }) => events.push(message ? [type, message.body] : [type]));
}"""


async def send(page: Tab, *bodies: str) -> None:
    """Send messages, one after the other; each is durable before the next."""
    await page.ask(
        "async (bodies) => { for (const body of bodies) await room.chat.send(body); }",
        list(bodies),
    )


async def log_of(page: Tab) -> list[tuple[int | None, str]]:
    """All messages that a tab shows."""
    return [(seq, body) for seq, body in await page.ask(_LOG)]


async def log_in(room: collab.Room) -> list[tuple[int | None, str]]:
    """All messages that a Python device shows."""
    return [(message.seq, message.body) for message in await room.chat.history(2000)]


def come_true(expected: object, *asked: Callable[[], Awaitable[Any]]) -> Awaitable[float]:
    """Wait until all that is asked for is as expected."""

    async def holds() -> bool:
        return all([await one() == expected for one in asked])

    return until(holds)


def test_both_sides_write_apart_and_have_one_log_afterwards(tmp_path: Path, harness: str) -> None:
    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness) as relay,
            browser(tmp_path / "ada") as ada,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("design")
            hers = await tab(ada, relay.url)
            await send(hers, "first")
            await come_true([(1, "first")], lambda: log_of(hers), lambda: log_in(room))
            async with relay.offline():
                await send(hers, "Ada 1", "Ada 2", "Ada 📊")
                for body in ("Cem 1", "Cem 2", "Cem 3"):
                    await room.chat.send(body)
                status = await hers.ask("room.status")
                assert (status["synced"], status["pendingMessages"]) == (False, 3)
            await hers.ask("client.connect()")
            client.connect()
            await hers.synced()
            await room.wait_synced(WITHIN_S)
            together = await log_in(room)
            assert [seq for seq, _ in together] == list(range(1, 8))
            bodies = [body for _, body in together]
            assert [body for body in bodies if "Ada" in body] == ["Ada 1", "Ada 2", "Ada 📊"]
            assert [body for body in bodies if "Cem" in body] == ["Cem 1", "Cem 2", "Cem 3"]
            await come_true(together, lambda: log_of(hers))
            assert (await hers.ask("room.status"))["pendingMessages"] == 0
            assert not hers.faults

    asyncio.run(main())


def test_messages_that_wait_are_there_after_a_reload_and_go_up_once(
    tmp_path: Path, harness: str
) -> None:
    async def main() -> None:
        async with site(tmp_path / "relay", harness) as relay, browser(tmp_path / "ada") as ada:
            first = await tab(ada, relay.url)
            await first.synced()
            await first.ask("client.goOffline()")
            await send(first, "one", "two", "three")
            await first.page.close()
            again = await tab(ada, relay.url)
            await again.synced()
            expected = [(1, "one"), (2, "two"), (3, "three")]
            assert await log_of(again) == expected
            async with collab.open(":memory:", relay=relay.url) as client:
                room = await client.room("design")
                await room.wait_synced(WITHIN_S)
                assert await log_in(room) == expected

    asyncio.run(main())


@pytest.mark.timeout(30 + 30 * KILLS)
def test_a_message_that_was_sent_survives_the_death_of_the_browser_and_comes_once(
    tmp_path: Path, harness: str
) -> None:
    async def main() -> None:
        profile = tmp_path / "ada"
        async with site(tmp_path / "relay", harness) as relay:
            for kill in range(KILLS):
                async with browser(profile) as ada:
                    page = await tab(ada, relay.url)
                    found = [body for _, body in await log_of(page)]
                    assert found == [f"message {number}" for number in range(kill)]
                    if kill % 2:
                        await page.ask("client.goOffline()")
                    await send(page, f"message {kill}")
                    for process in processes_of(profile):
                        os.kill(process, signal.SIGKILL)
            async with browser(profile) as ada:
                page = await tab(ada, relay.url)
                await page.synced()
                expected = [(number + 1, f"message {number}") for number in range(KILLS)]
                assert await log_of(page) == expected
            async with collab.open(":memory:", relay=relay.url) as client:
                room = await client.room("design")
                await room.wait_synced(WITHIN_S)
                assert await log_in(room) == expected

    asyncio.run(main())


def test_three_tabs_send_while_the_leader_goes_and_nothing_is_lost_doubled_or_turned_round(
    tmp_path: Path, harness: str
) -> None:
    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness) as relay,
            browser(tmp_path / "ada") as ada,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("design")
            tabs = [await tab(ada, relay.url) for _ in range(3)]
            assert [await each.is_leader() for each in tabs] == [True, False, False]
            await tabs[2].synced()

            async def keep_sending(number: int) -> None:
                for turn in range(20):
                    await send(tabs[number], f"tab {number}: {turn}")
                    if turn == 2:
                        begun[number].set()

            begun = {number: asyncio.Event() for number in (1, 2)}
            await send(tabs[0], "tab 0: 0", "tab 0: 1", "tab 0: 2")
            sending = [asyncio.create_task(keep_sending(number)) for number in (1, 2)]
            await send(tabs[0], "tab 0: 3")
            await asyncio.gather(*(event.wait() for event in begun.values()))
            await tabs[0].page.close()
            await asyncio.gather(*sending)
            for each in tabs[1:]:
                await each.synced()
            sent = {0: 4, 1: 20, 2: 20}

            async def all_are_here() -> bool:
                return len(await log_in(room)) >= sum(sent.values())

            await until(all_are_here)
            together = await log_in(room)
            assert [seq for seq, _ in together] == list(range(1, 45))
            for number, count in sent.items():
                mine = [body for _, body in together if body.startswith(f"tab {number}")]
                assert mine == [f"tab {number}: {turn}" for turn in range(count)]
            await come_true(together, *(lambda each=each: log_of(each) for each in tabs[1:]))
            assert not [fault for each in tabs[1:] for fault in each.faults]

    asyncio.run(main())


def test_a_gap_of_missed_messages_is_shown_and_filled_from_a_tab_that_does_not_lead(
    tmp_path: Path, harness: str
) -> None:
    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness) as relay,
            browser(tmp_path / "ada") as ada,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("design")
            leader, other = await tab(ada, relay.url), await tab(ada, relay.url)
            await room.chat.send("before")  # not hers: what is ours is asked for again in a gap
            await come_true(
                [(1, "before")], *(lambda each=each: log_of(each) for each in (leader, other))
            )
            await leader.ask("client.goOffline()")
            for number in range(450):
                await room.chat.send(f"missed {number}")
            await room.wait_synced(WITHIN_S)
            await leader.ask("client.goOnline()")
            gap = {"low": 2, "high": 401, "lost": False}
            await come_true([gap], lambda: leader.ask("room.status.gaps"))
            await other.synced()
            newest = await other.ask(
                """async () => {
                    const { messages, gaps } = await room.chat.history({ limit: 50 });
                    return [messages.map((message) => message.seq), gaps];
                }"""
            )
            assert newest == [list(range(402, 452)), []]
            before = await other.ask(
                """async () => {
                    const found = await room.chat.history({ limit: 120, before: 402 });
                    return [found.messages.map((message) => message.seq), found.gaps];
                }"""
            )
            assert before == [list(range(282, 402)), []]
            await other.ask("client.goOffline()")
            await come_true("suspended", other.state, leader.state)
            for each in (leader, other):  # nobody waits for what cannot be had now
                began = time.monotonic()
                found = await each.ask("room.chat.history({ limit: 100, before: 282 })")
                assert time.monotonic() - began < 5
                assert found["gaps"]
            await other.ask("client.goOnline()")
            await other.synced()
            expected = [(1, "before"), *((n + 2, f"missed {n}") for n in range(450))]
            assert await log_of(other) == expected
            await come_true(
                [], *(lambda each=each: each.ask("room.status.gaps") for each in (leader, other))
            )
            assert await log_of(leader) == expected

    asyncio.run(main())


def test_receipts_and_unread_are_told_both_ways(tmp_path: Path, harness: str) -> None:
    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness) as relay,
            browser(tmp_path / "ada") as ada,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("design")
            page, other = await tab(ada, relay.url), await tab(ada, relay.url)
            await room.wait_synced(WITHIN_S)
            await page.ask("async () => { globalThis.mine = await room.chat.send('hello'); }")
            await page.ask("mine.wait('delivered', { timeoutMs: 20000 })")
            await room.chat.mark_read()
            await page.ask("mine.wait('read', { timeoutMs: 20000 })")
            assert await page.ask("[mine.seq, mine.deliveredBy, mine.readBy]") == [1, 1, 1]
            assert await page.ask("mine.isMine")
            theirs = [await room.chat.send(body) for body in ("one", "two")]
            await come_true(
                2, *(lambda each=each: each.ask("room.chat.unread") for each in (page, other))
            )
            await other.ask("room.chat.markRead(2)")
            await come_true(
                1, *(lambda each=each: each.ask("room.chat.unread") for each in (page, other))
            )
            await theirs[0].wait("read", WITHIN_S)
            assert theirs[1].state == "delivered"
            await page.ask("room.chat.markRead()")
            await theirs[1].wait("read", WITHIN_S)
            assert await page.ask("room.chat.unread") == 0

    asyncio.run(main())


def test_what_is_rejected_or_expires_comes_back_with_its_body(tmp_path: Path, harness: str) -> None:
    async def judge(message: IncomingMessage) -> Ruling:
        return Reject("no_ads", "nothing is sold here") if "buy" in message.body else Accept()

    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness, on_message=judge) as relay,
            browser(tmp_path / "ada") as ada,
        ):
            page = await tab(ada, relay.url)
            await page.synced()
            await page.ask(_WATCH)
            await send(page, "buy this", "hello")
            await page.synced()
            states = """async () => (await room.chat.history()).messages
                .map(({ body, state, code, reason }) => [body, state, code, reason])"""
            rejected = ["buy this", "rejected", "no_ads", "nothing is sold here"]
            assert await page.ask(states) == [rejected, ["hello", "accepted", "", ""]]
            assert ["MessageRejected", "buy this"] in await page.ask("events")
            await page.ask("client.goOffline()")
            await come_true("suspended", page.state)
            await page.ask(
                "room.chat.send('too late', { ttlMs: 300 }).then((m) => (globalThis.late = m))"
            )
            failed = """late.wait("accepted", { timeoutMs: 20000 })
                .catch((error) => [error.name, error.state])"""
            assert await page.ask(failed) == ["NotSent", "expired"]
            assert ["MessageExpired", "too late"] in await page.ask("events")
            live = """room.chat.send("now", { ttlMs: 0 }).catch((error) => error.name)"""
            assert await page.ask(live) == "OfflineError"
            assert (await page.ask("room.status"))["pendingMessages"] == 0
            await page.ask("client.goOnline()")
            await page.synced()
            assert [body for seq, body in await log_of(page) if seq] == ["hello"]

    asyncio.run(main())


def test_what_the_relay_rewrites_is_one_message_for_its_writer_too(
    tmp_path: Path, harness: str
) -> None:
    async def checked(message: IncomingMessage) -> Ruling:
        return Rewrite(body=f"{message.body} (checked)")

    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness, on_message=checked) as relay,
            browser(tmp_path / "ada") as ada,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("design")
            page, other = await tab(ada, relay.url), await tab(ada, relay.url)
            for number in range(10):  # now the log is first, now the outcome
                await send(page if number % 2 else other, f"live {number}")
                await room.chat.send(f"Python {number}")
            async with relay.offline():
                await send(page, *(f"offline {number}" for number in range(20)))
                await page.page.close()
            page = await tab(ada, relay.url)
            await page.synced()
            await room.wait_synced(WITHIN_S)
            together = await log_in(room)
            assert [seq for seq, _ in together] == list(range(1, 41))
            for name, count in (("live", 10), ("Python", 10), ("offline", 20)):
                of_name = [body for _, body in together if body.startswith(name)]
                assert of_name == [f"{name} {number} (checked)" for number in range(count)]
            await come_true(together, lambda: log_of(page), lambda: log_of(other))
            marked = """async () => (await room.chat.history({ limit: 2000 })).messages
                .filter((message) => message.replaced).length"""
            assert await page.ask(marked) == 0

    asyncio.run(main())


_SIGN_IN = """async ([relay, token]) => {
    await client.close();
    globalThis.client = await collab.open({ name: "shared", relay, token });
    globalThis.room = await client.room("design");
}"""


def test_what_one_user_wrote_never_goes_up_for_another_on_the_same_store(
    tmp_path: Path, harness: str
) -> None:
    async def everything(_user: User, _room: str) -> Access:
        return Access.WRITE

    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness, authorize=everything) as relay,
            browser(tmp_path / "profile") as profile,
            collab.open(":memory:", relay=relay.url, token="cem", settings=QUICK) as client,
        ):
            room = await client.room("design")
            page = await tab(profile, relay.url)
            await page.ask(_SIGN_IN, [relay.url, "ada"])
            await send(page, "first")
            await page.synced()
            await page.ask("client.goOffline()")
            await come_true("suspended", page.state)
            await send(page, "waits")

            await page.ask(_SIGN_IN, [relay.url, "bob"])
            await come_true("OtherUser", lambda: page.ask("room.status.error?.name"))
            refused = "room.chat.send('of bob').catch((error) => error.name)"
            assert await page.ask(refused) == "OtherUser"
            await page.insert(0, "Bob's text")  # documents have no author
            body = (await client.room("design")).text("body")
            await come_true("Bob's text", lambda: asyncio.sleep(0, str(body)))
            assert await log_of(page) == [(1, "first"), (None, "waits")]
            await room.wait_synced(WITHIN_S)
            assert await log_in(room) == [(1, "first")]

            await page.ask(_SIGN_IN, [relay.url, "ada"])
            await page.synced()
            await send(page, "goes on")
            await page.synced()
            expected = [(1, "first"), (2, "waits"), (3, "goes on")]
            await come_true(expected, lambda: log_of(page), lambda: log_in(room))
            assert {message.sender for message in await room.chat.history()} == {"ada"}
            assert not page.faults

    asyncio.run(main())


def test_what_waits_can_be_edited_and_taken_back(tmp_path: Path, harness: str) -> None:
    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness) as relay,
            browser(tmp_path / "ada") as ada,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("design")
            page = await tab(ada, relay.url)
            await page.synced()
            await page.ask("client.goOffline()")
            await come_true("suspended", page.state)
            await page.ask(
                """async () => {
                    const sent = [];
                    for (const body of ["one", "two", "thre"]) {
                        sent.push(await room.chat.send(body));
                    }
                    await room.chat.edit(sent[2], "three");
                    await room.chat.cancel(sent[1]);
                    globalThis.sent = sent;
                }"""
            )
            assert await page.ask("sent.map(({ state }) => state)") == [
                "queued",
                "cancelled",
                "queued",
            ]
            await page.ask("client.goOnline()")
            await page.synced()
            await room.wait_synced(WITHIN_S)
            await come_true([(1, "one"), (2, "three")], lambda: log_in(room))
            edit = "room.chat.edit(sent[0], 'four').catch((error) => error.name)"
            assert await page.ask(edit) == "WrongState"
            assert await page.ask("sent[0].body") == "one"

    asyncio.run(main())


def test_an_order_is_done_when_the_application_says_so(tmp_path: Path, harness: str) -> None:
    opened = asyncio.Event()

    async def shop(request: ConfirmRequest) -> VerdictRuling:
        await opened.wait()
        return Refuse("sold out") if "cake" in request.body else Confirm()

    verdicts = """async () => (await room.chat.history()).messages
        .map(({ body, verdict, verdictReason }) => [body, verdict, verdictReason])"""
    order = (
        """async (body) => { globalThis[body] = await room.chat.send(body, { confirm: true }); }"""
    )

    async def main() -> None:
        async with (
            site(tmp_path / "relay", harness, on_confirm=shop) as relay,
            browser(tmp_path / "ada") as ada,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("design")
            page, other = await tab(ada, relay.url), await tab(ada, relay.url)
            await page.ask(_WATCH)
            await page.ask("client.goOffline()")
            await come_true("suspended", other.state)
            await other.ask(order, "tea")
            assert await other.ask("tea.verdict") is None
            await page.ask("client.goOnline()")
            await other.ask("tea.wait('accepted', { timeoutMs: 20000 })")
            assert await other.ask("tea.verdict") == "confirming"
            await page.ask(order, "cake")
            theirs = await room.chat.send("juice", confirm=True)
            await theirs.wait("accepted", WITHIN_S)
            await page.ask("cake.wait('accepted', { timeoutMs: 20000 })")
            opened.set()
            await other.ask("tea.wait('confirmed', { timeoutMs: 20000 })")
            refused = """cake.wait("confirmed", { timeoutMs: 20000 })
                .catch((error) => [error.name, error.code])"""
            assert await page.ask(refused) == ["Rejected", "refused"]
            await theirs.wait("confirmed", WITHIN_S)

            async def told(each: Tab) -> list[list[str]]:
                return sorted(await each.ask(verdicts))

            expected = [
                ["cake", "refused", "sold out"],
                *([b, "confirmed", ""] for b in ("juice", "tea")),
            ]
            await come_true(expected, lambda: told(page), lambda: told(other))
            events = await page.ask("events")
            assert ["MessageConfirmed", "tea"] in events
            assert ["MessageRefused", "cake"] in events
            assert not page.faults + other.faults

    asyncio.run(main())
