"""The chat beside the notebook: what is unread, how far a message got, and how it is taken back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
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


def test_what_was_typed_and_not_sent_is_there_after_a_reload_and_a_refusal(tmp_path: Path) -> None:
    async def main() -> None:
        async with notebook_site(tmp_path / "relay") as relay, browser(tmp_path / "ada") as adas:
            ada = await notebook(adas, relay.url, "Ada")
            field = ada.page.locator(".chat textarea")
            await field.click()
            await ada.page.keyboard.type("a thought, not yet")
            await ada.reload()
            await expect(field).to_have_value("a thought, not yet")
            await field.press("Enter")
            await expect(ada.messages).to_have_text(["a thought, not yet"])
            await ada.reload()
            await expect(ada.messages).to_have_text(["a thought, not yet"])
            await expect(field).to_have_value("")

            # More than a message may have, and who typed on before that was said.
            too_much = "x" * 33_000
            await field.fill(too_much)
            await field.evaluate(
                """(field) => {
                    const key = { key: "Enter", bubbles: true, cancelable: true };
                    field.dispatchEvent(new KeyboardEvent("keydown", key));
                    field.value = "and more";
                    field.dispatchEvent(new InputEvent("input", { bubbles: true }));
                }"""
            )
            await expect(ada.page.locator(".toast")).to_contain_text("32")
            await expect(field).to_have_value(too_much + "\nand more")
            await ada.reload()
            await expect(field).to_have_value(too_much + "\nand more")
            assert not ada.faults

    asyncio.run(main())


def test_a_message_of_an_impossible_time_and_a_failed_read_end_no_chat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with (
            notebook_site(tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            room = await client.room("notebook")
            with monkeypatch.context() as patching:
                far = SimpleNamespace(time_ns=lambda: 9_000_000_000_000_000 * 1_000_000)
                patching.setattr("collab.draft.time", far)
                await room.chat.send("from the year 287,000", ttl=None)
            await expect(ada.messages).to_have_text(["from the year 287,000"])

            # Once the store does not answer; what comes next is shown all the same.
            await ada.page.evaluate(
                """() => {
                    const { openCursor } = IDBIndex.prototype;
                    IDBIndex.prototype.openCursor = function (...given) {
                        const { mode } = this.objectStore.transaction;
                        const isPage = this.name === "byPlace" && mode === "readonly";
                        if (!isPage) return openCursor.apply(this, given);
                        IDBIndex.prototype.openCursor = openCursor;
                        throw new DOMException("for this test", "UnknownError");
                    };
                }"""
            )
            await room.chat.send("one")
            await expect(ada.page.locator(".toast")).not_to_be_empty()
            await room.chat.send("two")
            await expect(ada.messages).to_have_text(["from the year 287,000", "one", "two"])
            assert not ada.faults

    asyncio.run(main())
