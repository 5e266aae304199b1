"""Ten thousand hostile frames at a relay: it lives, and who has nothing to do with them goes on.

``python -m tests.hostile --frames 300000 --seed S`` is the long version.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from collab.limits import MIB
from tests.hostile.siege import besiege


@pytest.mark.timeout(180)
def test_a_relay_bears_ten_thousand_hostile_frames_and_a_healthy_room_goes_on(
    tmp_path: Path,
) -> None:
    report = asyncio.run(besiege(tmp_path, frames=10_000, seed="relay 1"))
    print(report.table())
    assert report.relay_lives
    assert report.attacker == 0
    assert report.frames >= 10_000
    assert report.worker_deaths == 0
    assert report.same_text
    assert len(report.delays_s) > 50
    assert report.delay_s(0.5) < 0.5
    assert report.delay_s(0.99) < 3
    assert report.rss_after - report.rss_before < 50 * MIB
