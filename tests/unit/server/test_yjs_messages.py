"""y-websocket's messages, byte for byte."""

from __future__ import annotations

import pytest

from collab.errors import BadUpdate
from collab.protocol.ysync import AwarenessState
from collab_server.gateway import yjs_messages as messages
from collab_server.gateway.yjs_messages import (
    Awareness,
    QueryAwareness,
    Step1,
    Step2,
    Update,
    messages_in,
)

ADA = AwarenessState(1, 2, '{"é":1}')
READABLE = {
    "000001 00": Step1(b"\0"),
    "000103 010203": Step2(b"\1\2\3"),
    "000200": Update(b""),
    "010c 01 0102 08 7b22c3a9223a317d": Awareness([ADA]),
    "03": QueryAwareness(),
}


@pytest.mark.parametrize("digits", READABLE)
def test_every_message_that_a_provider_sends_is_read(digits: str) -> None:
    assert list(messages_in(bytes.fromhex(digits))) == [READABLE[digits]]


def test_several_messages_in_one_frame_are_read_in_their_order() -> None:
    data = b"".join(bytes.fromhex(digits) for digits in READABLE)
    assert list(messages_in(data * 2)) == [*READABLE.values()] * 2


def test_an_empty_frame_says_nothing() -> None:
    assert list(messages_in(b"")) == []


@pytest.mark.parametrize("unknown", ["04", "7d 00", "66 01 05", "0003 00", "02 00 0161"])
def test_a_message_of_an_unknown_kind_ends_its_frame_and_nothing_else(unknown: str) -> None:
    assert list(messages_in(bytes.fromhex("000200" + unknown + "03"))) == [Update(b"")]


@pytest.mark.parametrize(
    "damaged",
    ["00", "0000", "00000200", "000005 01", "8000", "01", "0103 010000", "0102 0561", "0000020101"],
)
def test_a_damaged_message_is_refused(damaged: str) -> None:
    with pytest.raises(BadUpdate):
        list(messages_in(bytes.fromhex(damaged)))


def test_what_the_relay_says_is_what_a_provider_reads() -> None:
    said = {
        messages.step1(b"\0"): "00000100",
        messages.step2(b"\0\0"): "0001020000",
        messages.in_updates(7, 9, b"\0\0"): "0002020000",
        messages.awareness([ADA]): "010c010102087b22c3a9223a317d",
        messages.awareness([]): "010100",
        messages.permission_denied("né"): "0200036ec3a9",
    }
    assert [data.hex() for data in said] == list(said.values())
