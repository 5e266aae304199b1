"""``python -m tests.hostile --frames 300000 --seed 7``: the long version of ``test_live_relay``."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.hostile.siege import besiege


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**6)))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)

    def tell(line: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{line} ", end="", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(
            besiege(Path(folder), frames=chosen.frames, seed=chosen.seed, tell=tell)
        )
    print(report.table())
    well = report.relay_lives and report.same_text and not report.worker_deaths
    sys.exit(0 if well and report.attacker == 0 else 1)


if __name__ == "__main__":
    main()
