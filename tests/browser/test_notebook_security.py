"""What others write into chat, outputs and names is text, whatever it looks like."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx
import pycrdt
from playwright.async_api import expect

import collab
from collab.notebook.site import routes
from tests.browser.conftest import browser
from tests.browser.notebook import (
    Notebook,
    cells_of,
    notebook,
    notebook_site,
    sources_of,
    until_equal,
)
from tests.browser.pages import QUICK

SCRIPT = "<img src=x onerror='globalThis.owned=1'><script>globalThis.owned=1</script>"


async def is_untouched(ada: Notebook) -> None:
    """Nothing ran, nothing was even tried, and no element came of it."""
    assert await ada.page.evaluate("globalThis.owned") is None
    assert await ada.page.locator("img[src='x'], body script").count() == 0
    assert not ada.faults


def test_a_script_in_a_message_and_in_its_senders_name_is_inert(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            notebook_site(tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            room = await client.room("notebook")
            await room.chat.send(SCRIPT, meta={"name": SCRIPT})
            await expect(ada.messages).to_have_text([SCRIPT])
            await expect(ada.page.locator(".log .who")).to_contain_text(SCRIPT[:40])
            await is_untouched(ada)

    asyncio.run(main())


def test_a_script_in_an_output_or_a_text_cell_is_inert(tmp_path: Path) -> None:
    link = "[go](javascript:globalThis.owned=1)"

    async def main() -> None:
        async with (
            notebook_site(tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            await ada.write(0, "1")
            await ada.shows("Synced")
            room = await client.room("notebook")
            await room.wait_synced(20)
            cells = cells_of(room)
            svg = base64.b64encode(f"<svg onload='owned=1'>{SCRIPT}</svg>".encode()).decode()
            for output in (
                {"output_type": "stream", "name": "stdout", "text": pycrdt.Text(SCRIPT)},
                {"output_type": "error", "ename": SCRIPT, "evalue": SCRIPT, "traceback": [SCRIPT]},
                _data({"text/html": SCRIPT, "text/plain": SCRIPT}),
                _data({"text/html": SCRIPT}),
                _data({"image/png": svg}),
                _data({"image/png": "x' onerror='globalThis.owned=1"}),
                _data({"image/svg+xml": SCRIPT, "application/javascript": "globalThis.owned=1"}),
            ):
                cells[0]["outputs"].append(pycrdt.Map(output))
            text: dict[str, Any] = {
                "id": "text", "cell_type": "markdown", "metadata": pycrdt.Map({}),
                "source": pycrdt.Text(f"# {SCRIPT}\n\n- {SCRIPT}\n\n{link}"),
            }  # fmt: skip
            cells.append(pycrdt.Map(text))
            await expect(ada.page.locator(".output.stream")).to_have_text(SCRIPT)
            await expect(ada.page.locator(".output.error")).to_have_text(SCRIPT)
            await expect(ada.page.locator(".output.result")).to_have_text([SCRIPT])
            await expect(ada.page.locator(".output.unshown")).to_have_count(4)
            await expect(ada.page.locator(".prose h2")).to_have_text(SCRIPT)
            await expect(ada.page.locator(".prose p")).to_have_text(link)
            assert await ada.page.locator("img, a[href^='javascript']").count() == 0
            await is_untouched(ada)

    asyncio.run(main())


def test_a_text_made_to_be_slow_to_read_stops_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            notebook_site(tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            await ada.shows("Synced")
            room = await client.room("notebook")
            await room.wait_synced(20)
            text: dict[str, Any] = {
                "id": "text", "cell_type": "markdown", "metadata": pycrdt.Map({}),
                "source": pycrdt.Text("[" * 900_000 + "\n\nend"),
            }  # fmt: skip
            cells_of(room).append(pycrdt.Map(text))
            async with asyncio.timeout(8):  # half a second, where it was half a minute
                await expect(ada.page.locator(".prose p")).to_have_count(2)
            assert not ada.faults

    asyncio.run(main())


def test_a_script_in_a_name_is_inert_and_a_long_name_is_cut(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            notebook_site(tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            ada = await notebook(adas, relay.url, "Ada")
            await ada.write(0, "one")
            await ada.shows("Synced")
            room = await client.room("notebook")
            await room.wait_synced(20)
            # "Synced" may have been said before the last of the keys.
            await until_equal(["one"], lambda: sources_of(room))
            text = room.text(cells_of(room)[0]["source"])
            at = text.relative_position(1).to_json()
            room.presence.set(
                {
                    "user": {
                        "name": SCRIPT + "\u202e" + "x" * 100,
                        "color": "url(https://x.invalid)",
                    },
                    "cell": "first",
                    "cursor": {"anchor": at, "head": at},
                    "role": {"toString": 1},
                    "queue": {"a": []},
                }
            )
            state = room.document.get("state", type=pycrdt.Map)
            state["edited:first"] = SCRIPT  # the role and the queue are no kernel's either
            cut = SCRIPT[:40]
            await expect(ada.page.locator(".people li")).to_have_text([cut])
            await expect(ada.page.locator(".here")).to_have_text([cut])
            await expect(ada.page.locator(".caret")).to_have_attribute("data-name", cut)
            await expect(ada.page.locator(".byline")).to_have_text(f"{cut} wrote here")
            await is_untouched(ada)

    asyncio.run(main())


def _data(data: dict[str, str]) -> dict[str, Any]:
    return {"output_type": "display_data", "data": data, "metadata": {}}


def test_every_answer_of_the_site_carries_the_policy_and_the_page_a_nonce_of_its_own() -> None:
    from starlette.applications import Starlette

    async def main() -> None:
        transport = httpx.ASGITransport(Starlette(routes=routes()))
        async with httpx.AsyncClient(transport=transport, base_url="http://site") as site:
            pages = [await site.get("/") for _ in range(2)]
            others = [
                await site.get(f"/{name}") for name in ("app.js", "app.css", "sw.js", "icon.svg")
            ]
            for answer in (*pages, *others):
                assert answer.status_code == 200
                policy = answer.headers["content-security-policy"]
                assert policy.startswith("default-src 'none'; script-src 'self'; ")
                assert "unsafe" not in policy
                assert answer.headers["x-content-type-options"] == "nosniff"
            nonces = [
                page.headers["content-security-policy"].split("'nonce-")[1][:22] for page in pages
            ]
            assert nonces[0] != nonces[1]
            assert all(nonce in page.text for nonce, page in zip(nonces, pages, strict=True))
            assert "nonce" not in others[0].headers["content-security-policy"]

    asyncio.run(main())
