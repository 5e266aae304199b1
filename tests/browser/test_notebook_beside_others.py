"""One writes, and somebody else deletes, replaces or undoes under their hands: no word is lost."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pycrdt
from playwright.async_api import expect

import collab
from tests.browser.conftest import browser
from tests.browser.notebook import (
    cells_of,
    notebook,
    notebook_site,
    source_of,
    sources_of,
    until_equal,
)
from tests.browser.pages import QUICK
from tests.browser.test_notebook_files import open_file


def test_who_types_on_in_a_cell_that_somebody_deletes_commands_nothing_and_loses_nothing(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            notebook_site(tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            await ada.write(0, "the first")
            await ada.page.get_by_role("button", name="Add code").click()
            await ada.page.keyboard.type("the second")
            await ada.shows("Synced")
            room = await client.room("notebook")
            await until_equal(["the first", "the second"], lambda: sources_of(room))
            del cells_of(room)[1]
            await expect(ada.cells).to_have_count(1)
            await ada.page.keyboard.type("ab")  # in command mode: two more cells
            assert await ada.sources() == ["the first"]
            notice = ada.page.locator(".notice")
            await expect(notice).to_contain_text("the second")
            await expect(notice).to_be_focused()
            await notice.get_by_role("button", name="Add it as a cell").click()
            await until_equal(["the first", "the second"], lambda: sources_of(room))
            assert not ada.faults

    asyncio.run(main())


def test_who_types_in_a_cell_that_somebody_moves_goes_on_in_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            notebook_site(tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            await ada.write(0, "the first")
            await ada.page.get_by_role("button", name="Add code").click()
            await ada.page.keyboard.type("the second")
            await ada.page.keyboard.press("Home")
            await ada.shows("Synced")
            room = await client.room("notebook")
            await until_equal(["the first", "the second"], lambda: sources_of(room))
            cells = cells_of(room)
            moved = cells[1].to_py()
            with room.transaction():
                del cells[1]
                cells.insert(0, _cell(moved["id"], moved["source"]))
            await expect(ada.cells.first.locator(".cm-content")).to_be_focused()
            await ada.page.keyboard.type("add ")
            assert await ada.sources() == ["add the second", "the first"]
            await expect(ada.page.locator(".notice")).to_have_count(0)
            assert not ada.faults

    asyncio.run(main())


def test_undo_of_a_new_cell_or_a_file_leaves_what_others_wrote_there(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "in.ipynb"
        cells: list[dict[str, Any]] = [
            {"cell_type": "code", "id": name, "metadata": {}, "outputs": [], "source": name,
             "execution_count": None}
            for name in ("alpha", "beta")
        ]  # fmt: skip
        file.write_text(
            json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
        )
        async with (
            notebook_site(tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            await ada.write(0, "before")
            await ada.cells.first.focus()
            await ada.page.keyboard.press("b")
            room = await client.room("notebook")
            await until_equal(["before", ""], lambda: sources_of(room))
            source_of(room, 1).insert(0, "theirs")
            await expect(ada.cells.nth(1)).to_contain_text("theirs")
            await ada.page.keyboard.press("z")
            assert await ada.sources() == ["before", "theirs"]
            await expect(ada.page.locator(".toast")).to_contain_text("Others wrote")

            await open_file(ada, file)
            await until_equal(["alpha", "beta"], lambda: sources_of(room))
            source_of(room, 1).insert(4, " and theirs")
            await expect(ada.cells.nth(1)).to_contain_text("and theirs")
            await ada.page.locator(".toast").get_by_role("button", name="Undo").click()
            undone = await ada.sources()
            assert "theirs" in undone
            assert "alpha" not in undone
            assert [text for text in undone if text.endswith(" and theirs")]
            assert not ada.faults

    asyncio.run(main())


def test_undo_of_a_deletion_is_offered_until_something_else_was_done(tmp_path: Path) -> None:
    async def main() -> None:
        async with notebook_site(tmp_path / "relay") as relay, browser(tmp_path / "ada") as adas:
            ada = await notebook(adas, relay.url, "Ada")
            await ada.write(0, "one")
            await ada.page.get_by_role("button", name="Add code").click()
            await ada.page.keyboard.type("two")
            await ada.page.keyboard.press("Escape")
            await ada.page.get_by_role("button", name="Delete this cell").click()
            undo = ada.page.locator(".toast").get_by_role("button", name="Undo")
            await expect(undo).to_be_visible()
            await ada.write(0, " more")
            # Pressed now, it would take back " more", and bring no cell back.
            assert await undo.count() == 0
            assert await ada.sources() == ["one more"]
            assert not ada.faults

    asyncio.run(main())


def test_what_one_tab_rescued_is_not_forgotten_by_what_is_written_in_another(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            collab.testing.proxy("ws://127.0.0.1:1") as network,
            notebook_site(tmp_path / "relay", network) as relay,
            browser(tmp_path / "ben") as bens,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ben = await notebook(bens, network.url, "Ben")
            await ben.write(0, "first ")
            await ben.page.get_by_role("button", name="Add code").click()
            await ben.page.keyboard.type("stays")
            await ben.shows("Synced")
            other = await notebook(bens, network.url, "Ben")
            await expect(other.cells).to_have_count(2)
            room = await client.room("notebook")
            await until_equal(["first ", "stays"], lambda: sources_of(room))
            with network.offline():
                await ben.shows("Offline: saved on this device")
                await ben.write(0, "and the thought of the day")
                await ben.waits()
                del cells_of(room)[0]
                await room.wait_synced(20)
            await ben.connect()
            for each in (ben, other):
                await expect(each.page.locator(".notice")).to_contain_text("thought of the day")
                await expect(each.page.locator(".notice")).to_have_count(1)
            await other.write(0, " for ever")
            await ben.shows("Synced")
            for each in (ben, other):
                await each.reload()
                await expect(each.page.locator(".notice")).to_contain_text("thought of the day")
            await ben.page.get_by_role("button", name="Let it go").click()
            await expect(other.page.locator(".notice")).to_have_count(0)
            assert not ben.faults + other.faults

    asyncio.run(main())


def test_a_cell_is_called_by_the_place_and_the_type_that_it_has_now(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            notebook_site(tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            await ada.write(0, "one")
            await ada.page.get_by_role("button", name="Add code").click()
            await ada.page.keyboard.type("two")
            await ada.page.keyboard.press("Escape")
            cell = ada.page.locator(".cell.selected")
            await expect(cell).to_have_accessible_name("Code cell 2 of 2")
            room = await client.room("notebook")
            await until_equal(["one", "two"], lambda: sources_of(room))
            del cells_of(room)[0]
            await expect(cell).to_have_accessible_name("Code cell 1 of 1")
            await expect(cell.get_by_role("textbox")).to_have_accessible_name(
                "Code of cell 1. Escape leaves the editor."
            )
            await ada.page.keyboard.press("m")
            await expect(cell).to_have_accessible_name("Text cell 1 of 1")
            assert not ada.faults

    asyncio.run(main())


def _cell(id: str, source: str) -> pycrdt.Map[Any]:
    fields: dict[str, Any] = {
        "id": id, "cell_type": "code", "source": pycrdt.Text(source),
        "metadata": pycrdt.Map({}), "outputs": pycrdt.Array([]),
        "execution_count": None, "execution_state": "idle",
    }  # fmt: skip
    return pycrdt.Map(fields)
