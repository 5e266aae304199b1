"""The story reads well on a terminal and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from collab.demo.board import Board, Replica
from collab.demo.display import LiveDisplay, PlainDisplay, display_for


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def board() -> Board:
    board = Board(7, relay_alive=True)
    for name, edits, state in [("A", 10, "live"), ("B", 20, "offline"), ("C", 0, "live")]:
        replica = Replica(name, "paper", total=40, edits=edits, saved=edits, state=state)
        replica.alive = name != "C"
        board.replicas[name] = replica
    board.replicas["B"].linked = False
    return board


def test_a_log_gets_a_line_for_everything_told_and_the_standing_now_and_then(
    board: Board,
) -> None:
    now = 100.0
    console = Console(file=io.StringIO(), width=40)
    assert isinstance(display_for(console), PlainDisplay)
    with PlainDisplay(console, lambda: now) as plain:
        plain.tell("B [loses] its network, " + "and this is a long line")
        plain.show(board)
        now = 106.0
        plain.show(board)
    told, standing = shown(console).splitlines()
    assert told == "   0.0 s  B [loses] its network, and this is a long line"
    assert standing == (
        "   6.0 s  A 10 of 40 edits, online; B offline, 20 of 20 edits saved here; C starts"
    )


def test_who_has_just_started_is_connecting_and_not_without_a_relay(board: Board) -> None:
    board.replicas["A"].state = "connecting"
    board.replicas["C"] = Replica("C", None, alive=True, state="connecting")
    now = 0.0
    console = Console(file=io.StringIO(), width=40)
    with PlainDisplay(console, lambda: now) as plain:
        now = 6.0
        plain.show(board)
    (standing,) = shown(console).splitlines()
    assert "A connecting, 10 of 10 edits saved here;" in standing
    assert standing.endswith("; C connecting")


def test_a_terminal_gets_a_row_for_everybody(board: Board) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with display_for(console) as live:
        assert isinstance(live, LiveDisplay)
        live.tell("B loses its network")
        live.show(board)
        text = shown(console)
    assert "B loses its network" in text
    assert "seed 7" in text
    for row in ("A", "10 of 40 edits, online", "offline, 20 of 20 edits saved here", "starts"):
        assert row in text


def test_the_longest_row_fits_a_terminal_of_eighty_columns(board: Board) -> None:
    for replica in board.replicas.values():
        replica.edits = replica.saved = replica.total = 259_778
        replica.alive, replica.state = True, "offline"
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with display_for(console) as live:
        live.show(board)
        text = shown(console)
    assert "cannot reach the relay, 259,778 of 259,778 edits saved here" in text
