"""What every engine does behind the port: one suite, whichever library is below.

What one engine does beyond it is in ``tests/unit/crdt``.
"""

from __future__ import annotations

import gc
import json
import random
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from collab.crdt.engines import make_replica
from collab.errors import BadUpdate, Closed, TooLarge, WrongThread
from collab.protocol.update import Coverage, decode_state_vector, encode_state_vector, walk
from collab.text import Delete, Insert, Retain, Text, TextChanged
from tests.contract.engines import ENGINES, Device


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(engine: str) -> Callable[..., Device]:
    return partial(Device, engine)


@pytest.fixture
def device(make: Callable[..., Device]) -> Device:
    return make(content="你好世界")


# --- text by Python indices -----------------------------------------------------------------------


def test_insert_into_chinese_lands_where_python_says(device: Device) -> None:
    device.text.insert(2, "X")
    assert str(device.text) == "你好X世界"


def test_delete_in_chinese_deletes_what_python_says(device: Device) -> None:
    device.text.delete(1, 2)
    assert str(device.text) == "你界"


def test_an_astral_character_counts_as_one(make: Callable[..., Device]) -> None:
    text = make(content="a📊b").text
    assert len(text) == 3
    text.delete(1, 1)
    assert str(text) == "ab"


def test_replace_is_one_update_and_lands_where_python_says(device: Device) -> None:
    sent = len(device.sent)
    device.text.replace(1, 2, "é𝄞x")
    assert str(device.text) == "你é𝄞x界"
    assert len(device.sent) == sent + 1


@pytest.mark.parametrize(
    "content",
    [
        "",
        "ascii only",
        "\0",
        "\ufffc\uffff",
        "👩\u200d👧e\u0301",
        "\U0010ffff\U00010000",
        "عربى",
        "क्षि",
    ],
)
def test_any_character_comes_back_as_it_went_in(make: Callable[..., Device], content: str) -> None:
    device = make(content=content)
    assert str(device.text) == content
    other = make(2)
    other.replica.apply(device.replica.snapshot())
    assert (str(other.text), len(other.text)) == (content, len(content))


@pytest.mark.parametrize("seed", range(8))
def test_random_edits_on_all_planes_do_what_a_str_does(
    make: Callable[..., Device], seed: int
) -> None:
    rng = random.Random(seed)
    planes = [
        chr(0x41),
        chr(0xE9),
        chr(0x4E16),
        chr(0xFFFF),
        *map(chr, range(0x10000, 0x110000, 0x10000)),
    ]
    device, expected = make(), ""
    for _ in range(120):
        at = rng.randint(0, len(expected))
        length = min(rng.randint(0, 4), len(expected) - at)
        word = "".join(rng.choices(planes, k=rng.randint(1, 4)))
        match rng.randrange(4):
            case 0 | 1:
                device.text.insert(at, word)
                expected = expected[:at] + word + expected[at:]
            case 2:
                device.text.delete(at, length)
                expected = expected[:at] + expected[at + length :]
            case 3:
                device.text.replace(at, length, word)
                expected = expected[:at] + word + expected[at + length :]
        assert (str(device.text), len(device.text)) == (expected, len(expected))
    other = make(2)
    for update in device.sent:
        walk(update)
        other.replica.apply(update)
    assert str(other.text) == expected


def test_reading_works_like_a_str(device: Device) -> None:
    text = device.text
    assert (text[0], text[-1], text[1:3], text[::-1]) == ("你", "界", "好世", "界世好你")
    assert "好世" in text
    assert "x" not in text
    with pytest.raises(IndexError):
        text[4]


def test_append_and_clear(device: Device) -> None:
    device.text.append("!")
    assert str(device.text) == "你好世界!"
    device.text.clear()
    assert (str(device.text), len(device.text)) == ("", 0)


def test_an_embed_counts_as_one_and_reads_as_an_object_character(device: Device) -> None:
    device.text.insert_embed(1, {"image": "a.png"})
    device.text.insert_embed(0, [1, {"of": ("a", "tuple")}])
    assert str(device.text) == "\ufffc你\ufffc好世界"
    assert len(device.text) == 6
    device.text.insert(3, "-")
    device.text.delete(2, 1)
    assert str(device.text) == "\ufffc你-好世界"


def test_an_embed_in_an_open_transaction_is_read_in_its_place(device: Device) -> None:
    device.text.insert_embed(1, {"x": 1})
    assert str(device.text) == "你\ufffc好世界"
    with device.replica.transaction():
        device.text.insert(0, "a")
        assert str(device.text) == "a你\ufffc好世界"
        device.text.delete(2, 1)
        device.text.insert_embed(5, {"y": 1})
        assert str(device.text) == "a你好世界\ufffc"
    assert str(device.text) == "a你好世界\ufffc"


def test_formats_have_no_length_and_are_taken_over_by_what_is_inserted(device: Device) -> None:
    device.text.format(1, 2, {"bold": True})
    device.text.insert(2, "X")
    device.text.insert(0, "Y", {"italic": True})
    device.text.insert(3, "Z", {})
    assert str(device.text) == "Y你好ZX世界"
    device.text.format(0, 7, {"bold": None, "italic": None})
    events = device.record()
    device.text.insert(3, "-")
    device.run()
    assert events[0].delta == (Retain(3), Insert("-"))


def test_a_name_gives_the_same_text_every_time(device: Device) -> None:
    assert device.replica.text("body") is device.text
    assert device.replica.text("other") is not device.text
    assert device.text.identity == ("body",)
    assert str(device.replica.text("other")) == ""


@pytest.mark.parametrize("bad", [3, None, b"name", object()])
def test_a_text_of_no_name_is_a_type_error(device: Device, bad: Any) -> None:
    with pytest.raises(TypeError):
        device.replica.text(bad)


def test_a_text_that_came_before_it_was_asked_for_is_read_whole(
    make: Callable[..., Device],
) -> None:
    writer, reader = make(), make(2)
    late = writer.replica.text("late")
    late.insert(0, "𝄞é́a")
    late.insert_embed(1, {"x": 1})
    reader.replica.apply(writer.replica.snapshot())
    text = reader.replica.text("late")
    text.insert(2, "|")
    assert str(text) == "𝄞\ufffc|é́a"


# --- checks, before anything is changed -----------------------------------------------------------

CHECKS: list[tuple[Callable[[Text], object], type[Exception]]] = [
    (lambda t: t.insert(5, "x"), IndexError),
    (lambda t: t.insert(-1, "x"), IndexError),
    (lambda t: t.insert(2**70, "x"), IndexError),
    (lambda t: t.delete(4, 1), IndexError),
    (lambda t: t.delete(0, -1), ValueError),
    (lambda t: t.delete(1, 4), IndexError),
    (lambda t: t.replace(3, 2, "x"), IndexError),
    (lambda t: t.replace(0, 1, "\ud800"), ValueError),
    (lambda t: t.format(3, 2, {"b": 1}), IndexError),
    (lambda t: t.insert_embed(9, {"x": 1}), IndexError),
    (lambda t: t.insert(0, "a\ud83d"), ValueError),
    (lambda t: t.insert("0", "x"), TypeError),  # type: ignore[arg-type]
    (lambda t: t.insert(0, b"x"), TypeError),  # type: ignore[arg-type]
    (lambda t: t.insert(0, "x", [1]), TypeError),  # type: ignore[arg-type]
    (lambda t: t.insert_embed(0, "a string"), TypeError),
    (lambda t: t.insert_embed(0, None), TypeError),
    (lambda t: t.insert(5, ""), IndexError),
]


@pytest.mark.parametrize(("act", "error"), CHECKS)
def test_a_wrong_argument_raises_before_anything_is_changed(
    device: Device, act: Callable[[Text], object], error: type[Exception]
) -> None:
    sent = len(device.sent)
    with pytest.raises(error):
        act(device.text)
    assert str(device.text) == "你好世界"
    assert len(device.sent) == sent
    device.text.insert(2, "|")
    assert str(device.text) == "你好|世界"


BAD_VALUES: list[tuple[Any, type[Exception]]] = [
    (object(), TypeError),
    (b"bytes", TypeError),
    ({1: 2}, TypeError),
    ({"a": {1, 2}}, TypeError),
    ({"\ud800": 1}, ValueError),
    (2**63, ValueError),
    (float("nan"), ValueError),
    (json.loads("[" * 70 + "]" * 70), TooLarge),
]


@pytest.mark.parametrize(("value", "error"), BAD_VALUES)
def test_what_is_not_json_is_refused_before_the_engine_sees_it(
    device: Device, value: Any, error: type[Exception]
) -> None:
    acts: list[Callable[[], object]] = [
        lambda: device.text.insert_embed(1, value),
        lambda: device.text.insert_embed(1, {"x": 1}, {"k": value}),
        lambda: device.text.insert(1, "é", {"k": value}),
        lambda: device.text.format(1, 1, {"k": value}),
    ]
    for act in acts:
        with pytest.raises(error, match=r"(?i)nothing was changed"):
            act()
    device.text.insert(1, "|")
    assert str(device.text) == "你|好世界"


@pytest.mark.parametrize("value", [-(2**53), 1.5, True, [], {}, [None, {"k": "ü𝄞"}]])
def test_a_json_value_reaches_other_devices_as_it_is(
    make: Callable[..., Device], value: object
) -> None:
    device, other = make(content="ab"), make(2)
    events = other.record()
    device.text.insert_embed(1, value, {"k": value})
    for update in device.sent:
        other.replica.apply(update)
    other.run()
    assert events[-1].delta[-1] == Insert(value, {"k": value}, embed=True)


def test_edits_of_nothing_are_no_update(device: Device) -> None:
    sent = len(device.sent)
    device.text.insert(0, "")
    device.text.delete(4, 0)
    device.text.format(0, 0, {"b": 1})
    device.text.format(0, 1, {})
    assert len(device.sent) == sent


# --- events -------------------------------------------------------------------------------------


def test_an_event_comes_after_the_transaction_with_its_delta_in_indices(device: Device) -> None:
    events = device.record()
    with device.replica.transaction("paste"):
        device.text.insert(1, "𝄞")
        device.text.delete(3, 1)
        device.run()
        assert events == []
    device.run()
    assert events == [
        TextChanged((Retain(1), Insert("𝄞"), Retain(1), Delete(1)), local=True, origin="paste")
    ]


def test_a_remote_change_is_an_event_that_is_not_local(make: Callable[..., Device]) -> None:
    device, other = make(content="𝄞好世界"), make(2)
    other.replica.apply(device.replica.snapshot())
    events = device.record()
    with other.replica.transaction("theirs"):
        other.text.replace(1, 2, "X")
    device.replica.apply(other.sent[-1])
    device.run()
    (event,) = events
    assert (event.local, event.origin) == (False, None)
    assert event.apply_to("𝄞好世界") == "𝄞X界"


def test_formats_and_embeds_are_in_deltas(device: Device) -> None:
    events = device.record()
    device.text.format(1, 2, {"bold": True})
    device.text.insert_embed(4, {"x": "y"})
    device.run()
    assert events[0].delta == (Retain(1), Retain(2, {"bold": True}))
    assert events[1].delta == (Retain(4), Insert({"x": "y"}, embed=True))


def test_a_callback_may_edit_and_one_that_raises_harms_no_other(device: Device) -> None:
    def once(event: TextChanged) -> None:
        if len(device.text) < 8:
            device.text.append("好")

    def fail(event: TextChanged) -> None:
        raise KeyError(event.delta)

    device.text.observe(fail)
    device.text.observe(once)
    device.text.insert(0, "!")
    assert {type(error) for error in device.run()} == {KeyError}
    assert str(device.text) == "!你好世界好好好"


def test_a_closed_subscription_gets_nothing_not_even_what_was_on_its_way(device: Device) -> None:
    events: list[TextChanged] = []
    subscription = device.text.observe(events.append)
    device.text.insert(0, "x")
    subscription.close()
    subscription.close()
    device.run()
    device.text.insert(0, "y")
    device.run()
    assert events == []


def test_observing_inside_a_transaction_begins_with_all_that_it_did(device: Device) -> None:
    replayed = ["你好世界"]

    def follow(event: TextChanged) -> None:
        replayed.append(event.apply_to(replayed[-1]))

    with device.replica.transaction():
        device.text.insert(0, "é")
        device.text.delete(2, 2)
        device.text.observe(follow)
        device.text.insert(1, "x")
    device.run()
    device.text.insert(0, "y")
    device.run()
    assert replayed[1:] == ["éx你界", "yéx你界"]


@pytest.mark.parametrize("seed", range(6))
def test_replaying_all_events_gives_the_text(make: Callable[..., Device], seed: int) -> None:
    rng = random.Random(seed)
    devices = [make(1), make(2)]
    replayed = ["", ""]
    for number, device in enumerate(devices):

        def follow(event: TextChanged, number: int = number) -> None:
            replayed[number] = event.apply_to(replayed[number])

        device.text.observe(follow)
    read = [0, 0]
    for _ in range(60):
        number = rng.randrange(2)
        device, other = devices[number], devices[1 - number]
        with device.replica.transaction():
            for _ in range(rng.randint(1, 3)):
                at = rng.randint(0, len(device.text))
                length = min(rng.randint(0, 3), len(device.text) - at)
                match rng.randrange(5):
                    case 0 | 1:
                        device.text.insert(at, rng.choice(["a", "é好", "𝄞", "👩\u200d👧"]))
                    case 2:
                        device.text.delete(at, length)
                    case 3:
                        device.text.format(at, length, {"b": rng.choice([True, None])})
                    case 4:
                        device.text.insert_embed(at, {"n": 1})
        if rng.random() < 0.5:
            for update in other.sent[read[number] :]:
                device.replica.apply(update)
            read[number] = len(other.sent)
        assert device.run() == []
        assert replayed[number] == str(device.text)


# --- transactions -------------------------------------------------------------------------------


def test_a_transaction_is_one_update_and_nested_ones_join_it(device: Device) -> None:
    sent = len(device.sent)
    with device.replica.transaction():
        device.text.insert(0, "a")
        with device.replica.transaction("ignored"):
            device.text.insert(1, "b")
            device.replica.text("other").insert(0, "c")
        assert str(device.text) == "ab你好世界"
        assert len(device.sent) == sent
    assert len(device.sent) == sent + 1


def test_a_failed_transaction_keeps_what_was_edited(device: Device) -> None:
    sent = len(device.sent)

    def fail() -> None:
        with device.replica.transaction():
            device.text.insert(0, "kept")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert str(device.text) == "kept你好世界"
    assert len(device.sent) == sent + 1
    assert not device.replica.in_transaction


def test_an_empty_transaction_and_reading_are_no_update(device: Device) -> None:
    sent = len(device.sent)
    with device.replica.transaction():
        pass
    device.replica.text("another")
    device.replica.snapshot()
    device.replica.state_vector()
    assert len(device.sent) == sent


def test_remote_updates_are_refused_inside_a_transaction(device: Device) -> None:
    with device.replica.transaction():
        assert device.replica.in_transaction
        with pytest.raises(RuntimeError, match="waits"):
            device.replica.apply(b"\x00\x00")
    assert not device.replica.in_transaction


def test_who_waits_for_idle_is_called_at_once_or_after_the_transaction(device: Device) -> None:
    calls: list[str] = []
    device.replica.call_when_idle(lambda: calls.append("now"))
    with device.replica.transaction():
        device.replica.call_when_idle(lambda: calls.append("later"))
        device.replica.call_when_idle(lambda: calls.append("last"))
        device.run()
        assert calls == ["now"]
    device.run()
    assert calls == ["now", "later", "last"]


def test_who_waits_for_idle_waits_for_the_next_transaction_too(device: Device) -> None:
    calls: list[bool] = []
    with device.replica.transaction():
        device.replica.call_when_idle(lambda: calls.append(device.replica.in_transaction))
    with device.replica.transaction():
        device.run()
        assert calls == []
    device.run()
    assert calls == [False]


# --- updates -----------------------------------------------------------------------------------


def test_a_remote_update_is_not_reported_as_local(make: Callable[..., Device]) -> None:
    device, other = make(content="hi"), make(2)
    other.replica.apply(device.sent[0])
    assert str(other.text) == "hi"
    assert other.sent == []


def test_a_known_update_changes_nothing_and_is_no_event(make: Callable[..., Device]) -> None:
    device, other = make(content="hi"), make(2)
    other.replica.apply(device.sent[0])
    events = other.record()
    other.replica.apply(device.sent[0])
    other.replica.apply(device.replica.snapshot())
    other.run()
    assert (str(other.text), events) == ("hi", [])


def test_what_on_local_raises_goes_to_the_loop_and_not_into_the_edit(engine: str) -> None:
    turn: list[Callable[[], None]] = []

    def fail(update: bytes) -> None:
        raise OSError("disk")

    replica = make_replica(1, engine=engine, call_soon=turn.append, on_local=fail)
    replica.text("t").insert(0, "kept")
    assert str(replica.text("t")) == "kept"
    with pytest.raises(OSError, match="disk"):
        turn.pop()()


@pytest.mark.parametrize("garbage", [b"", b"\x01", b"\xff" * 20, b"\x01\x01\x01\x00\xff"])
def test_garbage_is_a_bad_update_and_leaves_the_document(device: Device, garbage: bytes) -> None:
    with pytest.raises(BadUpdate, match="keeps what it had"):
        device.replica.apply(garbage)
    assert str(device.text) == "你好世界"
    device.text.insert(1, "x")
    assert str(device.text) == "你x好世界"


@pytest.mark.parametrize("garbage", [b"\xff\xff", b"\x01"])
def test_a_bad_state_vector_is_a_bad_update(device: Device, garbage: bytes) -> None:
    with pytest.raises(BadUpdate):
        device.replica.difference(garbage)


def test_a_difference_brings_a_replica_up_to_date(make: Callable[..., Device]) -> None:
    device, other = make(content="one"), make(2)
    other.replica.apply(device.replica.snapshot())
    known = other.replica.state_vector()
    device.text.append(" two𝄞")
    device.text.delete(0, 1)
    other.replica.apply(device.replica.difference(known))
    assert str(other.text) == "ne two𝄞"
    assert other.replica.state_vector() == device.replica.state_vector()


def test_a_difference_at_an_equal_state_vector_still_has_the_deletions(
    make: Callable[..., Device],
) -> None:
    device, other = make(content="one"), make(2)
    other.replica.apply(device.replica.snapshot())
    device.text.delete(0, 1)
    assert other.replica.state_vector() == device.replica.state_vector()
    other.replica.apply(device.replica.difference(other.replica.state_vector()))
    assert str(other.text) == "ne"


def test_a_difference_for_who_knows_more_is_no_harm(make: Callable[..., Device]) -> None:
    device, other = make(content="one"), make(2)
    other.replica.apply(device.replica.snapshot())
    device.text.append("more")
    device.replica.apply(other.replica.difference(device.replica.state_vector()))
    assert str(device.text) == "onemore"


def test_a_difference_for_somebody_with_a_large_client_id_leaves_nothing_out(
    make: Callable[..., Device],
) -> None:
    device, other = make(5, content="one"), make(6)
    lookalike = 2**32 + 5  # cut off to 32 bits it would be this device's own
    other.replica.apply(device.replica.difference(encode_state_vector({lookalike: 3})))
    assert str(other.text) == "one"


def test_state_vectors_and_snapshots_are_what_the_guard_reads(device: Device) -> None:
    device.text.insert_embed(2, {"x": [1]})
    device.text.format(0, 3, {"b": True})
    device.text.delete(1, 1)
    coverage = Coverage.from_update(device.replica.snapshot())
    assert decode_state_vector(device.replica.state_vector()) == coverage.clocks


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_merged_updates_say_what_all_of_them_say(make: Callable[..., Device], count: int) -> None:
    device, other = make(), make(2)
    for number in range(count):
        device.text.insert(number // 2, chr(0x1D100 + number))
    merged = device.replica.merge(device.sent)
    walk(merged)
    other.replica.apply(merged)
    assert str(other.text) == str(device.text)


def test_merging_garbage_is_a_bad_update(device: Device) -> None:
    with pytest.raises(BadUpdate):
        device.replica.merge([b"\xff\xff", b"\x00\x00"])


@pytest.mark.parametrize("seed", range(20))
def test_any_causal_order_gives_the_same_text(make: Callable[..., Device], seed: int) -> None:
    rng = random.Random(seed)
    authors = [make(rng.getrandbits(32)) for _ in range(3)]
    log: list[tuple[int, bytes]] = []
    read = [0, 0, 0]
    for _ in range(60):
        number = rng.randrange(3)
        author = authors[number]
        if rng.random() < 0.4:
            for source, update in log[read[number] :]:
                if source != number:
                    author.replica.apply(update)
            read[number] = len(log)
        at = rng.randint(0, len(author.text))
        if rng.random() < 0.7:
            author.text.insert(at, rng.choice(["a", "𝄞好", "xyz"]))
        else:
            author.text.delete(at, min(2, len(author.text) - at))
        log += [(number, update) for update in author.sent]
        author.sent.clear()
    reader = make(7)
    for _, update in log:
        reader.replica.apply(update)
    other = make(8)
    coverage, waiting = Coverage(), [update for _, update in log]
    while waiting:  # in an order of its own, in which everything comes after what it needs
        fits = [u for u in waiting if coverage.fit(walk(u)).name != "EARLY"]
        update = rng.choice(fits)
        coverage.add(walk(update))
        other.replica.apply(update)
        waiting.remove(update)
    assert str(other.text) == str(reader.text)
    vectors = [each.replica.state_vector() for each in (reader, other)]
    assert decode_state_vector(vectors[0]) == decode_state_vector(vectors[1])


# --- threads, and the end -----------------------------------------------------------------------


def _in_thread(fn: Callable[[], object]) -> list[BaseException]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            fn()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors


def test_another_thread_is_refused_with_advice(device: Device) -> None:
    text, replica = device.text, device.replica
    sent = len(device.sent)
    acts: list[Callable[[], object]] = [
        lambda: replica.transaction().__enter__(),
        lambda: text.insert(0, "x"),
        lambda: str(text),
        lambda: len(text),
        lambda: text.observe(print),
        lambda: replica.apply(b"\x00\x00"),
        lambda: replica.text("body"),
        replica.snapshot,
        replica.state_vector,
    ]
    for act in acts:
        (error,) = _in_thread(act)
        assert isinstance(error, WrongThread)
        assert "client.call_soon(fn)" in str(error)
    assert len(device.sent) == sent


def test_a_closed_replica_is_closed_for_everything(device: Device) -> None:
    text, replica = device.text, device.replica
    replica.close()
    replica.close()
    assert replica.closed
    assert not replica.in_transaction
    acts: list[Callable[[], object]] = [
        lambda: text.insert(0, "x"),
        lambda: str(text),
        lambda: len(text),
        lambda: replica.text("body"),
        lambda: replica.apply(b"\x00\x00"),
        replica.snapshot,
        lambda: replica.transaction().__enter__(),
        lambda: replica.undo([text], 500, lambda: 0.0),
    ]
    for act in acts:
        with pytest.raises(Closed):
            act()


def test_a_replica_is_not_closed_inside_a_transaction(device: Device) -> None:
    with device.replica.transaction(), pytest.raises(RuntimeError, match="after"):
        device.replica.close()
    device.text.insert(0, "open")


def test_a_closed_replica_is_freed_with_its_document_and_texts(make: Callable[..., Device]) -> None:
    device = make(content="你")
    device.text.observe(partial(print, device))
    gone = [weakref.ref(it) for it in (device.replica, device.replica.document, device.text)]
    device.replica.close()
    del device
    gc.collect()
    assert [it() for it in gone] == [None] * 3


def test_a_replica_that_nobody_closed_is_freed_too(make: Callable[..., Device]) -> None:
    device = make(content="你")
    device.text.observe(partial(print, device))  # a callback that holds it
    gone = [weakref.ref(it) for it in (device.replica, device.replica.document, device.text)]
    del device
    gc.collect()
    assert [it() for it in gone] == [None] * 3
