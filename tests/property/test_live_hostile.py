"""Whatever a relay says of broadcasts and calls, a device keeps its rules and gets its answers."""

from __future__ import annotations

import asyncio
from itertools import count
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import collab
from collab.errors import BadFrame
from collab.protocol import frames
from collab.protocol.codec import decode_from_client, pack_value, unpack_value
from collab.protocol.frames import Access
from collab.room_live import RoomLive

PAYLOADS = st.one_of(
    st.sampled_from([b"", b"\xc1", b"\xc0\xc0", b"\x81\x90\x01", b"\xd4\x01\x01", b"\x91" * 5_000]),
    st.binary(max_size=8),
    st.sampled_from([None, 1, [1, {"a": b""}], "x"]).map(pack_value),
)
CODES = st.sampled_from(["done", "done", "busy", "failed", "own", ""])
STEPS = st.one_of(
    st.tuples(st.just("answer"), st.integers(0, 12), CODES, PAYLOADS),
    st.tuples(st.just("broadcast"), PAYLOADS),
    st.tuples(st.just("call")),
    st.tuples(st.just("say")),
    st.tuples(st.just("cancel"), st.integers(0, 12)),
    st.tuples(st.just("send")),
    st.tuples(st.just("detach")),
    st.tuples(st.just("join"), st.sampled_from(list(Access)[1:])),
    st.tuples(st.just("turn")),
)


def is_value(payload: bytes) -> bool:
    try:
        unpack_value(payload)
    except ValueError:
        return False
    return True


@given(st.lists(STEPS, max_size=60))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_call_ends_as_its_answer_says_or_not_at_all(steps: list[Any]) -> None:
    async def main() -> None:
        device: Any = SimpleNamespace(uplink=None, requests=count(1))
        live = RoomLive(device, "talk")
        heard: list[collab.Broadcast] = []
        live.observers.add(heard.append)
        calls: dict[int, asyncio.Task[Any]] = {}
        expected: dict[int, tuple[str, Any]] = {}  # of calls whose end is decided
        up: list[int] = []
        said = 0
        access: Access | None = None
        for step in steps:
            match step:
                case ("call",) if access is not None:
                    number = len(calls) + 1
                    calls[number] = asyncio.create_task(live.call("s", number, None))
                    await asyncio.sleep(0)
                case ("say",) if access is not None and access >= Access.WRITE:
                    live.broadcast(said)
                case "cancel", number if number in calls:
                    if not calls[number].done() and number not in expected:
                        calls[number].cancel()
                        expected[number] = ("cancelled", None)
                case ("send",):
                    data = live.next_frame()
                    if data is not None:
                        frame = decode_from_client(data)
                        assert access is not None
                        if isinstance(frame, frames.Call):
                            assert frame.channel == 7
                            assert frame.request not in expected
                            up.append(frame.request)
                case "answer", number, code, payload:
                    open_ = access is not None and number in calls and number not in expected
                    try:
                        live.receive(frames.Answer(7, number, code, "", payload))
                    except BadFrame:
                        assert open_
                        assert code == "done"
                        assert not is_value(payload)
                        live.detach()  # what the connection does then
                        access = None
                        for each in calls:
                            expected.setdefault(each, ("offline", None))
                    else:
                        if open_:
                            value = unpack_value(payload) if code == "done" else None
                            expected[number] = (code, value)
                case "broadcast", payload:
                    live.receive(frames.Broadcast(7, "ana", payload))
                    said += access is not None and is_value(payload)
                case ("detach",):
                    live.detach()
                    access = None
                    for each in calls:
                        expected.setdefault(each, ("offline", None))
                case "join", access:
                    live.detach()
                    for each in calls:
                        expected.setdefault(each, ("offline", None))
                    live.joined(7, access)
                case ("turn",):
                    await asyncio.sleep(0)
        live.detach()
        for each in calls:
            expected.setdefault(each, ("offline", None))
        if calls:
            await asyncio.wait(calls.values(), timeout=5)
        assert up == sorted(set(up))
        for number, (code, value) in expected.items():
            call = calls[number]
            assert call.done()
            if code == "cancelled":
                assert call.cancelled()
                continue
            error = call.exception()
            match code:
                case "offline":
                    assert isinstance(error, collab.OfflineError)
                case "done":
                    assert error is None
                    assert repr(call.result()) == repr(value)  # a NaN equals nothing
                case _:
                    assert isinstance(error, collab.Rejected)
                    assert error.code == code
                    assert error.retryable == (code == "busy")
        await asyncio.sleep(0)
        assert len(heard) == said
        assert not live._calls
        assert not live._to_send
        assert not live._casts

    asyncio.run(main())
