"""Runs the relay's own coroutines in virtual time: what they wait for is an event of the world.

No asyncio: a coroutine that waits for anything but a ``Wait`` breaks the simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

from tests.simulation.world import Life, World

T = TypeVar("T")


class Wait(Generic[T]):
    """Something that ends: ``begin`` is given what to call with its result."""

    __slots__ = ("begin",)

    def __init__(self, begin: Callable[[Callable[[T], object]], object]) -> None:
        self.begin = begin

    def __await__(self) -> Generator[Wait[T], T, T]:
        result = yield self
        return result


class Tasks:
    """What ``asyncio.TaskGroup`` is to a connection. Its tasks begin in the next turn."""

    def __init__(self, world: World, life: Life) -> None:
        self._world = world
        self._life = life
        self._running: dict[Task, None] = {}

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> Task:
        """Run ``coroutine``."""
        task = Task(coroutine, over=lambda: self._running.pop(task, None))
        self._running[task] = None
        self._world.after(0.0, task.step, self._life)
        return task

    def end(self) -> None:
        """Cancel all that run."""
        for task in list(self._running):
            task.cancel()


class Task:
    """One coroutine on its way."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], over: Callable[[], object]) -> None:
        self._coroutine = coroutine
        self._over = over
        self._is_over = False

    def step(self, result: object = None) -> None:
        """Go on with what it waited for."""
        if self._is_over:
            return
        try:
            waits: Wait[Any] = self._coroutine.send(result)
        except StopIteration:
            self._end()
        else:
            waits.begin(self.step)

    def cancel(self) -> None:
        """Go no further."""
        if not self._is_over:
            self._end()
            self._coroutine.close()

    def _end(self) -> None:
        self._is_over = True
        self._over()
