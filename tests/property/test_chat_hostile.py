"""Whatever a relay says, a device neither fails, nor loses a message of its own, nor spins."""

from __future__ import annotations

from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collab import limits
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.members import pack_members
from collab.protocol.messages import (
    LoggedMessage,
    Receipt,
    SlotOutcome,
    Verdict,
    pack_messages,
    pack_outcomes,
    pack_receipts,
)
from collab.protocol.verdicts import GivenVerdict, pack_verdicts
from tests.property.chat_device import DeviceModel, new_file

SMALL = st.integers(0, 12)
NUMBERS = st.one_of(SMALL, SMALL, SMALL, st.sampled_from([2**31, 2**62, 2**63 - 1]))
IDS = st.integers(1, 12).map(lambda number: number.to_bytes(16, "big"))
CODES = st.sampled_from(
    ["accepted", "accepted", "skipped", "expired", "forgotten", "conflict", "busy", "own", ""]
)
BODIES = st.sampled_from(["m1", "m2", "other"])
USERS = st.sampled_from(["me", "ana", ""])
MESSAGES = st.builds(
    LoggedMessage, seq=NUMBERS.map(lambda n: n or 1), id=IDS, sender=USERS, body=BODIES,
    meta=st.just(b""), sent_at=NUMBERS, accepted_at=NUMBERS, kind=SMALL, verdict=SMALL,
)  # fmt: skip
RUNS = st.lists(MESSAGES, max_size=5)
OUTCOMES = st.lists(
    st.builds(SlotOutcome, NUMBERS.map(lambda n: n or 1), IDS, CODES, NUMBERS), max_size=5
)
MEMBERS = st.lists(st.tuples(USERS, st.sampled_from(["reader", "admin", "", "owner"]))).map(
    pack_members
)
VERDICTS = st.one_of(
    st.lists(st.builds(GivenVerdict, IDS, st.integers(0, 4), st.just("why"))).map(pack_verdicts),
    st.binary(max_size=8),
)
RECEIPTS = st.lists(st.builds(Receipt, USERS, NUMBERS, NUMBERS), max_size=4)


def run(after: int, messages: list[LoggedMessage], honest: bool) -> dict[str, Any]:
    """The fields of a run; ``honest``: with the numbers that it must have."""
    if honest:
        messages = [
            LoggedMessage(after + n, *_rest(message)) for n, message in enumerate(messages, 1)
        ]
    else:
        messages = sorted({one.seq: one for one in messages}.values(), key=lambda one: one.seq)
    upto = after + len(messages) if honest else (messages[-1].seq if messages else after)
    return {"after": after, "upto": upto, "data": pack_messages(messages)}


def _rest(message: LoggedMessage) -> tuple[Any, ...]:
    return (
        message.id, message.sender, message.body, message.meta, message.sent_at,
        message.accepted_at, message.kind, message.verdict,
    )  # fmt: skip


FRAMES = st.one_of(
    st.builds(
        frames.Entered, channel=st.just(7), lane_seq=NUMBERS, outcomes=OUTCOMES.map(pack_outcomes),
        good=st.booleans(), after=NUMBERS, head=NUMBERS, oldest=NUMBERS, read_upto=NUMBERS,
        unread=NUMBERS, user=USERS,
    ),
    st.builds(
        frames.Outcome, channel=st.just(7), lane_seq=NUMBERS, message_id=IDS, code=CODES,
        seq=NUMBERS, retry_after_ms=NUMBERS, reason=st.just(""),
    ),
    st.builds(frames.Expected, channel=st.just(7), lane_seq=NUMBERS),
    st.builds(run, SMALL, RUNS, st.booleans()).map(lambda it: frames.Messages(7, **it)),
    st.builds(run, SMALL, RUNS, st.sampled_from([True, True, False])).flatmap(
        lambda it: st.builds(
            frames.Page, channel=st.just(7), request=SMALL, after=st.just(it["after"]),
            upto=st.just(it["upto"]), oldest=SMALL, data=st.just(it["data"]),
        )
    ),
    st.builds(frames.Receipts, channel=st.just(7), data=RECEIPTS.map(pack_receipts)),
    st.builds(frames.Members, channel=st.just(7), whole=st.booleans(), data=MEMBERS),
    st.builds(
        frames.Changed, channel=st.just(7), request=SMALL, code=CODES, reason=st.just("")
    ),
    st.builds(frames.Verdicts, channel=st.just(7), data=VERDICTS),
)  # fmt: skip
GOOD = st.builds(  # so that the rest is met by an open chat
    frames.Entered, channel=st.just(7), lane_seq=SMALL, outcomes=OUTCOMES.map(pack_outcomes),
    good=st.just(True), after=SMALL, head=st.just(12), oldest=st.just(1), read_upto=SMALL,
    unread=SMALL, user=st.just("me"),
)  # fmt: skip
STEPS = st.one_of(
    FRAMES, FRAMES, FRAMES, GOOD,
    st.sampled_from(
        ["commit", "speak", "send", "order", "member", "join", "detach", "tick", "crash", "ask"]
    ),
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, max_size=50))
def test_a_device_outlives_any_relay(steps: list[Any]) -> None:
    epochs = (number.to_bytes(16, "little") for number in count(1))
    device = DeviceModel(new_file(next(epochs)), lambda: next(epochs))
    device.machine.joined(7, b"r" * 16)
    sent: list[bytes] = []
    orders: set[bytes] = set()

    def speak() -> None:
        for _ in range(100):
            if device.machine.next_frame(device.now) is None:
                return
        raise AssertionError("a device that does not stop to speak")

    for step in steps:
        match step:
            case "commit":
                device.commit()
            case "speak":
                speak()
            case "send" | "order":
                message_id = (len(sent) + 1).to_bytes(16, "big")
                sent.append(message_id)
                device.send(message_id, f"m{len(sent)}", 50_000, confirm=step == "order")
                orders.update({message_id} if step == "order" else ())
                device.commit()
            case "member":
                device.machine.membership.ask("ana", "reader")
            case "join":
                device.machine.joined(7, b"s" * 16)
            case "detach":
                device.machine.detach()
            case "tick":
                device.tick(limits.RETRY_CAP_MS // 7)
            case "crash":
                device.load()
                device.machine.joined(7, b"r" * 16)
            case "ask":
                gaps = [gap for gap in device.gaps() if not gap.lost]
                if gaps and gaps[0].high <= device.machine.reader.seq and device.machine.is_open:
                    device.machine.reader.ask(gaps[0].low, gaps[0].high, newest=True)
            case frame:
                try:
                    device.receive(frame)
                except BadFrame:
                    device.machine.detach()  # the connection is dropped
                    device.machine.joined(7, b"r" * 16)
                speak()
        if len(device.waiting) > 30:
            device.commit()
    device.commit()
    assert [row.id for row in device.own()] == sent
    assert [row.body for row in device.own()] == [f"m{n + 1}" for n in range(len(sent))]
    assert {row.id for row in device.own() if row.verdict} == orders  # none became a plain message
    assert all(
        row.verdict == Verdict.AWAITED or row.seq is not None for row in device.own() if row.verdict
    )  # nor is one done that nobody took
    members = [row for (row,) in device.file.execute("SELECT role FROM members")]
    assert set(members) <= {"reader", "admin"}
