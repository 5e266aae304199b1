"""What is in a file is in the document, and what is in the document makes a valid file."""

from __future__ import annotations

import copy
import json
import warnings
from typing import Any

import pycrdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jupyter_ydoc import YNotebook

import collab
from collab import limits
from collab.notebook import interchange
from collab.notebook.document import Notebook, open_notebook
from collab.notebook.interchange import (
    import_notebook,
    read_ipynb,
    template_of,
    to_ipynb,
    write_ipynb,
)
from collab.notebook.shape import encode_notebook
from tests.e2e.support import run
from tests.unit.notebook.documents import REAL, from_file, notebooks, values


def encoded(notebook: dict[str, Any]) -> bytes:
    return json.dumps(notebook).encode()


def changed(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(REAL), **fields}


def as_ydoc_has_it(update: bytes) -> Any:
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    document.apply_update(update)
    return YNotebook(document).get()


def test_a_file_goes_in_and_comes_out_with_all_that_nobody_here_knows() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await import_notebook(client, "real", encoded(REAL))
            assert to_ipynb(notebook) == REAL
            assert from_file(write_ipynb(notebook)) == REAL
            assert YNotebook(notebook.room.document).get() == REAL
            assert notebook.room.status.saved

    run(main())


@settings(max_examples=40, deadline=None)
@given(notebook=notebooks)
def test_every_valid_notebook_reads_the_same_here_and_in_jupyter_ydoc(
    notebook: dict[str, Any],
) -> None:
    assert read_ipynb(encoded(notebook)) == notebook
    update = template_of(notebook).update
    assert as_ydoc_has_it(update) == notebook

    async def main() -> None:
        async with collab.open(":memory:") as client:
            room = await client.room("any", template=template_of(notebook))
            assert from_file(write_ipynb(Notebook(room))) == notebook

    run(main())


@settings(max_examples=40, deadline=None)
@given(notebook=notebooks)
def test_what_jupyter_ydoc_writes_is_read(notebook: dict[str, Any]) -> None:
    theirs = YNotebook()
    theirs.set(copy.deepcopy(notebook))
    expected = theirs.get()  # with a kernelspec, and a cell where there was none

    async def main() -> None:
        async with collab.open(":memory:") as client:
            room = await client.room("theirs")
            room.document.apply_update(theirs.ydoc.get_update())
            found = to_ipynb(Notebook(room))
            assert found == expected

    run(main())


@settings(max_examples=40, deadline=None)
@given(
    rubbish=st.lists(
        st.dictionaries(
            st.sampled_from(
                ["id", "cell_type", "source", "metadata", "outputs", "execution_count",
                 "attachments", "x"]
            ),
            values | st.lists(st.dictionaries(st.sampled_from(["output_type", "name"]), values)),
        )
        | values,
        max_size=4,
    ),
    metadata=values,
)  # fmt: skip
def test_whatever_others_put_into_the_document_a_valid_file_comes_out(
    rubbish: list[Any], metadata: Any
) -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await import_notebook(client, "real", encoded(REAL))
            cells = notebook.room.document.get("cells", type=pycrdt.Array)
            for one in rubbish:
                cells.append(pycrdt.Map(one) if isinstance(one, dict) else one)
            notebook.room.document.get("meta", type=pycrdt.Map)["metadata"] = metadata
            result = from_file(write_ipynb(notebook))
            assert result["cells"][: len(REAL["cells"])] == REAL["cells"]

    run(main())


def test_one_bad_output_costs_that_output_alone() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await import_notebook(client, "real", encoded(REAL))
            cells = notebook.room.document.get("cells", type=pycrdt.Array)
            cells[1]["outputs"].append(pycrdt.Map({"output_type": "display_data", "data": 7}))
            assert from_file(write_ipynb(notebook)) == REAL

    run(main())


def test_a_cell_that_two_people_moved_at_once_is_written_once() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await import_notebook(client, "real", encoded(REAL))
            cells = notebook.room.document.get("cells", type=pycrdt.Array)
            twin = next(one for one in notebook.cells if one.id == "raw")
            again = {"id": "raw", "cell_type": "raw", "metadata": pycrdt.Map(dict(twin.metadata))}
            cells.append(pycrdt.Map({**again, "source": pycrdt.Text("\\alpha")}))
            assert from_file(write_ipynb(notebook)) == REAL
            source = cells[len(cells) - 1]["source"]
            source += " and more"  # no copy any more: both are kept
            found = from_file(write_ipynb(notebook))["cells"]
            assert [cell["source"] for cell in found[-2:]] == ["", "\\alpha and more"]
            assert len({cell["id"] for cell in found}) == len(found) == 5

    run(main())


def test_two_devices_that_read_one_file_apart_have_it_once() -> None:
    first, second = template_of(REAL), template_of(json.loads(json.dumps(REAL)))
    assert first.clients == second.clients
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    document.apply_update(first.update)
    state = document.get_state()
    document.apply_update(second.update)
    assert document.get_state() == state
    assert YNotebook(document).get() == REAL
    assert template_of(changed(cells=[])).clients != first.clients


def test_cells_without_an_id_get_the_same_on_every_device() -> None:
    old = changed(nbformat_minor=2)
    for cell in old["cells"]:
        del cell["id"]
    old["cells"][0]["id"] = "cell-1"  # and one that has the name that another would get
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_ipynb(encoded(old))
    assert [cell["id"] for cell in found["cells"]] == ["cell-1", "cell-1-", "cell-2", "cell-3"]
    assert found["nbformat_minor"] == 5
    assert read_ipynb(encoded(old)) == found


def test_a_notebook_of_format_3_is_brought_to_4() -> None:
    old = {
        "nbformat": 3,
        "nbformat_minor": 0,
        "metadata": {"name": "old"},
        "worksheets": [
            {
                "metadata": {},
                "cells": [
                    {"cell_type": "heading", "level": 1, "metadata": {}, "source": ["Title"]},
                    {
                        "cell_type": "code",
                        "collapsed": False,
                        "input": ["1 + 1"],
                        "language": "python",
                        "metadata": {},
                        "outputs": [
                            {
                                "output_type": "pyout",
                                "prompt_number": 2,
                                "text": ["2"],
                                "metadata": {},
                            }
                        ],
                        "prompt_number": 2,
                    },
                ],
            }
        ],
    }
    found = read_ipynb(encoded(old))
    assert [cell["id"] for cell in found["cells"]] == ["cell-0", "cell-1"]
    assert as_ydoc_has_it(encode_notebook(found, 7))["cells"][1]["source"] == "1 + 1"
    assert read_ipynb(encoded(old)) == found


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no number of its format"),
        (b'{"nbformat": "4"}', "no number of its format"),
        (b'{"nbformat": 4}', "nbformat_minor"),
        (b'{"nbformat": 4, "nbformat_minor": 5}', "no cells"),
        (b'{"nbformat": 3}', "cannot be read"),
        (b'{"nbformat": 5, "nbformat_minor": 0, "cells": []}', "newer"),
        (encoded(changed(cells=[{"cell_type": "code"}])), "required property"),
        (encoded(changed(cells=[7])), "no cell"),
        (encoded(changed(metadata={"n": 2**60})), "2\\^53"),
        (encoded(changed(metadata={"n": float("nan")})), "nan"),
        (encoded(changed(metadata={"half": "\ud800"})), "Unicode"),
        (encoded(changed(metadata={"deep": json.loads("[" * 60 + "]" * 60)})), "deeper"),
    ],
)  # fmt: skip
def test_what_is_no_notebook_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(collab.BadNotebook, match=why):
        read_ipynb(data)


def test_a_file_above_the_bound_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_NOTEBOOK_BYTES", 10)
    with pytest.raises(collab.TooLarge, match="10 bytes, this one has 11"):
        read_ipynb(b"x" * 11)


def test_a_room_that_has_anything_is_left_as_it_is() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            fresh = await open_notebook(client, "fresh")
            with pytest.raises(collab.RoomNotEmpty, match="fresh"):
                await import_notebook(client, "fresh", encoded(REAL))
            assert fresh.is_fresh
            notes = await client.room("notes")
            notes.text("body").insert(0, "mine")
            with pytest.raises(collab.RoomNotEmpty):
                await import_notebook(client, "notes", encoded(REAL))
            assert Notebook(notes).is_empty
            assert str(notes.text("body")) == "mine"

    run(main())


def test_without_nbformat_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "nbformat", None)
    with pytest.raises(collab.Unsupported, match=r"collab-sync\[notebook\]"):
        interchange.read_ipynb(encoded(REAL))
