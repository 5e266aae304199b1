"""Where a user's own store and token are, unless told otherwise."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from collab.errors import LocalError

__all__ = ["TOKEN", "default_store", "make_folder", "token_source"]

TOKEN: Final = "COLLAB_TOKEN"  # noqa: S105 (where it is, not what it is)
_STORE: Final = "collab.db"


def default_store(environ: Mapping[str, str], home: Path, platform: str = sys.platform) -> Path:
    """The file in the folder that the system has for the data of this user's programs.

    ``XDG_DATA_HOME`` (or ~/.local/share), ~/Library/Application Support on macOS, ``LOCALAPPDATA``
    on Windows. The folder is made, for this user alone, by ``make_folder``.
    """
    if platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        named = environ.get("XDG_DATA_HOME", "")
        # The specification says that a relative one is not valid and is to be ignored.
        base = Path(named) if os.path.isabs(named) else home / ".local" / "share"
    return base / "collab" / _STORE


def make_folder(store: Path) -> None:
    """Make the folder of a default store. Raises :class:`LocalError`."""
    try:
        store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(
            f"Messages cannot be kept in {store.parent}: {error.strerror}. Nothing was opened. "
            f"Give a file that this user may write: --store FILE."
        ) from error


def token_source(environ: Mapping[str, str], file: Path | None) -> str | Callable[[], str] | None:
    """What ``collab.open`` takes as token: the file's content, read at each connection.

    Without a file, the environment's. Never an argument: everybody on a machine sees those. Raises
    :class:`LocalError` for a file that cannot be read now.
    """
    if file is None:
        return environ.get(TOKEN) or None

    def read() -> str:
        try:
            return file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise LocalError(
                f"The token cannot be read from {file}: {error}. Nothing was sent with it."
            ) from error

    read()
    return read
