"""Clients and relays, killed while four lanes send: no message lost, doubled or out of order.

``python -m tests.durability --kills 200`` is the long version.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.durability.chat_kill_loops import kill_chat_clients, kill_chat_relays
from tests.durability.killing import ANYWHERE
from tests.durability.mortal import CLIENT_CHAT_POINTS, RELAY_CHAT_POINTS
from tests.e2e.support import run

SEED = 20264
RANDOM_KILLS = 10
KILLS = 2  # of a point
KILLS_UNTIL_CAUGHT = 60  # it stops at the first that is caught
CAUGHT = f"of seed {SEED}: "


def test_a_client_that_dies_at_random_loses_and_doubles_no_message_ten_of_ten(
    quick_path: Path,
) -> None:
    print(f"seed {SEED}")
    tally = run(kill_chat_clients(quick_path, ANYWHERE, RANDOM_KILLS, SEED))
    assert tally.kills == RANDOM_KILLS
    assert min(tally.promised, tally.accepted) > RANDOM_KILLS  # it did chat


def test_a_relay_that_dies_at_random_loses_and_doubles_no_message_ten_of_ten(
    quick_path: Path,
) -> None:
    print(f"seed {SEED}")
    tally = run(kill_chat_relays(quick_path, ANYWHERE, RANDOM_KILLS, SEED))
    assert tally.kills == RANDOM_KILLS
    assert min(tally.promised, tally.accepted) > RANDOM_KILLS  # it did chat


# What a device that was told too early is found with: by its number, by the log's, by its new lane,
# or by another message that has the number since.
ACCEPTED_AND_GONE = "was accepted as|is not number|has two lanes|one number for two messages"


@pytest.mark.parametrize("point", CLIENT_CHAT_POINTS)
def test_a_client_that_dies_at_this_point_of_its_chat_keeps_its_promises(
    quick_path: Path, point: str
) -> None:
    print(f"seed {SEED}")
    tally = run(kill_chat_clients(quick_path, point, KILLS, SEED))
    assert tally.kills == KILLS
    assert tally.late < KILLS


@pytest.mark.parametrize("point", RELAY_CHAT_POINTS)
def test_a_relay_that_dies_at_this_point_of_a_chat_keeps_its_promises(
    quick_path: Path, point: str
) -> None:
    print(f"seed {SEED}")
    tally = run(kill_chat_relays(quick_path, point, KILLS, SEED))
    assert tally.kills == KILLS
    assert tally.late < KILLS


@pytest.mark.parametrize(
    ("broken", "point", "caught_as"),
    [
        ("told_before_the_commit", "before a message is saved", "not in the file"),
        ("bound_after_it_was_sent", "before outcomes are stored", "another lane|two lanes"),
        ("sent_again_under_new_ids", "before outcomes are stored", "twice"),
        ("mark_before_its_messages", "among received messages", "a hole below the mark"),
    ],
)
def test_a_client_whose_chat_breaks_a_promise_is_caught(
    quick_path: Path, broken: str, point: str, caught_as: str
) -> None:
    with pytest.raises(AssertionError, match=f"{CAUGHT}.*({caught_as})"):
        run(kill_chat_clients(quick_path, point, KILLS_UNTIL_CAUGHT, SEED, broken=broken))


@pytest.mark.parametrize(
    ("broken", "point", "caught_as"),
    [
        (
            "told_before_the_commit",
            "before messages are in the log",
            ACCEPTED_AND_GONE,
        ),
        ("relay_head_after_its_messages", "after messages came into the log", "the log's head"),
    ],
)
def test_a_relay_whose_chat_breaks_a_promise_is_caught(
    quick_path: Path, broken: str, point: str, caught_as: str
) -> None:
    with pytest.raises(AssertionError, match=f"{CAUGHT}.*({caught_as})"):
        run(kill_chat_relays(quick_path, point, KILLS_UNTIL_CAUGHT, SEED, broken=broken))
