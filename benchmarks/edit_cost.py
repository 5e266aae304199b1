"""What an edit through ``collab.Text`` costs over one through bare pycrdt.

    python -m benchmarks.edit_cost --traces examples/traces [--json]

Bars, as ratios of processor time on one machine in one run (the best of ``--rounds``):

- replaying automerge-paper, each update given to ``on_local``: at most 1.25 times bare pycrdt
  with an observer that copies the update (the store gets the rest of what is allowed);
- replaying json-crdt-blog-post: at most 1.5 times the same with ASCII letters instead;
- random edits of a Chinese text of 100,000 characters: at most 1.5 times those of an ASCII one,
  and the same with a remote edit after each local one.

The traces are those of josephg/editing-traces; positions are Python string positions.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pycrdt

from collab.crdt.pycrdt_engine import PycrdtReplica

Patch = tuple[int, int, str]  # position, characters deleted, text inserted

DEFAULT_TRACES = Path(__file__).parent.parent / "examples" / "traces"


def load(traces: Path, name: str) -> tuple[list[Patch], str]:
    """The patches of a sequential trace, and the text they end in."""
    with gzip.open(traces / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        trace = json.load(file)
    patches = [tuple(patch) for txn in trace["txns"] for patch in txn["patches"]]
    return patches, trace["endContent"]


def to_ascii(text: str) -> str:
    return "".join(char if char.isascii() else "x" for char in text)


def replay_bare(patches: Sequence[Patch], end: str | None) -> float:
    """Seconds for the patches in pycrdt alone, which is right for ASCII only."""
    document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc(client_id=1)
    text = document.get("text", type=pycrdt.Text)
    updates: list[bytes] = []
    subscription = document.observe(lambda event: updates.append(event.update))
    started = time.process_time()
    for position, deleted, inserted in patches:
        if deleted:
            del text[position : position + deleted]
        if inserted:
            text.insert(position, inserted)
    seconds = time.process_time() - started
    assert end is None or str(text) == end
    document.unobserve(subscription)
    return seconds


def replay(patches: Sequence[Patch], end: str | None, start: str = "") -> float:
    """Seconds for the patches through our ``Text``."""
    updates: list[bytes] = []
    replica = PycrdtReplica(client_id=1, call_soon=lambda fn: None, on_local=updates.append)
    text = replica.text("text")
    text.insert(0, start)
    started = time.process_time()
    for position, deleted, inserted in patches:
        if deleted:
            text.delete(position, deleted)
        if inserted:
            text.insert(position, inserted)
    seconds = time.process_time() - started
    assert end is None or str(text) == end
    replica.close()
    return seconds


def random_patches(character: str, count: int, length: int) -> list[Patch]:
    rng = random.Random(7)
    patches: list[Patch] = []
    for _ in range(count):
        if rng.random() < 0.5:
            patches.append((rng.randrange(length + 1), 0, character))
            length += 1
        else:
            patches.append((rng.randrange(length), 1, ""))
            length -= 1
    return patches


def interleave(character: str, start: str, count: int) -> float:
    """Seconds for edits by two replicas in turn, each applying the other's."""
    rng = random.Random(7)
    sent: list[list[bytes]] = [[], []]
    pair = [
        PycrdtReplica(client_id=1 + n, call_soon=lambda fn: None, on_local=sent[n].append)
        for n in range(2)
    ]
    texts = [replica.text("text") for replica in pair]
    texts[0].insert(0, start)
    pair[1].apply(sent[0][-1])
    started = time.process_time()
    for number in range(count):
        writer = number % 2
        texts[writer].insert(rng.randrange(len(start)), character)
        pair[1 - writer].apply(sent[writer][-1])
    seconds = time.process_time() - started
    assert str(texts[0]) == str(texts[1])
    return seconds


def best(rounds: int, *timed: Callable[[], float]) -> list[float]:
    """The least seconds of each; the candidates take turns, so that noise meets them alike."""
    results = [float("inf")] * len(timed)
    for _ in range(rounds):
        for number, run in enumerate(timed):
            gc.collect()
            results[number] = min(results[number], run())
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    default = os.environ.get("COLLAB_TRACES", str(DEFAULT_TRACES))
    parser.add_argument("--traces", type=Path, default=Path(default))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    options = parser.parse_args()
    rounds: int = options.rounds

    paper, paper_end = load(options.traces, "automerge-paper")
    blog, blog_end = load(options.traces, "json-crdt-blog-post")
    plain: list[Patch] = [(at, deleted, to_ascii(text)) for at, deleted, text in blog]
    chinese, ascii_edits = (random_patches(char, 10_000, 100_000) for char in "好b")
    rows: list[tuple[str, float, float, float, int]] = []

    def compare(name: str, bar: float, count: int, *timed: Callable[[], float]) -> None:
        ours, other = best(rounds, *timed)
        rows.append((name, ours, other, bar, count))

    compare(
        "automerge-paper, over bare pycrdt",
        1.25,
        len(paper),
        lambda: replay(paper, paper_end),
        lambda: replay_bare(paper, paper_end),
    )
    compare(
        "json-crdt-blog-post, over the same in ASCII",
        1.5,
        len(blog),
        lambda: replay(blog, blog_end),
        lambda: replay(plain, to_ascii(blog_end)),
    )
    compare(
        "random edits of 100,000 characters, Chinese over ASCII",
        1.5,
        len(chinese),
        lambda: replay(chinese, None, "世" * 100_000),
        lambda: replay(ascii_edits, None, "a" * 100_000),
    )
    compare(
        "the same, local and remote edits in turn",
        1.5,
        2_000,
        lambda: interleave("好", "世" * 100_000, 2_000),
        lambda: interleave("b", "a" * 100_000, 2_000),
    )
    if options.json:
        print(json.dumps({name: ours / other for name, ours, other, _, _ in rows}))
        return
    for name, ours, other, bar, count in rows:
        ratio = ours / other
        print(
            f"{name}: {ratio:.2f} (bar {bar}); {ours / count * 1e6:.1f} us "
            f"against {other / count * 1e6:.1f} us per edit"
        )


if __name__ == "__main__":
    main()
