"""The picture in README of ``collab edit``: what the app draws, painted by Chromium.

It is made anew into ``docs/`` with ``PICTURES=1``; else into the test's own folder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import collab
from collab.editor import people
from collab.testing import relay
from tests.browser.conftest import browser
from tests.e2e.editor_support import editing
from tests.e2e.support import QUICK, reads, run

DOCS = Path(__file__).parent.parent.parent / "docs"
MAX_BYTES = 150_000
FONT = "DejaVu Sans Mono"
TEXT = """# Tide gauge, week 48

Readings from the harbour station, before we sail.

- Monday 1.42 m, calm
- Tuesday 1.57 m
- Wednesday 1.49 m, wind from the north-west
"""


async def paint(svg: str, profile: Path, into: Path) -> None:
    """Textual's picture names a font of the web: here it is one of this machine."""
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", FONT)
    async with browser(profile) as context:
        page = await context.new_page()
        await page.set_content(f"<style>body{{margin:0}}svg{{width:980px}}</style>{svg}")
        await page.locator("svg").screenshot(path=into)


@pytest.mark.timeout(240)
def test_the_editor_with_two_people_in_it_is_painted(tmp_path: Path) -> None:
    into = (DOCS if os.environ.get("PICTURES") == "1" else tmp_path) / "editor.png"

    async def main() -> None:
        async with (
            relay(tmp_path / "relay") as server,
            editing(relay=server.url, room="tide gauge", size=(98, 22)) as ada,
            collab.open(
                ":memory:", relay=server.url, user=people.user("Ben"), settings=QUICK
            ) as client,
        ):
            room = await client.room("tide gauge")
            ada.app.area.insert(TEXT)
            await reads(room, TEXT)
            text = room.text("body")
            at = TEXT.index("Tuesday 1.57 m")
            anchor, head = (text.relative_position(at + n).to_json() for n in (8, 14))
            room.presence.set({"cursor": {"anchor": anchor, "head": head}})
            await room.chat.send("I checked Tuesday's.", meta={"name": "Ben"})
            await ada.shows("I checked", "◂ Ben")
            await ada.press("ctrl+end")
            await ada.says("Thanks! Will look at it on board.")
            await room.chat.mark_read()
            await ada.shows("read", "saved and synced")
            await ada.hides("queued")
            await ada.pilot.pause()
            await paint(ada.app.export_screenshot(title="collab edit"), tmp_path / "ada", into)

    run(main())
    assert 10_000 < into.stat().st_size < MAX_BYTES
