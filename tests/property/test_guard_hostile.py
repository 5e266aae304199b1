"""What the guard lets pass must not kill an engine.

Mutated real updates go through the guard; what passes goes to pycrdt in a process of its own, so
that a segmentation fault is a failed test, not a lost run. There each is applied, the document is
encoded and loaded again, everything is deleted, and the state vector must be what the guard says.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from collab.errors import BadUpdate
from collab.protocol.coverage import Coverage, Fit
from collab.protocol.merge import cut, merge
from collab.protocol.walk import walk
from tests.property.guard_documents import history
from tests.unit.protocol.updates import deletes, item, shared_type, text, update

CHILD = """
import json, sys
import pycrdt
from collab.protocol.ysync import decode_state_vector

failures = []
for at, (updates, wipe, clocks) in enumerate(json.load(sys.stdin)):
    print(at, file=sys.stderr, flush=True)
    clocks = {int(client): clock for client, clock in clocks.items()}
    step = "apply"
    try:
        document = pycrdt.Doc()
        for data in updates:
            document.apply_update(bytes.fromhex(data))
        step = "state"
        assert decode_state_vector(document.get_state()) == clocks
        step = "load"
        again = pycrdt.Doc()
        again.apply_update(document.get_update())
        assert decode_state_vector(again.get_state()) == clocks
        step = "read"
        str(document.get("text", type=pycrdt.Text))
        step = "delete"
        document.apply_update(bytes.fromhex(wipe))
        document.get_update()
    except BaseException as error:
        failures.append((step, updates[-1], repr(error)))
json.dump(failures, sys.stdout)
"""

Case = tuple[list[str], str, dict[int, int]]


def _case(updates: list[bytes], coverage: Coverage) -> Case:
    wipe = b"\x00" + deletes(*[(c, [(0, clock)]) for c, clock in coverage.clocks.items()])
    return [data.hex() for data in updates], wipe.hex(), coverage.clocks


def _survive(cases: list[Case]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.isdigit()][-1]
        pytest.fail(f"the engine's process ended with {done.returncode} at {cases[int(last)]}")
    assert json.loads(done.stdout) == []


def _mutate(rng: random.Random, data: bytes) -> bytes:
    raw = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        at = rng.randrange(len(raw)) if raw else 0
        match rng.randrange(7) if raw else 3:
            case 0:
                raw[at] = rng.randrange(256)
            case 1:
                raw[at] ^= 1 << rng.randrange(8)
            case 2:
                raw[at] = (raw[at] + rng.choice([-1, 1])) % 256
            case 3:
                raw[at:at] = rng.randbytes(rng.choice([1, 2, 5]))
            case 4:
                del raw[at : at + rng.choice([1, 1, 2, 5])]
            case 5:
                start = rng.randrange(len(raw))
                raw[at:at] = raw[start : start + rng.randrange(1, 12)]
            case _:
                raw[at] = rng.choice([0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 0x84, 0xC4, 0x44, 0x27, 0xA8])
    return bytes(raw)


def _accepted(coverage: Coverage, data: bytes) -> tuple[bytes, Coverage] | None:
    """What a relay would append of it, and its coverage then."""
    try:
        fit = coverage.fit(walk(data))
    except BadUpdate:
        return None
    if fit in (Fit.EARLY, Fit.NOTHING):
        return None
    if fit is Fit.OVERLAPS:
        data = cut(data, walk(data), coverage)
        assert coverage.fit(walk(data)) is Fit.NEW
    after = coverage.copy()
    after.add(walk(data))
    return data, after


@pytest.mark.parametrize("seed", range(12))
def test_an_engine_survives_each_mutated_update_that_passes(seed: int) -> None:
    rng = random.Random(seed)
    updates, team = history(seed, steps=40, writers=2)
    cases = []
    coverage, log = Coverage(), list[bytes]()
    for data in [*updates, team[0].document.get_update()]:
        base = [merge([(part, walk(part)) for part in log])] if log else []
        for _ in range(40):
            accepted = _accepted(coverage, _mutate(rng, data))
            if accepted is not None:
                cases.append(_case([*base, accepted[0]], accepted[1]))
        accepted = _accepted(coverage, data)
        if accepted is not None:
            log.append(accepted[0])
            coverage = accepted[1]
    assert len(cases) > 50
    _survive(cases)


@pytest.mark.parametrize("seed", range(12))
def test_an_engine_survives_a_log_that_fills_with_mutated_updates(seed: int) -> None:
    rng = random.Random(seed)
    updates, _ = history(seed, steps=60, writers=2)
    coverage, log = Coverage(), list[bytes]()
    for data in updates:
        for candidate in [*(_mutate(rng, data) for _ in range(30)), data]:
            accepted = _accepted(coverage, candidate)
            if accepted is not None:
                log.append(accepted[0])
                coverage = accepted[1]
    runs, at = [], 0
    while at < len(log):
        runs.append(log[at : at + rng.randrange(1, 25)])
        at += len(runs[-1])
    merged = [merge([(data, walk(data)) for data in run]) for run in runs]
    _survive([_case(log, coverage), _case(merged, coverage)])


def test_an_engine_survives_all_that_is_just_within_the_bounds() -> None:
    chain = [shared_type()] + [shared_type(parent=(1, clock)) for clock in range(63)]
    deep = item(8, b"\x01" + b"\x75\x01" * 64 + b"\x7f")
    embed = item(5, b"\x80\x01" + b"[" * 64 + b"]" * 64)
    gone = b"\x00" + b"\xf0\xff\xff\xff\x07"  # nearly all the clocks there are
    cases = []
    for structs in (
        [*chain, text("x", parent=(1, 63))],
        [deep],
        [embed],
        [gone],
        [deep, embed] * 9,
    ):
        data = update((1, 0, structs))
        cases.append(_case([data], Coverage.from_update(data)))
    _survive(cases)
