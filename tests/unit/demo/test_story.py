"""What the story makes of reports that should not be."""

from __future__ import annotations

import asyncio
import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from collab.demo import story
from collab.demo.board import Replica
from collab.demo.display import PlainDisplay
from collab.demo.player import Report
from collab.demo.stage import DemoFailed
from collab.demo.story import QUICK, Story


@pytest.fixture
def told(tmp_path: Path) -> Story:
    display = PlainDisplay(Console(file=io.StringIO()))
    return Story(QUICK, seed=1, folder=tmp_path, display=display)


def synced(name: str, digest: str) -> Replica:
    return Replica(name, None, alive=True, synced=True, state="live", digests={"paper": digest})


def test_replicas_that_never_agree_are_a_difference_and_not_the_end(
    told: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "_CONVERGE_S", 0.0)
    told._board.replicas = {"A": synced("A", "aaaa"), "B": synced("B", "bbbb")}
    assert not asyncio.run(told._converged(since=time.monotonic()))
    (complaint,) = told._complaints
    assert "A is live, synced, paper aaaa; B is live, synced, paper bbbb" in complaint


def test_replicas_that_agree_but_are_not_all_synced_have_not_converged(
    told: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "_CONVERGE_S", 0.0)
    told._board.replicas = {"A": synced("A", "aaaa"), "B": synced("B", "aaaa")}
    told._board.replicas["B"].synced = False
    assert not asyncio.run(told._converged(since=time.monotonic()))


def test_edits_that_were_saved_and_are_gone_end_the_story(told: Story) -> None:
    report = Report(0, 0, 0, "live", synced=True, lost="120 edits were reported as saved")
    with pytest.raises(DemoFailed, match="A lost what it had saved: 120 edits"):
        told._heard(Replica("A", "paper", total=200), report)


def test_typing_that_stops_ends_the_story(told: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "_STALL_S", 0.0)
    told._board.replicas["A"] = Replica("A", "paper", total=200, edits=100, alive=True)
    with pytest.raises(DemoFailed, match="nobody typed anything"):
        asyncio.run(told._typed())
