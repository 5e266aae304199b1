"""The generator gives the same bytes again, and comes as far as it should."""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import suppress

from collab.errors import BadFrame, BadUpdate
from collab.protocol.codec import decode_from_client
from collab.protocol.coverage import Coverage, Fit
from collab.protocol.merge import cut
from collab.protocol.walk import walk
from collab.protocol.ysync import decode_awareness, decode_state_vector
from tests.hostile.fuzz import attack
from tests.hostile.generator import Adversary, awareness, bombs, state_vector
from tests.hostile.visits import Visit, garbage


def test_a_seed_gives_the_same_log_and_the_same_visit_again() -> None:
    logs = []
    for _ in range(2):
        adversary = Adversary(random.Random("same"))
        logs.append([adversary.send({5: at}) for at in range(300)])
    assert logs[0] == logs[1]
    visits = [Visit("same", 7) for _ in range(2)]
    one, other = ([visit.bearable(3, {1: 4}) for _ in range(50)] for visit in visits)
    assert one == other


def test_updates_are_refused_early_known_overlapping_and_new_in_good_numbers() -> None:
    seen: Counter[str] = Counter()
    for group in range(12):
        adversary = Adversary(random.Random(f"reach/{group}"))
        coverage = Coverage()
        for _ in range(200):
            data = adversary.send(coverage.clocks)
            try:
                walked = walk(data)
                fit = coverage.fit(walked)
            except BadUpdate:
                seen["refused"] += 1
                continue
            seen[fit.name] += 1
            if fit is Fit.OVERLAPS:
                walked = walk(cut(data, walked, coverage))
            if fit in (Fit.NEW, Fit.OVERLAPS):
                coverage.add(walked)
    assert {name for name, count in seen.items() if count > 40} == {
        "refused", "NEW", "OVERLAPS", "NOTHING", "EARLY",
    }  # fmt: skip


def test_vectors_awareness_and_frames_are_good_and_bad() -> None:
    rng = random.Random("kinds")
    for make, read in ((state_vector, decode_state_vector), (awareness, decode_awareness)):
        good = 0
        for _ in range(300):
            try:
                read(make(rng))
                good += 1
            except BadUpdate:
                pass
        assert 10 < good < 290
    bad = 0
    for _ in range(300):
        data = garbage(rng)
        try:
            decode_from_client(data.encode() if isinstance(data, str) else data)
        except BadFrame:
            bad += 1
    assert bad > 150


def test_the_guard_is_done_with_any_bomb_in_half_a_second() -> None:
    for bomb in bombs():
        began = time.monotonic()
        with suppress(BadUpdate):
            Coverage().fit(walk(bomb))
        assert time.monotonic() - began < 0.5, bomb[:40].hex()


def test_five_thousand_hostile_updates_break_no_engine_and_no_claim() -> None:
    cases, passed, findings = attack("make test", 0, 20)
    assert findings == []
    assert cases == 5_000
    assert passed > 1_000
