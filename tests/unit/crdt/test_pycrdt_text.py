"""How often one text asks the engine for all of itself: as seldom as promised."""

from __future__ import annotations

from collections.abc import Iterator

import pycrdt
import pytest
from pycrdt import _pycrdt as engine

from collab.crdt import pycrdt_content, pycrdt_text
from collab.crdt.pycrdt_engine import PycrdtReplica
from collab.text import TextChanged


class Pair:
    """Two replicas of one long text, and how often either was read from the engine."""

    def __init__(self, content: str) -> None:
        self.reads = 0
        self.sent: tuple[list[bytes], list[bytes]] = ([], [])
        self.replicas = [
            PycrdtReplica(client_id=n + 1, call_soon=lambda fn: fn(), on_local=self.sent[n].append)
            for n in range(2)
        ]
        self.texts = [replica.text("body") for replica in self.replicas]
        self.texts[0].insert(0, content)
        self.meet()
        assert [len(text) for text in self.texts] == [len(content)] * 2

    def meet(self) -> None:
        for sender in range(2):
            for update in self.sent[sender]:
                self.replicas[1 - sender].apply(update)
            self.sent[sender].clear()


@pytest.fixture(params=["a", "世", "𝄞é"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    pair = Pair(request.param * 5000)
    read = pycrdt_content.read_content

    def counting(shared: engine.Text, txn: engine.Transaction) -> tuple[str, bool]:
        pair.reads += 1
        return read(shared, txn)

    monkeypatch.setattr(pycrdt_text, "read_content", counting)
    yield pair
    reads = pair.reads
    assert str(pair.texts[0]) == str(pair.texts[1])
    pair.reads = reads


def test_local_and_remote_edits_in_turn_never_read_the_text_again(pair: Pair) -> None:
    for number in range(100):
        pair.texts[number % 2].insert(number * 40, "a好"[number // 50])
        pair.meet()
        pair.texts[number % 2].delete(number * 7, 3)
        pair.meet()
    assert pair.reads <= 2  # the first wide character in an ASCII text, on each side


def test_transactions_undo_and_events_never_read_the_text_again(pair: Pair) -> None:
    events: list[TextChanged] = []
    text = pair.texts[0]
    text.observe(events.append)
    text.insert(0, "好")
    undo = pair.replicas[0].undo([text])
    pair.reads = 0
    for number in range(20):
        with pair.replicas[0].transaction():
            text.replace(number, 2, "好é")
            text.format(number, 9, {"b": number})
        if number % 3 == 0:
            undo.undo()
    assert pair.reads == 0
    assert len(events) == 28
    pair.meet()


def test_raw_edits_between_ours_read_the_text_only_inside_a_transaction(pair: Pair) -> None:
    raw = pair.replicas[0].document.get("body", type=pycrdt.Text)
    text = pair.texts[0]
    for _ in range(10):
        text.insert(1, "a")
        raw.insert(0, "b")
    assert pair.reads == 0
    with pair.replicas[0].transaction():
        raw.insert(0, "c")
        text.insert(1, "d")
        text.insert(2, "e")
    assert pair.reads == 1
    pair.meet()


def test_many_remote_updates_without_a_look_are_read_at_once(pair: Pair) -> None:
    for number in range(500):
        pair.texts[1].insert(number, "a")
    pair.meet()
    assert pair.reads == 0
    pair.texts[0].insert(500, "b")
    assert pair.reads == 1
    pair.meet()
