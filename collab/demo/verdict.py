"""What came out: who is identical with whom, and the table that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich import box
from rich.table import Table

from collab.demo.board import TEXTS, Board, Replica
from collab.demo.player import digest

_SHOWN: Final = 12  # hexadecimal digits of a digest in the table; compared are whole texts
_ORDER: Final[Mapping[bool | None, str]] = {True: "yes", False: "NO", None: "?"}
_AROUND: Final = 20  # characters shown on both sides of a difference


def differences(
    expected: Mapping[str, str],
    copies: Mapping[str, Mapping[str, str]],
    clocks: Mapping[str, str],
) -> list[str]:
    """Why replicas are not identical with what was typed and with each other; empty if they are.

    ``expected`` and each replica's ``copies`` are the texts by name, ``clocks`` the digests of the
    replicas' state vectors.
    """
    found = [
        f"{replica}'s text {name!r} is not what was typed: {_where(texts.get(name), right)}"
        for replica, texts in copies.items()
        for name, right in expected.items()
        if texts.get(name) != right
    ]
    if len(set(clocks.values())) > 1:
        said = ", ".join(f"{name}: {clock[:_SHOWN]}" for name, clock in clocks.items())
        found.append(f"the replicas have not seen the same updates ({said})")
    return found


def _where(text: str | None, right: str) -> str:
    if text is None:
        return "there is no such text"
    at = next(
        (i for i, (a, b) in enumerate(zip(text, right, strict=False)) if a != b),
        min(len(text), len(right)),
    )
    part = slice(max(0, at - _AROUND), at + _AROUND)
    return (
        f"{len(text):,} characters for {len(right):,}, and from character {at:,} on it reads "
        f"{text[part]!r} for {right[part]!r}"
    )


def table(board: Board, expected: Mapping[str, str]) -> Table:
    """A column for each replica, and one for what the traces' own authors ended with."""
    replicas = list(board.replicas.values())
    result = Table(box=box.SIMPLE)
    result.add_column("")
    for replica in replicas:
        result.add_column(f"replica {replica.name}", justify="right")
    result.add_column("the traces", justify="right")

    def row(name: str, values: list[str], of_traces: str = "") -> None:
        result.add_row(name, *values, of_traces)

    row("types", [replica.text or "nothing" for replica in replicas])
    row("edits", [f"{replica.total:,}" for replica in replicas])
    row("times offline", [str(replica.windows) for replica in replicas])
    row("times killed", [str(replica.kills) for replica in replicas], f"relay: {board.relay_kills}")
    row("bytes sent", [f"{replica.bytes_up:,}" for replica in replicas])
    row("bytes received", [f"{replica.bytes_down:,}" for replica in replicas])
    row("messages sent", [_count(replica.said, replica) for replica in replicas])
    row("accepted", [_count(replica.accepted, replica) for replica in replicas])
    row("dupl. suppressed", [_count(replica.repeated, replica) for replica in replicas])
    row("in order, once", [_ORDER[replica.in_order] for replica in replicas])
    row("converged after", [_seconds(replica.converged_s) for replica in replicas])
    for name in TEXTS:
        values = [replica.digests.get(name, "?")[:_SHOWN] for replica in replicas]
        row(f"sha256 of {name}", values, digest(expected[name].encode())[:_SHOWN])
    row("updates seen", [replica.clocks[:_SHOWN] for replica in replicas])
    return result


def _count(value: int, replica: Replica) -> str:
    return f"{value:,}" if replica.text is not None else "-"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
