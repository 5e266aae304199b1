"""What an update goes through at a relay and at a device, in one process that may die of it.

``python -m tests.hostile.victim SEED FIRST LAST PROGRESS`` plays groups of updates from the
generator; ``… replay FILE PROGRESS`` plays a corpus file. Eight bytes of the PROGRESS file say
which case is under way, so that whoever started this knows what ended it or never ends.

A *case* is one update, a *group* is a log of ``GROUP`` cases for one document. Exit status 3 says
that a claim was broken; the last line of stderr says which. Not a test.
"""

from __future__ import annotations

import mmap
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from collab.crdt.pycrdt_engine import PycrdtReplica
from collab.crdt.server_replica import ServerReplica
from collab.errors import BadUpdate
from collab.protocol.update import Coverage, Fit, Walk, cut, decode_state_vector, merge, walk
from tests.hostile.generator import Adversary, stored_log
from tests.hostile.reading import read_all
from tests.unit.protocol.updates import deletes

__all__ = ["BROKEN", "GROUP", "Victim", "group_of"]

GROUP: Final = 250
BROKEN: Final = 3
_LOOKS: Final = 60  # updates taken between two looks at all of the document


class Victim:
    """A relay's coverage, log and worker, and a device's replica, for one room."""

    def __init__(self) -> None:
        self.coverage = Coverage()
        self.taken: list[tuple[bytes, Walk]] = []
        self.passed = 0
        self._failures: list[Callable[[], None]] = []
        self._device = PycrdtReplica(
            client_id=2**32 - 5, call_soon=self._failures.append, on_local=lambda _: None
        )
        self._worker = ServerReplica()
        self._text = self._device.text("text")
        self._text.observe(lambda _: None)

    def take(self, data: bytes) -> bool:
        """Do with an update what a relay and then a device do; True if it was appended."""
        try:
            walked = walk(data)
            fit = self.coverage.fit(walked)
        except BadUpdate:
            return False
        self.passed += 1
        if fit is Fit.EARLY or fit is Fit.NOTHING:
            return False
        if fit is Fit.OVERLAPS:
            data = cut(data, walked, self.coverage)
            walked = walk(data)
            assert self.coverage.fit(walked) is Fit.NEW, "what was cut is not new"
        self.coverage.add(walked)
        self.taken.append((data, walked))
        self._device.apply(data)
        self._worker.apply([data])
        if len(self.taken) % _LOOKS == 0:
            self.look()
        return True

    def look(self) -> None:
        """Read everything, and compare what the guard believes with what the engines know."""
        for failure in self._failures:
            failure()
        clocks = self.coverage.clocks
        for state in (self._device.state_vector(), self._worker.state_vector()):
            assert decode_state_vector(state) == clocks, "an engine knows other clocks"
        read_all(self._device)
        snapshot = self._worker.snapshot()
        assert Coverage.from_update(snapshot).clocks == clocks, "a snapshot has other clocks"
        assert Coverage.from_bytes(self.coverage.to_bytes()) == self.coverage
        again = _replica()
        again.apply(snapshot)
        assert decode_state_vector(again.state_vector()) == clocks, "a load has other clocks"
        read_all(again)

    def end(self) -> None:
        """Load the log as one run, then delete all that there is."""
        self.look()
        if not self.taken:
            return
        once = _replica()
        once.apply(merge(self.taken))
        state = decode_state_vector(once.state_vector())
        assert state == self.coverage.clocks, "a merged log has other clocks"
        read_all(once)
        wipe = b"\x00" + deletes(*[(c, [(0, end)]) for c, end in self.coverage.clocks.items()])
        for replica in (once, self._device):
            replica.apply(wipe)
            replica.snapshot()
        self._worker.apply([wipe])
        self._worker.snapshot()
        read_all(self._device)


def _replica() -> PycrdtReplica:
    return PycrdtReplica(client_id=7, call_soon=lambda fn: fn(), on_local=lambda _: None)


def group_of(seed: str, number: int) -> Iterator[Callable[[dict[int, int]], bytes]]:
    """The cases of one group: each makes its update once it knows the state vector."""
    adversary = Adversary(random.Random(f"{seed}/{number}"))
    for _ in range(GROUP):
        yield adversary.send


def main() -> None:
    *chosen, progress = sys.argv[1:]
    with Path(progress).open("r+b") as file, mmap.mmap(file.fileno(), 16) as mark:
        if chosen[0] == "replay":
            _replay(stored_log(Path(chosen[1])))
            return
        seed, first, last = chosen[0], int(chosen[1]), int(chosen[2])
        passed = 0
        for number in range(first, last):
            victim = Victim()
            for at, case in enumerate(group_of(seed, number)):
                mark[:8] = (number * GROUP + at).to_bytes(8, "little")
                victim.take(case(victim.coverage.clocks))
            victim.end()
            passed += victim.passed
            mark[8:16] = passed.to_bytes(8, "little")


def _replay(updates: list[bytes]) -> None:
    victim = Victim()
    for data in updates:
        victim.take(data)
        victim.look()
    victim.end()


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:  # a panic of the engine is no Exception
        print(f"{type(error).__name__}: {error}"[:2000], file=sys.stderr)
        sys.exit(BROKEN)
