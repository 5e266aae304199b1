"""The pipe between the relay and its worker."""

from __future__ import annotations

import random

import pytest

from collab_server import worker_protocol
from collab_server.worker_protocol import (
    HEADER,
    MAX_PIPE_FRAME_BYTES,
    PART_BYTES,
    Decoder,
    Message,
    PipeError,
    Tag,
    encode,
    frame_length,
    group,
)


def through_the_pipe(decoder: Decoder, message: Message) -> Message:
    *before, last = encode(message)
    for frame in [*before, last]:
        assert frame_length(frame[: HEADER.size]) == len(frame) - HEADER.size
    assert [decoder.decode(frame[HEADER.size :]) for frame in before] == [None] * len(before)
    arrived = decoder.decode(last[HEADER.size :])
    assert arrived is not None
    return arrived.whole()


def test_messages_of_every_size_arrive_as_they_were_sent_in_bounded_frames() -> None:
    dice = random.Random(3)
    sizes = (0, 1, 100, PART_BYTES - 10, PART_BYTES - 5, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES)
    decoder = Decoder()
    for _ in range(60):
        blobs = [dice.randbytes(dice.choice(sizes)) for _ in range(dice.randrange(4))]
        message = Message(dice.choice(list(Tag)[1:]), dice.randrange(2**40), 7, 2**62, blobs)
        assert through_the_pipe(decoder, message) == message


def test_many_small_blobs_do_not_pass_the_bound_of_a_frame() -> None:
    message = Message(Tag.FEED, 1, blobs=[b"ab"] * 100_000)
    assert through_the_pipe(Decoder(), message) == message


def test_a_run_of_updates_is_cut_where_a_frame_is_full_and_none_is_lost() -> None:
    dice = random.Random(4)
    updates = [
        dice.randbytes(dice.choice((5, 5000, PART_BYTES, 2 * PART_BYTES))) for _ in range(80)
    ]
    groups = list(group(updates))
    assert [update for some in groups for update in some] == updates
    assert all(len(some) == 1 or sum(map(len, some)) <= PART_BYTES for some in groups)
    assert list(group([])) == []


def test_an_announced_frame_above_the_bound_is_refused_before_it_is_read() -> None:
    assert frame_length(HEADER.pack(MAX_PIPE_FRAME_BYTES)) == MAX_PIPE_FRAME_BYTES
    with pytest.raises(PipeError):
        frame_length(HEADER.pack(MAX_PIPE_FRAME_BYTES + 1))


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"\xc1", b"\x90", b"\x01\x01", b"\x94\x01\x01\x01\x90",
        b"\x95\x01\x01\x01\x01\x91\x01", b"\x95\x63\x01\x01\x01\x90", b"\x95\x01\x01\x01\xc0\x90",
    ],
)  # fmt: skip
def test_anything_else_is_refused(frame: bytes) -> None:
    with pytest.raises(PipeError):
        Decoder().decode(frame)


def test_pieces_without_an_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_protocol, "MAX_MESSAGE_BYTES", PART_BYTES)
    first, second, *_ = encode(Message(Tag.FEED, 1, blobs=[bytes(3 * PART_BYTES)]))
    decoder = Decoder()
    decoder.decode(first[HEADER.size :])
    with pytest.raises(PipeError):
        decoder.decode(second[HEADER.size :])
