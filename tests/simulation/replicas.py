"""The relay's replicas: the real ``Worker``, and the decisions of ``collab_server.replicas``.

What a worker answers depends on the order of its commands alone, so a question is answered when it
is put, and the answer takes its time to come back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from collab_server.replica_worker import Worker
from collab_server.worker_protocol import Message, Tag
from tests.simulation.world import Life, World

Blobs = Sequence[bytes] | None  # None: there is no answer
Reloaded = Callable[[bytes | None, list[bytes]], object]


@dataclass(eq=False, slots=True)
class _Replica:
    """One room in the worker; ``backlog`` is what is fed while it is read from the log."""

    backlog: list[bytes] | None = field(default_factory=list)
    waiting: list[tuple[Tag, list[bytes], Callable[[Blobs], object]]] = field(default_factory=list)


class Replicas:
    """What the worker holds."""

    def __init__(self, world: World, life: Life, delay: float) -> None:
        self._world = world
        self._life = life
        self._delay = delay
        self._worker = Worker()
        self._rooms: dict[int, _Replica] = {}
        self._open: dict[int, Callable[[Blobs], object]] = {}  # questions by number
        self._numbers = 0
        self.reload: Callable[[int, Reloaded, Callable[[], object]], object]

    def feed(self, room_id: int, update: bytes) -> None:
        """Pass an update of the log on."""
        replica = self._rooms.get(room_id)
        if replica is None:
            return
        if replica.backlog is None:
            self._worker.carry_out(Message(Tag.FEED, room_id, 0, [update]))
        else:
            replica.backlog.append(update)

    def ask(
        self, room_id: int, tag: Tag, blobs: list[bytes], then: Callable[[Blobs], object]
    ) -> None:
        """Put a question; the room is loaded first if it has to be."""
        replica = self._rooms.get(room_id)
        if replica is None:
            replica = self._rooms[room_id] = _Replica()
            self._load(room_id, replica)
        if replica.backlog is not None:
            replica.waiting.append((tag, blobs, then))
            return
        self._numbers += 1
        number = self._numbers
        self._open[number] = then
        answer = self._worker.carry_out(Message(tag, room_id, number, blobs))
        assert answer is not None
        assert answer.tag is Tag.ANSWER, f"the worker refused: {answer.blobs!r}"
        found = answer.blobs
        delay = self._delay * self._world.rng.choice((0.1, 1.0, 4.0))
        self._world.after(delay, lambda: self._answer(number, found), self._life)

    def _answer(self, number: int, blobs: Blobs) -> None:
        then = self._open.pop(number, None)
        if then is not None:
            then(blobs)

    def _load(self, room_id: int, replica: _Replica) -> None:
        def loaded(snapshot: bytes | None, updates: list[bytes]) -> None:
            if self._rooms.get(room_id) is replica:
                parts = [*([] if snapshot is None else [snapshot]), *updates]
                parts += replica.backlog or []
                replica.backlog = None
                self._worker.carry_out(Message(Tag.OPEN, room_id))
                self._worker.carry_out(Message(Tag.FEED, room_id, 0, parts))
            waiting, replica.waiting = replica.waiting, []
            for tag, blobs, then in waiting:
                self.ask(room_id, tag, blobs, then)

        def failed() -> None:
            if self._rooms.get(room_id) is replica:
                del self._rooms[room_id]
            for _, _, then in replica.waiting:
                then(None)

        self.reload(room_id, loaded, failed)

    def drop(self, room_id: int) -> None:
        if self._rooms.pop(room_id, None) is not None:
            self._worker.carry_out(Message(Tag.DROP, room_id))

    def die(self) -> None:
        """The worker dies, and is started again with nothing in it."""
        self._worker = Worker()
        self._rooms.clear()
        asked, self._open = self._open, {}
        for then in asked.values():
            then(None)
