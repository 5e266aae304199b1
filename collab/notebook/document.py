"""A room's document as a notebook: what a program reads in it and does to it.

Others write this document too, so everything is read as if anybody had written anything: what is
no cell is passed over. Two cells can have one id, when two people moved a cell at once; what asks
for a cell by its id gets one of them.

A fresh notebook starts from ``FRESH``, a template: made anew on two devices it would be there
twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

import pycrdt

from collab.client import Client
from collab.errors import LocalError, Unsupported
from collab.events import DocumentChanged, RoomEvent, Subscription
from collab.notebook.shape import (
    FRESH,
    NBFORMAT,
    Cell,
    CellType,
    Output,
    joined,
    make_cell,
    make_output,
    plain,
    read_cell,
)
from collab.notebook.values import Json, check_value, clean_text
from collab.room import Room
from collab.text import Text

__all__ = ["FRESH", "Cell", "CellType", "Notebook", "Output", "check", "open_notebook"]

_TAKEN: Final = "taken:"  # keys of ``state``: the requests that kernels took, numbered
_TAKEN_KEPT: Final = 2_000  # twice what one person's presence may ask for at once


class Notebook:
    """A room's document as a notebook. Many may stand for one room; they hold no content.

    Belongs to the thread of the client's event loop, like the room. Raises :class:`Unsupported` for
    a room of the engine y-py, which has no nested types.
    """

    def __init__(self, room: Room) -> None:
        document: Any = room.document
        if not isinstance(document, pycrdt.Doc):
            raise Unsupported(
                "A notebook needs nested types, which y-py does not have; nothing was changed. "
                'Open the file with engine="pycrdt".'
            )
        self.room: Final = room
        self._meta = document.get("meta", type=pycrdt.Map)
        self._cells = document.get("cells", type=pycrdt.Array)
        self._state = document.get("state", type=pycrdt.Map)
        self._place = 0  # where a cell was found last; a thousand cells take a tenth of a second

    # --- reading ---------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing here that is of a notebook."""
        return not len(self._cells) and not len(self._meta)

    @property
    def is_fresh(self) -> bool:
        """Whether nobody has done anything yet to what ``FRESH`` gives."""
        cells = self.cells
        return len(cells) == 1 and cells[0] == Cell("first", "code", "", {})

    @property
    def cells(self) -> list[Cell]:
        """All cells, in their order."""
        return [read_cell(ycell) for _, ycell in self._maps()]

    def cell(self, cell_id: str) -> Cell | None:
        """The cell of this id; None when there is none (any more)."""
        found = self._find(cell_id)
        return None if found is None else read_cell(found[1])

    @property
    def metadata(self) -> dict[str, Json]:
        """The notebook's own metadata."""
        value = plain(self._meta.get("metadata"))
        return value if isinstance(value, dict) else {}

    @property
    def version(self) -> tuple[int, int]:
        """The format of it: nbformat and nbformat_minor."""
        major, minor = plain(self._meta.get("nbformat")), plain(self._meta.get("nbformat_minor"))
        if isinstance(major, int) and isinstance(minor, int):
            return major, minor
        return NBFORMAT

    def source(self, cell_id: str) -> Text:
        """The cell's source, to edit by Python indices. Raises :class:`LocalError`."""
        return self.room.text(self._get(cell_id)["source"])

    def observe(self, callback: Callable[[], object]) -> Subscription:
        """Call ``callback()`` after every change of the document, here or elsewhere."""

        def changed(event: RoomEvent) -> None:
            if isinstance(event, DocumentChanged):
                callback()

        return self.room.observe(changed)

    # --- cells -----------------------------------------------------------------------------------

    def add_cell(
        self,
        cell_type: CellType = "code",
        source: str = "",
        *,
        index: int | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> str:
        """Put a new cell at ``index`` (None: the end); returns its id.

        Raises :class:`LocalError` for metadata that a document cannot hold.
        """
        cell = {
            "id": str(uuid.uuid4()),
            "cell_type": cell_type,
            "source": source,
            "metadata": dict(metadata or {}),
        }
        check(cell)
        with self.room.transaction():
            count = len(self._cells)
            place = count if index is None else max(0, min(index, count))
            self._cells.insert(place, make_cell(cell))
        return str(cell["id"])

    def move_cell(self, cell_id: str, index: int) -> None:
        """Put the cell where it is number ``index`` then. Raises :class:`LocalError`.

        As in jupyter_ydoc it is deleted and made again under its id, because stock Yjs knows no
        moves. So what somebody types into it at the same moment, or offline, is lost with the old
        one, and a cell that two people move at once is there twice.
        """
        with self.room.transaction():
            found = self._find(cell_id)
            if found is None:
                raise _no_cell(cell_id)
            place, ycell = found
            value = plain(ycell)
            del self._cells[place]
            self._cells.insert(max(0, min(index, len(self._cells))), make_cell(value))

    def delete_cell(self, cell_id: str) -> bool:
        """Delete the cell; False if it is gone already."""
        with self.room.transaction():
            found = self._find(cell_id)
            if found is not None:
                del self._cells[found[0]]
        return found is not None

    # --- what running it leaves ------------------------------------------------------------------

    def append_output(self, cell_id: str, output: Output) -> bool:
        """Add an output; text of the stream that the last output is of is added to that one.

        Returns False, and does nothing, if the cell is gone or is no code cell. Raises
        :class:`LocalError` for an output that a document cannot hold.
        """
        check(output)
        with self.room.transaction():
            found = self._find(cell_id)
            outputs = None if found is None else found[1].get("outputs")
            if not isinstance(outputs, pycrdt.Array):
                return False
            last = outputs[len(outputs) - 1] if len(outputs) else None
            text = _stream_text(last, output)
            if text is not None:
                text += joined(output["text"])
            else:
                outputs.append(make_output(output))
        return True

    def clear_outputs(self, cell_id: str) -> bool:
        """Delete the outputs and the execution count; False if the cell is gone or has none."""
        with self.room.transaction():
            found = self._find(cell_id)
            outputs = None if found is None else found[1].get("outputs")
            if found is None or not isinstance(outputs, pycrdt.Array):
                return False
            if len(outputs):
                outputs.clear()
            if found[1].get("execution_count") is not None:
                found[1]["execution_count"] = None
        return True

    def set_execution(
        self, cell_id: str, state: Literal["idle", "running"], *, count: int | None = None
    ) -> bool:
        """Say whether the cell runs (all of this id) and, with ``count``, which run it was.

        Returns False if the cell is gone.
        """
        found = False
        with self.room.transaction():
            for _, ycell in self._maps():
                if ycell.get("id") != cell_id:
                    continue
                if ycell.get("execution_state") != state:
                    ycell["execution_state"] = state
                if count is not None and not found:
                    ycell["execution_count"] = count
                found = True
        return found

    def running(self) -> list[str]:
        """The ids of the cells that show as running."""
        return [
            str(ycell["id"])
            for _, ycell in self._maps()
            if ycell.get("execution_state") == "running"
        ]

    def is_taken(self, request: str) -> bool:
        """Whether a kernel took this request, of those that are remembered."""
        return self._state.get(_TAKEN + request) is not None

    def take(self, request: str) -> None:
        """Note that a kernel took this request: nobody does it again."""
        with self.room.transaction():
            numbers = {
                key: number
                for key in self._state
                if key.startswith(_TAKEN) and isinstance(number := self._state[key], int | float)
            }
            newest = sorted(numbers, key=lambda key: (numbers[key], key))
            for key in newest[: len(newest) + 1 - _TAKEN_KEPT]:
                del self._state[key]
            self._state[_TAKEN + clean_text(request)] = max(numbers.values(), default=0) + 1

    # --- inside ----------------------------------------------------------------------------------

    def _maps(self) -> Iterator[tuple[int, pycrdt.Map[Any]]]:
        for place in range(len(self._cells)):
            ycell = self._cells[place]
            if isinstance(_id(ycell), str):
                yield place, ycell

    def _find(self, cell_id: str) -> tuple[int, pycrdt.Map[Any]] | None:
        last = self._place
        for place in (last, last - 1, last + 1):
            if 0 <= place < len(self._cells) and _id(ycell := self._cells[place]) == cell_id:
                self._place = place
                return place, ycell
        for place, ycell in self._maps():
            if ycell.get("id") == cell_id:
                self._place = place
                return place, ycell
        return None

    def _get(self, cell_id: str) -> pycrdt.Map[Any]:
        found = self._find(cell_id)
        if found is None or not isinstance(found[1].get("source"), pycrdt.Text):
            raise _no_cell(cell_id)
        return found[1]


async def open_notebook(client: Client, name: str) -> Notebook:
    """The room of this name as a notebook; one that has nothing here starts from ``FRESH``."""
    return Notebook(await client.room(name, template=FRESH))


def check(value: Json) -> None:
    """Raise :class:`LocalError` if a document cannot hold ``value``."""
    try:
        check_value(value)
    except ValueError as error:
        raise LocalError(f"A notebook cannot hold this: {error}. Nothing was changed.") from error


def _id(ycell: Any) -> Any:
    return ycell.get("id") if isinstance(ycell, pycrdt.Map) else None


def _stream_text(last: Any, output: Output) -> pycrdt.Text | None:
    """The text of the last output, if ``output`` goes on with the same stream."""
    if output.get("output_type") != "stream" or not isinstance(last, pycrdt.Map):
        return None
    if last.get("output_type") != "stream" or last.get("name") != output.get("name"):
        return None
    text = last.get("text")
    return text if isinstance(text, pycrdt.Text) else None


def _no_cell(cell_id: str) -> LocalError:
    return LocalError(f"There is no cell {cell_id!r} (any more). Nothing was changed.")
