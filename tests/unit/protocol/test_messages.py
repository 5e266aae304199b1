"""Messages, outcomes and receipts as a field of a frame, and everything that is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import pytest

from collab import limits
from collab.errors import BadFrame
from collab.protocol.codec import encode, pack_map, unpack_map
from collab.protocol.frames import Messages
from collab.protocol.messages import (
    LoggedMessage,
    OutcomeCode,
    Receipt,
    SlotOutcome,
    is_transient,
    pack_messages,
    pack_outcomes,
    pack_receipts,
    unpack_messages,
    unpack_outcomes,
    unpack_receipts,
)

ID = bytes(range(16))
ONE = LoggedMessage(7, ID, "ana", "你好 📊", b"\x80", 1, 2, 0, 0)


def test_messages_come_out_as_they_went_in() -> None:
    messages = [ONE, replace(ONE, seq=9, id=bytes(16), body="", meta=b"", kind=1, verdict=3)]
    assert unpack_messages(pack_messages(messages)) == messages
    assert unpack_messages(pack_messages([])) == []


def test_outcomes_and_receipts_come_out_as_they_went_in() -> None:
    outcomes = [SlotOutcome(4, ID, "accepted", 7), SlotOutcome(5, ID, "no-links", 0)]
    assert unpack_outcomes(pack_outcomes(outcomes)) == outcomes
    receipts = [Receipt("ana", 7, 6), Receipt("béla", 0, 0)]
    assert unpack_receipts(pack_receipts(receipts)) == receipts


def test_a_page_of_the_largest_messages_that_fit_is_one_frame() -> None:
    large = replace(ONE, body="x" * limits.MAX_BODY_BYTES, meta=bytes(limits.MAX_META_BYTES))
    count = limits.MAX_FRAME_BYTES // (limits.MAX_BODY_BYTES + limits.MAX_META_BYTES + 400)
    page = pack_messages(replace(large, seq=1 + n) for n in range(count))
    assert len(encode(Messages(3, 0, count, page))) <= limits.MAX_FRAME_BYTES
    assert count >= 6


def test_numbers_that_do_not_rise_are_refused() -> None:
    for seqs in ([2, 1], [3, 3]):
        with pytest.raises(BadFrame, match="rise"):
            unpack_messages(pack_messages(replace(ONE, seq=seq) for seq in seqs))


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 0}, {"seq": -1}, {"seq": True}, {"id": b"short"}, {"sender": "x" * 256},
        {"body": "x" * (limits.MAX_BODY_BYTES + 1)}, {"meta": bytes(limits.MAX_META_BYTES + 1)},
        {"body": b"bytes"}, {"sent_at": 1.5}, {"kind": None}, {"verdict": -1},
    ],
    ids=str,
)  # fmt: skip
def test_a_malformed_message_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadFrame):
        unpack_messages(pack_messages([replace(ONE, **change)]))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc1", msgpack.packb({}), msgpack.packb(7), msgpack.packb([7]),
        msgpack.packb([[7]]), msgpack.packb([[[]] * 9]), msgpack.packb([]) + b"\0",
        b"\x91" * 5000, msgpack.packb([{"a": 1}]), msgpack.packb([msgpack.ExtType(1, b"")]),
    ],
    ids=lambda data: data[:4].hex(),
)  # fmt: skip
def test_what_is_no_list_of_rows_is_refused(data: bytes) -> None:
    for unpack in (unpack_messages, unpack_outcomes, unpack_receipts):
        with pytest.raises(BadFrame):
            unpack(data)


def test_more_rows_than_a_frame_may_have_are_refused() -> None:
    rows = [replace(ONE, seq=seq) for seq in range(1, limits.PAGE_MESSAGES + 2)]
    assert len(unpack_messages(pack_messages(rows[:-1]))) == limits.PAGE_MESSAGES
    with pytest.raises(BadFrame):
        unpack_messages(pack_messages(rows))
    slots = [SlotOutcome(slot, ID, "accepted", slot) for slot in range(1, limits.LANE_WINDOW + 2)]
    with pytest.raises(BadFrame):
        unpack_outcomes(pack_outcomes(slots))


def test_only_busy_and_rate_limited_leave_the_slot_free() -> None:
    assert {code for code in OutcomeCode if is_transient(code)} == {"busy", "rate_limited"}
    assert not is_transient("a code of the application's own")


def test_a_programs_map_comes_out_as_it_went_in_and_bytes_that_are_none_do_no_harm() -> None:
    values = {"to": ["ana"], "n": 1.5, "nested": {"ok": True, "raw": b"\0"}, "none": None}
    assert unpack_map(pack_map(values)) == values
    assert unpack_map(b"") == {}
    for junk in (b"\xc1", b"\x91" * 5000, msgpack.packb([1]), b"\x80\0", b"\xdf\xff\xff\xff\xff"):
        assert unpack_map(junk) is None


@pytest.mark.parametrize("value", [..., {1, 2}, 1 + 2j, 2**70], ids=str)
def test_what_msgpack_cannot_carry_raises(value: object) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        pack_map({"value": value})
