"""``collab demo --headless`` as its users run it: identical, or it says so; nothing is left."""

from __future__ import annotations

import dataclasses
import io
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.console import Console

from collab.demo import run, talk, traces
from collab.demo.story import Cast
from collab.demo.traces import Trace

DEMO = [sys.executable, "-c", "from collab.cli import main; main()", "demo", "--headless"]


def environment(temporary: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(temporary), "TEMP": str(temporary)}


def test_a_quick_demo_ends_identical_and_cleans_up(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--quick", "--seed", "1"],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        env=environment(tmp_path),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "seed: 1"
    assert done.stdout.splitlines()[-1] == "identical"
    for part in (
        "relay: ws://127.0.0.1:",
        "the relay is killed",
        "loses its network",
        "runs again",
    ):
        assert part in done.stdout
    rows = {line[:20].strip(): line[20:].split() for line in done.stdout.splitlines()}
    assert rows["messages sent"] == rows["accepted"] == ["40", "40", "-"]
    assert rows["in order, once"] == ["yes", "yes", "yes"]
    again = rows["dupl. suppressed"]
    assert sum(int(count) for count in again[:2]) > 0  # who was killed sent again what it had sent
    assert list(tmp_path.iterdir()) == []


def test_an_outcome_that_is_not_what_was_typed_fails_and_keeps_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = traces.load

    def load_wrongly(name: str, limit: int | None = None) -> Trace:
        trace = load(name, limit)
        wrong = trace.end[:-1] + "\N{BUG}" if name == traces.POST else trace.end
        return dataclasses.replace(trace, end=wrong)

    monkeypatch.setattr(traces, "load", load_wrongly)  # the players' processes have theirs
    monkeypatch.setattr(talk, "body", lambda name, number: f"{name} {number}?")
    monkeypatch.setattr(run, "QUICK", Cast(0.5, {"paper": 1000, "post": 500}))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    console = Console(file=io.StringIO(), width=200)
    assert run.run_demo(console, seed=2, quick=True, data=None) == 1
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "identical" not in said
    assert said.count("DIFFERENT: ") == 9  # a text, A's messages, B's messages: with A, B and C
    assert said.count("with another body") == 6
    (kept,) = tmp_path.iterdir()
    assert f"the files are in {kept}" in said
    for name in ("A", "B", "C"):
        assert (kept / name / "store.db").exists()
        assert (kept / name / "post.txt").exists()
        assert (kept / name / "messages.json").exists()
    assert (kept / "relay" / "relay.db").exists()


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield int(child)
            yield from descendants(int(child))


@pytest.mark.skipif(sys.platform != "linux", reason="finds its processes in /proc")
@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_leaves_no_process_and_no_file(
    tmp_path: Path, signalled: signal.Signals
) -> None:
    with ExitStack() as stack:
        demo = stack.enter_context(
            subprocess.Popen(
                [*DEMO, "--quick", "--seed", "1"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment(tmp_path),
            )
        )
        stack.callback(demo.kill)
        assert demo.stdout is not None
        while "loses its network" not in demo.stdout.readline():
            assert demo.poll() is None
        family = list(descendants(demo.pid))
        assert len(family) >= 4  # the relay, its worker, A and B
        watched = [os.pidfd_open(pid) for pid in family]
        for descriptor in watched:
            stack.callback(os.close, descriptor)
        demo.send_signal(signalled)
        said = demo.stdout.read()
        assert demo.wait(30) == 130, said
        assert "Traceback" not in said
        for descriptor in watched:
            assert select.select([descriptor], [], [], 10)[0], "a process was left behind"
    assert list(tmp_path.iterdir()) == []


def test_it_stops_without_a_word_when_nobody_reads_it_any_more(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*DEMO, "--quick", "--seed", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        demo.stdout.readline()
        demo.stdout.close()
        try:
            assert demo.stderr.read() == ""
            assert demo.wait(30) == 130
        finally:
            demo.kill()
    assert list(tmp_path.iterdir()) == []
