"""Textual's way to the terminal, for a terminal that may be gone: its window closed, a line cut.

Textual writes in a thread that an error ends; what is written after that would fill a queue and
then hold the event loop up for ever, with edits that are not saved. So errors of writing are let go
here: there is nobody to see it, and the app looks itself whether its terminal is still there.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO, Any

from textual.driver import Driver

__all__ = ["chosen_driver", "is_terminal_there"]


class _Forgiving:
    """A file that says of everything that it was written."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with suppress(OSError):
            return self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def chosen_driver() -> type[Driver] | None:
    """The driver for this system; None: Textual's own."""
    if sys.platform == "win32" or "TEXTUAL_DRIVER" in os.environ:
        return None
    from textual.drivers.linux_driver import LinuxDriver

    class HangUpDriver(LinuxDriver):
        """See the module."""

        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            self._file: Any = _Forgiving(self._file)

    return HangUpDriver


def is_terminal_there() -> bool:
    """Whether keys can still come: a terminal that is gone is none any more."""
    return sys.__stdin__ is not None and sys.__stdin__.isatty()
