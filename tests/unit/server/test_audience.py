"""Who hears a broadcast, and how much of them: without sockets, in virtual time."""

from __future__ import annotations

from collab import limits
from collab.protocol import frames
from collab.protocol.codec import decode_from_relay
from collab.protocol.waiting_casts import WaitingCasts
from collab_server.audience import Audience, CastAllowance, Listener


def listener(waiting: WaitingCasts | None = None) -> tuple[Listener, list[int]]:
    """Somebody who listens, and one entry for each time that it was woken."""
    woken: list[int] = []
    queue = WaitingCasts() if waiting is None else waiting
    return Listener(queue, lambda: woken.append(1)), woken


def test_everybody_but_the_teller_is_told_and_woken_with_the_same_bytes() -> None:
    audience = Audience(3)
    (ana, woken_ana), (ben, woken_ben), (cem, _) = (listener() for _ in range(3))
    for each in (ana, ben, cem):
        audience.join(each)
    audience.tell(b"\xc0", "ana", but=ana)
    assert (len(ana.waiting), woken_ana, woken_ben) == (0, [], [1])
    first, second = ben.waiting.next(), cem.waiting.next()
    assert first is second  # encoded once
    assert first is not None
    assert decode_from_relay(first) == frames.Broadcast(3, "ana", b"\xc0")


def test_the_relays_own_word_goes_to_everybody() -> None:
    audience = Audience(3)
    (ana, _), (ben, _) = listener(), listener()
    audience.join(ana)
    audience.join(ben)
    audience.tell(b"\xc0", "bot")
    assert len(ana.waiting) == len(ben.waiting) == 1


def test_a_room_without_others_costs_nothing() -> None:
    audience = Audience(3)
    audience.tell(b"\xc0", "bot")
    ana, woken = listener()
    audience.join(ana)
    audience.tell(b"\xc0", "ana", but=ana)
    assert (len(audience), len(ana.waiting), woken) == (1, 0, [])


def test_who_left_hears_nothing_more_and_what_waited_of_the_room_is_gone() -> None:
    waiting = WaitingCasts()
    rooms = {number: Audience(number) for number in (1, 2)}
    (here, _), (there, _) = listener(waiting), listener(waiting)
    rooms[1].join(here)
    rooms[2].join(there)
    for number, room in rooms.items():
        room.tell(b"%d" % number, "bot")
    rooms[1].leave(here)
    rooms[1].leave(here)
    rooms[1].tell(b"late", "bot")
    assert (len(rooms[1]), len(waiting)) == (0, 1)
    left = waiting.next()
    assert left is not None
    assert decode_from_relay(left) == frames.Broadcast(2, "bot", b"2")


def test_a_slow_listener_keeps_the_newest_of_a_bounded_number() -> None:
    audience = Audience(3)
    slow, _ = listener()
    audience.join(slow)
    for number in range(100_000):
        audience.tell(b"%d" % number, "bot")
    assert len(slow.waiting) == limits.MAX_WAITING_CASTS
    oldest = slow.waiting.next()
    assert oldest is not None
    first = decode_from_relay(oldest)
    assert isinstance(first, frames.Broadcast)
    assert first.payload == b"%d" % (100_000 - limits.MAX_WAITING_CASTS)


# How much one connection may say


def test_a_burst_and_then_the_rate_are_admitted() -> None:
    allowance = CastAllowance(now=0.0)
    assert sum(allowance.admits(10, 0.0) for _ in range(1_000)) == limits.CAST_BURST
    later = sum(allowance.admits(10, 0.01 * step) for step in range(1, 1_001))
    assert later == int(limits.CASTS_PER_S * 10)


def test_large_ones_are_bounded_by_their_bytes() -> None:
    allowance = CastAllowance(now=0.0)
    size = limits.MAX_CAST_BYTES
    at_once = sum(allowance.admits(size, 0.0) for _ in range(1_000))
    assert at_once == limits.CAST_BYTES_BURST // size < limits.CAST_BURST
    later = sum(allowance.admits(size, 0.01 * step) for step in range(1, 1_001))
    assert later == int(10 * limits.CAST_BYTES_PER_S) // size


def test_what_is_not_admitted_costs_nothing_of_either() -> None:
    allowance = CastAllowance(now=0.0)
    size = limits.MAX_CAST_BYTES
    while allowance.admits(size, 0.0):
        pass
    left = limits.CAST_BURST - limits.CAST_BYTES_BURST // size
    assert sum(allowance.admits(0, 0.0) for _ in range(1_000)) == left
