"""What is said is true, and nobody passes for somebody else."""

from __future__ import annotations

import pytest

from collab.connection import ConnectionStatus, State
from collab.protocol.gaps import Gap
from collab.protocol.message_state import MessageState
from collab.terminal import wording
from tests.unit.terminal.messages import Fake, mine

EVIL = "\x1b[2J"


@pytest.mark.parametrize("state", MessageState)
def test_every_state_of_a_message_of_ours_has_its_words(state: MessageState) -> None:
    assert wording.standing(mine(state), None).startswith("[")
    assert wording.standing(Fake(state=state), None) == ""


def test_what_waits_or_ended_is_named_by_its_number_and_what_the_relay_has_is_not() -> None:
    assert wording.standing(mine(MessageState.QUEUED), 3) == "[#3 queued]"
    assert wording.standing(mine(MessageState.STALLED), 3) == "[#3 given up; /retry]"
    assert wording.standing(mine(MessageState.ACCEPTED, 7), 3) == "[accepted]"


def test_a_refusal_says_why_in_harmless_words() -> None:
    refused = mine(MessageState.REJECTED)
    refused.code, refused.reason = "spam", f"not {EVIL}here"
    assert wording.standing(refused, 1) == "[#1 refused: not \\x1b[2Jhere]"
    refused.reason = ""
    assert wording.standing(refused, 1) == "[#1 refused: spam]"


def test_read_by_several_is_counted_and_a_replaced_history_is_said() -> None:
    read = mine(MessageState.READ, 4)
    read.read_by = 3
    assert wording.standing(read, None) == "[read by 3]"
    read.replaced = True
    assert "not in the relay's history" in wording.standing(read, None)


@pytest.mark.parametrize(
    ("sender", "name", "shown"),
    [
        ("anybody-0123456789abcdef", None, "0123456789ab"),
        ("anybody-0123456789abcdef", "Ada", "Ada (012345)"),
        ("ada@example.org", None, "ada@example."),
        ("ada@example.org", "you", "you (ada@ex)"),
        ("you", None, "you (you)"),
        (f"{EVIL}x", f"A{EVIL}", "A\\x1b[2J (\\x1b[2)"),
        ("ada", 5, "ada"),
        (None, None, "?"),
    ],
)
def test_a_chosen_name_never_stands_alone(sender: str | None, name: object, shown: str) -> None:
    assert wording.sender(Fake(sender=sender, meta={"name": name})) == shown


def test_gaps_say_how_many_and_whether_they_can_be_had() -> None:
    assert wording.gap(Gap(1, 240)) == "… 240 messages not here; /more to fetch"
    assert wording.gap(Gap(5, 5)) == "… 1 message not here; /more to fetch"
    assert "keeps them no more" in wording.gap(Gap(1, 2, lost=True))


def test_a_connection_says_when_it_is_tried_again_and_why_it_is_not_there() -> None:
    offline = ConnectionStatus(State.OFFLINE, f"refused{EVIL}", 0.0, 104.2)
    assert wording.connection(offline, 100.0) == "offline, next attempt in 4 s"
    assert wording.trouble(offline) == "refused\\x1b[2J"
    assert wording.connection(offline, 1000.0) == "offline, next attempt in 0 s"
    live = ConnectionStatus(State.LIVE, "every open room has caught up", 0.0, None)
    assert (wording.connection(live, 0.0), wording.trouble(live)) == ("online", "")
    failed = ConnectionStatus(State.FAILED, "forbidden", 0.0, None)
    assert (wording.connection(failed, 0.0), wording.trouble(failed)) == ("failed", "forbidden")
    assert "no relay" in wording.connection(None, 0.0)


@pytest.mark.parametrize("state", State)
def test_every_state_of_the_connection_has_its_words(state: State) -> None:
    assert wording.connection(ConnectionStatus(state, "", 0.0, None), 0.0)


def test_leaving_says_what_waits_and_what_was_given_up() -> None:
    assert wording.leaving(0, 0) == "everything was sent"
    assert wording.leaving(1, 0).startswith("1 message waits to be sent, saved here")
    assert wording.leaving(2, 1).endswith("; 1 given up and kept; /retry sends them again")
