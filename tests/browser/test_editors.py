"""Do the example editors, stock bindings on a stock provider, work with relay and Python?"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import httpx
import pycrdt
import pytest
from playwright.async_api import expect
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

import collab
from collab import testing
from collab.protocol.frames import Access
from collab_server.auth import User
from tests.browser.editors import KINDS, Editor, Kind, chromium, editor
from tests.browser.notebook import until_equal
from tests.browser.pages import QUICK
from tests.browser.site import relay_with
from tests.e2e.test_readme import BLOCK
from tests.e2e.test_readme import run as run_printed
from tests.npm import install, run

EDITORS = Path(__file__).parent.parent.parent / "examples" / "editors"
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/150.0.0.0"
HOSTILE = """<img src=x onerror=alert(1)>"}*{}\\"""
HOSTILE_COLOUR = "red;background:url(http://example.invalid/)"
OFFLINE = "Offline. What you write is kept in this browser and sent later."
ONE_KIND = KINDS[-1]  # for what the three pages share


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Mount]:
    """The three pages, built."""
    built = tmp_path_factory.mktemp("editors")
    install(EDITORS)
    run(EDITORS, "node", "build.mjs", str(built))
    return [Mount("/", StaticFiles(directory=built, html=True))]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_two_pages_and_a_python_program_write_together_apart_and_together_again(
    kind: Kind, pages: list[Mount], tmp_path: Path
) -> None:
    async def main() -> None:
        async with (
            testing.proxy("ws://127.0.0.1:9") as proxy,
            relay_with(pages, tmp_path, proxy) as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
            chromium() as browser,
        ):
            room = await client.room("design")
            room.presence.set({"user": {"name": "Cem"}})
            at_ada, at_ben = (
                await browser.new_context(),
                await browser.new_context(user_agent=WINDOWS),
            )
            ada, ben = await asyncio.gather(
                editor(at_ada, kind, relay.url, name="Ada", relay=proxy.url),
                editor(at_ben, kind, relay.url, name="Ben"),
            )

            async def agree(*lines: str) -> None:
                for each in (ada.lines, ben.lines, lambda: _at(kind, room)):
                    await until_equal(list(lines), each)

            await ada.type("one\ntwo")
            await agree("one", "two")
            kind.write(room, "zero ")
            await agree("zero one", "two")
            await ben.type("\nthree")
            await agree("zero one", "two", "three")
            await until_equal(["Ada (you)", "Ben", "Cem"], ada.people)
            await until_equal(["Ben"], ada.carets)
            await until_equal(["Ada"], ben.carets)

            with proxy.offline():
                await ada.says(OFFLINE)
                await until_equal(["Ada (you)"], ada.people)
                await until_equal(["Ben (you)", "Cem"], ben.people)
                await ada.type(" ADA")
                await ben.type("BEN ", at="Control+Home")
                kind.write(room, "CEM ")
                await until_equal(["zero one", "two", "three ADA"], ada.lines)
            await ada.says("Online")
            began = (await ada.lines())[0]
            assert sorted(began.split()) == ["BEN", "CEM", "one", "zero"]
            await agree(began, "two", "three ADA")
            await until_equal(["Ada (you)", "Ben", "Cem"], ada.people)
            await until_equal(["Ada", "Ben (you)", "Cem"], ben.people)

            async def undo() -> set[str]:
                await ada.page.keyboard.press("Control+z")
                return set(" ".join(await ada.lines()).split())

            async def redo() -> list[str]:
                await ada.page.keyboard.press("Control+Shift+z")
                return await ada.lines()

            await until_equal({"BEN", "CEM", "zero", "three"}, undo)
            await agree(*await ada.lines())
            await until_equal([began, "two", "three ADA"], redo)
            await agree(began, "two", "three ADA")

            # Whoever may connect may say of himself what he likes: here, to be where Ben is.
            (where,) = (
                one for one in room.presence.others().values() if one["user"]["name"] == "Ben"
            )
            room.presence.set({**where, "user": {"name": HOSTILE, "color": HOSTILE_COLOUR}})
            await until_equal(sorted([HOSTILE, "Ada (you)", "Ben"]), ada.people)
            await until_equal(sorted([HOSTILE, "Ben"]), ada.carets)
            await ada.type("!")
            await agree(began, "two", "three ADA!")
            assert not ada.faults + ben.faults
            assert not ada.strangers() + ben.strangers()
            assert any(url.startswith(proxy.url) for url in ada.asked)

    asyncio.run(main())


def test_what_was_written_offline_is_there_after_a_reload_and_is_sent(
    pages: list[Mount], tmp_path: Path
) -> None:
    async def main() -> None:
        async with (
            relay_with(pages, tmp_path) as relay,
            collab.open(":memory:", relay=relay.url) as client,
            chromium() as browser,
        ):
            room = await client.room("design")
            room.presence.set({"user": {"name": "Cem"}})
            ada = await editor(await browser.new_context(), ONE_KIND, relay.url, name="Ada")
            await ada.type("one")
            await until_equal(["one"], lambda: _at(ONE_KIND, room))
            switch = ada.page.get_by_role("switch", name="Work offline")
            await switch.click()
            await ada.says(OFFLINE)
            await until_equal([], lambda: _names(room))
            await switch.click()
            seen_s = 8  # with the next renewal it would take 15
            await until_equal(["Ada (you)", "Cem"], ada.people, within_s=seen_s)
            await until_equal(["Ada"], lambda: _names(room), within_s=seen_s)

            await switch.click()
            await ada.says(OFFLINE)
            await ada.type(" two")
            await until_equal(["one two"], lambda: _kept(ada))
            assert ONE_KIND.read(room) == ["one"]
            await ada.page.reload()
            await until_equal(["one two"], ada.lines)
            await until_equal(["one two"], lambda: _at(ONE_KIND, room))

            await ada.page.get_by_label("Your name").fill("Eva")
            await ada.page.keyboard.press("Enter")
            await expect(ada.page).to_have_url(re.compile("name=Eva$"))
            await until_equal(["Eva"], lambda: _names(room))
            await until_equal(["one two"], ada.lines)

    asyncio.run(main())


def test_a_page_says_what_the_relay_refuses(pages: list[Mount], tmp_path: Path) -> None:
    async def may_read(_user: User, _room: str) -> Access:
        return Access.READ

    async def main() -> None:
        async with (
            relay_with(pages, tmp_path, authorize=may_read) as relay,
            chromium() as browser,
        ):
            ada = await editor(await browser.new_context(), ONE_KIND, relay.url, name="Ada")
            await ada.type("o")
            await ada.says(
                "The relay refuses: this user may read the room, not write it. "
                "What you write is kept in this browser."
            )

    asyncio.run(main())


def test_one_command_builds_the_pages_and_runs_a_relay_for_them(tmp_path: Path) -> None:
    install(EDITORS)

    async def main() -> None:
        page, relay = _free_port(), _free_port()
        env = os.environ | {"PORT": str(page), "RELAY_PORT": str(relay), "DATA": str(tmp_path)}
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
        process = await asyncio.create_subprocess_exec(
            "node", "start.mjs", "quill", cwd=EDITORS, env=env, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            printed = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
            found = re.fullmatch(r"quill: (http://127\.0\.0\.1:\d+/quill/\?relay=.*)\n", printed)
            assert found is not None, printed
            async with chromium() as browser:
                opened = await (await browser.new_context()).new_page()
                await opened.goto(found[1])
                await Editor(opened, ONE_KIND).says("Online")
        finally:
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{relay}/probe")

    asyncio.run(main())


def test_the_sources_pass_the_compiler_and_name_no_registry() -> None:
    install(EDITORS)
    run(EDITORS, "npm", "run", "--silent", "check")
    assert "resolved" not in (EDITORS / "package-lock.json").read_text()


def test_the_python_code_of_the_readme_runs_as_printed(tmp_path: Path) -> None:
    readme = (EDITORS / "README.md").read_text()
    ((_, code),) = BLOCK.findall(readme)
    assert readme.count("```python") == 1
    printed = asyncio.run(run_printed(code, tmp_path))
    assert printed.splitlines() == [
        "print('from Python')",
        "[('From Python', {'bold': True})]",
        "<paragraph>From Python</paragraph>",
    ]


async def _at(kind: Kind, room: collab.Room) -> list[str]:
    return kind.read(room)


async def _names(room: collab.Room) -> list[str]:
    return sorted(state["user"]["name"] for state in room.presence.others().values())


async def _kept(shown: Editor) -> list[str]:
    """The lines that are in the page's IndexedDB."""
    updates = await shown.page.evaluate(
        """async () => {
            const [{ name }] = await indexedDB.databases();
            const opening = indexedDB.open(name);
            await new Promise((resolve) => (opening.onsuccess = resolve));
            const store = opening.result.transaction("updates").objectStore("updates");
            const reading = store.getAll();
            await new Promise((resolve) => (reading.onsuccess = resolve));
            opening.result.close();
            return reading.result.map((update) => [...update]);
        }"""
    )
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    text = document.get(shown.kind.name, type=pycrdt.Text)
    for update in updates:
        document.apply_update(bytes(update))
    return str(text).split("\n")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
