"""`.ipynb` files in and out of the page, which Jupyter's own code reads."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import nbformat
import pycrdt
from jupyter_ydoc import YNotebook
from playwright.async_api import expect

import collab
from tests.browser.conftest import browser
from tests.browser.notebook import Notebook, notebook, notebook_site, source_of
from tests.browser.pages import QUICK

PNG = (  # one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
FILE: dict[str, Any] = {
    "cells": [
        {
            "cell_type": "markdown", "id": "intro", "metadata": {"tags": ["keep"], "m": {"a": [1]}},
            "source": ["# 你好\n", "and more"], "attachments": {"x.png": {"image/png": PNG}},
        },
        {
            "cell_type": "code", "id": "sum", "metadata": {"collapsed": False},
            "execution_count": 7, "source": ["x = 1\n", "x"],
            "outputs": [
                {"name": "stdout", "output_type": "stream", "text": ["one\n", "two\n"]},
                {"data": {"text/plain": ["1"]}, "execution_count": 7, "metadata": {},
                 "output_type": "execute_result"},
                {"data": {"image/png": PNG, "text/plain": ["<plot>"]}, "metadata": {"w": 1},
                 "output_type": "display_data"},
                {"ename": "E", "evalue": "v", "output_type": "error",
                 "traceback": ["\u001b[31mE: v"]},
            ],
        },
        {"cell_type": "raw", "id": "raw", "metadata": {}, "source": ["as it is"]},
    ],
    "metadata": {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}, "somebody": {"elses": ["field", None, 1.5]},
    },
    "nbformat": 4,
    "nbformat_minor": 5,
}  # fmt: skip


async def open_file(ada: Notebook, file: Path) -> None:
    async with ada.page.expect_file_chooser() as choosing:
        await ada.page.get_by_role("button", name="Open a notebook file").click()
    await (await choosing.value).set_files(file)


def test_a_notebook_file_comes_in_is_edited_by_two_and_goes_out_valid(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "in.ipynb"
        file.write_text(json.dumps(FILE))
        async with (
            notebook_site(tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            await open_file(ada, file)
            await expect(ada.cells).to_have_count(3)
            await expect(ada.page.locator(".output.stream")).to_have_text("one\ntwo\n")
            await expect(ada.page.locator(".output.error")).to_have_text("E: v")
            await expect(ada.page.locator(".output.picture")).to_have_js_property("naturalWidth", 1)
            unchanged = await ada.file()
            assert _joined(unchanged) == _joined(FILE)
            await ada.write(1, " + 1")
            await ada.shows("Synced")
            room = await client.room("notebook")
            await room.wait_synced(20)
            source_of(room, 1).insert(0, "# both\n")
            await expect(ada.cells.nth(1).locator(".cm-content")).to_contain_text("# both")
            saved = await ada.file()
            nbformat.validate(saved)
            assert saved["cells"][1]["source"] == ["# both\n", "x = 1\n", "x + 1"]
            assert saved["metadata"] == FILE["metadata"]

            # The same document, as Jupyter's server reads it.
            document: pycrdt.Doc[Any] = pycrdt.Doc()
            document.apply_update(room.document.get_update())
            assert _joined(YNotebook(document).get()) == _joined(saved)
            assert not ada.faults

    asyncio.run(main())


def test_a_file_that_is_no_notebook_changes_nothing_and_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with notebook_site(tmp_path / "relay") as relay, browser(tmp_path / "ada") as adas:
            ada = await notebook(adas, relay.url, "Ada")
            await ada.write(0, "kept")
            for content, why in (
                ("{", "is not JSON"),
                ("[]", "has no cells"),
                ('{"cells": [], "nbformat": 3}', "is not of format 4"),
                ('{"cells": [{"cell_type": "sheet"}], "nbformat": 4}', "neither code nor text"),
            ):
                file = tmp_path / "no.ipynb"
                file.write_text(content)
                await open_file(ada, file)
                await expect(ada.page.locator(".toast")).to_contain_text(why)
            # As of a file that was taken away since it was chosen.
            await ada.page.evaluate(
                """() => {
                    const gone = new DOMException("", "NotFoundError");
                    File.prototype.text = () => Promise.reject(gone);
                }"""
            )
            await open_file(ada, file)
            toast = ada.page.locator(".toast")
            await expect(toast).to_have_text("no.ipynb could not be read. Nothing was changed.")
            assert await ada.sources() == ["kept"]
            assert not ada.faults

    asyncio.run(main())


def _joined(file: dict[str, Any]) -> dict[str, Any]:
    """With all text as one string, as both ways of writing it mean the same."""

    def join(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: join(one, name) for name, one in value.items()}
        if key in ("source", "text", "text/plain") and isinstance(value, list):
            return "".join(value)
        if isinstance(value, list):
            return [join(one) for one in value]
        return value

    joined: dict[str, Any] = join(file)
    return joined
