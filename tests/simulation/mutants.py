"""Relays and devices that are broken on purpose: a simulation that lets one pass proves nothing.

``python -m tests.simulation.mutants`` shows after how many seeds each is caught.
"""

from __future__ import annotations

import argparse
import sys

from tests.simulation import chat_mutants, document_mutants  # they register theirs
from tests.simulation.mutation import MUTANTS, WITHIN, caught_after

__all__ = ["MUTANTS", "caught_after", "chat_mutants", "document_mutants"]


def main() -> int:
    """Try all mutants, or one."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants")
    parser.add_argument("--only", default="", help="those whose sentence contains this")
    parser.add_argument("--within", type=int, default=WITHIN, help="seeds for each")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    given = parser.parse_args()
    passed = 0
    tried = [what for what in MUTANTS if given.only in what]
    for what in tried:
        found = caught_after(what, start=given.start, within=given.within)
        if found is None:
            passed += 1
            print(f"   NOT  {what}", flush=True)
        else:
            print(f"{found[0]:6}  {what}\n          {found[1].splitlines()[-1][:160]}", flush=True)
    print(f"{len(tried) - passed} of {len(tried)} caught")
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main())
