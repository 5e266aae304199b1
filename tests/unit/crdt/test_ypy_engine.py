"""The replica on y-py: what it refuses because y-py would spoil it, raw edits, and its threads."""

from __future__ import annotations

import gc
import random
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pycrdt
import pytest

from collab.errors import BadUpdate, Unsupported, WrongThread
from collab.protocol.update import walk
from collab.text import Insert, Retain
from tests.contract.engines import Device

if sys.version_info >= (3, 13):
    pytest.skip("y-py cannot be installed on Python 3.13 and newer", allow_module_level=True)

import y_py

from collab.crdt.replica import Replica
from collab.crdt.ypy_engine import YpyReplica


@pytest.fixture
def device() -> Device:
    return Device("y-py", content="你好世界")


def raw(device: Device) -> Any:
    """The engine's own document."""
    return device.replica.document


def foreign(client_id: int = 7) -> pycrdt.Doc[Any]:
    """A document of somebody else."""
    return pycrdt.Doc(client_id=client_id)


def test_it_is_a_replica_and_its_document_is_ypys(device: Device) -> None:
    replica: Replica = device.replica
    assert isinstance(replica, YpyReplica)
    assert isinstance(raw(device), y_py.YDoc)
    assert replica.client_id == replica.document.client_id == 1


@pytest.mark.parametrize("client_id", [-1, 2**32, 2**53])
def test_a_client_id_of_its_own_is_of_32_bits(client_id: int) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        YpyReplica(client_id=client_id, call_soon=print, on_local=print)


def test_the_largest_client_id_of_32_bits_is_held() -> None:
    device = Device("y-py", 2**32 - 1, content="𝄞")
    other = Device("y-py", 0)
    other.replica.apply(device.sent[0])
    other.text.append("!")
    assert str(other.text) == "𝄞!"
    assert walk(other.sent[0]).ranges == ((0, 0, 1),)


# --- what never reaches y-py ---------------------------------------------------------------------


def large_ids() -> dict[str, bytes]:
    """Updates that name a client above 32 bits, each in another place."""
    large, small = foreign(2**32 + 1), foreign(7)
    text = large.get("body", type=pycrdt.Text)
    text.insert(0, "hello")
    written = large.get_update()
    small.apply_update(written)
    known = small.get_state()
    small.get("body", type=pycrdt.Text).insert(2, "x")
    beside = small.get_update(known)
    del text[0:1]
    return {"written": written, "beside": beside, "deleted": large.get_update(large.get_state())}


def test_ypy_still_cuts_large_ids_off_or_this_rule_could_go() -> None:
    bare = y_py.YDoc(client_id=1)
    y_py.apply_update(bare, large_ids()["written"])
    back = foreign(2**32 + 1)
    back.apply_update(large_ids()["written"])
    back.apply_update(y_py.encode_state_as_update(bare))
    assert str(back.get("body", type=pycrdt.Text)) == "hellohello"


@pytest.mark.parametrize("where", ["written", "beside", "deleted"])
def test_an_update_with_a_client_id_above_32_bits_never_reaches_ypy(
    device: Device, where: str
) -> None:
    state = device.replica.snapshot()
    with pytest.raises(Unsupported, match=r"4294967297.*32 bits.*engine='pycrdt'"):
        device.replica.apply(large_ids()[where])
    assert device.replica.snapshot() == state
    device.text.insert(0, "still here: ")
    assert str(device.text) == "still here: 你好世界"


def nested() -> dict[str, bytes]:
    """Updates with what y-py cannot merge or hold."""
    updates: dict[str, bytes] = {}
    values: dict[str, Any] = {
        "map": pycrdt.Map({"k": 1}),
        "array": pycrdt.Array([1]),
        "text": pycrdt.Text("deep"),
        "subdocument": pycrdt.Doc(),
    }
    for kind, value in values.items():
        document = foreign()
        document.get("m", type=pycrdt.Map)["k"] = value
        updates[kind] = document.get_update()
    document = foreign()
    document.get("body", type=pycrdt.Text).insert_embed(0, pycrdt.Map())
    updates["embed"] = document.get_update()
    document = foreign()
    document.get("x", type=pycrdt.XmlFragment).children.append(pycrdt.XmlElement("p"))
    updates["xml"] = document.get_update()
    document = foreign()
    inner: pycrdt.Map[Any] = pycrdt.Map()
    document.get("m", type=pycrdt.Map)["k"] = inner
    known = document.get_state()
    inner["only"] = "this"
    updates["inside"] = document.get_update(known)
    return updates


@pytest.mark.parametrize("kind", nested())
def test_an_update_that_is_not_flat_never_reaches_ypy(device: Device, kind: str) -> None:
    state = device.replica.snapshot()
    with pytest.raises(Unsupported, match=r"neither applied nor stored.*engine='pycrdt'"):
        device.replica.apply(nested()[kind])
    assert device.replica.snapshot() == state


def test_what_is_left_of_deleted_shared_types_is_held(device: Device) -> None:
    document = foreign()
    root, array = document.get("m", type=pycrdt.Map), document.get("a", type=pycrdt.Array)
    root["k"] = pycrdt.Map({"deep": pycrdt.Text("x")})
    array.append(pycrdt.Array([1, 2]))
    del root["k"]
    del array[0]
    root["k"] = "plain"
    device.replica.apply(document.get_update())
    assert dict(raw(device).get_map("m").items()) == {"k": "plain"}
    twin: pycrdt.Doc[Any] = pycrdt.Doc()
    twin.apply_update(device.replica.snapshot())
    assert twin.get("m", type=pycrdt.Map).to_py() == {"k": "plain"}


def test_an_update_that_comes_too_early_is_refused_and_fits_later(device: Device) -> None:
    writer = Device("pycrdt", 2)
    writer.replica.apply(device.replica.snapshot())
    for place in (0, 1, 4):
        writer.text.insert(place, "x")
    writer.text.delete(0, 1)
    first, second, third, gone = writer.sent
    for early in (second, third, gone):
        with pytest.raises(BadUpdate, match=r"too early"):
            device.replica.apply(early)
    assert str(device.text) == "你好世界"
    for update in (first, second, third, gone):
        device.replica.apply(update)
    assert str(device.text) == str(writer.text)


def test_an_update_with_skips_is_cut_before_ypy_sees_it() -> None:
    rng = random.Random(4)
    writer = Device("pycrdt", 2)
    for _ in range(20):
        writer.text.insert(rng.randint(0, len(writer.text)), rng.choice(["a", "𝄞", "你"]))
    merged = writer.replica.merge([writer.sent[0], writer.sent[19]])
    assert walk(merged).has_skips
    device = Device("y-py")
    for update in writer.sent[:19]:
        device.replica.apply(update)
    device.replica.apply(merged)
    assert str(device.text) == str(writer.text)
    assert walk(device.replica.snapshot()).ranges == walk(writer.replica.snapshot()).ranges


# --- what it cannot do ---------------------------------------------------------------------------


def test_what_ypy_cannot_do_says_what_can(device: Device) -> None:
    text = device.text
    place = text.relative_position_from_json({"tname": "body", "assoc": 0})
    acts: list[Callable[[], object]] = [
        lambda: device.replica.undo([text], 500, lambda: 0.0),
        lambda: text.relative_position(1),
        lambda: place.index,
        lambda: device.replica.text(raw(device).get_text("body")),
        lambda: text.insert_embed(0, y_py.YMap({"k": 1})),
        lambda: text.insert_embed(0, y_py.YText("inner")),
        lambda: text.insert_embed(0, pycrdt.Map()),
    ]
    for act in acts:
        with pytest.raises(Unsupported, match=r"nothing was changed.*engine='pycrdt'"):
            act()
    assert str(text) == "你好世界"


def test_a_name_that_holds_an_array_is_not_edited_as_text(device: Device) -> None:
    document = foreign()
    document["body"] = pycrdt.Array([1, 2])
    document["late"] = pycrdt.Array([3])
    device.replica.apply(document.get_update())
    for text in (device.text, device.replica.text("late")):
        with pytest.raises(Unsupported, match="nothing was changed"):
            text.insert(0, "x")


def test_a_foreign_embed_that_is_a_string_counts_as_one(device: Device) -> None:
    replayed = ["你好世界"]
    device.text.observe(lambda event: replayed.append(event.apply_to(replayed[-1])))
    document = foreign()
    document.apply_update(device.replica.snapshot())
    document.get("body", type=pycrdt.Text).insert_embed(3, "好世")
    device.replica.apply(document.get_update())
    assert str(device.text) == "你\ufffc好世界"
    device.text.insert(2, "|")  # before observers were told
    assert device.run() == []
    device.text.insert(0, "é")
    assert device.run() == []
    assert str(device.text) == replayed[-1] == "é你\ufffc|好世界"


def test_integers_beyond_doubles_are_kept_though_events_round_them(device: Device) -> None:
    device.text.insert_embed(1, 2**53 + 1)
    for engine, seen in (("y-py", 2.0**53), ("pycrdt", 2**53 + 1)):
        reader = Device(engine, 2)
        events = reader.record()
        reader.replica.apply(device.replica.snapshot())
        reader.run()
        (value,) = (op.content for op in events[0].delta if isinstance(op, Insert) and op.embed)
        assert value == seen


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_after_a_panic_nothing_of_the_room_is_believed(
    device: Device, capfd: pytest.CaptureFixture[str]
) -> None:
    shared: Any = device.text._shared
    with pytest.raises(Unsupported, match="y-py failed"):
        shared.delete(0, 99)  # past the checks of Text
    capfd.readouterr()  # the engine's own words
    acts: list[Callable[[], object]] = [
        lambda: str(device.text),
        lambda: device.text.insert(0, "x"),
        device.replica.snapshot,
        lambda: device.replica.apply(b"\x00\x00"),
    ]
    for act in acts:
        with pytest.raises(Unsupported, match="on the disk"):
            act()
    device.replica.close()


def test_an_update_that_ypy_gives_up_ends_the_replica_too(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(document: object, update: bytes) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(y_py, "apply_update", give_up)
    with pytest.raises(Unsupported, match="in the middle"):
        device.replica.apply(Device("y-py", 2, content="x").sent[0])
    with pytest.raises(Unsupported, match="on the disk"):
        str(device.text)


# --- raw edits -----------------------------------------------------------------------------------


def test_raw_edits_of_maps_arrays_and_texts_are_reported_like_ours(device: Device) -> None:
    document = raw(device)
    sent = len(device.sent)
    with document.begin_transaction() as txn:
        document.get_map("m").set(txn, "k", [1, {"z": None}])
        document.get_array("a").append(txn, "你")
        document.get_text("body").insert(txn, 2, "𝄞")
    document.transact(lambda txn: document.get_array("a").insert(txn, 0, "é"))
    assert len(device.sent) == sent + 2
    assert str(device.text) == "你好𝄞世界"
    twin = foreign(9)
    for update in device.sent:
        walk(update)
        twin.apply_update(update)
    assert twin.get("m", type=pycrdt.Map).to_py() == {"k": [1, {"z": None}]}
    assert twin.get("a", type=pycrdt.Array).to_py() == ["é", "你"]


def test_a_raw_edit_is_an_event_of_the_text(device: Device) -> None:
    events = device.record()
    with raw(device).begin_transaction() as txn:
        raw(device).get_text("body").insert(txn, 1, "𝄞")
    device.run()
    assert (events[0].delta, events[0].local) == ((Retain(1), Insert("𝄞")), True)


def test_no_two_transactions_are_open_at_once(device: Device) -> None:
    document = raw(device)
    with device.replica.transaction():
        device.text.insert(0, "a")
        with pytest.raises(RuntimeError, match="nothing was changed"):
            document.begin_transaction()
    with document.begin_transaction() as txn:
        document.get_map("m").set(txn, "k", 1)
        with pytest.raises(RuntimeError, match="nothing was changed"):
            device.text.insert(0, "b")
        with pytest.raises(RuntimeError, match="nothing was changed"):
            document.begin_transaction()
        with pytest.raises(RuntimeError, match="nothing was changed"):
            device.replica.transaction().__enter__()
        with pytest.raises(RuntimeError, match="waits"):
            device.replica.apply(b"\x00\x00")
        with pytest.raises(RuntimeError, match="after"):
            device.replica.close()
        assert device.replica.in_transaction
    assert not device.replica.in_transaction
    device.text.insert(0, "c")
    assert str(device.text) == "ca你好世界"


def test_who_waits_for_idle_is_called_after_a_raw_transaction_too(device: Device) -> None:
    calls: list[str] = []
    with raw(device).begin_transaction():
        device.replica.call_when_idle(lambda: calls.append("later"))
        device.run()
        assert calls == []
    device.run()
    assert calls == ["later"]


def test_a_raw_edit_that_ypy_will_not_open_again_is_told_at_once(device: Device) -> None:
    document = raw(device)
    with document.begin_transaction() as txn:
        document.get_map("m").set(txn, "k", y_py.YMap({"in": 1}))
    (error,) = device.run()
    assert isinstance(error, Unsupported)
    assert "saved and is sent" in str(error)


@pytest.mark.parametrize("engines", [("ours", "raw"), ("raw", "ours")])
def test_a_raw_observer_that_raises_keeps_no_update_and_no_event_from_us(
    device: Device, engines: tuple[str, str]
) -> None:
    document, replayed = raw(device), ["你好世界"]

    def fail(event: object) -> None:
        raise KeyError("theirs")

    for who in engines:
        if who == "raw":
            document.get_text("other").observe(fail)
            document.get_text("body").observe(fail)
        else:
            device.text.observe(lambda event: replayed.append(event.apply_to(replayed[-1])))
    sent = len(device.sent)
    device.text.insert(0, "a")
    with document.begin_transaction() as txn:
        document.get_text("body").insert(txn, 0, "b")
    device.replica.apply(Device("y-py", 2, content="c").sent[0])
    assert len(device.sent) == sent + 2
    assert not device.replica.in_transaction
    assert {type(error) for error in device.run()} == {KeyError}
    assert replayed[-1] == str(device.text)
    assert sorted(str(device.text)) == sorted("abc你好世界")


def test_a_closed_replica_no_longer_reports_raw_edits(device: Device) -> None:
    document, sent = raw(device), len(device.sent)
    device.replica.close()
    with document.begin_transaction() as txn:
        document.get_text("body").insert(txn, 0, "x")
    assert len(device.sent) == sent


# --- threads -------------------------------------------------------------------------------------


def in_thread(fn: Callable[[], object]) -> None:
    thread = threading.Thread(target=fn)
    thread.start()
    thread.join()


def test_a_raw_transaction_in_another_thread_is_refused_and_not_a_panic(device: Device) -> None:
    document = raw(device)
    errors: list[BaseException] = []

    def begin(act: Callable[[], object]) -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    for act in (document.begin_transaction, lambda: document.get_map("m")):
        in_thread(lambda act=act: begin(act))  # type: ignore[misc]
    assert [type(error) for error in errors] == [WrongThread, WrongThread]


def test_a_replica_collected_in_another_thread_lets_go_of_ypy_in_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            device = Device("y-py", content="lost in a cycle")
            device.text.observe(print)
            device.turn.append(lambda device=device: None)  # type: ignore[misc]
            del device
        in_thread(gc.collect)
    finally:
        gc.enable()
    Device("y-py").replica.close()
    assert complaints == []


def test_a_document_that_an_error_held_beyond_its_room_goes_in_its_own_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    gc.collect()
    gc.disable()
    try:
        device = Device("y-py")
        reference = weakref.ref(raw(device))
        with pytest.raises(Unsupported) as held:
            device.replica.apply(Device("pycrdt", 2**40, content="of a large id").sent[0])
        cycle: list[object] = [held, raw(device)]
        cycle.append(cycle)
        device.replica.close()
        del device, held, cycle
        assert reference() is not None
        in_thread(gc.collect)
    finally:
        gc.enable()
    Device("y-py").replica.close()
    assert reference() is None
    assert complaints == []
