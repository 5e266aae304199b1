"""The replica on pycrdt: updates, transactions, threads, and letting go."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from functools import partial

import pycrdt
import pytest

from collab.crdt.pycrdt_engine import REMOTE, PycrdtReplica
from collab.crdt.replica import Replica
from collab.errors import BadUpdate, Closed, WrongThread
from collab.text import TextChanged


class Bench:
    """A replica with its loop and its outgoing updates in lists."""

    def __init__(self, client_id: int = 1) -> None:
        self.turn: list[Callable[[], None]] = []
        self.sent: list[bytes] = []
        self.replica = PycrdtReplica(
            client_id=client_id, call_soon=self.turn.append, on_local=self.sent.append
        )

    def run(self) -> None:
        while self.turn:
            self.turn.pop(0)()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_it_is_a_replica(bench: Bench) -> None:
    replica: Replica = bench.replica
    assert replica.client_id == 1
    assert isinstance(replica.document, pycrdt.Doc)


# --- updates ---------------------------------------------------------------------------------


def test_a_local_edit_is_reported_as_one_update(bench: Bench) -> None:
    bench.replica.text("t").insert(0, "hi")
    assert len(bench.sent) == 1
    other = Bench(2)
    other.replica.apply(bench.sent[0])
    assert str(other.replica.text("t")) == "hi"


def test_a_raw_edit_of_the_document_is_reported_like_ours(bench: Bench) -> None:
    bench.replica.document["t"] = pycrdt.Text("raw")
    bench.replica.document.get("m", type=pycrdt.Map)["k"] = 1
    assert len(bench.sent) == 2


def test_a_remote_update_is_not_reported_as_local(bench: Bench) -> None:
    bench.replica.text("t").insert(0, "hi")
    other = Bench(2)
    other.replica.apply(bench.sent[0])
    assert other.sent == []


def test_what_on_local_raises_goes_to_the_loop_and_not_into_the_edit() -> None:
    turn: list[Callable[[], None]] = []

    def fail(update: bytes) -> None:
        raise OSError("disk")

    replica = PycrdtReplica(client_id=1, call_soon=turn.append, on_local=fail)
    replica.text("t").insert(0, "kept")
    assert str(replica.text("t")) == "kept"
    with pytest.raises(OSError, match="disk"):
        turn.pop()()


def test_garbage_is_a_bad_update_and_leaves_the_document(bench: Bench) -> None:
    text = bench.replica.text("t")
    text.insert(0, "你好")
    for garbage in (b"", b"\x01", b"\xff" * 20, b"\x01\x01\x01\x00\xff"):
        with pytest.raises(BadUpdate, match="keeps what it had"):
            bench.replica.apply(garbage)
    assert str(text) == "你好"
    text.insert(1, "x")
    assert str(text) == "你x好"


def test_a_bad_state_vector_is_a_bad_update(bench: Bench) -> None:
    with pytest.raises(BadUpdate):
        bench.replica.difference(b"\xff\xff")


def test_a_difference_brings_a_replica_up_to_date(bench: Bench) -> None:
    bench.replica.text("t").insert(0, "one")
    other = Bench(2)
    other.replica.apply(bench.replica.snapshot())
    known = other.replica.state_vector()
    bench.replica.text("t").append(" two")
    other.replica.apply(bench.replica.difference(known))
    assert str(other.replica.text("t")) == "one two"
    assert other.replica.state_vector() == bench.replica.state_vector()


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_merged_updates_say_what_all_of_them_say(bench: Bench, count: int) -> None:
    text = bench.replica.text("t")
    for number in range(count):
        text.append(chr(0x4E00 + number))
    other = Bench(2)
    other.replica.apply(PycrdtReplica.merge(bench.sent))
    assert str(other.replica.text("t")) == str(text)


def test_merging_garbage_is_a_bad_update() -> None:
    with pytest.raises(BadUpdate):
        PycrdtReplica.merge([b"\xff\xff", b"\x00\x00"])


def test_pycrdts_observers_see_which_updates_are_remote(bench: Bench) -> None:
    other = Bench(2)
    other.replica.text("t").insert(0, "x")
    origins: list[object] = []
    raw = bench.replica.document.get("t", type=pycrdt.Text)
    raw.observe(lambda event: origins.append(event.transaction.origin))
    bench.replica.apply(other.sent[0])
    raw.insert(0, "y")
    assert origins == [REMOTE, None]


# --- transactions ----------------------------------------------------------------------------


def test_a_transaction_is_one_update_and_nested_ones_join_it(bench: Bench) -> None:
    text = bench.replica.text("t")
    with bench.replica.transaction():
        text.insert(0, "a")
        with bench.replica.transaction("ignored"):
            text.insert(1, "b")
        bench.replica.document["u"] = pycrdt.Text("raw")
        assert bench.sent == []
    assert len(bench.sent) == 1
    assert str(text) == "ab"


def test_a_failed_transaction_keeps_what_was_edited(bench: Bench) -> None:
    text = bench.replica.text("t")

    def fail() -> None:
        with bench.replica.transaction():
            text.insert(0, "kept")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert str(text) == "kept"
    assert len(bench.sent) == 1
    assert not bench.replica.in_transaction


def test_an_empty_transaction_is_no_update(bench: Bench) -> None:
    with bench.replica.transaction():
        pass
    assert bench.sent == []


def test_remote_updates_are_refused_inside_a_transaction(bench: Bench) -> None:
    with bench.replica.transaction():
        assert bench.replica.in_transaction
        with pytest.raises(RuntimeError, match="waits"):
            bench.replica.apply(b"\x00\x00")
    assert not bench.replica.in_transaction


def test_who_waits_for_idle_is_called_at_once_or_after_the_transaction(bench: Bench) -> None:
    calls: list[str] = []
    bench.replica.call_when_idle(lambda: calls.append("now"))
    with bench.replica.transaction():
        bench.replica.call_when_idle(lambda: calls.append("later"))
        bench.replica.call_when_idle(lambda: calls.append("last"))
        bench.run()
        assert calls == ["now"]
    bench.run()
    assert calls == ["now", "later", "last"]


def test_who_waits_for_idle_is_called_after_a_raw_transaction_without_changes(
    bench: Bench,
) -> None:
    calls: list[str] = []
    document = bench.replica.document

    async def edit() -> None:
        async with document.new_transaction():
            assert bench.replica.in_transaction
            bench.replica.call_when_idle(lambda: calls.append("later"))
            await asyncio.sleep(0)
            bench.run()
            assert calls == []

    asyncio.run(edit())
    bench.run()
    assert calls == ["later"]


def test_who_waits_for_idle_may_open_a_transaction_before_the_others_run(bench: Bench) -> None:
    calls: list[bool] = []

    def apply() -> None:
        calls.append(bench.replica.in_transaction)

    with bench.replica.transaction():
        bench.replica.call_when_idle(apply)
        bench.replica.call_when_idle(apply)
    with bench.replica.transaction():
        bench.run()
        assert calls == []
    bench.run()
    assert calls == [False, False]


def test_a_remote_update_from_an_observer_of_pycrdt_is_refused(bench: Bench) -> None:
    errors: list[str] = []

    def observer(event: object) -> None:
        for act in (
            lambda: bench.replica.apply(b"\x00\x00"),
            lambda: bench.replica.text("t").insert(0, "x"),
            lambda: bench.replica.text("t").relative_position(0),
            bench.replica.state_vector,
        ):
            with pytest.raises(RuntimeError) as caught:
                act()
            errors.append(str(caught.value))

    text = bench.replica.text("t")
    raw = bench.replica.document.get("t", type=pycrdt.Text)
    subscription = raw.observe(observer)
    text.insert(0, "ascii")
    with bench.replica.transaction():
        text.insert(0, "二")
    assert len(errors) == 8
    raw.unobserve(subscription)
    text.insert(1, "!")
    assert str(text) == "二!ascii"


def test_a_text_can_be_read_in_an_observer_of_pycrdt(bench: Bench) -> None:
    text = bench.replica.text("t")
    seen: list[tuple[str, int]] = []
    raw = bench.replica.document.get("t", type=pycrdt.Text)
    raw.observe(lambda event: seen.append((str(text), len(text))))
    text.insert(0, "你")
    raw.insert(0, "好")
    assert seen == [("你", 1), ("好你", 2)]


def test_what_an_observer_of_pycrdt_raises_comes_out_of_the_edit_as_in_pycrdt(
    bench: Bench,
) -> None:
    text = bench.replica.text("t")

    def fail(event: object) -> None:
        raise KeyError

    raw = bench.replica.document.get("t", type=pycrdt.Text)
    raw.observe(fail)
    with pytest.raises(ExceptionGroup):
        text.insert(0, "kept")
    with pytest.raises(ExceptionGroup), bench.replica.transaction():
        text.insert(0, "too ")
    assert str(text) == "too kept"
    assert len(bench.sent) == 2


def test_what_an_observer_of_pycrdt_raises_does_not_come_out_of_apply(bench: Bench) -> None:
    other = Bench(2)
    other.replica.text("t").insert(0, "x")

    def fail(event: object) -> None:
        raise KeyError

    raw = bench.replica.document.get("t", type=pycrdt.Text)
    raw.observe(fail)
    bench.replica.apply(other.sent[0])
    with pytest.raises(ExceptionGroup):
        bench.run()


# --- threads ---------------------------------------------------------------------------------


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


def test_editing_from_another_thread_is_refused_with_advice(bench: Bench) -> None:
    text = bench.replica.text("t")

    def transact() -> None:
        with bench.replica.transaction():
            pass

    acts: list[Callable[[], object]] = [
        transact,
        lambda: text.insert(0, "x"),
        lambda: str(text),
        lambda: len(text),
        lambda: text.observe(print),
        lambda: bench.replica.apply(b"\x00\x00"),
        lambda: bench.replica.text("t"),
    ]
    for act in acts:
        (error,) = _in_thread(act)
        assert isinstance(error, WrongThread)
        assert "client.call_soon(fn)" in str(error)
    assert bench.sent == []


def test_a_raw_edit_from_another_thread_is_delivered_through_the_loop(bench: Bench) -> None:
    text = bench.replica.text("t")
    text.insert(0, "你")
    events: list[TextChanged] = []
    text.observe(events.append)
    raw = bench.replica.document.get("t", type=pycrdt.Text)
    assert _in_thread(lambda: raw.insert(3, "好")) == []
    assert len(bench.sent) == 1
    bench.run()
    assert len(bench.sent) == 2
    assert str(text) == "你好"
    assert events[0].apply_to("你") == "你好"


def test_joining_a_transaction_of_another_thread_is_refused(bench: Bench) -> None:
    text = bench.replica.text("t")
    opened, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with bench.replica.document.transaction():
            opened.set()
            go_on.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    opened.wait()
    try:
        with pytest.raises(WrongThread):
            text.insert(0, "x")
    finally:
        go_on.set()
        thread.join()
    text.insert(0, "x")
    assert str(text) == "x"


# --- texts and closing -----------------------------------------------------------------------


def test_a_name_and_pycrdts_text_of_it_give_the_same_text(bench: Bench) -> None:
    text = bench.replica.text("t")
    assert bench.replica.text("t") is text
    assert bench.replica.text(bench.replica.document.get("t", type=pycrdt.Text)) is text
    assert bench.replica.text("u") is not text


def test_a_nested_text_is_found_again_through_any_of_its_wrappers(bench: Bench) -> None:
    root = bench.replica.document.get("m", type=pycrdt.Map)
    root["t"] = pycrdt.Text("é")
    text = bench.replica.text(root["t"])
    assert bench.replica.text(root["t"]) is text
    text.insert(1, "!")
    assert str(root["t"]) == "é!"


@pytest.mark.parametrize("bad", [3, None, b"name"])
def test_a_text_of_no_name_is_a_type_error(bench: Bench, bad: object) -> None:
    with pytest.raises(TypeError):
        bench.replica.text(bad)  # type: ignore[arg-type]


def test_a_text_of_another_document_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="not part"):
        bench.replica.text(pycrdt.Text("loose"))
    with pytest.raises(ValueError, match="not part"):
        bench.replica.text(Bench(2).replica.document.get("t", type=pycrdt.Text))


@pytest.mark.parametrize("remote", [False, True])
def test_a_deleted_nested_text_is_closed_and_never_reaches_the_engine(
    bench: Bench, remote: bool
) -> None:
    root = bench.replica.document.get("m", type=pycrdt.Map)
    root["inner"] = pycrdt.Map({"t": pycrdt.Text("deep 你")})
    text = bench.replica.text(root["inner"]["t"])
    place = text.relative_position(5)
    assert place.index == 5
    if remote:
        other = Bench(2)
        other.replica.apply(bench.replica.snapshot())
        del other.replica.document.get("m", type=pycrdt.Map)["inner"]
        bench.replica.apply(other.sent[-1])
    else:
        del root["inner"]
    for act in (lambda: text.insert(0, "x"), lambda: str(text), lambda: len(text)):
        with pytest.raises(Closed, match="deleted"):
            act()
    assert place.index is None


def test_a_closed_replica_is_closed_for_everything(bench: Bench) -> None:
    text = bench.replica.text("t")
    bench.replica.close()
    bench.replica.close()
    assert bench.replica.closed
    for act in (
        lambda: text.insert(0, "x"),
        lambda: str(text),
        lambda: bench.replica.text("t"),
        lambda: bench.replica.apply(b"\x00\x00"),
        bench.replica.snapshot,
        lambda: bench.replica.transaction().__enter__(),
        lambda: bench.replica.undo([text]),
    ):
        with pytest.raises(Closed):
            act()


def test_a_replica_is_not_closed_inside_a_transaction(bench: Bench) -> None:
    with bench.replica.transaction(), pytest.raises(RuntimeError, match="after"):
        bench.replica.close()
    bench.replica.text("t").insert(0, "open")


def test_a_closed_replica_no_longer_reports_raw_edits(bench: Bench) -> None:
    raw = bench.replica.document.get("t", type=pycrdt.Text)
    bench.replica.close()
    raw.insert(0, "x")
    assert bench.sent == []


def test_a_closed_replicas_document_is_freed() -> None:
    bench = Bench()
    text = bench.replica.text("t")
    seen: list[TextChanged] = []
    text.observe(seen.append)
    text.insert(0, "你")
    undo = bench.replica.undo([text])
    bench.run()
    document = weakref.ref(bench.replica.document)
    replica = weakref.ref(bench.replica)
    bench.replica.close()
    del bench, text, undo
    gc.collect()
    assert document() is None
    assert replica() is None


def test_a_replica_that_nobody_closed_is_freed_too() -> None:
    bench = Bench()
    bench.replica.text("t").observe(partial(print, bench.replica))  # a callback that holds it
    document = weakref.ref(bench.replica.document)
    del bench
    gc.collect()
    assert document() is None
