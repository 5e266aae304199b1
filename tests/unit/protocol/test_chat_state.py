"""The legal edges of a message's state: each can be gone, and no other can."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from collab.errors import LocalError, WrongState
from collab.protocol.message_id import RANDOM_BYTES, make_id
from collab.protocol.message_state import EDGES, ENDED, PATH, MessageState, advance

LEGAL = {
    ("queued", "sending"), ("queued", "expired"), ("queued", "cancelled"), ("queued", "accepted"),
    ("queued", "stalled"),
    ("sending", "accepted"), ("sending", "rejected"), ("sending", "expired"),
    ("sending", "cancelled"), ("sending", "stalled"), ("sending", "queued"),
    ("accepted", "delivered"), ("accepted", "read"), ("accepted", "queued"),
    ("delivered", "read"), ("delivered", "queued"), ("read", "queued"),
    ("stalled", "queued"), ("stalled", "cancelled"), ("stalled", "accepted"),
    ("rejected", "accepted"), ("expired", "accepted"), ("cancelled", "accepted"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new"), list(product(MessageState, MessageState)))
def test_an_edge_is_legal_or_raises(old: MessageState, new: MessageState) -> None:
    if (old, new) in LEGAL:
        assert advance(old, new) is new
    else:
        with pytest.raises(WrongState, match=f"{old} cannot become {new}") as caught:
            advance(old, new)
        assert isinstance(caught.value, LocalError)


def test_what_ended_comes_back_only_because_the_log_has_it() -> None:
    for state in ENDED:
        assert EDGES[state] == {MessageState.ACCEPTED}


def test_nobody_but_the_relay_rejects() -> None:
    assert [state for state in EDGES if MessageState.REJECTED in EDGES[state]] == ["sending"]


def test_every_step_of_the_way_is_legal() -> None:
    for old, new in pairwise(PATH):
        assert advance(old, new) is new


def test_an_id_is_a_uuid_of_version_7_whose_time_can_be_read() -> None:
    made = make_id(0x0123456789AB, bytes(range(RANDOM_BYTES)))
    assert len(made) == 16
    assert made[:6] == bytes.fromhex("0123456789ab")
    assert made[6] >> 4 == 7
    assert made[8] >> 6 == 0b10


def test_ids_of_one_moment_differ_by_their_randomness_alone() -> None:
    assert make_id(7, b"a" * RANDOM_BYTES) != make_id(7, b"b" * RANDOM_BYTES)
    assert make_id(7, b"a" * RANDOM_BYTES) == make_id(7 + (1 << 48), b"a" * RANDOM_BYTES)
    with pytest.raises(ValueError, match="10 random bytes"):
        make_id(7, b"short")
