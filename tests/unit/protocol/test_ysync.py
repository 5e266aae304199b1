from __future__ import annotations

import pycrdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collab.errors import BadUpdate
from collab.limits import MAX_AWARENESS_BYTES, MAX_AWARENESS_STATES, MAX_CLOCK
from collab.protocol.ysync import (
    AwarenessState,
    decode_awareness,
    decode_state_vector,
    encode_awareness,
    encode_state_vector,
    read_var_bytes,
    read_var_string,
    read_var_uint,
    write_var_string,
    write_var_uint,
)
from tests.unit.protocol.updates import number, string

fixed = settings(derandomize=True, max_examples=200, deadline=None)
clients = st.integers(0, 2**53 - 1)
clocks = st.integers(1, MAX_CLOCK)


@fixed
@given(clients)
def test_numbers_come_back(value: int) -> None:
    raw = number(value)
    assert read_var_uint(b"x" + raw + b"y", 1) == (value, 1 + len(raw))


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "cut off"),
        (b"\x80", "cut off"),
        (b"\x80\x00", "longer than it needs"),
        (b"\xff\xff\x80\x00", "longer than it needs"),
        (b"\xff" * 7 + b"\x1f", "above 2"),
        (b"\xff" * 8 + b"\x01", "longer than 8 bytes"),
        (b"\xff" * 5000, "longer than 8 bytes"),
    ],
)
def test_bad_numbers_are_refused_with_their_offset(raw: bytes, complaint: str) -> None:
    with pytest.raises(BadUpdate, match=f"offset 3 is .*{complaint}"):
        read_var_uint(b"\x00\x00\x00" + raw, 3)


def test_the_largest_number_is_taken_and_larger_ones_are_not_written() -> None:
    assert read_var_uint(b"\xff" * 7 + b"\x0f", 0) == (2**53 - 1, 8)
    for value in (-1, 2**53):
        with pytest.raises(ValueError, match="is not between"):
            write_var_uint(bytearray(), value)


def test_a_string_is_as_long_as_its_utf8() -> None:
    out = bytearray()
    write_var_string(out, "你好📊")
    assert out[0] == 10
    assert read_var_string(bytes(out), 0) == ("你好📊", 11)


def test_bytes_longer_than_what_remains_are_refused() -> None:
    with pytest.raises(BadUpdate, match="4 bytes are announced at offset 0, 3 remain"):
        read_var_bytes(b"\x04abc", 0)
    with pytest.raises(BadUpdate, match="9007199254740991 bytes"):
        read_var_bytes(b"\xff" * 7 + b"\x0f", 0)


@pytest.mark.parametrize(
    "raw", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe4"]
)
def test_strings_are_strict_utf8(raw: bytes) -> None:
    with pytest.raises(BadUpdate, match="not UTF-8"):
        read_var_string(string(raw), 0)


@fixed
@given(st.dictionaries(clients, clocks, max_size=20))
def test_state_vectors_come_back(vector: dict[int, int]) -> None:
    raw = encode_state_vector(vector)
    assert decode_state_vector(raw) == vector
    assert list(decode_state_vector(raw)) == sorted(vector, reverse=True)


def test_clients_at_clock_zero_are_left_out() -> None:
    assert encode_state_vector({5: 0, 6: 1}) == b"\x01\x06\x01"


def test_an_engines_state_vector_is_read_and_ours_is_read_by_the_engine() -> None:
    document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc(client_id=77)
    document.get("t", type=pycrdt.Text).insert(0, "hello")
    assert decode_state_vector(document.get_state()) == {77: 5}
    assert document.get_update(encode_state_vector({77: 5})) == b"\x00\x00"


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "cut off"),
        (b"\x01", "announces 1 clients in 0 bytes"),
        (number(2**40) + b"\x01\x01", "announces"),
        (b"\x02\x01\x01\x01\x02", "names client 1 twice, at offset 3"),
        (b"\x01\x01" + number(MAX_CLOCK + 1), "out of bounds at offset 1"),
        (b"\x01\x01\x01\x00", "1 bytes follow"),
    ],
)
def test_bad_state_vectors_are_refused(raw: bytes, complaint: str) -> None:
    with pytest.raises(BadUpdate, match=complaint):
        decode_state_vector(raw)


def test_awareness_comes_back_and_an_engine_reads_it() -> None:
    states = [
        AwarenessState(7, 3, '{"user":{"name":"Zoë 📊"}}'),
        AwarenessState(2**53 - 1, 0, None),
    ]
    raw = encode_awareness(states)
    assert decode_awareness(raw) == states
    awareness = pycrdt.Awareness(pycrdt.Doc())
    awareness.apply_awareness_update(raw, "test")
    assert awareness.states[7] == {"user": {"name": "Zoë 📊"}}


def test_an_engines_awareness_is_read() -> None:
    awareness = pycrdt.Awareness(pycrdt.Doc(client_id=9))
    awareness.set_local_state({"a": 1})
    (state,) = decode_awareness(awareness.encode_awareness_update([9]))
    assert (state.client_id, state.state) == (9, '{"a":1}')


def _entry(text: str | bytes, client: int = 1, clock: int = 1) -> bytes:
    return number(client) + number(clock) + string(text)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"\x01", "announces 1 states"),
        (number(2**50), "announces"),
        (b"\x01" + _entry("[]"), "neither an object nor null"),
        (b"\x01" + _entry("1"), "neither an object nor null"),
        (b"\x01" + _entry("{"), "offset 3: the JSON"),
        (b"\x01" + _entry(b"\xff"), "not UTF-8"),
        (b"\x01" + _entry('{"a":' + "[" * 70), "deeper than 64"),
        (b"\x01" + _entry("{}", clock=2**40), "clock at offset 1"),
        (b"\x02" + _entry("{}") + _entry("{}"), "names client 1 twice"),
        (b"\x01" + _entry("{}") + b"\x00", "bytes follow"),
        (number(MAX_AWARENESS_STATES + 1) + _entry("{}") * (MAX_AWARENESS_STATES + 1), "states,"),
        (bytes(MAX_AWARENESS_BYTES + 1), "bytes, 65536 are allowed"),
    ],
)
def test_bad_awareness_is_refused(raw: bytes, complaint: str) -> None:
    with pytest.raises(BadUpdate, match=complaint):
        decode_awareness(raw)


def test_awareness_cut_off_anywhere_is_refused() -> None:
    raw = encode_awareness([AwarenessState(300, 1, '{"a":"ü"}'), AwarenessState(2, 200, None)])
    for end in range(len(raw)):
        with pytest.raises(BadUpdate):
            decode_awareness(raw[:end])
