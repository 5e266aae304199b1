"""What is happening, on a terminal that redraws or in plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from collab.demo.board import Board, Replica

_REDRAWS: Final = 10  # a second
_PLAIN_EVERY_S: Final = 5.0
_BAR: Final = 12  # with the longest words beside it, a row still fits 80 columns


class Display(Protocol):
    """Where the story is told."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *exc: object) -> None: ...

    def tell(self, line: str) -> None:
        """Something happened."""

    def show(self, board: Board) -> None:
        """How everybody stands now."""


def display_for(console: Console) -> Display:
    """Redrawn where that is possible, plain elsewhere."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


class PlainDisplay:
    """Lines, for logs and pipes."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._started = self._shown = clock()

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def tell(self, line: str) -> None:
        self._line(line)

    def show(self, board: Board) -> None:
        now = self._clock()
        if now - self._shown >= _PLAIN_EVERY_S:
            self._shown = now
            self._line("; ".join(f"{r.name} {_standing(r)}" for r in board.replicas.values()))

    def _line(self, line: str) -> None:
        seconds = self._clock() - self._started
        self._console.print(
            f"{seconds:6.1f} s  {line}", markup=False, highlight=False, soft_wrap=True
        )
        self._console.file.flush()


class LiveDisplay:
    """A panel with a row for everybody, below the lines of the story."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._drawn = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveDisplay:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.__exit__(None, None, None)

    def tell(self, line: str) -> None:
        seconds = time.monotonic() - self._started
        self._console.print(Text.assemble((f"{seconds:6.1f} s  ", "dim"), line))

    def show(self, board: Board) -> None:
        now = time.monotonic()
        if now - self._drawn < 1 / _REDRAWS:
            return
        self._drawn = now
        rows = Table.grid(padding=(0, 2))
        for replica in board.replicas.values():
            rows.add_row(
                Text(replica.name, style="bold"),
                ProgressBar(
                    total=max(replica.total, 1),
                    completed=_completed(replica),
                    width=_BAR,
                    complete_style="cyan",
                    finished_style="green",
                ),
                Text(_standing(replica), style=_style(replica)),
            )
        relay = ("up", "green") if board.relay_alive else ("killed", "red")
        self._live.update(
            Panel(
                Group(rows, Text.assemble("relay ", relay)),
                title="collab demo",
                subtitle=f"seed {board.seed}",
                title_align="left",
            ),
            refresh=True,
        )


def _completed(replica: Replica) -> float:
    return replica.edits if replica.total else float(replica.synced)


def _standing(replica: Replica) -> str:
    if not replica.alive:
        return "was killed" if replica.kills else "starts"
    if not _is_online(replica):
        kept = f", {replica.saved:,} of {replica.edits:,} edits saved here"
        return _why_not_online(replica) + (kept if replica.total else "")
    made = f"{replica.edits:,} of {replica.total:,} edits" if replica.total else "reads"
    return f"{made}, {'synced' if replica.synced else 'online'}"


def _why_not_online(replica: Replica) -> str:
    if not replica.linked:
        return "offline"
    return "connecting" if replica.state == "connecting" else "cannot reach the relay"


def _is_online(replica: Replica) -> bool:
    return replica.linked and replica.state in ("live", "syncing")


def _style(replica: Replica) -> str:
    if not replica.alive:
        return "red"
    return "green" if _is_online(replica) else "yellow"
