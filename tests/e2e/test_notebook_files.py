"""A real .ipynb goes in at a relay, two people edit it, and it comes out whole."""

from __future__ import annotations

import asyncio
import copy
import json
import re
import sys
from pathlib import Path
from typing import Any

import pycrdt
import pytest
from jupyter_ydoc import YNotebook

import collab
from collab.notebook.document import Notebook
from collab.notebook.files import export_file, import_file
from collab.notebook.interchange import import_notebook, to_ipynb
from tests.e2e.support import QUICK, ROOT, relay_process, run, running, soon, until
from tests.unit.notebook.documents import REAL, from_file


async def command(*arguments: object) -> tuple[int, str, str]:
    """``collab …`` in a process of its own: its status, and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from collab.cli import main; main()", *map(str, arguments),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, errors = await soon(process.communicate(), within_s=60)
    assert process.returncode is not None
    return process.returncode, said.decode(), errors.decode()


def test_a_real_file_in_edited_by_two_and_out(tmp_path: Path) -> None:
    source, out = tmp_path / "in.ipynb", tmp_path / "out.ipynb"
    source.write_text(json.dumps(REAL))

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _):
            status, said, errors = await command("notebook", "import", source, "nb", "--relay", url)
            assert (status, errors) == (0, "")
            assert "4 cells are in the room 'nb'" in said
            status, _, errors = await command("notebook", "import", source, "nb", "--relay", url)
            assert status == 1
            assert "has content already" in errors
            async with (
                collab.open(":memory:", relay=url, settings=QUICK) as first,
                collab.open(":memory:", relay=url, settings=QUICK) as second,
            ):
                rooms = [await first.room("nb"), await second.room("nb")]
                for room in rooms:
                    await room.wait_synced(20)
                ada, ben = map(Notebook, rooms)
                # At once, in one cell, and each in a place of their own.
                ada.source("load").insert(0, "# Ada 艾达\n")
                ben.source("load").insert(len(ben.source("load")), "\n# Ben")
                new = ada.add_cell("markdown", "*ende*", metadata={"by": "ada"})
                ben.delete_cell("empty")
                ben.append_output("load", {"output_type": "stream", "name": "stdout", "text": "é"})
                await until(lambda: len(ben.cells) == 4 and ada.cells == ben.cells)
                for room in rooms:
                    await room.wait_synced(20)
                document: pycrdt.Doc[Any] = pycrdt.Doc()
                document.apply_update(rooms[0].document.get_update())
                theirs = YNotebook(document).get()
            status, _, errors = await command("notebook", "export", "nb", out, "--relay", url)
            assert (status, errors) == (0, "")
            expected = copy.deepcopy(REAL)
            cells = expected["cells"]
            cells[1]["source"] = f"# Ada 艾达\n{cells[1]['source']}\n# Ben"
            cells[1]["outputs"].append({"output_type": "stream", "name": "stdout", "text": "é"})
            cells[3] = {
                "id": new, "cell_type": "markdown", "source": "*ende*", "metadata": {"by": "ada"}
            }  # fmt: skip
            assert from_file(out.read_bytes()) == expected
            assert theirs == expected

    run(main())


def test_two_devices_that_read_one_file_apart_have_it_once_when_they_meet(tmp_path: Path) -> None:
    data = json.dumps(REAL).encode()

    async def main() -> None:
        async with (
            collab.open(tmp_path / "a.db") as ada,
            collab.open(tmp_path / "b.db") as ben,
        ):
            hers = await import_notebook(ada, "nb", data)
            his = await import_notebook(ben, "nb", data)
            hers.source("raw").insert(0, "hers ")
            his.source("title").insert(0, "his ")
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as ada,
            collab.open(tmp_path / "b.db", relay=url, settings=QUICK) as ben,
        ):
            hers, his = Notebook(await ada.room("nb")), Notebook(await ben.room("nb"))
            await until(lambda: hers.cells == his.cells)
            expected = copy.deepcopy(REAL)
            expected["cells"][0]["source"] = "his " + expected["cells"][0]["source"]
            expected["cells"][2]["source"] = "hers \\alpha"
            assert to_ipynb(hers) == to_ipynb(his) == expected

    run(main())


def test_a_file_is_not_mixed_with_what_only_the_relay_has(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _):
            async with collab.open(":memory:", relay=url, settings=QUICK) as client:
                room = await client.room("nb")
                room.text("body").insert(0, "notes")
                await room.wait_synced(20)
            async with collab.open(":memory:", relay=url, settings=QUICK) as client:
                try:
                    await import_notebook(client, "nb", json.dumps(REAL).encode())
                except collab.RoomNotEmpty:
                    pass
                else:
                    raise AssertionError("two things were mixed in one room")
                room = await client.room("nb")
                assert str(room.text("body")) == "notes"
                assert Notebook(room).is_empty

    run(main())


@pytest.mark.parametrize("is_kept", [True, False])
def test_an_import_that_the_relay_does_not_commit_in_time_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    monkeypatch.setattr("collab.notebook.files._RELAY_S", 2.0)
    source, out, stall = (tmp_path / name for name in ("in.ipynb", "out.ipynb", "stall"))
    source.write_text(json.dumps(REAL))
    store = tmp_path / "a.db" if is_kept else None
    said = f"It is saved in {store}" if is_kept else "Nothing is kept here"

    async def main() -> None:
        async with relay_process(tmp_path / "relay", stall=stall) as (_, url):
            async with collab.open(":memory:", relay=url, settings=QUICK) as client:
                await (await client.room("nb")).wait_synced(20)  # to make it is a commit, too
            stall.touch()
            with pytest.raises(collab.OfflineError, match=re.escape(said)):
                await asyncio.to_thread(import_file, source, "nb", relay=url, store=store)
            stall.unlink()
        if is_kept:
            await asyncio.to_thread(export_file, "nb", out, relay=None, store=store, force=False)
            assert from_file(out.read_bytes()) == REAL

    run(main())
