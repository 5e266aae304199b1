"""A room's document as a notebook: what is done to it is done, and jupyter_ydoc sees the same."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pycrdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jupyter_ydoc import YNotebook

import collab
from collab.notebook.document import FRESH, Cell, Notebook, open_notebook
from collab.notebook.interchange import write_ipynb
from collab.notebook.shape import encode_notebook
from tests.contract.engines import needs_ypy
from tests.e2e.support import run, until
from tests.unit.notebook.documents import from_file

STDOUT = {"output_type": "stream", "name": "stdout", "text": "你好\n"}
STDERR = {"output_type": "stream", "name": "stderr", "text": "careful\n"}


async def opened(client: collab.Client, *sources: str) -> Notebook:
    """A notebook with code cells of these sources, besides the first."""
    notebook = await open_notebook(client, "nb")
    for source in sources:
        notebook.add_cell("code", source)
    return notebook


def sources(notebook: Notebook) -> list[str]:
    return [cell.source for cell in notebook.cells]


def ydoc(notebook: Notebook) -> list[dict[str, Any]]:
    """The cells as jupyter_ydoc reads them."""
    cells: list[dict[str, Any]] = YNotebook(notebook.room.document).get()["cells"]
    return cells


def test_a_fresh_notebook_is_one_that_jupyter_ydoc_reads() -> None:
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    document.apply_update(FRESH.update)
    assert YNotebook(document).get() == {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
        "cells": [
            {
                "id": "first",
                "cell_type": "code",
                "source": "",
                "metadata": {},
                "outputs": [],
                "execution_count": None,
            }
        ],
    }
    assert hashlib.sha256(FRESH.update).hexdigest().startswith("301df9ef")


def test_two_devices_that_make_one_notebook_apart_have_it_once() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as ada, collab.open(":memory:") as ben:
            hers, his = await open_notebook(ada, "nb"), await open_notebook(ben, "nb")
            assert hers.is_fresh
            assert his.is_fresh
            hers.source("first").insert(0, "a")
            his.source("first").insert(0, "b")
            his.room.document.apply_update(hers.room.document.get_update())
            assert sources(his) in (["ab"], ["ba"])
            assert not his.is_fresh

    run(main())


def test_cells_are_added_moved_and_deleted_where_they_were_asked_to() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await opened(client, "1", "2")
            top = notebook.add_cell("markdown", "# t", index=0, metadata={"tags": ["x"], "n": 1})
            assert sources(notebook) == ["# t", "", "1", "2"]
            one = notebook.cells[2].id
            notebook.append_output(one, STDOUT)
            notebook.set_execution(one, "idle", count=3)
            before = notebook.cell(one)
            notebook.move_cell(one, 0)
            assert sources(notebook) == ["1", "# t", "", "2"]
            notebook.move_cell(one, 3)
            assert sources(notebook) == ["# t", "", "2", "1"]
            notebook.move_cell(one, 99)
            assert sources(notebook) == ["# t", "", "2", "1"]
            assert notebook.cell(one) == before
            assert notebook.cell(top) == Cell(top, "markdown", "# t", {"tags": ["x"], "n": 1})
            assert notebook.delete_cell(top)
            assert not notebook.delete_cell(top)
            assert notebook.cell(top) is None
            assert [cell["source"] for cell in ydoc(notebook)] == ["", "2", "1"]
            with pytest.raises(collab.LocalError, match="no cell"):
                notebook.move_cell(top, 0)
            with pytest.raises(collab.LocalError, match="no cell"):
                notebook.source(top)

    run(main())


def test_a_source_is_edited_by_python_indices_in_every_script() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await opened(client, "x = '你好📊'")
            cell = notebook.cells[1].id
            notebook.source(cell).insert(7, "é")
            assert notebook.cell(cell) is not None
            assert sources(notebook)[1] == "x = '你好é📊'"
            assert ydoc(notebook)[1]["source"] == "x = '你好é📊'"

    run(main())


def test_text_of_one_stream_is_one_output_until_another_comes() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await opened(client)
            for output in (STDOUT, STDOUT, STDERR, STDOUT):
                assert notebook.append_output("first", output)
            expected = [{**STDOUT, "text": "你好\n你好\n"}, STDERR, STDOUT]
            assert ydoc(notebook)[0]["outputs"] == expected
            cell = notebook.cell("first")
            assert cell is not None
            assert list(cell.outputs) == expected
            assert notebook.clear_outputs("first")
            assert notebook.cells == [Cell("first", "code", "", {})]

    run(main())


def test_what_runs_in_a_cell_that_is_gone_or_no_code_changes_nothing() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await opened(client)
            text = notebook.add_cell("markdown", "text")
            before = notebook.cells
            assert not notebook.append_output("gone", STDOUT)
            assert not notebook.append_output(text, STDOUT)
            assert not notebook.clear_outputs(text)
            assert not notebook.set_execution("gone", "running")
            with pytest.raises(collab.LocalError, match=r"2\^53"):
                notebook.append_output("first", {**STDOUT, "metadata": {"n": 2**60}})
            with pytest.raises(collab.LocalError, match="Unicode"):
                notebook.append_output("first", {**STDOUT, "text": "\ud83d"})
            with pytest.raises(collab.LocalError, match="Unicode"):
                notebook.add_cell("code", "\ud83d")
            assert notebook.cells == before

    run(main())


def test_a_running_cell_shows_and_a_request_is_taken_once() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await opened(client, "1")
            notebook.set_execution("first", "running")
            assert notebook.running() == ["first"]
            notebook.set_execution("first", "idle", count=7)
            assert notebook.running() == []
            cell = notebook.cell("first")
            assert cell is not None
            assert cell.execution_count == 7
            assert not notebook.is_taken("r")
            notebook.take("r")
            assert notebook.is_taken("r")

    run(main())


def test_no_copy_of_a_cell_goes_on_showing_as_running() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await opened(client)
            notebook.set_execution("first", "running")
            cells = notebook.room.document.get("cells", type=pycrdt.Array)
            cells.append(pycrdt.Map({"id": "first", "execution_state": "running"}))
            assert notebook.running() == ["first", "first"]
            notebook.set_execution("first", "idle", count=2)
            assert notebook.running() == []
            assert [cell.execution_count for cell in notebook.cells] == [2, None]

    run(main())


def test_requests_that_were_taken_long_ago_are_forgotten_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("collab.notebook.document._TAKEN_KEPT", 3)

    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await opened(client)
            for request in "zyxwv":
                notebook.take(request)
            assert [one for one in "zyxwv" if notebook.is_taken(one)] == ["x", "w", "v"]

    run(main())


def test_every_change_is_told_and_none_after_the_end() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await opened(client)
            told: list[list[str]] = []
            subscription = notebook.observe(lambda: told.append(sources(notebook)))
            notebook.source("first").insert(0, "x")
            await until(lambda: told)
            assert told[-1] == ["x"]
            subscription.close()
            before = len(told)
            notebook.source("first").insert(0, "y")
            await asyncio.sleep(0)
            await notebook.room.wait_saved()
            assert len(told) == before

    run(main())


def test_what_is_no_cell_is_passed_over() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await opened(client)
            cells = notebook.room.document.get("cells", type=pycrdt.Array)
            for foreign in (7, "x", None, [1], {"id": "plain"}, pycrdt.Map({"id": 7.0})):
                cells.append(foreign)
            cells.append(
                pycrdt.Map(
                    {"id": "odd", "cell_type": 7, "source": ["a", "b", 7], "metadata": "no",
                     "outputs": "no", "execution_count": True, "execution_state": [1]}
                )
            )  # fmt: skip
            cells.append(pycrdt.Map({"id": "lists", "outputs": pycrdt.Array([7, {"x": 1}])}))
            assert notebook.cells[1:] == [
                Cell("odd", "raw", "ab", {}),
                Cell("lists", "raw", "", {}, outputs=({"x": 1},)),
            ]
            assert not notebook.append_output("odd", STDOUT)
            with pytest.raises(collab.LocalError):
                notebook.source("odd")
            meta = notebook.room.document.get("meta", type=pycrdt.Map)
            meta["nbformat"], meta["metadata"] = "four", [1]
            assert notebook.version == (4, 5)
            assert notebook.metadata == {}

    run(main())


@pytest.mark.parametrize("field", ["id", "source", "outputs", "metadata", "x", "execution_count"])
@pytest.mark.parametrize(
    "make",
    [
        pycrdt.XmlFragment, lambda: pycrdt.Text("é"), lambda: pycrdt.Array([pycrdt.Text("é")]),
        lambda: pycrdt.Array([pycrdt.Map({"text": pycrdt.XmlFragment()})]), pycrdt.Doc,
        lambda: b"bytes", lambda: float("nan"), lambda: float("inf"), lambda: 2.0**60,
    ],
)  # fmt: skip
def test_what_json_has_nothing_for_harms_nobody(field: str, make: Callable[[], Any]) -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await opened(client)
            cells = notebook.room.document.get("cells", type=pycrdt.Array)
            cell: dict[str, Any] = {"id": "k", "cell_type": "code", "source": pycrdt.Text("s")}
            cells.append(pycrdt.Map({**cell, "outputs": pycrdt.Array(), field: make()}))
            assert notebook.cells[0].id == "first"
            notebook.append_output("k", STDOUT)
            notebook.set_execution("k", "running")
            notebook.set_execution("k", "idle", count=1)
            json.dumps([cell.extra for cell in notebook.cells], allow_nan=False)
            json.dumps([list(cell.outputs) for cell in notebook.cells], allow_nan=False)
            assert from_file(write_ipynb(notebook))["cells"][0]["id"] == "first"

    run(main())


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "move", "delete", "type"]), st.integers(0, 5), st.integers(0, 5)
        ),
        max_size=12,
    )
)
def test_any_edits_leave_what_a_plain_list_would_have(steps: list[tuple[str, int, int]]) -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = Notebook(await client.room("plain"))
            model: list[list[str]] = []  # id, source
            for number, (act, at, to) in enumerate(steps):
                if act == "add":
                    model.insert(min(at, len(model)), [notebook.add_cell(index=at), ""])
                elif not model:
                    continue
                elif act == "delete":
                    assert notebook.delete_cell(model.pop(at % len(model))[0])
                elif act == "move":
                    one = model.pop(at % len(model))
                    notebook.move_cell(one[0], to)
                    model.insert(min(to, len(model)), one)
                else:
                    one = model[at % len(model)]
                    notebook.source(one[0]).insert(len(one[1]), f"é{number}")
                    one[1] += f"é{number}"
            assert [[cell.id, cell.source] for cell in notebook.cells] == model
            if model:
                assert [[cell["id"], cell["source"]] for cell in ydoc(notebook)] == model

    run(main())


@needs_ypy
def test_an_engine_without_nested_types_is_refused() -> None:
    async def main() -> None:
        async with collab.open(":memory:", engine="y-py") as client:
            with pytest.raises(collab.Unsupported, match="y-py"):
                Notebook(await client.room("nb"))

    run(main())


def test_a_stream_that_somebody_wrote_as_plain_text_is_left_and_a_new_one_begun() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await opened(client)
            cells = notebook.room.document.get("cells", type=pycrdt.Array)
            cells[0]["outputs"].append(pycrdt.Map({**STDOUT, "text": "plain"}))
            notebook.append_output("first", STDOUT)
            assert ydoc(notebook)[0]["outputs"] == [{**STDOUT, "text": "plain"}, STDOUT]

    run(main())


def test_a_notebook_is_made_of_the_same_structs_every_time() -> None:
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"a": 1}, "cells": []}
    assert encode_notebook(notebook, 5) == encode_notebook(notebook, 5)
