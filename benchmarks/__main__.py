"""``python -m benchmarks [GROUP]``: measure, print, and write RESULTS.md.

Fails if a bar is not met. Of groups that are not run, RESULTS.md keeps what it says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import chat, documents
from benchmarks.measure import Row, Section, measured, write

GROUPS: dict[str, tuple[Callable[[int], list[Row]], ...]] = {
    "documents": (documents.cost, documents.opening, documents.reconnect),
    "chat": (chat.chat,),
}


def main() -> int:
    """Run the groups; status 1 if some bar is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--print", action="store_true", help="write nothing")
    options = parser.parse_args()
    unknown = set(options.groups) - GROUPS.keys()
    if unknown:
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    sections: list[Section] = []
    for group in options.groups or GROUPS:
        for measure in GROUPS[group]:
            sections.append(measured(measure.__name__, measure, options.rounds))
            print(f"\n{sections[-1].text}", flush=True)
    if not options.print:
        write(Path(__file__).with_name("RESULTS.md"), sections)
    met = all(section.passes for section in sections)
    print("every bar is met" if met else "some bar is NOT met", file=sys.stderr)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
