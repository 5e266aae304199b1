"""A program under a pseudo-terminal, and what its screen shows. Not a test."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from prompt_toolkit.utils import get_cwidth

COMMAND: Final = [sys.executable, "-c", "from collab.cli import main; main()"]
TIMEOUT_S: Final = 40.0
_ROWS, _COLUMNS = 24, 100
_CONTROL: Final = re.compile(
    r"\x1b\[([?<>=0-9;]*)(\$?[A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>78]|\x1b\]22;[a-z]*(?:\x07|\x1b\\)"
)
# Those would be believed more than the terminal itself, which is of another size.
_ENVIRONMENT: Final = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
_ASKS_FOR_FRAMES: Final = "\x1b[?2026$p"
_HAS_FRAMES: Final = "\x1b[?2026;2$y"


class Glass:
    """A terminal that knows as much as prompt_toolkit and Textual use of one.

    A frame that is begun is seen when it is whole (mode 2026, "synchronized output").
    """

    def __init__(self, rows: int = _ROWS, columns: int = _COLUMNS) -> None:
        self._seen: str | None = None  # while a frame is drawn, what was before it
        self._rest = ""
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        """Become of another size, and empty: the program draws anew."""
        self._rows, self._columns = rows, columns
        self._cells = [[" "] * columns for _ in range(rows)]
        self._row = self._column = 0
        self._seen = None

    @property
    def text(self) -> str:
        """What is to be seen."""
        if self._seen is not None:
            return self._seen
        return "\n".join("".join(row).rstrip() for row in self._cells)

    def feed(self, data: str) -> None:
        """Do what the program wrote."""
        data, at = self._rest + data, 0
        self._rest = ""
        while at < len(data):
            if data[at] == "\x1b":
                found = _CONTROL.match(data, at)
                if found is None:
                    if len(data) - at < 64:  # the rest of it has not come yet
                        self._rest = data[at:]
                        return
                    raise AssertionError(f"an unknown sequence: {data[at : at + 20]!r}")
                at = found.end()
                if found[2]:
                    self._control(found[1], found[2])
                continue
            self._character(data[at])
            at += 1

    def _character(self, character: str) -> None:
        match character:
            case "\r":
                self._column = 0
            case "\n":
                self._row = min(self._row + 1, self._rows - 1)
            case "\b":
                self._column = max(0, self._column - 1)
            case "\x07":
                pass
            case _:
                self._put(character, get_cwidth(character))

    def _put(self, character: str, width: int) -> None:
        """A wide character has two cells, the second one empty; a mark goes to the one before."""
        row = self._cells[self._row]
        if width == 0:
            row[max(0, self._column - 1)] += character
        elif self._column + width <= self._columns:
            row[self._column : self._column + width] = [character, *[""] * (width - 1)]
            self._column += width

    def _control(self, parameters: str, final: str) -> None:
        if parameters == "?2026" and final in "hl":
            self._seen = self.text if final == "h" else None
        if parameters[:1] in ("?", "<", ">", "="):
            return
        numbers = [int(part) if part else 0 for part in parameters.split(";")]
        count = max(1, numbers[0])
        match final:
            case "A":
                self._row = max(0, self._row - count)
            case "B":
                self._row = min(self._rows - 1, self._row + count)
            case "C":
                self._column = min(self._columns - 1, self._column + count)
            case "D":
                self._column = max(0, self._column - count)
            case "H":
                row, column = [*numbers, 0, 0][:2]
                self._row = min(max(1, row), self._rows) - 1
                self._column = min(max(1, column), self._columns) - 1
            case "J":
                self._wipe(self._row + 1 if numbers[0] == 0 else 0)
                if numbers[0] == 0:
                    self._wipe_line()
            case "K":
                self._wipe_line()

    def _wipe(self, first: int) -> None:
        for row in range(first, self._rows):
            self._cells[row] = [" "] * self._columns

    def _wipe_line(self) -> None:
        self._cells[self._row][self._column :] = [" "] * (self._columns - self._column)


class Terminal:
    """A running program: ``type`` to it, and wait for what it ``shows``."""

    def __init__(
        self, descriptor: int, process: subprocess.Popen[bytes], rows: int, columns: int
    ) -> None:
        self.process = process
        self.raw = b""  # all that it ever wrote
        self.glass = Glass(rows, columns)
        self._descriptor = descriptor
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def type(self, text: str) -> None:
        """Press keys; ``\\r`` is Enter."""
        os.write(self._descriptor, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Be of another size, and tell the program."""
        self.glass.resize(rows, columns)
        _set_size(self._descriptor, rows, columns)
        self.process.send_signal(signal.SIGWINCH)

    def close(self) -> None:
        """Be closed, as when its window is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def shows(self, *wanted: str) -> str:
        """Return the screen once it shows all of ``wanted``, each a regular expression."""
        self._until(lambda: all(re.search(one, self.glass.text) for one in wanted), wanted)
        return self.glass.text

    def shows_after(self, key: str, *wanted: str) -> str:
        """The same, pressing ``key`` again and again: what is looked for may come only now."""
        deadline = time.monotonic() + TIMEOUT_S
        while not all(re.search(one, self.glass.text) for one in wanted):
            assert time.monotonic() < deadline, f"{wanted} did not come:\n{self.glass.text}"
            self.type(key)
            while self._read(0.2):
                pass
        return self.glass.text

    def hides(self, *unwanted: str) -> str:
        """Return the screen once none of ``unwanted`` is on it."""
        self._until(lambda: not any(re.search(one, self.glass.text) for one in unwanted), unwanted)
        return self.glass.text

    def ends(self) -> tuple[int, str]:
        """Return its exit status and the screen that it leaves."""
        deadline = time.monotonic() + TIMEOUT_S
        while self._read(0.05) or self.process.poll() is None:
            assert time.monotonic() < deadline, self.glass.text
        return self.process.wait(), self.glass.text

    def _until(self, met: Callable[[], bool], wanted: object) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not met():
            left = deadline - time.monotonic()
            assert left > 0, f"{wanted} did not come:\n{self.glass.text}"
            if not self._read(min(left, 1.0)):
                assert self.process.poll() is None, f"it ended:\n{self.glass.text}"

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self._descriptor], [], [], timeout_s)[0]:
            return False
        data = b""
        with suppress(OSError):  # how Linux says that the other end is closed
            data = os.read(self._descriptor, 65536)
        self.raw += data
        text = self._decoder.decode(data)
        if _ASKS_FOR_FRAMES in text:
            self.type(_HAS_FRAMES)
        self.glass.feed(text)
        return bool(data)


def _set_size(descriptor: int, rows: int, columns: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def terminal(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    rows: int = _ROWS,
    columns: int = _COLUMNS,
) -> Iterator[Terminal]:
    """``collab`` with these arguments, under a terminal of its own."""
    leader, follower = pty.openpty()
    _set_size(follower, rows, columns)
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=follower, stdout=follower, stderr=follower,
        env={**_ENVIRONMENT, "TERM": "xterm", **environ},
        start_new_session=True,
    ) as process:  # fmt: skip
        os.close(follower)
        screen = Terminal(leader, process, rows, columns)
        try:
            yield screen
        finally:
            process.kill()
            screen.close()
