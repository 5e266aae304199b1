"""What the benchmarks share: rows with a bar, the machine, and how they are written down."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing: the samples of its figure, and the bar, if any, that they stay under."""

    what: str
    samples: tuple[float, ...]
    unit: str
    bar: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def passes(self) -> bool:
        return self.bar is None or self.median <= self.bar

    def cells(self) -> tuple[str, str, str, str, str]:
        spread = f"{_figure(min(self.samples))}–{_figure(max(self.samples))}"
        median = f"{_figure(self.median)} {self.unit}"
        if self.bar is None:
            return self.what, median, spread, "", ""
        verdict = "yes" if self.passes else "**no**"
        return self.what, median, spread, f"≤ {self.bar:g} {self.unit}", verdict


@dataclass(frozen=True, slots=True)
class Section:
    """What was measured together, and under which circumstances."""

    title: str
    circumstances: str
    rows: list[Row]

    @property
    def passes(self) -> bool:
        return all(row.passes for row in self.rows)

    @property
    def text(self) -> str:
        return f"## {self.title}\n\n{self.circumstances}\n\n{table(self.rows)}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


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


def measured(title: str, measure: Callable[[int], list[Row]], rounds: int) -> Section:
    """Measure so many rounds, and how busy the machine was before: it is not ours alone."""
    load = os.getloadavg()[0]
    rows = measure(rounds)
    return Section(title, f"Machine: {machine()}; load before: {load:.1f}.", rows)


def write(path: Path, sections: Sequence[Section]) -> None:
    """Write sections in the place of those of the same titles; the others stay as they are."""
    _, *kept = path.read_text().split("\n## ") if path.exists() else [""]
    texts = {text.partition("\n")[0]: f"## {text.strip()}" for text in kept}
    texts |= {section.title: section.text for section in sections}
    intro = (
        "Written by `make bench`; medians, and the spread of all runs. Durability is on. Load is"
        " how many programs wanted the cores before: seconds grow with it, ratios hardly."
    )
    path.write_text("\n\n".join(["# Results", intro, *texts.values()]) + "\n")
