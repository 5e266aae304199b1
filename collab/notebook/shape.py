"""The shape of a notebook in a document: that of jupyter_ydoc's ``YNotebook``.

Its roots: ``meta``, a map of ``nbformat``, ``nbformat_minor`` and the map ``metadata``; ``cells``,
an array of maps {``id``, ``cell_type``, ``source``: text, ``metadata``: map, and of code cells
``outputs``: array of maps, ``execution_count``, ``execution_state``}; ``state``, a map. The text of
a stream output is a shared text, all else in an output is plain. Source: jupyter_ydoc 4.2,
``ynotebook.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import pycrdt

from collab.notebook.values import MAX_WHOLE, Json
from collab.template import Template

__all__ = [
    "FRESH",
    "NBFORMAT",
    "Cell",
    "CellType",
    "Output",
    "encode_notebook",
    "joined",
    "make_cell",
    "make_output",
    "plain",
    "read_cell",
]

CellType: TypeAlias = Literal["code", "markdown", "raw"]
Output: TypeAlias = Mapping[str, Json]
"""An output as ``.ipynb`` files have it (nbformat 4)."""

NBFORMAT: Final = (4, 5)
CELL_TYPES: Final = ("code", "markdown", "raw")
FRESH: Final = Template(
    bytes.fromhex(
        "010df09099cd03002801046d657461086e62666f726d6174017c408000002801046d6574610e6e62666f726d61"
        "745f6d696e6f72017c40a000002701046d657461086d65746164617461012800f09099cd03020a6b65726e656c"
        "73706563017603046e616d657707707974686f6e330c646973706c61795f6e616d657708507974686f6e203308"
        "6c616e67756167657706707974686f6e2800f09099cd03020d6c616e67756167655f696e666f017601046e616d"
        "657706707974686f6e07010563656c6c73012800f09099cd030502696401770566697273742800f09099cd0305"
        "0963656c6c5f74797065017704636f64652700f09099cd030506736f75726365022700f09099cd0305086d6574"
        "6164617461012700f09099cd0305076f757470757473002800f09099cd03050f657865637574696f6e5f636f75"
        "6e74017e2800f09099cd03050f657865637574696f6e5f737461746501770469646c6500"
    ),
    sha256="301df9eff6f1f573c0f822583df03a9a2a87df841420ceccff58b97a42e69267",
)
"""One empty code cell, id "first", for Python 3. The page in the browser has the same bytes."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as it is now. ``extra`` is what else is in it, such as ``attachments``."""

    id: str
    cell_type: str
    source: str
    metadata: Mapping[str, Json]
    outputs: tuple[Output, ...] = ()
    execution_count: int | None = None
    execution_state: str = "idle"
    extra: Mapping[str, Json] = field(default_factory=dict)


def encode_notebook(notebook: Mapping[str, Json], client_id: int) -> bytes:
    """The update that makes a notebook, as files of nbformat 4 have it, written by ``client_id``.

    The same notebook makes the same structs in the same order: what a template needs.
    """
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=client_id)
    with document.transaction():
        meta = document.get("meta", type=pycrdt.Map)
        meta["nbformat"] = notebook["nbformat"]
        meta["nbformat_minor"] = notebook["nbformat_minor"]
        meta["metadata"] = pycrdt.Map(dict(notebook["metadata"]))
        cells = document.get("cells", type=pycrdt.Array)
        for cell in notebook["cells"]:
            cells.append(make_cell(cell))
    return document.get_update()


def make_cell(cell: Mapping[str, Json]) -> pycrdt.Map[Any]:
    """A cell for the array of cells."""
    made: dict[str, Any] = dict(cell)
    made["source"] = pycrdt.Text(joined(cell.get("source", "")))
    made["metadata"] = pycrdt.Map(dict(cell.get("metadata") or {}))
    if cell["cell_type"] == "code":
        made["outputs"] = pycrdt.Array([make_output(one) for one in cell.get("outputs") or ()])
        made.setdefault("execution_count", None)
        made["execution_state"] = cell.get("execution_state", "idle")
    return pycrdt.Map(made)


def make_output(output: Output) -> pycrdt.Map[Any]:
    """An output for a cell's array of outputs."""
    made: dict[str, Any] = dict(output)
    if made.get("output_type") == "stream":
        made["text"] = pycrdt.Text(joined(made.get("text", "")))
    return pycrdt.Map(made)


def read_cell(ycell: pycrdt.Map[Any]) -> Cell:
    value = plain(ycell)
    taken = (
        "id",
        "cell_type",
        "source",
        "metadata",
        "outputs",
        "execution_count",
        "execution_state",
    )
    known = {name: value.pop(name, None) for name in taken}
    outputs, count = known["outputs"], known["execution_count"]
    return Cell(
        id=known["id"],
        cell_type=known["cell_type"] if known["cell_type"] in CELL_TYPES else "raw",
        source=joined(known["source"]),
        metadata=known["metadata"] if isinstance(known["metadata"], dict) else {},
        outputs=_dicts(outputs),
        execution_count=count if isinstance(count, int) and not isinstance(count, bool) else None,
        execution_state="running" if known["execution_state"] == "running" else "idle",
        extra=value,
    )


def _dicts(value: Json) -> tuple[dict[str, Json], ...]:
    return tuple(one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def plain(value: Any) -> Json:
    """What JSON has for a value of the document; None for what it has nothing for.

    Every number of a document is a float: whole ones are ints again.
    """
    if isinstance(value, pycrdt.Text):
        return str(value)
    if isinstance(value, pycrdt.Map | dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, pycrdt.Array | list):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        if value.is_integer() and abs(value) <= MAX_WHOLE:
            return int(value)
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool) else None


def joined(text: Json) -> str:
    """Text that a file may also have as a list of lines."""
    if isinstance(text, str):
        return text
    if isinstance(text, list | tuple):
        return "".join(line for line in text if isinstance(line, str))
    return ""
