"""What the benchmarks share: rows with a bar, the machine, and how they are written down."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing: the samples of its figure, and the bar that they must stay under."""

    what: str
    samples: tuple[float, ...]
    unit: str
    bar: float

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def passes(self) -> bool:
        return self.median <= self.bar

    def cells(self) -> tuple[str, str, str, str, str]:
        spread = f"{min(self.samples):.3g}–{max(self.samples):.3g}"
        verdict = "yes" if self.passes else "**no**"
        bar = f"≤ {self.bar:g} {self.unit}"
        return self.what, f"{self.median:.3g} {self.unit}", spread, bar, verdict


def machine() -> str:
    """What it was measured on, without naming it."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("pycrdt", "uvicorn", "websockets"))
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {libraries}"
    )


def table(rows: Iterable[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| what | median | spread | bar | met |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(row.cells())} |" for row in rows]
    return "\n".join(lines)


def report(title: str, rows: list[Row]) -> None:
    """Print a section as it is measured."""
    print(f"\n## {title}\n\n{table(rows)}", flush=True)


def write(path: Path, sections: dict[str, list[Row]]) -> bool:
    """Write all sections; True if every bar is met."""
    parts = [
        "# Results",
        "Written by `make bench`; medians, and the spread of all runs. Durability is on.",
        f"Machine: {machine()}.",
    ]
    for title, rows in sections.items():
        parts += [f"## {title}", table(rows)]
    path.write_text("\n\n".join(parts) + "\n")
    met = all(row.passes for rows in sections.values() for row in rows)
    print("every bar is met" if met else "some bar is NOT met", file=sys.stderr)
    return met
