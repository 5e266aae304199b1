"""Identical means every text of every replica, and every update seen."""

from __future__ import annotations

import io

from rich.console import Console

from collab.demo.board import Board, Replica
from collab.demo.verdict import differences, table

RIGHT = {"paper": "a paper\r\n", "post": "你好"}
CLOCKS = {"A": "c1", "B": "c1", "C": "c1"}


def test_identical_replicas_have_no_differences() -> None:
    assert differences(RIGHT, {"A": RIGHT, "B": dict(RIGHT)}, CLOCKS) == []


def test_one_wrong_character_is_found_and_shown() -> None:
    wrong = {**RIGHT, "post": "你们"}
    (found,) = differences(RIGHT, {"A": RIGHT, "B": wrong}, CLOCKS)
    assert "B's text 'post'" in found
    assert "character 1" in found
    assert "'你们' for '你好'" in found


def test_a_text_that_ends_early_a_line_end_and_a_missing_text_are_found() -> None:
    wrong = {"paper": "a paper\n"}
    found = differences(RIGHT, {"A": wrong, "B": {**RIGHT, "paper": "a pap"}}, CLOCKS)
    assert len(found) == 3
    assert "there is no such text" in found[1]
    assert "5 characters for 9" in found[2]


def test_replicas_with_the_same_texts_that_have_not_seen_the_same_differ() -> None:
    (found,) = differences(RIGHT, {"A": RIGHT, "B": RIGHT}, {"A": "c1", "B": "c2"})
    assert "have not seen the same updates" in found


def test_the_table_fits_a_terminal_of_eighty_columns() -> None:
    board = Board(1, relay_kills=1)
    for name in "ABC":
        replica = Replica(name, "paper", total=259_778, edits=259_778, converged_s=12.345)
        replica.bytes_up = replica.bytes_down = 12_345_678
        replica.said = replica.accepted = replica.repeated = 40
        replica.in_order = name != "C"
        replica.digests, replica.clocks = {"paper": "a" * 64, "post": "b" * 64}, "c" * 64
        board.replicas[name] = replica
    console = Console(file=io.StringIO(), width=80)
    console.print(table(board, RIGHT))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "…" not in shown
    for part in (
        "replica C",
        "259,778",
        "12.35 s",
        "relay: 1",
        "dupl. suppressed",
        "yes",
        "NO",
        "aaaaaaaaaaaa",
        "cccccccccccc",
    ):
        assert part in shown
