"""``collab notebook import`` and ``export``: files on this disk."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Final

from collab import limits
from collab.client import open as open_client
from collab.errors import BadNotebook, LocalError, OfflineError, TooLarge
from collab.notebook.document import Notebook
from collab.notebook.interchange import import_notebook, write_ipynb

__all__ = ["export_file", "import_file"]

_RELAY_S: Final = 30.0


def import_file(file: Path, room: str, *, relay: str | None, store: Path | None) -> str:
    """Read a file into an empty room; returns a line that says what was done.

    With a relay it returns when the relay has the notebook too. Raises :class:`LocalError` for a
    file that cannot be read, :class:`OfflineError` if the relay is not reached, and what
    ``import_notebook`` raises.
    """
    _check_place(relay, store)
    try:
        if file.stat().st_size > limits.MAX_NOTEBOOK_BYTES:
            raise TooLarge(
                f"{file} has {file.stat().st_size} bytes; a notebook may have "
                f"{limits.MAX_NOTEBOOK_BYTES}. Nothing was read. Clear its outputs, and try again."
            )
        data = file.read_bytes()
    except OSError as error:
        raise LocalError(f"{file} cannot be read: {error.strerror}. Nothing was stored.") from error

    async def work() -> int:
        async with open_client(store or ":memory:", relay=relay) as client:
            try:
                notebook = await import_notebook(client, room, data, ask_relay_s=_RELAY_S)
            except TimeoutError as error:
                raise OfflineError(
                    f"{error} Start the relay, and try again; or read the file into a store file "
                    f"alone, without --relay."
                ) from error
            if relay is not None:
                try:
                    await notebook.room.wait_synced(_RELAY_S)
                except TimeoutError as error:
                    raise OfflineError(_what_is_left(room, store)) from error
            return len(notebook.cells)

    return f"{file}: {asyncio.run(work())} cells are in the room {room!r}"


def _what_is_left(room: str, store: Path | None) -> str:
    late = f"The relay has not confirmed the notebook within {_RELAY_S:g} s."
    if store is None:
        return (
            f"{late} Nothing is kept here, without --store, and whether the relay has it is not "
            f"known: look into the room {room!r} before you try again."
        )
    return (
        f"{late} It is saved in {store}, and goes up the next time that a program opens the room "
        f"{room!r} there with this relay. Do not read it in again."
    )


def export_file(
    room: str, file: Path, *, relay: str | None, store: Path | None, force: bool
) -> str:
    """Write a room's notebook; returns a line that says what was done.

    With a relay, what that has is waited for. A file that is there is left, unless ``force``, and
    then replaced by a whole one. Raises :class:`LocalError`, :class:`OfflineError`, and what
    ``write_ipynb`` raises.
    """
    _check_place(relay, store)
    if store is not None and not store.exists():
        raise LocalError(f"There is no store {store}. Nothing was written.")
    _check_free(file, force=force)

    async def work() -> tuple[int, bytes]:
        async with open_client(store or ":memory:", relay=relay) as client:
            opened = await client.room(room)
            if relay is not None:
                try:
                    await opened.wait_synced(_RELAY_S)
                except TimeoutError as error:
                    raise OfflineError(
                        f"{error} Nothing was written. Without --relay the copy of a store file "
                        f"is written as it is."
                    ) from error
            notebook = Notebook(opened)
            if notebook.is_empty:
                raise BadNotebook(
                    f"There is no notebook in the room {room!r}. Nothing was written."
                )
            return len(notebook.cells), write_ipynb(notebook)

    count, data = asyncio.run(work())
    _write(file, data, force=force)
    return f"{file}: {count} cells of the room {room!r}"


def _check_free(file: Path, *, force: bool) -> None:
    if file.exists() and not force:
        raise LocalError(f"{file} is there already. It was left as it is; --force replaces it.")


def _write(file: Path, data: bytes, *, force: bool) -> None:
    """The whole file or none: whoever is killed leaves the old one.

    It may be read and written by whom the old one was, and a link leads on to it.
    """
    try:
        file = file.resolve() if file.is_symlink() else file
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            Path(name).chmod(_mode_of(file))
            _check_free(file, force=force)  # again: the relay may have taken its time
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LocalError(
            f"{file} cannot be written: {error.strerror}. What was there is as it was."
        ) from error


def _mode_of(file: Path) -> int:
    """What an old file has; else what a new one gets."""
    try:
        return file.stat().st_mode & 0o777
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask


def _check_place(relay: str | None, store: Path | None) -> None:
    if relay is None and store is None:
        raise LocalError("Say where the room is: --store FILE, --relay ADDRESS, or both.")
