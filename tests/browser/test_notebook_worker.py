"""The service worker keeps one version of the page, whole, and never somebody else's address."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import expect
from starlette.responses import Response
from starlette.routing import Route

from collab.notebook.site import STATIC, routes
from tests.browser.conftest import browser
from tests.browser.notebook import notebook, notebook_site
from tests.browser.site import relay_with

BECAME = """async () => {
    const registration = await navigator.serviceWorker.register("/sw.js");
    const worker = registration.installing ?? registration.waiting ?? registration.active;
    return new Promise((resolve) => {
        const look = () => {
            if (["activated", "redundant"].includes(worker.state)) resolve(worker.state);
        };
        worker.addEventListener("statechange", look);
        look();
    });
}"""


async def another_program(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """It has one page, and says 404 to everything else."""
    try:
        request = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        writer.close()  # a connection that the browser opened in case it would need one
        return
    is_page = request.startswith(b"GET / ")
    body = b"<!doctype html><h1>Another program</h1>" if is_page else b"nothing here"
    head = b"HTTP/1.1 200 OK" if is_page else b"HTTP/1.1 404 Not Found"
    fields = f"content-type: text/html\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
    writer.write(head + b"\r\n" + fields.encode() + b"\r\n" + body)
    await writer.drain()
    writer.close()


def test_another_program_at_this_address_is_seen_and_the_work_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with browser(tmp_path / "ada") as adas:
            async with notebook_site(tmp_path / "relay") as relay:
                ada = await notebook(adas, relay.url, "Ada")
                await ada.write(0, "kept")
                await ada.shows("Synced")
            await ada.page.reload()
            await expect(ada.cells.first).to_contain_text("kept")  # nobody answers: it is here
            await expect(ada.page.locator(".notice")).to_have_count(0)
            port = urlsplit(relay.url).port
            async with await asyncio.start_server(another_program, "127.0.0.1", port):
                await ada.page.reload()
                notice = ada.page.locator(".notice")
                await expect(notice).to_contain_text("Another program answers at this address")
                await expect(ada.cells.first).to_contain_text("kept")
                await ada.page.reload()
                await expect(ada.page.locator("h1")).to_have_text("Another program")

    asyncio.run(main())


def test_files_of_two_versions_are_not_kept_as_one(tmp_path: Path) -> None:
    async def main() -> None:
        content = (STATIC / "app.js").read_bytes() + b"// of yesterday"
        old = Route("/app.js", lambda _request: Response(content, media_type="text/javascript"))
        async with (
            relay_with([old, *routes()], tmp_path / "relay") as relay,
            browser(tmp_path / "ada") as adas,
        ):
            page = await adas.new_page()
            await page.goto(relay.url.replace("ws", "http", 1))
            await page.wait_for_selector(".notebook")
            assert await page.evaluate(BECAME) == "redundant"

    asyncio.run(main())
