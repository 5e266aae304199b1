"""The example editors in a browser, and what a test asks of them. Not a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import pycrdt
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

import collab
from tests.browser.conftest import CHROMIUM, FLAGS

WITHIN_MS = 20_000

expect.set_options(timeout=WITHIN_MS)


@dataclass(frozen=True)
class Kind:
    """How one of the editors is typed into, looked at and written by a Python program."""

    name: str
    content: str  # what a user clicks to write
    lines: str  # JavaScript: the text that is shown, line by line
    carets: str  # JavaScript: the names at others' carets
    read: Callable[[collab.Room], list[str]]
    write: Callable[[collab.Room, str], None]  # at the beginning of the first line


def _paragraphs(room: collab.Room) -> Any:
    return room.document.get("prosemirror", type=pycrdt.XmlFragment).children


def _read_prosemirror(room: collab.Room) -> list[str]:
    return [
        "".join(part for text in paragraph.children for part, _ in text.diff())
        for paragraph in _paragraphs(room)
    ]


def _write_prosemirror(room: collab.Room, text: str) -> None:
    _paragraphs(room)[0].children[0].insert(0, text)


def _lines_of(name: str) -> Callable[[collab.Room], list[str]]:
    return lambda room: str(room.text(name)).split("\n")


def _write_monaco(room: collab.Room, text: str) -> None:
    room.text("monaco").insert(0, text)


def _write_quill(room: collab.Room, text: str) -> None:
    room.text("quill").insert(0, text, {"bold": True})


KINDS = [
    Kind(
        "prosemirror",
        ".ProseMirror",
        """[...document.querySelectorAll(".ProseMirror > p")].map((p) => {
            const copy = p.cloneNode(true);
            copy.querySelectorAll(".ProseMirror-yjs-cursor").forEach((caret) => caret.remove());
            return copy.textContent;
        })""",
        """[...document.querySelectorAll(".ProseMirror-yjs-cursor > div")]
            .map((name) => name.textContent)""",
        _read_prosemirror,
        _write_prosemirror,
    ),
    Kind(
        "monaco",
        ".view-lines",
        """[...document.querySelectorAll(".view-line")]
            .sort((a, b) => parseFloat(a.style.top) - parseFloat(b.style.top))
            .map((line) => line.textContent.replaceAll("\\u00a0", " "))""",
        """[...document.querySelectorAll(".yRemoteSelectionHead")]
            .map((caret) => JSON.parse(getComputedStyle(caret, "::after").content))""",
        _lines_of("monaco"),
        _write_monaco,
    ),
    Kind(
        "quill",
        ".ql-editor",
        """[...document.querySelectorAll(".ql-editor > p")].map((p) => p.textContent)""",
        """[...document.querySelectorAll(".ql-cursor-name")].map((name) => name.textContent)""",
        _lines_of("quill"),
        _write_quill,
    ),
]


@dataclass
class Editor:
    """A page with an editor. ``faults`` are errors that nobody caught, and what was forbidden.

    ``asked`` are all addresses that the page asked for.
    """

    page: Page
    kind: Kind
    faults: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def type(self, text: str, *, at: str = "Control+End") -> None:
        """Type, key by key, where the key ``at`` leads."""
        await self.page.locator(self.kind.content).click()
        await self.page.keyboard.press(at)
        await self.page.keyboard.type(text)

    async def lines(self) -> list[str]:
        return list(await self.page.evaluate(self.kind.lines))

    async def carets(self) -> list[str]:
        return sorted(await self.page.evaluate(self.kind.carets))

    async def people(self) -> list[str]:
        return sorted(await self.page.get_by_label("Who is here").locator("li").all_inner_texts())

    async def says(self, text: str) -> None:
        """Wait until the page says this of its connection."""
        await expect(self.page.get_by_role("status")).to_have_text(text)

    def strangers(self) -> list[str]:
        """The addresses that are not on this machine."""
        inside = {"data", "blob"}
        urls = [urlsplit(one) for one in self.asked]
        return [
            one.geturl() for one in urls if one.scheme not in inside and one.hostname != "127.0.0.1"
        ]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=FLAGS, headless=True
        )
        try:
            yield running
        finally:
            await running.close()


async def editor(
    context: BrowserContext, kind: Kind, origin: str, *, name: str, relay: str | None = None
) -> Editor:
    """The page of this kind at ``origin``, whose ``relay`` may be another address of it."""
    opened = Editor(await context.new_page(), kind)
    opened.page.on("pageerror", lambda error: opened.faults.append(str(error)))
    opened.page.on("console", lambda said: _keep_refusals(opened.faults, said.text))
    opened.page.on("dialog", lambda dialog: opened.faults.append(dialog.message))
    network = await context.new_cdp_session(opened.page)
    network.on("Network.requestWillBeSent", lambda it: opened.asked.append(it["request"]["url"]))
    network.on("Network.webSocketCreated", lambda it: opened.asked.append(it["url"]))
    await network.send("Network.enable")
    query = urlencode({"relay": relay or origin, "room": "design", "name": name})
    await opened.page.goto(f"{origin.replace('ws', 'http', 1)}/{kind.name}/?{query}")
    await opened.says("Online")
    return opened


def _keep_refusals(faults: list[str], said: str) -> None:
    if "Content Security Policy" in said:
        faults.append(said)
