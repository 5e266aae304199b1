"""What goes out on one socket, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from collab import limits
from collab.protocol import frames
from collab.protocol.codec import Reassembly, decode_from_relay, encode
from collab.protocol.frames import Part
from collab.protocol.outgoing import Outgoing

BIG = encode(frames.Updates(1, 9, bytes(5 * limits.PART_BYTES)))


def source(*frames_: bytes) -> Callable[[], bytes | None]:
    waiting = list(frames_)
    return lambda: waiting.pop(0) if waiting else None


def drain(outgoing: Outgoing, most: int = 100) -> list[bytes]:
    out = []
    while (data := outgoing.next()) is not None:
        out.append(data)
        assert len(out) <= most
    return out


def is_part(data: bytes) -> bool:
    return isinstance(decode_from_relay(data), Part)


def put_together(sent: Iterable[bytes]) -> list[bytes]:
    """What the peer makes of it."""
    reassembly = Reassembly(decode_from_relay)
    got = []
    for data in sent:
        frame = decode_from_relay(data)
        whole = reassembly.add(frame) if isinstance(frame, Part) else frame
        if whole is not None:
            got.append(encode(whole))
    return got


def test_nothing_is_sent_when_there_is_nothing() -> None:
    outgoing = Outgoing()
    assert outgoing.next() is None
    outgoing.attach("a", source())
    assert outgoing.next() is None


def test_control_frames_go_first_in_their_order() -> None:
    outgoing = Outgoing()
    outgoing.attach("a", source(b"a1", b"a2"))
    outgoing.send(b"c1")
    outgoing.send(b"c2")
    assert len(outgoing) == 2
    assert [outgoing.next() for _ in range(3)] == [b"c1", b"c2", b"a1"]
    outgoing.send(b"c3")
    assert drain(outgoing) == [b"c3", b"a2"]


def test_a_control_frame_goes_between_the_parts_of_a_payload() -> None:
    outgoing = Outgoing()
    outgoing.attach("a", source(BIG))
    outgoing.next()
    outgoing.send(b"c")
    assert outgoing.next() == b"c"


def test_a_control_frame_must_fit_into_one_frame() -> None:
    with pytest.raises(AssertionError):
        Outgoing().send(BIG)


def test_sources_take_turns_of_one_frame() -> None:
    outgoing = Outgoing()
    outgoing.attach("a", source(b"a1", b"a2", b"a3"))
    outgoing.attach("b", source(b"b1"))
    outgoing.attach("c", source(b"c1", b"c2"))
    assert drain(outgoing) == [b"a1", b"b1", b"c1", b"a2", b"c2", b"a3"]


def test_a_source_that_had_nothing_is_asked_again() -> None:
    outgoing = Outgoing()
    waiting: list[bytes] = []
    outgoing.attach("a", lambda: waiting.pop() if waiting else None)
    assert outgoing.next() is None
    waiting.append(b"a1")
    assert outgoing.next() == b"a1"


def test_a_payload_in_parts_holds_up_no_other_room_and_keeps_its_rooms_order() -> None:
    outgoing = Outgoing()
    small = encode(frames.Updates(1, 10, b"\0\0"))
    outgoing.attach("a", source(BIG, small))
    outgoing.attach("b", source(*(encode(frames.Ack(2, n, n)) for n in range(1, 5))))
    sent = drain(outgoing)
    assert [is_part(data) for data in sent[:8]] == [True, False] * 4
    assert all(len(data) <= limits.MAX_FRAME_BYTES for data in sent)
    assert [frame for frame in put_together(sent) if frame in (BIG, small)] == [BIG, small]


def test_two_payloads_in_parts_interleave_under_streams_of_their_own() -> None:
    outgoing = Outgoing()
    other = encode(frames.Updates(2, 9, bytes(4 * limits.PART_BYTES + 5)))
    outgoing.attach("a", source(BIG, BIG))
    outgoing.attach("b", source(other))
    sent = drain(outgoing)
    streams = [part.stream for part in map(decode_from_relay, sent) if isinstance(part, Part)]
    assert streams[:4] == [1, 2, 1, 2]
    assert len(set(streams)) == 3
    assert sorted(put_together(sent)) == sorted([BIG, other, BIG])


def test_a_detached_source_is_not_asked_again() -> None:
    outgoing = Outgoing()
    outgoing.attach("a", source(b"a1", b"a2"))
    outgoing.attach("b", source(b"b1", b"b2"))
    assert outgoing.next() == b"a1"
    outgoing.detach("a")
    assert drain(outgoing) == [b"b1", b"b2"]
    outgoing.detach("never attached")


def test_parts_that_are_on_their_way_are_finished_after_a_detach() -> None:
    outgoing = Outgoing()
    outgoing.attach("a", source(BIG, b"a2"))
    first = outgoing.next()
    assert first is not None
    outgoing.detach("a")
    assert put_together([first, *drain(outgoing)]) == [BIG]


def test_a_key_attached_again_amid_parts_goes_on_with_the_new_source_after_them() -> None:
    outgoing = Outgoing()
    old, new = encode(frames.Ack(1, 1, 1)), encode(frames.Ack(1, 2, 2))
    outgoing.attach("a", source(BIG, old))
    first = outgoing.next()
    assert first is not None
    outgoing.detach("a")
    outgoing.attach("a", source(new))
    assert put_together([first, *drain(outgoing)]) == [BIG, new]


def test_a_key_attached_twice_has_one_turn() -> None:
    outgoing = Outgoing()
    outgoing.attach("a", source(b"old"))
    outgoing.attach("a", source(b"a1", b"a2"))
    outgoing.attach("b", source(b"b1", b"b2"))
    assert drain(outgoing) == [b"a1", b"b1", b"a2", b"b2"]


def test_a_key_attached_again_after_all_is_gone_has_a_turn_again() -> None:
    outgoing = Outgoing()
    outgoing.attach("a", source(b"a1"))
    outgoing.detach("a")
    assert outgoing.next() is None
    outgoing.attach("a", source(b"a2"))
    assert drain(outgoing) == [b"a2"]


def test_a_payload_of_exactly_one_frame_goes_whole() -> None:
    envelope = len(encode(frames.Updates(1, 9, bytes(100_000)))) - 100_000
    whole = encode(frames.Updates(1, 9, bytes(limits.MAX_FRAME_BYTES - envelope)))
    outgoing = Outgoing()
    outgoing.attach("a", source(whole))
    assert drain(outgoing) == [whole]


def test_no_more_payloads_go_in_parts_at_once_than_the_peer_puts_together() -> None:
    outgoing = Outgoing()
    many = limits.MAX_OPEN_PARTS + 5
    whole = [encode(frames.Updates(n, 9, bytes(5 * limits.PART_BYTES))) for n in range(many)]
    for number, frame in enumerate(whole):
        outgoing.attach(number, source(frame, frame))
    sent = drain(outgoing, 1000)
    assert sorted(put_together(sent)) == sorted(whole * 2)  # it refuses more than it takes at once


def test_a_payload_that_waits_for_room_goes_out_although_its_source_is_taken_away() -> None:
    outgoing = Outgoing()
    keys = range(limits.MAX_OPEN_PARTS + 1)
    for key in keys:
        outgoing.attach(key, source(BIG))
    sent = [outgoing.next() for _ in keys]  # the last of them found no room
    outgoing.detach(keys[-1])
    got = put_together([data for data in sent if data is not None] + drain(outgoing, 1000))
    assert got == [BIG] * len(keys)
