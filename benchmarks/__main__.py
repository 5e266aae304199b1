"""``python -m benchmarks``: measure, print, and write RESULTS.md. Fails if a bar is not met."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import documents
from benchmarks.measure import Row, report, write


def main() -> int:
    """Run every section; status 1 if some bar is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["cost", "opening", "reconnect"])
    options = parser.parse_args()
    sections: dict[str, list[Row]] = {}
    for name, measure in (
        ("cost", documents.cost),
        ("opening", documents.opening),
        ("reconnect", documents.reconnect),
    ):
        if options.only in (None, name):
            sections[name] = measure(options.rounds)
            report(name, sections[name])
    if options.only is not None:
        return 0 if all(row.passes for rows in sections.values() for row in rows) else 1
    return 0 if write(Path(__file__).with_name("RESULTS.md"), sections) else 1


if __name__ == "__main__":
    sys.exit(main())
