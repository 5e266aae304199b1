"""One room on a device: what it sends, applies, stores and refuses, by its numbered invariants."""

from __future__ import annotations

from typing import Any

import pytest

from collab import limits
from collab.errors import BadUpdate
from collab.protocol import frames
from collab.protocol.document_sync import (
    Adopt,
    Apply,
    Differ,
    DocumentSync,
    Effect,
    Lacks,
    Phase,
    Refusal,
    Rejoin,
    Replaced,
    Row,
    Store,
)
from collab.protocol.frames import Access, Code
from collab.protocol.position import NOWHERE, Position
from collab.protocol.update import Coverage, encode_state_vector, walk
from tests.unit.protocol.updates import deletes, shared_type, text, update

GENERATION = b"g" * 16
OLDER = Position(b"o" * 16, 5)
EPOCH = b"e" * 16
NOBODY = b"\0"


def typed(client: int, clock: int, letters: str) -> bytes:
    """One client's insert after its own last letter."""
    place: dict[str, Any] = {"left": (client, clock - 1)} if clock else {}
    return update((client, clock, [text(letters, **place)]))


def after(client: int, other: int) -> bytes:
    """A first insert of ``client`` that stands after the first letter of ``other``."""
    return update((client, 0, [text("x", left=(other, 0))]))


def device(
    *rows: Row,
    epoch: bytes | None = EPOCH,
    position: Position = NOWHERE,
    content: tuple[bytes, ...] = (),
) -> DocumentSync:
    sync = DocumentSync(epoch=epoch, position=position, unacked=rows)
    coverage = Coverage()
    for data in (*content, *(row.data for row in rows)):
        coverage.add(walk(data))
    sync.prepare(coverage)
    return sync


def joined(
    *,
    good: bool = False,
    head: int = 0,
    epoch: bytes = EPOCH,
    vector: bytes = NOBODY,
    access: int = Access.WRITE,
) -> frames.Joined:
    return frames.Joined(1, 3, epoch, good, head, vector, access)


def opened(*rows: Row, **how: Any) -> DocumentSync:
    """A device that joined with a good offset."""
    sync = device(*rows, position=Position(GENERATION, 5), **how)
    sync.join(1, "room")
    assert sync.joined(joined(good=True, head=5), GENERATION) == []
    return sync


def updates(sync: DocumentSync, offset: int, data: bytes) -> list[Effect]:
    return sync.updates(offset, data, walk(data))


def difference(sync: DocumentSync, offset: int, data: bytes) -> list[Effect]:
    return sync.difference(offset, data, walk(data))


def sent(sync: DocumentSync) -> list[frames.Frame]:
    out: list[frames.Frame] = []
    while (frame := sync.next_frame()) is not None:
        out.append(frame)
    return out


def only_differ(effects: list[Effect]) -> Differ:
    (found,) = [effect for effect in effects if isinstance(effect, Differ)]
    return found


def refusals(effects: list[Effect]) -> list[Refusal]:
    return [effect for effect in effects if isinstance(effect, Refusal)]


A0, A1, A2 = Row(1, typed(1, 0, "a")), Row(2, typed(1, 1, "b")), Row(3, typed(1, 2, "c"))


# Joining


def test_a_join_names_epoch_position_and_all_that_the_replica_contains() -> None:
    sync = device(A0, A1, position=OLDER, content=(typed(2, 0, "zz"),))
    frame = sync.join(9, "design")
    assert frame == frames.Join(
        9, "design", EPOCH, OLDER.generation, OLDER.offset, encode_state_vector({1: 2, 2: 2})
    )
    assert sync.phase is Phase.JOINING


def test_rows_saved_before_the_replica_was_read_are_in_the_join() -> None:
    sync = DocumentSync(epoch=None, position=NOWHERE, unacked=())
    sync.saved([A0])
    assert not sync.prepared
    sync.prepare(Coverage())
    assert sync.prepared
    assert sync.join(1, "room").state_vector == encode_state_vector({1: 1})


def test_nothing_goes_up_before_joined() -> None:
    sync = device(A0, position=OLDER)
    assert sent(sync) == []
    sync.join(1, "room")
    sync.saved([A1])
    assert sent(sync) == []


def test_a_good_offset_sends_the_unacked_rows_as_they_are_and_in_order() -> None:
    sync = opened(A0, A1)
    assert sent(sync) == [frames.Update(3, 1, A0.data), frames.Update(3, 2, A1.data)]


def test_an_offset_that_is_not_good_sends_an_offer_before_any_update() -> None:
    sync = device(A0, A1, position=OLDER)
    sync.join(1, "room")
    vector = encode_state_vector({7: 1})
    differ = only_differ(sync.joined(joined(vector=vector), GENERATION))
    assert differ.state_vector == vector
    sync.saved([A2])
    assert sent(sync) == []
    sync.offer(b"\0\0", A1.id, differ.turn)
    assert sent(sync) == [frames.Offer(3, 1, b"\0\0"), frames.Update(3, 2, A2.data)]


def test_an_offer_is_made_even_if_nothing_is_unacked() -> None:
    sync = device(position=OLDER)
    sync.join(1, "room")
    differ = only_differ(sync.joined(joined(), GENERATION))
    sync.offer(b"\0\0", 0, differ.turn)
    assert sent(sync) == [frames.Offer(3, 1, b"\0\0")]


def test_without_a_position_good_is_not_believed() -> None:
    sync = device(A0)
    sync.join(1, "room")
    only_differ(sync.joined(joined(good=True), GENERATION))
    assert sent(sync) == []


def test_a_bad_offset_is_forgotten_on_disk_before_anything_is_applied() -> None:
    sync = device(position=OLDER)
    sync.join(1, "room")
    effects = sync.joined(joined(), GENERATION)
    assert effects[0] == Store(NOWHERE, None)
    assert sync.position == NOWHERE


def test_a_state_vector_that_must_not_reach_an_engine_is_refused() -> None:
    sync = device(A0)
    sync.join(1, "room")
    with pytest.raises(BadUpdate):
        sync.joined(joined(vector=b"\xff"), GENERATION)
    with pytest.raises(BadUpdate):
        opened(A0).resync(b"\xff")


# 1. Nothing goes up that is not on this disk


def test_an_edit_goes_up_when_it_is_saved() -> None:
    sync = opened()
    assert sent(sync) == []
    assert sync.saved([A0]) == []
    assert sent(sync) == [frames.Update(3, 1, A0.data)]
    assert sync.pending_updates == 1


def test_an_edit_saved_while_detached_goes_up_after_joining() -> None:
    sync = opened()
    sync.detach()
    sync.saved([A0])
    assert sent(sync) == []
    sync.join(2, "room")
    sync.joined(joined(good=True, head=5), GENERATION)
    assert sent(sync) == [frames.Update(3, 1, A0.data)]


# 2. An offer before any update


def test_a_resync_stops_updates_until_the_offer() -> None:
    sync = opened(A0, A1)
    sync.next_frame()
    differ = only_differ(sync.resync(NOBODY))
    sync.saved([A2])
    assert sent(sync) == []
    sync.offer(b"\0\0", A1.id, differ.turn)
    assert sent(sync) == [frames.Offer(3, 2, b"\0\0"), frames.Update(3, 3, A2.data)]


def test_an_offer_asked_for_before_a_reconnect_is_out_of_date() -> None:
    sync = device(A0, position=OLDER)
    sync.join(1, "room")
    stale = only_differ(sync.joined(joined(), GENERATION))
    sync.detach()
    sync.offer(b"\0\0", A0.id, stale.turn)
    sync.join(2, "room")
    fresh = only_differ(sync.joined(joined(), GENERATION))
    sync.offer(b"stale", A0.id, stale.turn)
    assert sent(sync) == []
    sync.offer(b"fresh", A0.id, fresh.turn)
    assert sent(sync) == [frames.Offer(3, 1, b"fresh")]


def test_a_second_resync_makes_the_first_ones_offer_out_of_date() -> None:
    sync = opened(A0)
    first, second = only_differ(sync.resync(NOBODY)), only_differ(sync.resync(b"\1\7\1"))
    sync.offer(b"first", 1, first.turn)
    assert sent(sync) == []
    sync.offer(b"second", 1, second.turn)
    assert sent(sync) == [frames.Offer(3, 1, b"second")]


def test_a_relay_that_asks_for_ever_is_answered_with_a_refusal() -> None:
    sync = opened(A0)
    for _ in range(limits.MAX_RESYNCS_IN_A_ROW):
        only_differ(sync.resync(NOBODY))
    (refusal,) = sync.resync(NOBODY)
    assert isinstance(refusal, Refusal)
    assert refusal.code == Code.INVALID
    assert sent(sync) == []


def test_an_ack_ends_a_row_of_resyncs() -> None:
    sync = opened(A0)
    for _ in range(limits.MAX_RESYNCS_IN_A_ROW * 2):
        differ = only_differ(sync.resync(NOBODY))
        sync.offer(b"\0\0", 1, differ.turn)
        (frame,) = sent(sync)
        assert isinstance(frame, frames.Offer)
        sync.ack(frame.number, 5)


# 3. The position never passes an update that was not given to the replica


def test_an_update_from_the_log_is_applied_and_stored_with_its_place() -> None:
    sync = opened()
    data = typed(2, 0, "x")
    assert updates(sync, 9, data) == [Apply(data, Position(GENERATION, 9))]
    assert sync.position == Position(GENERATION, 9)


def test_an_update_that_adds_nothing_moves_the_place_alone() -> None:
    sync = opened(A0)
    assert updates(sync, 9, A0.data) == [Store(Position(GENERATION, 9), None)]


def test_of_an_update_that_overlaps_the_replica_is_given_what_is_new() -> None:
    sync = opened(A0)
    both = update((1, 0, [text("ab")]))
    [effect] = updates(sync, 9, both)
    assert isinstance(effect, Apply)
    assert effect.position == Position(GENERATION, 9)
    assert list(walk(effect.update).ranges) == [(1, 1, 2)]
    assert sync.coverage.clocks == {1: 2}


def test_known_deletions_of_a_difference_are_not_stored_again() -> None:
    gone = deletes((2, [(0, 3)]))
    sync = opened(A0, content=(update((2, 0, [text("xyz")]), delete_set=gone),))
    [effect] = updates(sync, 9, update((1, 1, [text("b", left=(1, 0))]), delete_set=gone))
    assert isinstance(effect, Apply)
    assert not walk(effect.update).deletes


def test_a_place_never_goes_back_within_a_generation() -> None:
    sync = opened()
    updates(sync, 9, typed(2, 0, "x"))
    assert updates(sync, 7, typed(2, 1, "y")) == [Apply(typed(2, 1, "y"), None)]
    assert sync.ack(1, 8) == []
    assert sync.position == Position(GENERATION, 9)


def test_a_new_generation_moves_the_place_even_to_a_smaller_offset() -> None:
    sync = device(position=Position(b"o" * 16, 50))
    sync.join(1, "room")
    sync.joined(joined(good=True, head=40), GENERATION)
    assert updates(sync, 41, typed(2, 0, "x"))[0] == Apply(
        typed(2, 0, "x"), Position(GENERATION, 41)
    )


def test_nothing_moves_the_place_while_a_difference_is_awaited() -> None:
    sync = device(A0, position=OLDER)
    sync.join(1, "room")
    differ = only_differ(sync.joined(joined(head=9), GENERATION))
    assert updates(sync, 9, typed(2, 0, "x")) == [Apply(typed(2, 0, "x"), None)]
    sync.offer(b"\0\0", 1, differ.turn)
    sent(sync)
    assert sync.ack(1, 9) == [Store(None, 1)]
    assert sync.position == NOWHERE
    assert not sync.is_caught_up
    data = typed(3, 0, "y")
    assert difference(sync, 9, data) == [Apply(data, Position(GENERATION, 9))]
    assert sync.is_level


def test_a_difference_that_adds_nothing_gives_the_place_all_the_same() -> None:
    sync = device()
    sync.join(1, "room")
    sync.joined(joined(head=9, access=Access.READ), GENERATION)
    assert difference(sync, 9, b"\0\0") == [Store(Position(GENERATION, 9), None)]
    assert sync.is_caught_up


def test_a_difference_that_was_not_asked_for_is_taken_too() -> None:
    """The relay's log was compacted beyond our place: what it left out comes in a difference."""
    sync = opened()
    data = typed(2, 0, "x")
    assert difference(sync, 12, data) == [Apply(data, Position(GENERATION, 12))]


def test_a_difference_that_leaves_out_what_it_builds_on_is_refused() -> None:
    sync = device()
    sync.join(1, "room")
    sync.joined(joined(), GENERATION)
    with pytest.raises(BadUpdate):
        difference(sync, 9, typed(2, 1, "y"))


# 4. A row is acked only by an ack that covered it


def test_an_ack_covers_the_rows_up_to_its_number_and_no_more() -> None:
    sync = opened(A0, A1, A2)
    sent(sync)
    assert sync.ack(2, 8) == [Store(Position(GENERATION, 8), 2)]
    assert sync.pending_updates == 1
    assert sync.ack(2, 8) == []
    assert sync.ack(3, 9) == [Store(Position(GENERATION, 9), 3)]
    assert sync.is_level


def test_an_ack_does_not_touch_rows_that_were_not_sent() -> None:
    sync = opened(A0, A1)
    sync.next_frame()
    sync.ack(99, 8)
    assert sync.pending_updates == 1


def test_the_ack_of_an_offer_covers_the_rows_that_it_held() -> None:
    sync = device(A0, A1)
    sync.join(1, "room")
    differ = only_differ(sync.joined(joined(), GENERATION))
    difference(sync, 0, b"\0\0")
    sync.saved([A2])
    sync.offer(b"\0\0", A1.id, differ.turn)
    sent(sync)
    sync.ack(1, 8)
    assert sync.pending_updates == 1
    sync.ack(2, 9)
    assert sync.pending_updates == 0


def test_the_ack_of_an_offer_covers_what_was_in_flight_before_the_resync() -> None:
    sync = opened(A0, A1)
    sent(sync)
    differ = only_differ(sync.resync(NOBODY))
    sync.offer(b"\0\0", A1.id, differ.turn)
    sent(sync)
    assert sync.ack(3, 8) == [Store(Position(GENERATION, 8), 2)]


def test_after_a_reconnect_exactly_the_unacked_rows_go_up_again_in_order() -> None:
    sync = opened(A0, A1, A2)
    sent(sync)
    sync.ack(1, 8)
    sync.detach()
    assert sent(sync) == []
    sync.join(2, "room")
    sync.joined(joined(good=True, head=8), GENERATION)
    assert sent(sync) == [frames.Update(3, 1, A1.data), frames.Update(3, 2, A2.data)]


def test_an_ack_of_the_last_connection_means_nothing_on_the_next() -> None:
    sync = opened(A0)
    sent(sync)
    sync.detach()
    sync.join(2, "room")
    assert sync.ack(1, 9) == []
    sync.joined(joined(good=True, head=5), GENERATION)
    assert sync.ack(1, 4) == []
    assert sync.pending_updates == 1


# 5. No update reaches the replica before all that it needs


def test_an_early_update_is_held_and_the_room_is_joined_again_without_a_position() -> None:
    sync = opened()
    assert updates(sync, 9, typed(2, 1, "y")) == [Store(NOWHERE, None), Rejoin()]
    assert sync.position == NOWHERE
    assert sync.join(2, "room").generation == NOWHERE.generation


def test_a_held_update_is_applied_when_what_it_needs_has_come() -> None:
    sync = opened()
    late, first = after(4, 3), after(3, 2)
    updates(sync, 9, late)
    assert updates(sync, 10, first) == []
    data = typed(2, 0, "x")
    assert updates(sync, 11, data) == [Apply(data, None), Apply(first, None), Apply(late, None)]


def test_a_delete_of_what_is_not_there_is_held_too() -> None:
    sync = opened()
    gone = update(delete_set=deletes((2, [(0, 1)])))
    assert Rejoin() in updates(sync, 9, gone)
    assert updates(sync, 10, typed(2, 0, "x"))[1:] == [Apply(gone, None)]


def test_the_place_stays_lost_until_the_difference_even_if_all_held_ones_fit_by_then() -> None:
    sync = opened()
    updates(sync, 9, typed(2, 1, "y"))
    updates(sync, 10, typed(2, 0, "x"))
    assert updates(sync, 11, typed(3, 0, "z")) == [Apply(typed(3, 0, "z"), None)]
    assert sync.ack(1, 11) == []
    assert not sync.is_caught_up
    assert sync.join(2, "room").generation == NOWHERE.generation
    sync.joined(joined(head=11), GENERATION)
    difference(sync, 11, b"\0\0")
    assert sync.position == Position(GENERATION, 11)
    assert sync.is_caught_up


def test_only_the_first_held_update_asks_to_join_again() -> None:
    sync = opened()
    updates(sync, 9, typed(2, 1, "y"))
    assert updates(sync, 10, typed(2, 2, "z")) == []


def test_the_difference_drops_what_was_held_because_it_contains_it() -> None:
    sync = opened()
    updates(sync, 9, typed(2, 1, "y"))
    sync.join(2, "room")
    sync.joined(joined(head=9), GENERATION)
    whole = update((2, 0, [text("xy")]))
    assert difference(sync, 9, whole) == [Apply(whole, None)]
    assert updates(sync, 12, typed(2, 2, "z")) == [Apply(typed(2, 2, "z"), None)]
    assert sync.is_caught_up


@pytest.mark.parametrize("bound", ["MAX_HELD_UPDATES", "MAX_HELD_BYTES"])
def test_an_early_update_above_the_bounds_is_dropped_and_never_passed(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, bound, 0)
    sync = opened()
    assert updates(sync, 9, typed(2, 1, "y")) == [Store(NOWHERE, None), Rejoin()]
    assert updates(sync, 10, typed(3, 0, "z")) == [Apply(typed(3, 0, "z"), None)]
    assert sync.position == NOWHERE
    assert not sync.is_caught_up


def test_a_lost_connection_drops_what_was_held() -> None:
    sync = opened()
    updates(sync, 9, typed(2, 1, "y"))
    sync.detach()
    sync.join(2, "room")
    sync.joined(joined(head=9), GENERATION)
    assert updates(sync, 9, typed(2, 0, "x")) == [Apply(typed(2, 0, "x"), None)]


# 6. No position is stored before the offer of a joining that was not good is acked


def test_a_position_is_stored_only_when_the_offer_is_acked() -> None:
    """A relay restored from a backup may lack acked rows: only the offer brings them back."""
    sync = device(A0, position=OLDER)
    sync.join(1, "room")
    differ = only_differ(sync.joined(joined(head=9), GENERATION))
    sync.offer(A0.data, 1, differ.turn)
    sent(sync)
    data = typed(2, 0, "x")
    assert difference(sync, 9, data) == [Apply(data, None)]
    assert updates(sync, 11, typed(2, 1, "y")) == [Apply(typed(2, 1, "y"), None)]
    assert sync.is_caught_up
    assert sync.ack(1, 11) == [Store(Position(GENERATION, 11), 1)]
    assert updates(sync, 12, typed(2, 2, "z")) == [
        Apply(typed(2, 2, "z"), Position(GENERATION, 12))
    ]


def test_an_offer_that_was_not_acked_is_due_on_the_next_connection_and_no_position_stored() -> None:
    sync = device(A0, position=OLDER)
    sync.join(1, "room")
    differ = only_differ(sync.joined(joined(head=9), GENERATION))
    sync.offer(A0.data, 1, differ.turn)
    sent(sync)
    assert difference(sync, 9, typed(2, 0, "x")) == [Apply(typed(2, 0, "x"), None)]
    sync.detach()
    join = sync.join(2, "room")
    assert (join.generation, join.offset) == (GENERATION, 9)  # what it knows while it runs
    again = only_differ(sync.joined(joined(good=True, head=9), GENERATION))
    assert updates(sync, 10, typed(2, 1, "y")) == [Apply(typed(2, 1, "y"), None)]
    assert sent(sync) == []
    sync.offer(A0.data, 1, again.turn)
    assert sent(sync) == [frames.Offer(3, 1, A0.data)]
    assert sync.ack(1, 10) == [Store(Position(GENERATION, 10), 1)]


def test_a_connection_lost_before_the_difference_leaves_no_position() -> None:
    sync = device(A0, position=OLDER)
    sync.join(1, "room")
    only_differ(sync.joined(joined(head=9), GENERATION))
    assert updates(sync, 9, typed(2, 0, "x")) == [Apply(typed(2, 0, "x"), None)]
    sync.detach()
    assert sync.join(2, "room").generation == NOWHERE.generation
    only_differ(sync.joined(joined(head=9), GENERATION))


def test_who_may_only_read_offers_what_the_relay_lost_once_he_may_write() -> None:
    """Its acked rows are not in the backup from which the relay was restored."""
    sync = device(position=OLDER, content=(A0.data,))
    sync.join(1, "room")
    effects = sync.joined(joined(head=9, access=Access.READ), GENERATION)
    assert not [effect for effect in effects if isinstance(effect, Differ)]
    assert difference(sync, 9, typed(2, 0, "x")) == [Apply(typed(2, 0, "x"), None)]
    assert updates(sync, 10, typed(2, 1, "y")) == [Apply(typed(2, 1, "y"), None)]
    sync.detach()
    sync.join(2, "room")
    assert sync.joined(joined(good=True, head=10, access=Access.READ), GENERATION) == []
    assert updates(sync, 11, typed(2, 2, "z")) == [Apply(typed(2, 2, "z"), None)]
    sync.detach()
    sync.join(3, "room")
    differ = only_differ(sync.joined(joined(good=True, head=11), GENERATION))
    sync.offer(A0.data, 0, differ.turn)
    assert sent(sync) == [frames.Offer(3, 1, A0.data)]
    assert sync.ack(1, 12) == [Store(Position(GENERATION, 12), 0)]
    sync.detach()
    sync.join(4, "room")
    assert sync.joined(joined(good=True, head=12), GENERATION) == []  # it owes nothing any more


def test_who_may_only_read_and_has_nothing_keeps_its_place() -> None:
    sync = device(position=OLDER)
    sync.join(1, "room")
    sync.joined(joined(access=Access.READ, head=9), GENERATION)
    data = typed(2, 0, "x")
    assert difference(sync, 9, data) == [Apply(data, Position(GENERATION, 9))]
    sync.detach()
    sync.join(2, "room")
    assert sync.joined(joined(good=True, head=9), GENERATION) == []


def test_an_ack_of_what_went_before_the_offer_settles_nothing() -> None:
    sync = device(A0, position=OLDER)
    sync.join(1, "room")
    differ = only_differ(sync.joined(joined(), GENERATION))
    difference(sync, 0, b"\0\0")
    sync.offer(A0.data, 1, differ.turn)
    sent(sync)
    again = only_differ(sync.resync(NOBODY))
    assert sync.ack(1, 9) == [Store(None, 1)]
    sync.offer(A0.data, 1, again.turn)
    sent(sync)
    assert sync.ack(2, 9) == [Store(Position(GENERATION, 9), 1)]


def test_a_connection_that_was_lost_ends_a_row_of_resyncs() -> None:
    sync = opened(A0)
    for _ in range(limits.MAX_RESYNCS_IN_A_ROW * 2):
        only_differ(sync.resync(NOBODY))
        sync.detach()
        sync.join(2, "room")
        sync.joined(joined(good=True, head=5), GENERATION)
    assert sync.refusal is None


# Epochs


def test_a_room_without_an_epoch_adopts_the_relays() -> None:
    sync = device(A0, epoch=None)
    sync.join(1, "room")
    effects = sync.joined(joined(vector=b"\1\7\1"), GENERATION)
    assert effects[0] == Adopt(EPOCH)
    assert sync.epoch == EPOCH
    assert sync.phase is Phase.OPEN


@pytest.mark.parametrize("empty", ["device", "relay"])
def test_another_epoch_heals_when_one_side_is_empty(empty: str) -> None:
    sync = device(epoch=b"x" * 16) if empty == "device" else device(A0, epoch=b"x" * 16)
    sync.join(1, "room")
    vector = NOBODY if empty == "relay" else b"\1\7\1"
    effects = sync.joined(joined(vector=vector), GENERATION)
    assert Adopt(EPOCH) in effects
    only_differ(effects)


def test_a_stranger_of_the_same_name_stops_the_room() -> None:
    sync = device(A0, epoch=b"x" * 16, position=OLDER)
    sync.join(1, "room")
    assert sync.joined(joined(vector=b"\1\7\1"), GENERATION) == [Replaced()]
    assert sync.phase is Phase.STOPPED
    assert sync.epoch == b"x" * 16
    assert sync.position == OLDER
    sync.saved([A1])
    assert sent(sync) == []
    assert updates(sync, 9, typed(2, 0, "x")) == []
    assert difference(sync, 9, typed(2, 0, "x")) == []
    sync.detach()
    assert sync.phase is Phase.STOPPED
    assert sync.pending_updates == 2


def test_content_without_unacked_rows_is_not_empty() -> None:
    sync = device(epoch=b"x" * 16, content=(A0.data,))
    sync.join(1, "room")
    assert sync.joined(joined(vector=b"\1\7\1"), GENERATION) == [Replaced()]


def test_a_room_known_as_deleted_stops_and_keeps_everything() -> None:
    sync = opened(A0)
    assert sync.deleted() == [Replaced(deleted=True)]
    assert sync.phase is Phase.STOPPED
    sync.saved([A1])
    assert sync.pending_updates == 2
    assert sent(sync) == []
    assert sync.joined(joined(), GENERATION) == []
    assert sync.deleted() == []
    assert sync.epoch == EPOCH


def test_who_has_nothing_of_a_deleted_room_joins_the_new_one() -> None:
    sync = device(position=OLDER)
    sync.join(1, "room")
    assert sync.deleted() == [Store(NOWHERE, None), Rejoin()]
    assert sync.join(2, "room") == frames.Join(2, "room", None, NOWHERE.generation, 0, NOBODY)
    assert Adopt(b"n" * 16) in sync.joined(joined(epoch=b"n" * 16), GENERATION)
    assert sync.phase is Phase.OPEN


def test_a_relay_that_says_deleted_for_ever_is_asked_once_more_a_connection() -> None:
    sync = device()
    for _ in range(3):
        sync.join(1, "room")
        assert sync.deleted() == [Rejoin()]
        sync.detach()
    sync.join(1, "room")
    assert sync.deleted() == [Rejoin()]
    sync.join(2, "room")
    sync.joined(joined(), GENERATION)
    assert sync.deleted() == [Replaced(deleted=True)]


def test_edits_that_are_not_saved_yet_are_not_nothing() -> None:
    """They were made in the room that is gone, and are nothing for a stranger's."""
    sync = device()
    sync.join(1, "room")
    assert sync.deleted(unsaved=True) == [Replaced(deleted=True)]
    sync = device(epoch=b"x" * 16)
    sync.join(1, "room")
    assert sync.joined(joined(vector=b"\1\7\1"), GENERATION, unsaved=True) == [Replaced()]


def test_acked_content_of_a_deleted_room_is_not_nothing() -> None:
    sync = device(content=(A0.data,))
    sync.join(1, "room")
    assert sync.deleted() == [Replaced(deleted=True)]


# What the relay lost


def lacks(effects: list[Effect]) -> list[Lacks]:
    return [effect for effect in effects if isinstance(effect, Lacks)]


def test_a_relay_that_lacks_something_is_noticed_when_the_offset_is_not_good() -> None:
    sync = device(A1, position=OLDER, content=(A0.data, typed(2, 0, "xx")))
    sync.join(1, "room")
    vector = encode_state_vector({2: 2, 3: 7})
    assert lacks(sync.joined(joined(vector=vector), GENERATION)) == [
        Lacks(((1, 0, 2),), (A1,), offers=True)
    ]


def test_a_relay_that_lacks_nothing_or_whose_offset_is_good_lost_nothing() -> None:
    for frame in (joined(vector=encode_state_vector({1: 1})), joined(good=True, head=5)):
        sync = device(position=OLDER, content=(A0.data,))
        sync.join(1, "room")
        assert not lacks(sync.joined(frame, GENERATION))


def test_a_room_that_no_relay_knew_was_not_lost() -> None:
    sync = device(A0, epoch=None)
    sync.join(1, "room")
    assert not lacks(sync.joined(joined(), GENERATION))


def test_who_may_not_write_or_was_refused_does_not_offer_what_was_lost() -> None:
    reader, refused = (device(position=OLDER, content=(A0.data,)) for _ in range(2))
    refused.refused(Code.TOO_LARGE, "no")
    for sync, access in ((reader, Access.READ), (refused, Access.WRITE)):
        sync.join(1, "room")
        effects = sync.joined(joined(access=access), GENERATION)
        assert lacks(effects) == [Lacks(((1, 0, 1),), (), offers=False)]


def test_a_room_that_was_stopped_while_it_joined_stays_stopped() -> None:
    sync = device(A0)
    sync.join(1, "room")
    sync.stop()
    assert sync.joined(joined(), GENERATION) == []
    assert sync.phase is Phase.STOPPED
    assert sent(sync) == []


# Refusals and rights


def test_a_refusal_stops_what_goes_up_and_not_what_comes_down() -> None:
    sync = opened(A0)
    (refusal,) = sync.refused(Code.TOO_LARGE, "no")
    assert refusal == Refusal(Code.TOO_LARGE, "no")
    assert sync.refusal == refusal
    assert sent(sync) == []
    assert updates(sync, 9, typed(2, 0, "x"))
    assert not sync.is_level
    assert sync.is_caught_up


def test_a_refusal_outlives_the_connection() -> None:
    sync = opened(A0)
    sync.refused(Code.TOO_LARGE, "no")
    sync.detach()
    sync.join(2, "room")
    sync.joined(joined(), GENERATION)
    assert sync.refusal == Refusal(Code.TOO_LARGE, "no")
    assert sent(sync) == []


def test_the_right_to_write_takes_a_refusal_for_want_of_it_back_and_no_other() -> None:
    for code in Code:
        sync = opened(A0)
        sync.refused(code, "no")
        sync.detach()
        sync.join(2, "room")
        sync.joined(joined(good=True, head=5), GENERATION)
        assert (sync.refusal is None) == (code == Code.FORBIDDEN), code
        assert sent(sync) == ([frames.Update(3, 1, A0.data)] if not sync.refusal else [])


def test_what_waited_for_the_right_to_write_goes_up_when_it_comes() -> None:
    sync = device(A0)
    sync.join(1, "room")
    sync.joined(joined(access=Access.READ), GENERATION)
    sync.saved([A1])
    sync.detach()
    sync.join(2, "room")
    differ = only_differ(sync.joined(joined(), GENERATION))
    sync.offer(b"\0\0", A1.id, differ.turn)
    assert sent(sync) == [frames.Offer(3, 1, b"\0\0")]
    assert sync.refusal is None


def test_a_reader_without_the_right_to_write_sends_nothing_and_is_told_once() -> None:
    sync = device(A0)
    sync.join(1, "room")
    (refusal,) = refusals(sync.joined(joined(access=Access.READ), GENERATION))
    assert refusal.code == Code.FORBIDDEN
    assert sent(sync) == []
    sync.detach()
    sync.join(2, "room")
    assert not refusals(sync.joined(joined(access=Access.READ), GENERATION))


def test_a_reader_without_edits_of_its_own_is_level_and_not_refused() -> None:
    sync = device()
    sync.join(1, "room")
    assert sync.joined(joined(access=Access.READ, head=9), GENERATION) == []
    data = typed(2, 0, "x")
    assert difference(sync, 9, data) == [Apply(data, Position(GENERATION, 9))]
    assert sync.refusal is None
    assert sync.is_level


def test_more_access_than_is_known_counts_as_all_of_it() -> None:
    sync = device()
    sync.join(1, "room")
    sync.joined(joined(access=99), GENERATION)
    assert sync.access is Access.ADMIN


def test_an_edit_that_no_relay_would_take_stops_what_goes_up_and_is_kept() -> None:
    deep = [shared_type()] + [shared_type(parent=(1, at)) for at in range(limits.MAX_TYPE_DEPTH)]
    too_deep = Row(1, update((1, 0, deep)))
    beside = Row(2, typed(1, len(deep), "x"))
    sync = opened()
    effects = sync.saved([too_deep, beside])
    assert [type(effect) for effect in effects] == [Refusal]
    assert sync.pending_updates == 2
    assert sent(sync) == []


# Level


def test_a_room_is_caught_up_at_the_head_that_joined_named() -> None:
    sync = device(position=Position(GENERATION, 5))
    sync.join(1, "room")
    sync.joined(joined(good=True, head=9), GENERATION)
    assert not sync.is_caught_up
    updates(sync, 8, typed(2, 0, "x"))
    assert not sync.is_caught_up
    updates(sync, 9, typed(2, 1, "y"))
    assert sync.is_caught_up
    assert sync.is_level
    sync.detach()
    assert not sync.is_caught_up
    assert not sync.is_level


def test_a_room_is_level_when_the_offer_is_acked() -> None:
    sync = device(A0)
    sync.join(1, "room")
    differ = only_differ(sync.joined(joined(), GENERATION))
    difference(sync, 0, b"\0\0")
    assert sync.is_caught_up
    assert not sync.is_level
    sync.offer(A0.data, 1, differ.turn)
    sent(sync)
    assert not sync.is_level
    sync.ack(1, 4)
    assert sync.is_level
