"""What waits for a device's disk of one room's chat, with the decisions of the real ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from collab.errors import CollabError, DiskFull
from collab.protocol.chat_changes import Change
from collab.storage.chat_work import Stored
from collab.storage.message_changes import carry_out
from tests.simulation.chat_files import transact
from tests.simulation.device_file import DeviceFile
from tests.simulation.disk import Disk
from tests.simulation.world import Life, World

RETRY_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class _Asked:
    """An act of the program."""

    act: Callable[[sqlite3.Connection], Any]
    then: Callable[[Any], object]
    failed: Callable[[CollabError], object]


@dataclass(frozen=True, slots=True)
class _Failed:
    error: CollabError


class SimulatedLedger:
    """``collab.storage.ledger.Ledger`` in virtual time."""

    def __init__(
        self,
        world: World,
        disk: Disk[DeviceFile],
        life: Life,
        room_id: int,
        on_stored: Callable[[Change, Stored], object],
    ) -> None:
        self._world = world
        self._disk = disk
        self._life = life
        self._room_id = room_id
        self._on_stored = on_stored
        self._items: list[Change | _Asked] = []
        self._storing = False
        self._pauses = 0  # only the pause that was begun last ends in another try
        self.pending = 0  # decisions that are not on the disk
        self.closed = False

    def put(self, changes: Sequence[Change]) -> None:
        """Decisions of the machine."""
        if changes and not self.closed:
            self.pending += len(changes)
            self._items += changes
            self._start()

    def ask(
        self,
        act: Callable[[sqlite3.Connection], Any],
        then: Callable[[Any], object],
        failed: Callable[[CollabError], object],
    ) -> None:
        """Run an act of the program after all that was given before."""
        assert not self.closed
        self._items.append(_Asked(act, then, failed))
        self._start()

    def close(self) -> None:
        """Give nothing more to the disk."""
        self.closed = True
        self._items = []

    def _start(self) -> None:
        if not self._storing:
            self._storing = True
            self._world.after(0.0, self._store, self._life)

    def _store(self) -> None:
        batch, self._items = self._items, []
        if not batch:
            self._storing = False
            return
        works = [self._work_of(item) for item in batch]

        def write(file: DeviceFile) -> list[Any]:
            return transact(file.chat, lambda connection: [work(connection) for work in works])

        def done(results: list[Any]) -> None:
            self._tell(batch, results)
            self._store()

        def failed() -> None:
            self._refused(batch)
            self._pauses += 1
            pause = self._pauses
            if not self._items:
                self._storing = False
                return

            def try_again() -> None:
                if pause == self._pauses:
                    self._store()

            self._world.after(RETRY_PAUSE_S, try_again, self._life)

        self._disk.write(self._life, write, done, failed)

    def _work_of(self, item: Change | _Asked) -> Callable[[sqlite3.Connection], Any]:
        if isinstance(item, _Asked):
            return lambda connection: _try(connection, item.act)
        return lambda connection: carry_out(connection, self._room_id, item)

    def _tell(self, batch: Sequence[Change | _Asked], results: Sequence[Any]) -> None:
        for item, result in zip(batch, results, strict=True):
            if not isinstance(item, _Asked):
                self.pending -= 1
                if not self.closed:
                    self._on_stored(item, result)
            elif self.closed:
                continue
            elif isinstance(result, _Failed):
                item.failed(result.error)
            else:
                item.then(result)

    def _refused(self, batch: Sequence[Change | _Asked]) -> None:
        kept: list[Change | _Asked] = []
        for item in batch:
            if not isinstance(item, _Asked):
                kept.append(item)
            elif not self.closed:
                item.failed(DiskFull("the disk is full"))
        if not self.closed:
            self._items = kept + self._items


def _try(connection: sqlite3.Connection, act: Callable[[sqlite3.Connection], Any]) -> Any:
    connection.execute("SAVEPOINT act")
    try:
        result = act(connection)
    except CollabError as error:
        connection.execute("ROLLBACK TO act")
        result = _Failed(error)
    connection.execute("RELEASE act")
    return result
