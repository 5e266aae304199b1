"""Who is in a room, and which connection each client id belongs to."""

from __future__ import annotations

import json

from collab import limits
from collab.protocol.ysync import AwarenessState, decode_awareness, encode_awareness
from collab_server.presence import Presence, Seat


def here(client: int, clock: int = 1, name: str = "x") -> AwarenessState:
    return AwarenessState(client, clock, json.dumps({"name": name}, ensure_ascii=False))


def gone(client: int, clock: int) -> AwarenessState:
    return AwarenessState(client, clock, None)


def told(seat: Seat) -> list[AwarenessState]:
    states = list(seat.due.values())
    seat.due.clear()
    return states


def test_a_state_is_told_to_everybody_else() -> None:
    presence = Presence()
    a, b, c = presence.join("a"), presence.join("b"), presence.join("c")
    assert presence.announce(a, [here(1)])
    assert told(b) == told(c) == [here(1)]
    assert told(a) == []


def test_who_comes_later_is_told_who_is_there() -> None:
    presence = Presence()
    a = presence.join("a")
    presence.announce(a, [here(1), here(2)])
    assert told(presence.join("b")) == [here(1), here(2)]


def test_only_the_last_of_several_states_is_due() -> None:
    presence = Presence()
    a, b = presence.join("a"), presence.join("b")
    for clock in range(1, 5):
        presence.announce(a, [here(1, clock)])
    assert told(b) == [here(1, 4)]


def test_a_state_that_is_not_newer_is_not_told() -> None:
    presence = Presence()
    a, b = presence.join("a"), presence.join("b")
    presence.announce(a, [here(1, 5, "now")])
    told(b)
    assert not presence.announce(a, [here(1, 5, "again")])
    assert not presence.announce(a, [here(1, 4, "before")])
    assert told(b) == []


def test_an_id_belongs_to_the_seat_that_announced_it() -> None:
    presence = Presence()
    a, b, c = presence.join("a"), presence.join("b"), presence.join("c")
    presence.announce(a, [here(1)])
    told(c)
    assert not presence.announce(b, [here(1, 9, "thief"), gone(1, 9)])
    assert told(c) == told(a) == []
    assert presence.announce(b, [here(1, 9, "thief"), here(2)])
    assert told(c) == [here(2)]


def test_the_same_user_may_take_an_id_over() -> None:
    presence = Presence()
    half_open, back, other = presence.join("a"), presence.join("a"), presence.join("b")
    presence.announce(half_open, [here(1)])
    assert presence.announce(back, [here(1, 2)])
    assert told(other) == [here(1, 2)]
    assert not presence.leave(half_open)
    assert told(other) == []
    assert presence.leave(back)
    assert told(other) == [gone(1, 2)]


def test_a_user_with_the_same_clock_or_an_older_one_takes_nothing_over() -> None:
    presence = Presence()
    half_open, back = presence.join("a"), presence.join("a")
    presence.announce(half_open, [here(1, 3)])
    assert not presence.announce(back, [here(1, 3)])
    assert presence.leave(half_open)


def test_leaving_tells_that_all_ids_of_the_seat_are_gone() -> None:
    presence = Presence()
    a, b = presence.join("a"), presence.join("b")
    presence.announce(a, [here(1, 3), here(2, 8)])
    presence.announce(b, [here(4)])
    told(b)
    assert presence.leave(a)
    assert told(b) == [gone(1, 3), gone(2, 8)]
    assert told(presence.join("c")) == [here(4)]


def test_who_left_comes_back_with_the_next_clock() -> None:
    """Peers compare clocks: had the relay raised the clock for "left", the next would be lost."""
    presence = Presence()
    a, b = presence.join("a"), presence.join("b")
    presence.announce(a, [here(1, 3)])
    presence.leave(a)
    (left,) = told(b)
    again = presence.join("a")
    assert presence.announce(again, [here(1, 4)])
    assert told(b) == [here(1, 4)]
    assert left.clock < 4


def test_saying_goodbye_removes_the_state_even_at_the_same_clock() -> None:
    presence = Presence()
    a, b = presence.join("a"), presence.join("b")
    presence.announce(a, [here(1, 3)])
    assert presence.announce(a, [gone(1, 3)])
    assert told(b) == [gone(1, 3)]
    assert not presence.leave(a)


def test_a_goodbye_of_nobody_is_not_told() -> None:
    presence = Presence()
    a, b = presence.join("a"), presence.join("b")
    assert not presence.announce(a, [gone(1, 3)])
    assert told(b) == []


def test_a_seat_without_a_state_leaves_without_a_word() -> None:
    presence = Presence()
    a, b = presence.join("a"), presence.join("b")
    assert not presence.leave(a)
    presence.announce(b, [here(1)])
    assert told(a) == []  # it is told nothing any more


def test_a_room_holds_a_bounded_number_of_states() -> None:
    presence = Presence()
    a, b = presence.join("a"), presence.join("b")
    most = limits.MAX_AWARENESS_STATES
    presence.announce(a, [here(client) for client in range(most)])
    told(b)
    assert not presence.announce(b, [here(most)])
    assert presence.announce(a, [here(0, 2)])  # who is there may go on
    assert presence.announce(a, [gone(1, 2)])
    assert presence.announce(b, [here(most)])  # and makes room


def pages(seat: Seat) -> list[list[AwarenessState]]:
    taken = []
    while page := seat.take():
        assert decode_awareness(encode_awareness(page)) == page  # what a device's guard takes
        taken.append(page)
    return taken


def test_what_is_due_is_taken_in_pages_that_fit_a_frame() -> None:
    presence = Presence()
    states = [here(client, name="é" * 12_000) for client in range(5)]
    for state in states:
        presence.announce(presence.join("a"), [state])
    late = presence.join("b")
    assert [len(page) for page in pages(late)] == [2, 2, 1]
    assert not late.due


def test_a_page_holds_many_small_states_and_one_of_any_size() -> None:
    presence = Presence()
    a = presence.join("a")
    most = limits.MAX_AWARENESS_STATES
    presence.announce(a, [here(2**53 - 1 - client) for client in range(most)])
    assert [len(page) for page in pages(presence.join("b"))] == [most]
    seat = Seat("c", {client: gone(client, 2**31 - 1) for client in range(most + 1)})
    assert [len(page) for page in pages(seat)] == [most, 1]
    huge = here(1, name="x" * (limits.MAX_AWARENESS_BYTES - 20))
    assert pages(Seat("d", {1: huge, 2: here(2)})) == [[huge], [here(2)]]
