"""What every history is held against, at the moment at which it is broken.

The checks keep a book of their own, from walks: what was committed, what was acked. They look at
what the disks hold and what the engines have, never at what the machines under test believe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from collab.crdt.replica import Replica
from collab.crdt.server_replica import ServerReplica
from collab.errors import BadUpdate
from collab.protocol.clock_runs import ClockRuns
from collab.protocol.update import Coverage, Fit, Walk, decode_state_vector
from collab_server.loading import coverage_of as coverage_of_stored
from tests.simulation.chat_checkers import ChatChecks
from tests.simulation.edits import content
from tests.simulation.walks import walk
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from tests.simulation.device_file import DeviceFile
    from tests.simulation.relay_log import LogFile


def coverage_of(file: LogFile, name: str) -> Coverage:
    """What a relay finds of a room when it comes up; a violation if rows are out of order."""
    if name not in file.rooms:
        return Coverage()
    stored = file.load(name)
    offsets = [offset for offset, _ in stored.updates]
    if offsets != sorted(set(offsets)):
        raise Violation(f"the log's offsets do not rise: {offsets}")
    try:
        return coverage_of_stored(stored)
    except BadUpdate as error:
        raise Violation(f"the log of {name} is out of causal order: {error}") from error


class Checks:
    """The book of one history."""

    def __init__(self, chat: ChatChecks | None) -> None:
        self._chat = chat
        self._rows: dict[str, Coverage] = {}  # what the rows say that the log's disk holds
        # With what engines delete by themselves (one of two values under a key): snapshots say it.
        self._committed: dict[str, Coverage] = {}
        self._acked: dict[str, list[Walk]] = {}
        self._strangers: dict[str, set[int]] = {}  # clients of an earlier life of a room
        self.is_excused = False  # the log was put back: what was acked is back after healing
        # Who wrote what devices have of a room of this name and epoch; the history knows them.
        self.writers_of: Callable[[str, bytes], set[int]] = lambda _name, _epoch: set()

    @property
    def chat(self) -> ChatChecks:
        """The book of the chats."""
        assert self._chat is not None
        return self._chat

    # The relay's log

    def run_begins(self, generation: bytes) -> None:
        """A run of the relay has this name."""
        if self._chat is not None:
            self._chat.run_begins(generation)

    def relay_starts(self, file: LogFile) -> None:
        """What a run of the relay finds on its disk."""
        self._committed = {name: coverage_of(file, name) for name in file.rooms}
        self._rows = {name: coverage.copy() for name, coverage in self._committed.items()}
        if self._chat is not None:
            self._chat.relay_starts(file)
        self._all_acked_is_there("after a start of the relay")

    def appended(self, name: str, data: bytes) -> None:
        """The room's rules took this into the log."""
        strangers = self._strangers.get(name)
        if strangers:
            mixed = strangers & {client for client, _, _ in walk(data).ranges}
            if mixed:
                raise Violation(f"{name} was given content of another room of that name: {mixed}")

    def logged(self, name: str, offset: int, data: bytes) -> None:
        """A row of the log is on the disk."""
        coverage = self._rows.setdefault(name, Coverage())
        walked = walk(data)
        fit = coverage.fit(walked)
        if fit is not Fit.NEW:
            raise Violation(f"the row at {offset} of {name} is {fit.name}, not NEW")
        coverage.add(walked)
        self._committed.setdefault(name, Coverage()).add(walked)

    def log_is_whole(self, file: LogFile, after: str) -> None:
        """A transaction changed rows that were there: nothing of them may be missing."""
        for name, before in list(self._committed.items()):
            now = coverage_of(file, name)
            if now.clocks != before.clocks:
                raise Violation(f"{after} changed {name} from {before.clocks} to {now.clocks}")
            self._committed[name] = now
        self._all_acked_is_there(f"after {after}", file)

    def acked(self, name: str, walked: Walk) -> None:
        """The relay tells a writer that this is committed."""
        if self._committed.setdefault(name, Coverage()).fit(walked) is not Fit.NOTHING:
            raise Violation(f"acked in {name} and not committed: {walked.ranges} {walked.deletes}")
        self._acked.setdefault(name, []).append(walked)

    def _all_acked_is_there(self, when: str, file: LogFile | None = None) -> None:
        if self.is_excused:
            return
        for name, acked in self._acked.items():
            coverage = self._committed.get(name, Coverage())
            if file is not None:
                coverage = coverage_of(file, name)
            self._contains(coverage, acked, f"acked in {name}, and gone {when}")

    @staticmethod
    def _contains(coverage: Coverage, walks: Iterable[Walk], what: str) -> None:
        for walked in walks:
            if coverage.fit(walked) is not Fit.NOTHING:
                raise Violation(f"{what}: {walked.ranges} {walked.deletes}")

    def log_was_put_back(self) -> None:
        """From here on what was acked may be missing until everything has healed."""
        self.is_excused = True
        if self._chat is not None:
            self._chat.log_was_put_back()

    def room_was_replaced(self, name: str, clients: set[int]) -> None:
        """The room is another one now; ``clients`` wrote the one before."""
        self._strangers.setdefault(name, set()).update(clients)
        self._acked.pop(name, None)

    def room_was_deleted(self, name: str, epoch: bytes) -> None:
        """Its rows are about to go; whatever has its name later is another one."""
        clients = set(self._rows.pop(name, Coverage()).clocks)
        self.room_was_replaced(name, clients | self.writers_of(name, epoch))
        self._committed.pop(name, None)

    def chat_was_deleted(self, room_id: int) -> None:
        """The room's messages are about to go."""
        if self._chat is not None:
            self._chat.room_was_deleted(room_id)

    def file_was_copied(self, file: DeviceFile) -> None:
        """A device's file has a copy, that is used too."""
        if self._chat is not None:
            self._chat.file_was_copied(file)

    def file_was_put_back(self, device: int) -> None:
        """A device's file is an older one."""
        if self._chat is not None:
            self._chat.file_was_put_back(device)

    @staticmethod
    def told_deleted(file: LogFile, name: str, epoch: bytes) -> None:
        """A device is told that the room of this epoch was deleted: it may give up its own."""
        if (name, epoch) not in [deleted[1:] for deleted in file.deleted]:
            raise Violation(f"a device is told that {name} was deleted, and it was not")

    def survivors(self, name: str, holders: list[Coverage]) -> list[Walk]:
        """What was acked and somebody still has: all of it must be back in the end."""
        return [
            walked
            for walked in self._acked.get(name, [])
            if any(holder.fit(walked) is Fit.NOTHING for holder in holders)
        ]

    def are_back(self, name: str, file: LogFile, survivors: list[Walk]) -> None:
        """After healing; unless the room was deleted meanwhile, with all that was acked in it."""
        what = f"acked in {name}, on somebody's disk, and not back"
        acked = set(map(id, self._acked.get(name, [])))
        wanted = [walked for walked in survivors if id(walked) in acked]
        self._contains(coverage_of(file, name), wanted, what)

    # Devices

    @staticmethod
    def shown(replica: Replica, walked: Walk) -> None:
        """An update is about to reach an engine: all that it builds on must be there."""
        clocks = decode_state_vector(replica.state_vector())
        after = dict(clocks)
        for client, start, end in walked.ranges:
            if start > after.get(client, 0):
                raise Violation(f"shown too early: {client} from {start}, has {after.get(client)}")
            after[client] = max(end, after.get(client, 0))
        for client, clock in walked.needs.items():
            if clock > clocks.get(client, 0):
                raise Violation(f"shown too early: needs {client} up to {clock}")
        for client, clock, length in walked.deletes:
            if clock + length > after.get(client, 0):
                raise Violation(f"shown too early: deletes {client} at {clock}")

    @classmethod
    def recovered(cls, found: bytes, saved: list[bytes]) -> None:
        """A device came up with ``found``, its snapshot; ``saved`` had been told to be saved."""
        coverage = Coverage.from_update(found)
        cls._contains(coverage, map(walk, saved), "saved, and gone after a restart")

    @staticmethod
    def are_equal(name: str, file: LogFile, replicas: dict[int, Replica]) -> None:
        """All replicas have what a fresh one has that is fed from the log."""
        stored = file.load(name)
        fresh = ServerReplica()
        for update in [
            *([stored.snapshot] if stored.snapshot else []),
            *(u for _, u in stored.updates),
        ]:
            fresh.apply([update])
        log = coverage_of(file, name)
        if decode_state_vector(fresh.state_vector()) != log.clocks:
            raise Violation(f"an engine fed from the log of {name} has something pending")
        wanted = content(fresh._doc)
        # Engines delete by themselves too (of two values under one key): compare what they made.
        fed = fresh.snapshot()
        for number, replica in replicas.items():
            what = f"device {number} and the log of {name}"
            clocks = decode_state_vector(replica.state_vector())
            if clocks != log.clocks:
                raise Violation(f"{what} have other clocks: {clocks} {log.clocks}")
            if content(replica.document) != wanted:
                raise Violation(f"{what} differ: {content(replica.document)} {wanted}")
            snapshot = replica.snapshot()
            if snapshot != fed and _deleted(snapshot) != _deleted(fed):
                raise Violation(f"{what} have other deletions")


def _deleted(snapshot: bytes) -> dict[int, ClockRuns]:
    """What a snapshot says is deleted; how it cuts that into ranges does not matter."""
    deleted: dict[int, ClockRuns] = {}
    for client, clock, length in walk(snapshot).deletes:
        deleted.setdefault(client, ClockRuns()).add(clock, clock + length)
    return deleted
