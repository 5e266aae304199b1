"""``python -m tests.durability --kills 200``: the long version of ``test_kill_points`` and
``test_chat_kill_points``.

Every kind: a client and a relay, of documents and of chats, each at random moments and at every
named point.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.durability.chat_kill_loops import kill_chat_clients, kill_chat_relays
from tests.durability.kill_loops import kill_clients, kill_relays
from tests.durability.killing import ANYWHERE, Tally
from tests.durability.mortal import (
    CLIENT_CHAT_POINTS,
    CLIENT_POINTS,
    RELAY_CHAT_POINTS,
    RELAY_POINTS,
)
from tests.e2e.support import run

_MEMORY = "/dev/shm"
_LOOPS = {
    "client": (kill_clients, (ANYWHERE, *CLIENT_POINTS)),
    "relay": (kill_relays, (ANYWHERE, *RELAY_POINTS)),
    "chat-client": (kill_chat_clients, (ANYWHERE, *CLIENT_CHAT_POINTS)),
    "chat-relay": (kill_chat_relays, (ANYWHERE, *RELAY_CHAT_POINTS)),
}


def main() -> int:
    """The command line; exit status 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of each kind")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", choices=list(_LOOPS))
    parser.add_argument("--point", help="at this one alone")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    folder = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    kills = broken = 0
    for program, (loop, points) in _LOOPS.items():
        if chosen.only not in (None, program):
            continue
        for point in points:
            if chosen.point not in (None, point):
                continue
            began = time.monotonic()
            with tempfile.TemporaryDirectory(dir=folder) as data:
                try:
                    tally = run(loop(Path(data), point, chosen.kills, chosen.seed))
                except Exception:
                    traceback.print_exc()
                    print(f"{program:<11} {point:<40} BROKEN", flush=True)
                    broken += 1
                    continue
            kills += tally.kills
            print(
                f"{program:<11} {point:<40} {tally.kills:>5} kills, {tally.late} late, "
                f"{_promised(tally)}, {time.monotonic() - began:.0f} s",
                flush=True,
            )
    print(f"{kills:,} kills, {broken} broken kinds")
    return 1 if broken else 0


def _promised(tally: Tally) -> str:
    if not tally.accepted:
        return f"{tally.promised:,} edits promised"
    return f"{tally.promised:,} messages sent, {tally.accepted:,} seen accepted: all there once"


if __name__ == "__main__":
    sys.exit(main())
