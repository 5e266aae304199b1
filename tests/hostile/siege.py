"""A live relay under attack, and a healthy room on it: what became of both.

The relay and the attacker are processes of their own; the two clients of the healthy room are here.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import collab
from tests.e2e.support import QUICK, ROOT, relay_process, until

__all__ = ["Report", "besiege"]

_EDIT_EVERY_S: Final = 0.04
_WARM_FRAMES: Final = 600  # before the relay's memory is first looked at


@dataclass(slots=True)
class Report:
    """Times in seconds, memory in bytes."""

    seed: str
    frames: int = 0
    visits: int = 0
    took_s: float = 0.0
    codes: dict[str, int] = field(default_factory=dict)  # of closes; 0: it left by itself
    delays_s: list[float] = field(default_factory=list)
    rss_before: int = 0
    rss_after: int = 0
    worker_deaths: int = 0
    attacker: int | None = None  # its exit status
    relay_lives: bool = False
    same_text: bool = False

    def delay_s(self, share: float) -> float:
        """The delay that this share of edits did not exceed."""
        ranked = sorted(self.delays_s)
        return ranked[min(int(len(ranked) * share), len(ranked) - 1)]

    def table(self) -> str:
        """For people."""
        same = "same" if self.same_text else "OTHER"
        lines = [
            ("seed", self.seed),
            ("hostile frames", f"{self.frames:,} in {self.visits:,} visits, {self.took_s:.0f} s"),
            ("closes", ", ".join(f"{code}: {n:,}" for code, n in self.codes.items())),
            ("relay", "alive" if self.relay_lives else "dead"),
            ("deaths of its worker", str(self.worker_deaths)),
            ("its memory", f"{self.rss_before / 2**20:.0f} to {self.rss_after / 2**20:.0f} MiB"),
            ("healthy edits", f"{len(self.delays_s):,}, {same} text"),
            ("edit to other side", " ".join(
                f"{name} {self.delay_s(share) * 1000:.0f} ms"
                for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
            )),
        ]  # fmt: skip
        return "\n".join(f"{name:<22}{value}" for name, value in lines)


async def besiege(
    data: Path, *, frames: int, seed: str, tell: Callable[[str], None] = lambda _: None
) -> Report:
    """Send so many hostile frames at a fresh relay whose log is in ``data``."""
    report = Report(seed)
    async with (
        relay_process(data) as (relay, url),
        collab.open(":memory:", relay=url, settings=QUICK) as one,
        collab.open(":memory:", relay=url, settings=QUICK) as other,
    ):
        pid = relay._process.pid
        ours, theirs = await one.room("healthy"), await other.room("healthy")
        text, mirror = ours.text("body"), theirs.text("body")
        text.insert(0, ".")
        await until(lambda: str(mirror) == ".")
        sent_at: dict[int, float] = {}

        def seen(_: object) -> None:
            now = time.monotonic()
            length = len(mirror)
            for size in [size for size in sent_at if size <= length]:
                report.delays_s.append(now - sent_at.pop(size))

        subscription = mirror.observe(seen)
        done = asyncio.Event()

        async def edit() -> None:
            while not done.is_set():
                text.insert(len(text) // 2, "x")
                sent_at[len(text)] = time.monotonic()
                await asyncio.sleep(_EDIT_EVERY_S)

        async def watch_worker() -> None:
            known = _children(pid)
            while not done.is_set():
                now = _children(pid)
                report.worker_deaths += len(known - now)
                known = now
                await asyncio.sleep(0.25)

        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(edit())
            tasks.create_task(watch_worker())
            warm = min(_WARM_FRAMES, frames // 4)
            await _attack(report, url, 0, warm, tell)
            report.rss_before = _rss(pid)
            if report.attacker == 0:
                await _attack(report, url, report.visits, frames - warm, tell)
            report.rss_after = _rss(pid)
            done.set()
        report.took_s = time.monotonic() - began
        await ours.wait_synced(20)
        await until(lambda: len(mirror) == len(text))
        del subscription
        report.same_text = str(mirror) == str(text)
        report.relay_lives = relay._process.returncode is None
    return report


async def _attack(
    report: Report, url: str, first: int, frames: int, tell: Callable[[str], None]
) -> None:
    """One run of the attacker; its counts are added to the report."""
    before, codes = report.frames, dict(report.codes)
    attacker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.hostile.attacker", url, report.seed, str(first), str(frames),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert attacker.stdout is not None
    try:
        async for line in attacker.stdout:
            counted = json.loads(line)
            report.frames = before + counted["sent"]
            report.visits = counted["next"]
            report.codes = {
                code: codes.get(code, 0) + counted["codes"].get(code, 0)
                for code in sorted({*codes, *counted["codes"]}, key=int)
            }
            tell(f"{report.frames:,} frames")
        report.attacker = await attacker.wait()
    finally:
        if attacker.returncode is None:
            attacker.kill()
            await attacker.wait()


def _rss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _children(pid: int) -> set[int]:
    """The relay's worker; a process that is to come or gone is not in it."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return set()
    return {int(child) for child in listed.split()}
