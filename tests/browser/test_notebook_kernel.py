"""A cell is run by a kernel that takes part, and what it puts out is seen in every browser."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import expect

import collab
from collab.notebook.document import FRESH
from collab.notebook.kernel import serve_kernel
from tests.browser.conftest import browser
from tests.browser.notebook import notebook, notebook_site
from tests.browser.pages import QUICK
from tests.browser.test_notebook_files import PNG

CODE = f"""import base64
from IPython.display import Image, display
print("drawing")
display(Image(base64.b64decode("{PNG}"), format="png"))
6 * 7"""
FOREVER = "while True: pass"


@pytest.mark.timeout(240)
def test_a_cell_that_one_runs_shows_text_and_a_picture_to_both(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            notebook_site(tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
            browser(tmp_path / "ben") as bens,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            ben = await notebook(bens, relay.url, "Ben")
            run = ada.cells.first.get_by_role("button", name="Run")
            await ada.cells.first.focus()
            await expect(run).to_have_text("No kernel")
            kernel = asyncio.create_task(
                serve_kernel(await client.room("notebook", template=FRESH), folder=tmp_path)
            )
            await expect(run).to_have_text("Run")
            await ada.cells.first.locator(".cm-content").click()
            await ada.page.keyboard.insert_text(CODE)
            await ada.page.keyboard.press("Control+Enter")
            for each in (ada, ben):
                cell = each.cells.first
                await expect(cell.locator(".count")).to_have_text("[1]", timeout=60_000)
                await expect(cell.locator(".output.stream")).to_have_text("drawing\n")
                await expect(cell.locator(".output.picture")).to_have_js_property("naturalWidth", 1)
                await expect(cell.locator(".output.result")).to_have_text("42")
                await expect(each.page.locator(".people")).to_contain_text("Kernel (runs code)")

            # One that never ends is stopped by who does not want to wait.
            await ada.page.keyboard.press("Control+A")
            await ada.page.keyboard.insert_text(FOREVER)
            await ada.page.keyboard.press("Control+Enter")
            await expect(ben.cells.first.locator(".count")).to_have_text("[*]")
            await ada.page.keyboard.press("Escape")
            await ada.cells.first.get_by_role("button", name="Stop").click()
            await expect(ben.cells.first.locator(".output.error")).to_contain_text(
                "KeyboardInterrupt", timeout=60_000
            )
            kernel.cancel()
            await asyncio.wait([kernel])
            await expect(run).to_have_text("No kernel")
            assert not ada.faults + ben.faults

    asyncio.run(main())
