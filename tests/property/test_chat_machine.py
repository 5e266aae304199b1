"""Devices and a relay lose, restart, are copied and put back: nothing is lost, nothing doubled."""

from __future__ import annotations

import os
from collections import Counter

from tests.property.chat_world import ChatWorld

HISTORIES = int(os.environ.get("CHAT_HISTORIES", "120"))
STEPS = 60
FIRST = int(os.environ.get("CHAT_SEED", "1"))


def test_any_history_ends_with_all_in_agreement() -> None:
    seen: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + HISTORIES):
        world = ChatWorld(seed)
        try:
            world.run(STEPS)
        except BaseException:
            print(f"seed {seed}: " + ", ".join(world.log[-12:]))
            raise
        seen += world.seen
    # A test that meets nothing proves nothing.
    print(seen)
    for met in (
        "Bind", "Decide", "CountRefusal", "GiveUp", "Expire", "NewLane", "Place", "Replace",
        "Receive", "Fill", "TakeReceipts", "rolled back", "reoffered", "kept", "lost",
        "logged first", "accepted", "delivered", "read", "rejected", "expired", "cancelled",
        "stalled",
    ):  # fmt: skip
        assert seen[met], f"{met} never happened"
