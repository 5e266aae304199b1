"""Frames to bytes and back, and everything that is not a frame."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import msgpack
import pytest

from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.codec import (
    Reassembly,
    decode_from_client,
    decode_from_relay,
    encode,
    is_room_name,
    pack_value,
    parts,
    unpack_map,
    unpack_value,
)
from collab.protocol.frames import Frame, Part

ID = bytes(range(16))
TOP = 2**63 - 1

FROM_CLIENT: list[Frame] = [
    frames.Hello(1, ID, ID, 7, "token"),
    frames.Hello(1, ID, ID, 0, None),
    frames.Join(1, "design", ID, ID, 9, b"\0"),
    frames.Join(1, "设计", None, ID, 9, b""),
    frames.Leave(3),
    frames.Update(3, 1, b"\0\0"),
    frames.Offer(3, TOP, b"\0\0"),
    frames.Awareness(3, b"\0"),
    frames.Ping(1),
    frames.Part(1, 300_000, b"x"),
    frames.Enter(3, ID, 5, ID, 6),
    frames.Send(3, 5, ID, "see section 2", b"\x80", 1, 604_800_000, False),
    frames.Send(3, 5, ID, "你好", b"", 1, None, True),
    frames.Skip(3, 5, ID),
    frames.Fetch(3, 1, 0, 7, True),
    frames.Mark(3, 7, 6),
    frames.Cast(3, b"\xc0"),
    frames.Call(3, TOP, "übersetzen", b"\xc0"),
    frames.Change(3, 1, "ben", "writer"),
    frames.Change(3, 1, "ben", ""),
    frames.Inquire(3, b"\x90"),
]
FROM_RELAY: list[Frame] = [
    frames.Welcome(1, ID, ID, ID),
    frames.Joined(1, 3, ID, True, 12, b"\0", 2),
    frames.Denied(1, "forbidden", "no"),
    frames.Left(3, "forbidden", ""),
    frames.Updates(3, 12, b"\0\0"),
    frames.Difference(3, 12, b"\0\0"),
    frames.Ack(3, 2, 12),
    frames.Resync(3, b"\0"),
    frames.Refused(3, 2, "too_large", "no"),
    frames.Awareness(3, b"\0"),
    frames.Pong(1),
    frames.Part(1, 300_000, b"x"),
    frames.Entered(3, 5, b"\x90", True, 6, 7, 1, 6, 1),
    frames.Outcome(3, 5, ID, "accepted", 7, 0, ""),
    frames.Expected(3, 5),
    frames.Messages(3, 6, 7, b"\x90"),
    frames.Page(3, 1, 6, 7, 1, b"\x90"),
    frames.Receipts(3, b"\x90"),
    frames.Answer(3, 1, "done", "", b"\xc0"),
    frames.Broadcast(3, "ana", b"\xc0"),
    frames.Changed(3, 1, "done", ""),
    frames.Members(3, True, b"\x90"),
    frames.Verdicts(3, b"\x90"),
]

CLIENTS: list[type[Frame]] = list(frames.FROM_CLIENT)
RELAYS: list[type[Frame]] = list(frames.FROM_RELAY)
KINDS = sorted({*CLIENTS, *RELAYS}, key=lambda kind: kind.TAG)

# Every value of a wrong type or out of bounds, by the kind of field that must refuse it.
NOT_INTS: list[Any] = [-1, 2**63, 1.0, True, None, "1", b"1", [1], {}]
NOT_IDS: list[Any] = [b"", bytes(15), bytes(17), "x" * 16, None, 1, [], {}]
NOT_BYTES: list[Any] = ["", None, 0, [], {}, msgpack.ExtType(1, b"")]
NOT_REASONS: list[Any] = [b"", None, 1, "x" * 513, "é" * 257, []]
BAD: dict[str, list[Any]] = {
    **dict.fromkeys(
        ["version", "connection", "request", "channel", "number", "offset", "head", "access",
         "stream", "total", "lane_seq", "seq", "after", "before", "upto", "oldest", "unread",
         "read_upto", "delivered_upto", "retry_after_ms"], NOT_INTS,
    ),
    "sent_at": [*NOT_INTS, 2**53],  # a browser reads it, too
    **dict.fromkeys(
        ["nonce", "device", "relay", "generation", "lane_epoch", "message_id"], NOT_IDS
    ),
    **dict.fromkeys(["state_vector", "update", "data", "outcomes"], NOT_BYTES),
    "meta": [*NOT_BYTES, bytes(limits.MAX_META_BYTES + 1)],
    "body": [b"", None, 1, [], "x" * (limits.MAX_BODY_BYTES + 1), "é" * 16_385],
    "ttl_ms": [-1, 2**63, 1.0, True, "1", b"1"],
    "sender": [b"ana", None, 1, [], "x" * (limits.MAX_USER_BYTES + 1), "é" * 128],
    "service": ["", b"x", None, 1, [], "x" * (limits.MAX_SERVICE_BYTES + 1), "é" * 128],
    "payload": [*NOT_BYTES, bytes(limits.MAX_ANSWER_BYTES + 1)],
    "user": [b"ana", None, 1, [], "x" * (limits.MAX_USER_BYTES + 1), "é" * 128],
    "role": [b"writer", None, 1, [], "x" * (limits.MAX_ROLE_BYTES + 1), "é" * 9],
    "whole": [0, 1, None, "true"],
    "confirm": [0, 1, None, "true"],
    "newest": [0, 1, None, "true"],
    **dict.fromkeys(["code", "reason"], NOT_REASONS),
    "good": [0, 1, None, "true"],
    "token": [b"token", 1, [], "x" * (limits.MAX_TOKEN_BYTES + 1)],
    "room": ["", "a\nb", "a\x7f", "\x80", "x" * 256, "é" * 128, b"room", None],
}  # fmt: skip


def decode(frame: Frame, data: bytes) -> Frame:
    return (decode_from_client if type(frame) in frames.FROM_CLIENT else decode_from_relay)(data)


def values_of(frame: Frame) -> list[Any]:
    return [frame.TAG, *(getattr(frame, field.name) for field in fields(frame))]


def test_every_frame_of_both_sides_is_tried_here() -> None:
    assert {type(frame) for frame in FROM_CLIENT} == set(frames.FROM_CLIENT)
    assert {type(frame) for frame in FROM_RELAY} == set(frames.FROM_RELAY)


@pytest.mark.parametrize("frame", FROM_CLIENT, ids=str)
def test_a_clients_frame_comes_out_as_it_went_in(frame: Frame) -> None:
    assert decode_from_client(encode(frame)) == frame


@pytest.mark.parametrize("frame", FROM_RELAY, ids=str)
def test_a_relays_frame_comes_out_as_it_went_in(frame: Frame) -> None:
    assert decode_from_relay(encode(frame)) == frame


def test_every_frame_has_a_tag_of_its_own() -> None:
    assert len({kind.TAG for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("frame", FROM_CLIENT[:1] + FROM_CLIENT[2:3] + FROM_CLIENT[4:], ids=str)
def test_the_relay_refuses_what_only_a_relay_may_send(frame: Frame) -> None:
    for kind in set(RELAYS) - set(CLIENTS):
        with pytest.raises(BadFrame, match="does not take"):
            decode_from_client(msgpack.packb([kind.TAG, *values_of(frame)[1:]]))


@pytest.mark.parametrize("frame", FROM_RELAY[:-3], ids=str)
def test_a_client_refuses_what_only_a_client_may_send(frame: Frame) -> None:
    for kind in set(CLIENTS) - set(RELAYS):
        with pytest.raises(BadFrame, match="does not take"):
            decode_from_relay(msgpack.packb([kind.TAG, *values_of(frame)[1:]]))


@pytest.mark.parametrize("frame", [*FROM_CLIENT, *FROM_RELAY], ids=str)
def test_every_field_refuses_other_types_and_what_is_out_of_bounds(frame: Frame) -> None:
    good = values_of(frame)
    for at, field in enumerate(fields(frame), start=1):
        wrong = NOT_IDS if field.name == "epoch" else BAD[field.name]
        if field.name == "epoch" and isinstance(frame, frames.Join):
            wrong = [value for value in wrong if value is not None]
        for value in wrong:
            try:
                packed = msgpack.packb([*good[:at], value, *good[at + 1 :]])
            except OverflowError:  # pragma: no cover - msgpack has no such number
                continue
            with pytest.raises(BadFrame):
                decode(frame, packed)


@pytest.mark.parametrize("frame", [*FROM_CLIENT, *FROM_RELAY], ids=str)
def test_a_frame_with_a_field_more_or_less_is_refused(frame: Frame) -> None:
    values = values_of(frame)
    for wrong in (values[:-1], [*values, 1]):
        with pytest.raises(BadFrame, match="fields instead of"):
            decode(frame, msgpack.packb(wrong))


@pytest.mark.parametrize("frame", [*FROM_CLIENT, *FROM_RELAY], ids=str)
def test_a_frame_with_bytes_after_it_or_cut_off_is_refused(frame: Frame) -> None:
    data = encode(frame)
    for wrong in (data + b"\0", data + data, *(data[:end] for end in range(len(data)))):
        with pytest.raises(BadFrame):
            decode(frame, wrong)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        b"\x90",
        b"\x10",
        b"\x80",
        b"\x81\x10\x01",
        b"\x92\xa1x\x01",
        b"\x92\xc3\x01",
        b"\x92\xff\x01",
        b"\x92\x10\x80",
        b"\x92\x10\x81\x01\x01",
        b"\x92\x10\xd4\x01\x01",
        b"\x92\x10\xd6\xff\0\0\0\0",
        b"\x92\x10\xc1",
        b"\x92\xcc\xc8\x01",
        b"\xdc\x00\x11" + b"\x10" * 17,
        b"\xdd\xff\xff\xff\xff",
        b"\x92\x10\xc6\xff\xff\xff\xff",
        b"\x91" * 10_000,
        b"\x92\x05\xa1\xff",
    ],
    ids=bytes.hex,
)
def test_what_is_no_array_of_plain_values_with_a_known_tag_is_refused(data: bytes) -> None:
    for decode_from in (decode_from_client, decode_from_relay):
        with pytest.raises(BadFrame):
            decode_from(data)


def test_a_string_that_is_not_utf8_is_refused() -> None:
    data = encode(frames.Join(1, "room", None, ID, 0, b"\0"))
    with pytest.raises(BadFrame):
        decode_from_client(data.replace(b"room", b"ro\xffm"))


def test_a_frame_may_fill_the_limit_and_not_a_byte_more() -> None:
    envelope = len(encode(frames.Update(3, 1, bytes(100_000)))) - 100_000
    full = encode(frames.Update(3, 1, bytes(limits.MAX_FRAME_BYTES - envelope)))
    assert len(full) == limits.MAX_FRAME_BYTES
    decode_from_client(full)
    with pytest.raises(BadFrame, match="at most"):
        decode_from_client(
            encode(frames.Update(3, 1, bytes(limits.MAX_FRAME_BYTES - envelope + 1)))
        )


def test_texts_are_bounded_in_bytes_and_may_fill_their_bounds() -> None:
    for reason in ("x" * 512, "é" * 256, "📊" * 128):
        assert decode_from_relay(encode(frames.Left(1, "busy", reason)))
    token = "x" * limits.MAX_TOKEN_BYTES
    assert decode_from_client(encode(frames.Hello(1, ID, ID, 1, token)))
    with pytest.raises(BadFrame):
        decode_from_client(encode(frames.Hello(1, ID, ID, 1, "é" + token[1:])))


def test_a_room_name_has_1_to_255_bytes_and_no_control_characters() -> None:
    assert is_room_name("x")
    assert is_room_name("x" * 255)
    assert is_room_name("设" * 85)
    assert is_room_name("a/b c:📊")
    for bad in ["", "x" * 256, "设" * 86, "\0", "a\x1f", "\x7f", "\x9f", "\ud800", b"x", None]:
        assert not is_room_name(bad)


# Payloads


@pytest.mark.parametrize(
    ("frame", "most"),
    [
        (frames.Cast(3, b""), limits.MAX_CAST_BYTES),
        (frames.Broadcast(3, "u" * 255, b""), limits.MAX_CAST_BYTES),
        (frames.Call(TOP, TOP, "s" * 255, b""), limits.MAX_CALL_BYTES),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_payload_may_fill_its_bound_in_one_frame_and_not_a_byte_more(
    frame: Frame, most: int
) -> None:
    full = replace(frame, payload=bytes(most))  # type: ignore[call-arg]
    assert decode(full, encode(full)) == full
    assert len(encode(full)) <= limits.MAX_FRAME_BYTES
    with pytest.raises(BadFrame, match="payload is malformed"):
        decode(full, encode(replace(frame, payload=bytes(most + 1))))  # type: ignore[call-arg]


def test_an_answer_may_fill_its_bound_in_parts_and_not_a_byte_more() -> None:
    def come(size: int) -> list[Frame | None]:
        answer, reassembly = frames.Answer(3, 1, "done", "", bytes(size)), Reassembly(
            decode_from_relay
        )  # fmt: skip
        return [reassembly.add(piece) for piece in pieces_of(answer, 1)]

    assert come(limits.MAX_ANSWER_BYTES)[-1] == frames.Answer(
        3, 1, "done", "", bytes(limits.MAX_ANSWER_BYTES)
    )
    with pytest.raises(BadFrame, match="payload is malformed"):
        come(limits.MAX_ANSWER_BYTES + 1)


VALUES: list[Any] = [
    None, True, 0, -(2**63), 2**64 - 1, 1.5, "", "你好 📊", b"\0", [], {}, [[1], {"a": [None]}],
    {1: "a", None: "b", b"k": 2.5},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_out_as_it_went_in(value: Any) -> None:
    assert unpack_value(pack_value(value)) == value


def test_a_tuple_comes_out_as_a_list() -> None:
    assert unpack_value(pack_value((1, (2,)))) == [1, [2]]


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, 2**64, "\ud800", {(1,): 2}, endless(), msgpack.ExtType(1, b""),
     msgpack.Timestamp(1)],
    ids=["object", "set", "big", "half a pair", "key", "endless", "extension", "timestamp"],
)  # fmt: skip
def test_what_does_not_come_out_again_is_not_packed(value: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        pack_value(value)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\xc0\xc0", b"\x91", b"\x81\x90\x01", b"\x81\x80\x01", b"\xa1\xff",
     b"\xd4\x01\x01", b"\xc7\x00\x01", b"\xd6\xff\0\0\0\0", b"\xdd\xff\xff\xff\xff",
     b"\xc6\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x91" * 100_000],
    ids=lambda data: data[:8].hex(),
)  # fmt: skip
def test_bytes_that_are_no_value_are_a_value_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the reasons are msgpack's
        unpack_value(data)


@pytest.mark.parametrize(
    "data",
    [b"\x81\x90\x01", b"\x81\x80\x01", b"\x81\x01\xc7\x00\x01", b"\x80\x80", b"\xc0", b"\x91\x01"],
    ids=bytes.hex,
)
def test_a_meta_that_is_no_map_that_python_has_is_none(data: bytes) -> None:
    """A list or a map for a key is msgpack, and once ended the connection as a fault of ours."""
    assert unpack_map(data) is None


# Parts


def pieces_of(frame: Frame, stream: int) -> list[Part]:
    pieces = []
    for data in parts(encode(frame), stream):
        assert len(data) <= limits.MAX_FRAME_BYTES
        piece = decode_from_client(data)
        assert isinstance(piece, Part)
        pieces.append(piece)
    return pieces


def big(byte: bytes, size: int = 300_000) -> frames.Update:
    return frames.Update(3, 1, byte * size)


def test_parts_come_together_again() -> None:
    reassembly = Reassembly(decode_from_client)
    pieces = pieces_of(big(b"a"), 1)
    assert len(pieces) > 1
    assert [reassembly.add(piece) for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert reassembly.add(pieces[-1]) == big(b"a")


def test_parts_of_several_payloads_interleave() -> None:
    reassembly = Reassembly(decode_from_client)
    frames_of = [big(b"a"), big(b"b", 400_000), big(b"c", 270_000)]
    streams = [pieces_of(frame, stream) for stream, frame in enumerate(frames_of)]
    done = []
    while any(streams):
        for pieces in streams:
            if pieces and (frame := reassembly.add(pieces.pop(0))) is not None:
                done.append(frame)
    assert sorted(done, key=str) == sorted(frames_of, key=str)


def test_a_stream_may_be_used_again_when_it_is_done() -> None:
    reassembly = Reassembly(decode_from_client)
    for byte in (b"a", b"b"):
        assert [reassembly.add(piece) for piece in pieces_of(big(byte), 1)][-1] == big(byte)


@pytest.mark.parametrize("kind", KINDS)
def test_only_frames_that_can_be_long_may_come_in_parts(kind: type[Frame]) -> None:
    examples = {type(frame): frame for frame in [*FROM_RELAY, *FROM_CLIENT]}
    frame = examples[kind]
    long = {"state_vector", "update", "data"} & {field.name for field in fields(kind)}
    if kind is frames.Answer:  # no other payload may be longer than a frame
        long = {"payload"}
    for name in long:
        frame = replace(frame, **{name: bytes(300_000)})
    decode_whole = decode_from_client if kind in frames.FROM_CLIENT else decode_from_relay
    reassembly = Reassembly(decode_whole)
    if kind in frames.IN_PARTS:
        assert [reassembly.add(piece) for piece in pieces_of(frame, 1)][-1] == frame
    elif long:
        *pieces, last = pieces_of(frame, 1)
        assert [reassembly.add(piece) for piece in pieces] == [None] * len(pieces)
        with pytest.raises(BadFrame, match="in parts"):
            reassembly.add(last)
    else:  # too short for parts
        with pytest.raises(BadFrame, match="parts of a frame of"):
            reassembly.add(Part(1, len(encode(frame)), encode(frame)))


def test_parts_of_what_is_no_frame_are_refused() -> None:
    reassembly = Reassembly(decode_from_client)
    rubbish = bytes(300_000)
    reassembly.add(Part(1, len(rubbish), rubbish[:-1]))
    with pytest.raises(BadFrame):
        reassembly.add(Part(1, len(rubbish), rubbish[-1:]))


@pytest.mark.parametrize(
    "second",
    [Part(1, 300_001, b"x"), Part(1, 299_999, b"x"), Part(1, 300_000, b""),
     Part(1, 300_000, bytes(200_000))],
    ids=["another total", "a smaller total", "empty", "more than the total"],
)  # fmt: skip
def test_a_part_that_does_not_continue_is_refused(second: Part) -> None:
    reassembly = Reassembly(decode_from_client)
    reassembly.add(Part(1, 300_000, bytes(150_000)))
    with pytest.raises(BadFrame, match="does not continue"):
        reassembly.add(second)


def test_a_first_part_that_is_empty_is_refused() -> None:
    with pytest.raises(BadFrame):
        Reassembly(decode_from_client).add(Part(1, 300_000, b""))


@pytest.mark.parametrize(
    "total", [0, 1, limits.MAX_FRAME_BYTES, limits.MAX_PAYLOAD_BYTES + 1, 2**62]
)
def test_a_total_that_needs_no_parts_or_is_too_large_is_refused(total: int) -> None:
    with pytest.raises(BadFrame, match="parts of a frame of"):
        Reassembly(decode_from_client).add(Part(1, total, b"x"))


def test_only_so_many_payloads_may_be_open() -> None:
    reassembly = Reassembly(decode_from_client)
    for stream in range(limits.MAX_OPEN_PARTS):
        reassembly.add(Part(stream, 300_000, b"x"))
    with pytest.raises(BadFrame, match="too many"):
        reassembly.add(Part(99, 300_000, b"x"))


def test_only_so_many_bytes_may_be_promised_and_a_finished_payload_frees_its_own() -> None:
    reassembly = Reassembly(decode_from_client)
    for piece in pieces_of(big(b"a"), 9):
        reassembly.add(piece)
    reassembly.add(Part(1, limits.MAX_PAYLOAD_BYTES, b"x"))
    reassembly.add(Part(2, limits.MAX_PAYLOAD_BYTES, b"x"))
    with pytest.raises(BadFrame, match="too many"):
        reassembly.add(Part(3, limits.MAX_FRAME_BYTES + 1, b"x"))
