"""``python -m tests.simulation SEED --trace`` replays one; ``--histories N`` runs many."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.simulation.history import History
from tests.simulation.many import run_many


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="replay this history")
    parser.add_argument("--trace", action="store_true", help="show what happens in it")
    parser.add_argument("--histories", type=int, help="run so many")
    parser.add_argument("--minutes", type=float, help="run for so long")
    parser.add_argument("--start", type=int, help="the first seed; without it a random one")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args()
    if given.seed is not None:
        History(given.seed, show=print if given.trace else None).run()
        print(f"seed {given.seed}: no violation")
        return 0
    start = random.SystemRandom().randrange(10**9) if given.start is None else given.start
    histories = given.histories
    if histories is None and given.minutes is None:
        histories = 1000
    print(f"from seed {start}", flush=True)
    began = time.monotonic()
    total, happened, failures = run_many(start, histories, given.minutes, given.jobs)
    seconds = time.monotonic() - began
    for what, times in sorted(happened.items()):
        print(f"{times:9}  {what}")
    print(f"{total} histories, {len(failures)} failed, {60 * total / seconds:.0f} a minute")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
