"""Feeds hostile updates to child processes and keeps what breaks them.

``python -m tests.hostile.fuzz [--minutes M | --updates N] [--seed S] [--jobs J]``. What a child
dies of, never ends with, or breaks a claim on is made as short as it goes and becomes a file of
``tests/hostile/corpus``, which ``test_corpus.py`` plays from then on.

A seed gives the same updates as long as the corpus is the same; a corpus file gives them always.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from tests.hostile.generator import CORPUS, written_log
from tests.hostile.victim import GROUP, Victim, group_of

__all__ = ["Finding", "attack", "replay"]

ROOT: Final = Path(__file__).parents[2]
_GROUPS_PER_CHILD: Final = 40
_PATIENCE_S: Final = 20.0  # a case takes a millisecond; a group's end some hundred
_REPLAY_S: Final = 15.0
_MAX_KEPT: Final = 20
_ENVIRONMENT: Final = {
    "MALLOC_PERTURB_": "165",  # freed memory is overwritten (glibc): who uses it again is noticed
    "RUST_BACKTRACE": "0",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What broke, and how: an exit status, or None if it did not end."""

    case: int
    status: int | None
    said: str


def _start(arguments: Sequence[object], progress: Path) -> subprocess.Popen[str]:
    progress.write_bytes(bytes(16))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.victim", *map(str, arguments), str(progress)],
        cwd=ROOT, env=os.environ | _ENVIRONMENT,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def _watch(child: subprocess.Popen[str], progress: Path) -> int | None:
    """Its exit status, or None if it made no progress for too long."""
    seen, since = b"", time.monotonic()
    while True:
        try:
            return child.wait(0.2)
        except subprocess.TimeoutExpired:
            mark = progress.read_bytes()
            if mark != seen:
                seen, since = mark, time.monotonic()
            elif time.monotonic() - since > _PATIENCE_S:
                child.kill()
                child.wait()
                return None


def attack(seed: str, first: int, last: int) -> tuple[int, int, list[Finding]]:
    """Play groups ``first`` to ``last``: cases, how many passed the guard, and what broke."""
    findings: list[Finding] = []
    cases = passed = 0
    with tempfile.TemporaryDirectory() as folder:
        progress = Path(folder) / "progress"
        while first < last:
            child = _start((seed, first, last), progress)
            status = _watch(child, progress)
            assert child.stderr is not None
            said = child.stderr.read().strip()
            child.stderr.close()
            mark = progress.read_bytes()
            passed += int.from_bytes(mark[8:], "little")
            if status == 0:
                cases += (last - first) * GROUP
                break
            case = int.from_bytes(mark[:8], "little")
            last_line = said.splitlines()[-1] if said else ""
            findings.append(Finding(case, status, last_line))
            done = case // GROUP + 1
            cases += (done - first) * GROUP
            first = done
    return cases, passed, findings


def replay(path: Path, *, timeout_s: float = _REPLAY_S) -> tuple[int | None, str]:
    """Play a corpus file in a process of its own: its exit status (None: no end), what it said."""
    with tempfile.TemporaryDirectory() as folder:
        child = _start(("replay", path), Path(folder) / "progress")
        try:
            _, said = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return None, "it does not end"
        return child.returncode, said.strip()


def shortest(seed: str, finding: Finding) -> bytes:
    """The corpus file of the log that broke a child, as short as it goes."""
    log = _log_before(seed, finding.case)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "trial.bin"

        def breaks(updates: Sequence[bytes]) -> bool:
            trial.write_bytes(written_log(updates))
            return replay(trial, timeout_s=8)[0] != 0

        return written_log(_shorter(log, breaks) if breaks(log) else log)


def _log_before(seed: str, case: int) -> list[bytes]:
    """What the group of a case had taken before it, and its update; no engine reads it here."""
    victim = _Bystander()
    log: list[bytes] = []
    for at, make in enumerate(group_of(seed, case // GROUP)):
        data = make(victim.coverage.clocks)
        if victim.take(data) or at == case % GROUP:
            log.append(data)
        if at == case % GROUP:
            break
    return log


class _Bystander(Victim):
    """Judges updates as a victim does, and gives them to nobody."""

    def __init__(self) -> None:
        super().__init__()

        class Nobody:
            def apply(self, _: object) -> None:
                pass

        self._device = self._worker = Nobody()  # type: ignore[assignment]

    def look(self) -> None:
        pass


def _shorter(log: list[bytes], breaks: Callable[[Sequence[bytes]], bool]) -> list[bytes]:
    size = max(1, len(log) // 2)
    while True:
        at = 0
        while at < len(log) and len(log) > 1:
            candidate = log[:at] + log[at + size :]
            if candidate and breaks(candidate):
                log = candidate
            else:
                at += size
        if size == 1:
            return log
        size //= 2


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--updates", type=int, default=0, help="so many, however long it takes")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**6)))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="where to keep what breaks")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}, {chosen.jobs} processes", flush=True)
    began = time.monotonic()
    cases = passed = broken = first = 0
    kept: dict[Path, bytes] = {}
    try:
        with ThreadPoolExecutor(chosen.jobs) as pool:
            while (
                cases < chosen.updates
                if chosen.updates
                else time.monotonic() - began < chosen.minutes * 60
            ):
                end = first + chosen.jobs * _GROUPS_PER_CHILD
                turns = [
                    pool.submit(attack, chosen.seed, at, at + _GROUPS_PER_CHILD)
                    for at in range(first, end, _GROUPS_PER_CHILD)
                ]
                first = end
                for turn in turns:
                    more, through, findings = turn.result()
                    cases += more
                    passed += through
                    broken += len(findings)
                    for finding in findings[: _MAX_KEPT - len(kept)]:
                        data = shortest(chosen.seed, finding)
                        path = chosen.corpus / f"{sha256(data).hexdigest()[:12]}.bin"
                        kept[path] = data
                        _tell(finding, path)
    finally:  # not before: the corpus is one of the generator's sources
        for path, data in kept.items():
            path.write_bytes(data)
    print(
        f"{cases:,} updates in {time.monotonic() - began:.0f} s, "
        f"{passed:,} of them passed the guard, {broken} broke something"
    )
    sys.exit(1 if broken else 0)


def _tell(finding: Finding, path: Path) -> None:
    how = "no end" if finding.status is None else f"status {finding.status}"
    print(f"case {finding.case}: {how}: {finding.said}")
    print(f"  replay it with: python -m pytest tests/hostile/test_corpus.py -k {path.stem}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
