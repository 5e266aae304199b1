"""Do the terminal's editor and editors of the web see each other's carets?

The web's side is Yjs and a stock provider, with carets as y-codemirror.next tells of them.
"""

from __future__ import annotations

from pathlib import Path

from tests.e2e.editor_support import editing
from tests.e2e.support import run, running
from tests.interop.node import running_node
from tests.interop.test_yjs_providers import eventually, peer

USER = {"name": "Web", "color": "#ff0000", "colorLight": "#ff000033"}


def test_each_sees_where_the_other_one_is_by_its_own_indices(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            running_node("providers.mjs") as node,
            editing(relay=url, text="text") as one,
            peer(node, url, 3, room="plan") as web,
        ):
            await one.types("👍 日本\nsecond\n")
            await web.reads("👍 日本\nsecond\n")
            # Theirs: "👍" has two places in JavaScript, and one here.
            await web.do("point", user=USER, anchor=5, head=5)
            await one.shows("👍 日本  ◂ Web", "● Web")
            await web.do("point", user=USER, anchor=0, head=9)
            await one.shows("second  ◂ Web")
            # Ours, while both write.
            await one.press("ctrl+home", "end", "shift+left")
            await web.do("type", index=0, text="𝄞 ")

            def is_there(found: list[dict[str, object]]) -> bool:
                return [caret["at"] for caret in found] == [[8, 7]]

            (caret,) = await eventually(lambda: web.do("pointed"), is_there)
            assert caret["user"]["name"] == "Ada"
            assert caret["user"]["color"].startswith("#")
            await one.shows("𝄞 👍 日本", "second  ◂ Web")

    run(main())
