"""What the chat of one seed's history is made of. Most bounds are small: gaps are then common."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest import mock

from collab import limits
from collab_server import chats as chats_module


@dataclass(frozen=True, slots=True)
class ChatPlan:
    """Times are seconds. ``kinds``, ``ttls`` and ``hook`` have weights."""

    operations: int
    burst: int
    kinds: dict[str, float]
    ttls: dict[float | None, float]
    hook: dict[str, float]  # what the application at the relay says; empty: there is none
    hook_delay: float
    retain_messages: int
    retain_s: float
    retain_every: int
    limits: dict[str, int]
    users: str  # "own": one of each device; "shared": two devices of one; "device": an open relay
    sign_ins: int  # how often another user signs in on a device
    by_process: bool  # devices cannot tell one boot from another
    outbox: int  # messages that may wait on a device


def make_chat_plan(rng: random.Random, *, copies: bool) -> ChatPlan:
    """Draw a plan. ``copies``: device files are cloned or put back."""
    page = rng.choice([2, 5, 100])
    # Of an open relay a device that takes another id is another user: not with copies.
    users = rng.choice(["own", "own", "shared", "own" if copies else "device"])
    newest = rng.choice([1, 3, 10])
    return ChatPlan(
        operations=rng.choice([10, 15, 15, 25, 25, 40]),
        burst=rng.choice([1, 4, 12]),
        kinds={
            "send": rng.choice([4, 10]),
            "again": rng.choice([0, 0.5]),
            "conflict": rng.choice([0, 0.3]),
            "edit": rng.choice([0, 0.5]),
            "cancel": rng.choice([0, 0.5, 2]),
            "retry": rng.choice([1, 4]),
            "read": rng.choice([0.3, 1.5]),
            "fetch": rng.choice([0.3, 2]),
        },
        ttls={
            None: 1,
            1000.0: 1,
            rng.choice([0.1, 1.0, 10.0]): rng.choice([0, 1, 3]),
            0: rng.choice([0, 0.5]),
        },
        hook=rng.choice(
            [
                {},
                {},
                {"accept": 5, "reject": 1},
                {"accept": 3, "rewrite": 2, "later": 1},
                {"accept": 2, "busy": 3},
                {"accept": 4, "reject": 1, "rewrite": 1, "later": 1, "busy": 1},
            ]
        ),
        hook_delay=rng.choice([0.0, 0.01, 0.3]),
        retain_messages=rng.choice([100_000, 100_000, 100_000, 20, 8, 3]),
        retain_s=rng.choice([1e7, 1e7, 1e7, 10.0]),
        retain_every=rng.choice([1, 5, 20]),
        limits={
            "PAGE_MESSAGES": page,
            "NEWEST_IN_LIMITED": newest,
            "CATCH_UP_PER_ROOM": newest + rng.choice([0, 3, 300]),
            "CATCH_UP_IN_ALL": rng.choice([5, 2000]),
            "MAX_TAIL_MESSAGES": rng.choice([1, 4, 1000]),
            "LANE_WINDOW": rng.choice([1, 2, 4, 16, 16]),
            "MAX_TRANSIENT_REFUSALS": rng.choice([1, 2, 4, 10]),
            "RETRY_CAP_MS": 5_000,
            "MAX_LANES_PER_USER": rng.choice([1, 2, 1000, 1000]),
        },
        users=users,
        sign_ins=0 if users == "device" else rng.choice([0, 0, 0, 1, 4]),
        by_process=rng.choice([True, False, False]),
        outbox=rng.choice([3, 10_000, 10_000]),
    )


def rewritten(body: str) -> str:
    """What the application at the relay makes of a body."""
    return f"{body}, rewritten"


@contextmanager
def bounded(plan: ChatPlan) -> Iterator[None]:
    """While this lasts, the bounds are those of ``plan``."""
    with ExitStack() as stack:
        for name, value in plan.limits.items():
            stack.enter_context(mock.patch.object(limits, name, value))
        stack.enter_context(mock.patch.object(chats_module, "_RETAIN_EVERY", plan.retain_every))
        yield
