"""Cells by keyboard and by hand: added, moved, deleted, brought back, and never lost to others."""

from __future__ import annotations

import asyncio
from pathlib import Path

from playwright.async_api import expect

import collab
from tests.browser.conftest import browser
from tests.browser.notebook import (
    Notebook,
    cells_of,
    notebook,
    notebook_site,
    source_of,
    sources_of,
    until_equal,
)
from tests.browser.pages import QUICK


async def press(ada: Notebook, *keys: str) -> None:
    for key in keys:
        await ada.page.keyboard.press(key)


async def at_first_cell(ada: Notebook) -> None:
    await ada.cells.first.focus()


def test_everything_about_cells_can_be_done_by_keys(tmp_path: Path) -> None:
    async def main() -> None:
        async with notebook_site(tmp_path / "relay") as relay, browser(tmp_path / "ada") as adas:
            ada = await notebook(adas, relay.url, "Ada")
            await at_first_cell(ada)
            await press(ada, "Enter")
            await ada.page.keyboard.type("one")
            await press(ada, "Escape", "b", "Enter")
            await ada.page.keyboard.type("two")
            await press(ada, "Escape", "a", "m", "Enter")
            await ada.page.keyboard.type("# between")
            await press(ada, "Escape")
            await expect(ada.cells.nth(1).get_by_role("heading")).to_have_text("between")
            assert await ada.sources() == ["one", "# between", "two"]
            types = [cell["cell_type"] for cell in (await ada.file())["cells"]]
            assert types == ["code", "markdown", "code"]
            await press(ada, "ArrowUp")
            await expect(ada.cells.nth(0)).to_be_focused()
            await press(ada, "j", "ArrowDown", "d", "d")
            assert await ada.sources() == ["one", "# between"]
            await press(ada, "z")
            assert await ada.sources() == ["one", "# between", "two"]
            await press(ada, "Control+Shift+Z")
            assert await ada.sources() == ["one", "# between"]
            await at_first_cell(ada)
            await press(ada, "Enter", "ArrowDown")  # from the last line into the cell below
            await expect(ada.cells.nth(1).locator(".cm-content")).to_be_focused()
            await press(ada, "Escape", "y")
            assert (await ada.file())["cells"][1]["cell_type"] == "code"
            await press(ada, "Shift+Enter")  # nobody runs code: it says so, and goes on
            await expect(ada.page.locator(".toast")).to_contain_text("Nobody here runs code")
            assert not ada.faults

    asyncio.run(main())


def test_everything_is_reached_by_tab_and_says_what_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with notebook_site(tmp_path / "relay") as relay, browser(tmp_path / "ada") as adas:
            ada = await notebook(adas, relay.url, "Ada")
            await ada.page.locator("h1").click()  # the page's beginning
            found: list[str] = []
            for _ in range(30):
                await press(ada, "Tab")
                name = await ada.page.evaluate(
                    """() => {
                        const at = document.activeElement;
                        if (at === document.body) return null;
                        return at.getAttribute("aria-label") ?? at.textContent;
                    }"""
                )
                if name is None or name in found:
                    break
                found.append(name)
            said = " | ".join(found)
            for part in (
                "Open a notebook file", "Save as a notebook file", "Your name", "Chat",
                "Code cell 1 of 1", "Run", "Move up", "Move down",
                "Add a cell above", "Add a cell below", "Delete this cell", "Add code", "Add text",
                "Messages", "Message. Enter sends it", "Send", "Work offline",
            ):  # fmt: skip
                assert part in said, f"{part!r} is not in {said!r}"
            await at_first_cell(ada)
            await press(ada, "Enter")
            editor = ada.cells.first.get_by_role("textbox")
            await expect(editor).to_be_focused()
            await expect(editor).to_have_accessible_name(
                "Code of cell 1. Escape leaves the editor."
            )
            await press(ada, "Escape")
            await expect(ada.cells.first).to_be_focused()

    asyncio.run(main())


def test_cells_are_moved_and_what_is_deleted_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with notebook_site(tmp_path / "relay") as relay, browser(tmp_path / "ada") as adas:
            ada = await notebook(adas, relay.url, "Ada")
            await ada.write(0, "one")
            for text in ("two", "three"):
                await ada.page.get_by_role("button", name="Add code").click()
                await ada.page.keyboard.type(text)
            await ada.page.get_by_role("button", name="Move up").click()
            assert await ada.sources() == ["one", "three", "two"]
            await expect(ada.cells.nth(1).locator(".cm-content")).to_have_text("three")
            await ada.page.get_by_role("button", name="Move up").click()
            await ada.page.get_by_role("button", name="Move up").click()  # is first already
            assert await ada.sources() == ["three", "one", "two"]
            await ada.page.get_by_role("button", name="Move down").click()
            assert await ada.sources() == ["one", "three", "two"]
            await ada.page.get_by_role("button", name="Delete this cell").click()
            assert await ada.sources() == ["one", "two"]
            await ada.page.locator(".toast").get_by_role("button", name="Undo").click()
            assert await ada.sources() == ["one", "three", "two"]
            await ada.shows("Synced")
            assert not ada.faults

    asyncio.run(main())


def test_undo_takes_back_ones_own_and_leaves_what_others_wrote(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            notebook_site(tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            room = await client.room("notebook")
            await ada.write(0, "hers")
            await until_equal(["hers"], lambda: sources_of(room))
            source_of(room, 0).insert(0, "ours ")
            await expect(ada.cells.first.locator(".cm-content")).to_have_text("ours hers")
            await ada.cells.first.locator(".cm-content").click()
            await press(ada, "Control+Z")
            assert await ada.sources() == ["ours "]
            await press(ada, "Control+Shift+Z")
            assert await ada.sources() == ["ours hers"]

    asyncio.run(main())


def test_what_one_wrote_into_a_cell_that_somebody_else_deleted_is_offered(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            collab.testing.proxy("ws://127.0.0.1:1") as network,
            notebook_site(tmp_path / "relay", network) as relay,
            browser(tmp_path / "ben") as bens,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ben = await notebook(bens, network.url, "Ben")
            await ben.write(0, "first ")
            await ben.shows("Synced")
            room = await client.room("notebook")
            await room.wait_synced(20)
            with network.offline():
                await ben.shows("Offline: saved on this device")
                await ben.write(0, "and the thought of the day")
                await ben.waits()
                await ben.reload()  # what waits is known after that too
                del cells_of(room)[0]
                await room.wait_synced(20)
            await ben.connect()
            notice = ben.page.locator(".notice")
            await expect(notice).to_contain_text("first and the thought of the day")
            await ben.reload()
            await notice.get_by_role("button", name="Add it as a cell").click()
            await expect(notice).to_have_count(0)
            await ben.shows("Synced")
            await until_equal(["first and the thought of the day"], lambda: sources_of(room))

    asyncio.run(main())


def test_two_who_move_one_cell_at_once_have_it_once_in_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            collab.testing.proxy("ws://127.0.0.1:1") as network,
            notebook_site(tmp_path / "relay", network) as relay,
            browser(tmp_path / "ada") as adas,
            browser(tmp_path / "ben") as bens,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            await ada.write(0, "one")
            for text in ("two", "three"):
                await ada.page.get_by_role("button", name="Add code").click()
                await ada.page.keyboard.type(text)
            await ada.shows("Synced")
            ben = await notebook(bens, network.url, "Ben")
            await expect(ben.cells).to_have_count(3)
            with network.offline():
                for each in (ada, ben):
                    await each.cells.nth(2).focus()
                    await each.cells.nth(2).get_by_role("button", name="Move up").click()
            await ben.connect()
            await ben.shows("Synced")
            for each in (ada, ben):
                await until_equal(["one", "three", "two"], each.sources)
            ids = [cell["id"] for cell in (await ada.file())["cells"]]
            assert len(set(ids)) == 3

    asyncio.run(main())


def test_carets_and_names_are_seen_where_others_write(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            notebook_site(tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
            browser(tmp_path / "ben") as bens,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            await ada.write(0, "one two")
            ben = await notebook(bens, relay.url, "Ben")
            await expect(ben.cells.first.locator(".cm-content")).to_have_text("one two")
            await ada.cells.first.locator(".cm-content").click()
            await press(ada, "Home", "Shift+End")
            await expect(ben.page.locator(".caret")).to_have_attribute("data-name", "Ada")
            await expect(ben.page.locator(".cm-line .selected")).to_have_text("one two")
            await expect(ben.page.locator(".people li")).to_have_text(["Ada"])
            await expect(ben.cells.first.locator(".byline")).to_have_text("Ada wrote here")
            await ada.page.get_by_label("Your name").fill("Ada Lovelace")
            await ada.page.get_by_label("Your name").press("Enter")
            await expect(ben.page.locator(".people li")).to_have_text(["Ada Lovelace"])
            await ada.page.close()
            await expect(ben.page.locator(".people li")).to_have_count(0)
            await expect(ben.page.locator(".caret")).to_have_count(0)

    asyncio.run(main())
