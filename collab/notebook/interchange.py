"""Notebooks as ``.ipynb`` files: read into a room, and written from one.

1. What is read is valid for nbformat, or refused; what is written is valid, whatever others put
   into the document: parts that no file could have are left out.
2. What a file has is kept: metadata and mime types that nobody here knows too. Its notebook is
   brought to nbformat 4.5, where every cell has an id; cells without one get one by their number.
3. A file becomes a template: the same file gives every device the same structs, under a client id
   that is derived from its content. So two devices that read it into one room, apart and offline,
   have it once when they meet.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from collab import limits
from collab.client import Client
from collab.errors import BadNotebook, RoomNotEmpty, TooLarge, Unsupported
from collab.notebook.document import Notebook
from collab.notebook.shape import NBFORMAT, Cell, encode_notebook
from collab.notebook.values import Json, check_value
from collab.template import Template

__all__ = ["import_notebook", "read_ipynb", "template_of", "to_ipynb", "write_ipynb"]

_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_RECIPE: Final = f"collab notebook 1, pycrdt {version('pycrdt')}: ".encode()
"""Who makes other structs of the same notebook must not make them under the same client id."""


def read_ipynb(data: bytes) -> dict[str, Json]:
    """The notebook that a file holds, brought to nbformat 4.5, every cell with an id of its own.

    Raises :class:`TooLarge` above ``limits.MAX_NOTEBOOK_BYTES``, :class:`BadNotebook` if it is
    none or one that a document cannot hold, :class:`Unsupported` without nbformat.
    """
    if len(data) > limits.MAX_NOTEBOOK_BYTES:
        raise TooLarge(
            f"A notebook file may have {limits.MAX_NOTEBOOK_BYTES} bytes, this one has "
            f"{len(data)}. Nothing was read. Clear its outputs, or some of them, and try again."
        )
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _bad(f"it is not JSON in UTF-8 ({error})") from error
    if not isinstance(notebook, dict) or not isinstance(notebook.get("nbformat"), int):
        raise _bad("it has no number of its format (nbformat)")
    major = notebook["nbformat"]
    if major > NBFORMAT[0]:
        raise _bad(f"its format {major} is newer than {NBFORMAT[0]}, which is known here")
    try:
        check_value(notebook)
    except (ValueError, RecursionError) as error:
        raise _bad(str(error)) from error
    if major < NBFORMAT[0]:
        notebook = _upgraded(notebook)
    minor = notebook.get("nbformat_minor")
    if not isinstance(minor, int):
        raise _bad("it has no number of its format (nbformat_minor)")
    if not isinstance(notebook.get("cells"), list):
        raise _bad("it has no cells")
    if not all(isinstance(cell, dict) for cell in notebook["cells"]):
        raise _bad("among its cells is what is no cell")
    notebook["nbformat_minor"] = max(minor, NBFORMAT[1])
    _give_ids(notebook["cells"])
    if (reason := _why_invalid(notebook)) is not None:
        raise _bad(reason)
    read: dict[str, Json] = notebook
    return read


def template_of(notebook: Mapping[str, Json]) -> Template:
    """A notebook as what a room starts from; see rule 3. Raises what ``Template`` raises."""
    canonical = json.dumps(notebook, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(_RECIPE + canonical).digest()
    update = encode_notebook(notebook, int.from_bytes(digest[:4], "big"))
    return Template(update, sha256=hashlib.sha256(update).hexdigest())


async def import_notebook(
    client: Client, name: str, data: bytes, *, ask_relay_s: float | None = 30.0
) -> Notebook:
    """Read a file's bytes into the room of this name, which has nothing yet; saved when it returns.

    The relay, if one is configured, is asked first for what it has of the room, ``ask_relay_s``
    seconds long; None does not ask. Then, should somebody have written there, the two are mixed
    when they meet. Raises :class:`RoomNotEmpty`, TimeoutError, and what ``read_ipynb`` and
    ``client.room`` raise; the room is then as it was.
    """
    template = template_of(read_ipynb(data))
    room = await client.room(name)
    if client.connection is not None and ask_relay_s is not None:
        await room.wait_synced(ask_relay_s)
    notebook = Notebook(room)
    if notebook.is_empty:
        await client.room(name, template=template)
        if not notebook.is_empty:
            await room.wait_saved()
            return notebook
    raise RoomNotEmpty(
        f"The room {name!r} has content already. It was left as it is, and the file was not read "
        f"into it. Take a room of another name."
    )


def to_ipynb(notebook: Notebook) -> dict[str, Json]:
    """The notebook as a file has it, valid for nbformat.

    Left out is what no valid file could have: outputs that are none, fields of a cell that are
    unknown to nbformat, and the copy of a cell that two people moved at once.
    """
    seen: dict[str, dict[str, Json]] = {}
    cells: list[dict[str, Json]] = []
    for cell in notebook.cells:
        made = _cell(cell)
        if seen.get(cell.id) == made:
            continue
        seen.setdefault(cell.id, dict(made))
        cells.append(made)
    _give_ids(cells)
    major, minor = notebook.version
    result: dict[str, Json] = {
        "nbformat": NBFORMAT[0],
        "nbformat_minor": max(minor, NBFORMAT[1]) if major == NBFORMAT[0] else NBFORMAT[1],
        "metadata": notebook.metadata,
        "cells": cells,
    }
    if _why_invalid(result) is not None:
        _mend(result)
    if (reason := _why_invalid(result)) is not None:
        raise BadNotebook(f"No file can be made of this notebook: {reason}. Nothing was written.")
    return result


def write_ipynb(notebook: Notebook) -> bytes:
    """The bytes of an ``.ipynb`` file, as Jupyter writes them. Raises as ``to_ipynb`` does."""
    nbformat = _nbformat()
    text: str = nbformat.v4.writes(nbformat.from_dict(to_ipynb(notebook)))
    return text.encode() + b"\n"


def _cell(cell: Cell) -> dict[str, Json]:
    made: dict[str, Json] = {
        **cell.extra,
        "id": cell.id,
        "cell_type": cell.cell_type,
        "source": cell.source,
        "metadata": dict(cell.metadata),
    }
    if cell.cell_type == "code":
        made["execution_count"] = cell.execution_count
        made["outputs"] = [dict(output) for output in cell.outputs]
    return made


def _give_ids(cells: list[dict[str, Json]]) -> None:
    """Make every id one that nbformat takes, and no two the same. By the number of the cell."""
    used = {cell["id"] for cell in cells if _is_id(cell.get("id"))}
    met: set[str] = set()
    for number, cell in enumerate(cells):
        if not _is_id(cell.get("id")) or cell["id"] in met:
            new = f"cell-{number}"
            while new in used:
                new += "-"
            if not _is_id(new):
                raise _bad("its cells have ids that leave no room for others")
            cell["id"] = new
            used.add(new)
        met.add(cell["id"])


def _is_id(value: Json) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _mend(notebook: dict[str, Json]) -> None:
    """Leave out what is not valid, in the smallest parts that can be judged alone."""
    empty = {**notebook, "cells": []}
    if _why_invalid(empty) is not None:
        notebook["metadata"] = {}
    for cell in notebook["cells"]:
        if "outputs" in cell and cell["cell_type"] == "code":
            cell["outputs"] = [one for one in cell["outputs"] if _fits(notebook, [one])]
        if _why_invalid({**notebook, "cells": [cell]}) is None:
            continue
        known = {"id", "cell_type", "source", "metadata", "attachments"}
        known |= {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        for name in set(cell) - known:
            del cell[name]
        for name, value in (("attachments", None), ("metadata", {}), ("execution_count", None)):
            if _why_invalid({**notebook, "cells": [cell]}) is None:
                break
            if name == "attachments":
                cell.pop(name, None)
            elif name in cell:
                cell[name] = value


def _fits(notebook: dict[str, Json], outputs: list[Json]) -> bool:
    """Whether an output is valid in a cell that has nothing else to be wrong."""
    bare: dict[str, Json] = {
        "id": "a", "cell_type": "code", "source": "", "metadata": {}, "execution_count": None,
        "outputs": outputs,
    }  # fmt: skip
    return _why_invalid({**notebook, "metadata": {}, "cells": [bare]}) is None


def _why_invalid(notebook: Mapping[str, Json]) -> str | None:
    nbformat = _nbformat()
    try:
        # A copy: nbformat mends in place what it is given.
        nbformat.validator.validate(nbformat.from_dict(notebook))
    except nbformat.ValidationError as error:
        return str(error).partition("\n\nOn ")[0].replace("\n", " ")[:300]
    return None


def _upgraded(notebook: dict[str, Json]) -> dict[str, Json]:
    """A notebook of an older format as one of nbformat 4."""
    nbformat = _nbformat()
    try:
        text = json.dumps(notebook)
        old = nbformat.reader.reads(text)
        converted: dict[str, Json] = json.loads(nbformat.v4.writes(nbformat.convert(old, 4)))
    except Exception as error:
        raise _bad(f"its format {notebook['nbformat']} cannot be read ({error})") from error
    for cell in converted["cells"]:
        cell.pop("id", None)  # the conversion draws them at random; here they go by number
    return converted


def _nbformat() -> Any:
    try:
        import nbformat
        import nbformat.reader
        import nbformat.validator
    except ImportError as error:
        raise Unsupported(
            "Notebook files need nbformat, which is not installed; nothing was read or written. "
            "pip install 'collab-sync[notebook]'"
        ) from error
    return nbformat


def _bad(why: str) -> BadNotebook:
    return BadNotebook(f"This is no notebook that can be read: {why}. Nothing was stored.")
