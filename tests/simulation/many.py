"""Run many histories: what they exercised, and which failed."""

from __future__ import annotations

import gc
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context

from tests.simulation.history import History
from tests.simulation.world import Violation

CHUNK = 50
COLLECT_EVERY = 10  # histories

Found = tuple[int, Counter[str], list[tuple[int, str]]]


def run_one(seed: int, *, chats: bool | None = None) -> tuple[Counter[str], str | None]:
    """What a history exercised, and what it broke."""
    history = History(seed, chats=chats)
    try:
        history.run()
    except Exception as error:
        what = str(error) if isinstance(error, Violation) else traceback.format_exc()
        return history.world.happened, f"{type(error).__name__}: {what}"
    return history.world.happened, None


def run_chunk(seeds: range) -> Found:
    """Run some histories: how many, what they exercised, and the failures."""
    happened: Counter[str] = Counter()
    failures = []
    with collecting_seldom() as collect:
        for seed in seeds:
            one, failure = run_one(seed)
            happened.update(one)
            if failure is not None:
                failures.append((seed, failure))
            collect()
    return len(seeds), happened, failures


@contextmanager
def collecting_seldom() -> Iterator[Callable[[], object]]:
    """Look for garbage every few histories, and only in what they leave.

    What is yielded is to be called after each. Python would look all the time, and through all
    modules: a fifth of the work.
    """
    histories = 0

    def collect() -> None:
        nonlocal histories
        histories += 1
        if histories % COLLECT_EVERY == 0:
            gc.collect()

    was_enabled = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield collect
    finally:
        gc.collect()
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def run_many(start: int, histories: int | None, minutes: float | None, jobs: int) -> Found:
    """Run histories from ``start``: so many, or for so long."""
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    total, happened, failures = 0, Counter[str](), list[tuple[int, str]]()

    def chunks() -> Iterator[range]:
        at = start
        while histories is None or at < start + histories:
            if deadline is not None and time.monotonic() > deadline:
                return
            end = at + CHUNK if histories is None else min(at + CHUNK, start + histories)
            yield range(at, end)
            at = end

    def take(found: Found) -> None:
        nonlocal total
        total += found[0]
        happened.update(found[1])
        failures.extend(found[2])
        for seed, failure in found[2]:
            print(
                f"seed {seed}: {failure}\n  python -m tests.simulation {seed} --trace", flush=True
            )

    if jobs == 1:
        for chunk in chunks():
            take(run_chunk(chunk))
        return total, happened, failures
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=40) as pool:
        # No more is given out than is soon begun: the deadline is asked each time.
        pending: set[Future[Found]] = set()
        for chunk in chunks():
            pending.add(pool.submit(run_chunk, chunk))
            if len(pending) > jobs:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for one in done:
                    take(one.result())
        for one in pending:
            take(one.result())
    return total, happened, failures
