"""Real programs, killed where it would hurt most: what was promised is there, once.

``python -m tests.durability --kills 200`` is the long version.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.durability.kill_loops import kill_clients, kill_relays
from tests.durability.killing import ANYWHERE
from tests.durability.mortal import CLIENT_POINTS, RELAY_POINTS
from tests.e2e.support import run

SEED = 20263
KILLS = 3  # of a point; test_kill_client and test_kill_relay have ten of random ones
KILLS_UNTIL_CAUGHT = 80  # it stops at the first that is caught
CAUGHT = f"of seed {SEED}|an edit is"


@pytest.mark.parametrize("point", [*CLIENT_POINTS, ANYWHERE])
def test_a_client_that_dies_at_this_point_keeps_its_promises(quick_path: Path, point: str) -> None:
    print(f"seed {SEED}")
    tally = run(kill_clients(quick_path, point, KILLS, SEED))
    assert tally.kills == KILLS
    assert tally.late < KILLS


@pytest.mark.parametrize("point", RELAY_POINTS)
def test_a_relay_that_dies_at_this_point_keeps_its_promises(quick_path: Path, point: str) -> None:
    print(f"seed {SEED}")
    tally = run(kill_relays(quick_path, point, KILLS, SEED))
    assert tally.kills == KILLS
    assert tally.late < KILLS


@pytest.mark.parametrize(
    ("broken", "point"),
    [
        ("saved_before_the_commit", "before a commit"),
        ("position_before_its_updates", "before a commit"),
        ("acked_before_the_relay_has_it", "in a half written transaction"),
        ("rows_gone_before_their_snapshot", "before a snapshot is written"),
    ],
)
def test_a_client_that_breaks_a_promise_is_caught(
    quick_path: Path, broken: str, point: str
) -> None:
    with pytest.raises(AssertionError, match=CAUGHT):
        run(kill_clients(quick_path, point, KILLS_UNTIL_CAUGHT, SEED, broken=broken))


@pytest.mark.parametrize(
    ("broken", "point"),
    [
        ("relay_acks_before_the_commit", "before a commit"),
        ("relay_rows_gone_before_their_snapshot", "before a snapshot is written"),
    ],
)
def test_a_relay_that_breaks_a_promise_is_caught(quick_path: Path, broken: str, point: str) -> None:
    with pytest.raises(AssertionError, match=CAUGHT):
        run(kill_relays(quick_path, point, KILLS_UNTIL_CAUGHT, SEED, broken=broken))
