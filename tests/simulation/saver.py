"""What waits for a device's disk: the real queues, and a saver that commits in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from collab.storage.saver import RoomQueue, Taken
from tests.simulation.device_file import DeviceFile
from tests.simulation.disk import Disk
from tests.simulation.world import Life, World

RETRY_PAUSE_S = 0.2


@dataclass(slots=True)
class Promise:
    """What stands in the real queue for a future."""

    then: Callable[[int], object]
    is_done: bool = False

    def done(self) -> bool:
        return self.is_done

    def set_result(self, value: int) -> None:
        self.is_done = True
        self.then(value)


class SimulatedSaver:
    """The decisions of ``collab.storage.saver.Saver``; the queues are the real ones."""

    def __init__(self, world: World, disk: Disk[DeviceFile], life: Life) -> None:
        self._world = world
        self._disk = disk
        self._life = life
        self._dirty: dict[RoomQueue, None] = {}
        self._busy = False
        self.is_failing = False
        self.on_error: Callable[[], object] = lambda: None

    def wake(self, queue: RoomQueue) -> None:
        """``queue`` has something."""
        self._dirty[queue] = None
        if not self._busy:
            self._busy = True
            self._world.after(0.0, self._next, self._life)

    def _next(self) -> None:
        dirty, self._dirty = self._dirty, {}
        if dirty:
            self._commit([queue.take() for queue in dirty])
        else:
            self._busy = False

    def _commit(self, taken: list[Taken]) -> None:
        def done(ids: list[list[int]]) -> None:
            self.is_failing = False
            for one, rows in zip(taken, ids, strict=True):
                one.queue.committed(one, rows)
            self._next()

        def failed() -> None:
            self.is_failing = True
            self.on_error()
            self._world.after(RETRY_PAUSE_S, lambda: self._commit(taken), self._life)

        batches = [one.batch for one in taken]
        self._disk.write(self._life, lambda file: file.append(batches), done, failed)
