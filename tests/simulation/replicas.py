"""The relay's replicas: the real ``Worker``, and the decisions of ``collab_server.replicas``.

What a worker answers depends on the order of its commands alone, so a question is answered when it
is put, and the answer takes its time to come back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from collab_server.replica_worker import Worker
from collab_server.replicas import Contents
from collab_server.worker_protocol import Message, Tag
from tests.simulation.world import Life, World

Answered = Callable[[Message | None], object]  # None: there is no answer
Reloaded = Callable[[Contents], object]


@dataclass(eq=False, slots=True)
class _Replica:
    """One room in the worker; ``backlog`` is what is fed while it is read from the log."""

    backlog: list[tuple[int, bytes]] | None = field(default_factory=list)
    waiting: list[tuple[Tag, list[bytes], Answered]] = field(default_factory=list)


class Replicas:
    """What the worker holds."""

    def __init__(self, world: World, life: Life, delay: float) -> None:
        self._world = world
        self._life = life
        self._delay = delay
        self._worker = Worker()
        self._rooms: dict[int, _Replica] = {}
        self._open: dict[int, Answered] = {}  # questions by number
        self._numbers = 0
        self.reload: Callable[[int, Reloaded, Callable[[], object]], object]

    def feed(self, room_id: int, offset: int, update: bytes) -> None:
        """Pass an update of the log on."""
        replica = self._rooms.get(room_id)
        if replica is None:
            return
        if replica.backlog is None:
            self._worker.carry_out(Message(Tag.FEED, room_id, 0, offset, [update]))
        else:
            replica.backlog.append((offset, update))

    def ask(self, room_id: int, tag: Tag, blobs: list[bytes], then: Answered) -> None:
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
        answer = self._worker.carry_out(Message(tag, room_id, number, blobs=blobs))
        assert answer is not None
        assert answer.tag is Tag.ANSWER, f"the worker refused: {answer.blobs!r}"
        delay = self._delay * self._world.rng.choice((0.1, 1.0, 4.0))
        self._world.after(delay, lambda: self._answer(number, answer), self._life)

    def _answer(self, number: int, answer: Message) -> None:
        then = self._open.pop(number, None)
        if then is not None:
            then(answer)

    def _load(self, room_id: int, replica: _Replica) -> None:
        def loaded(contents: Contents) -> None:
            if self._rooms.get(room_id) is replica:
                assert replica.backlog is not None
                parts, place = [*contents.updates], contents.offset
                if contents.snapshot is not None:
                    parts.insert(0, contents.snapshot)
                for offset, update in replica.backlog:
                    if offset > place:
                        parts.append(update)
                        place = offset
                replica.backlog = None
                self._worker.carry_out(Message(Tag.OPEN, room_id))
                self._worker.carry_out(Message(Tag.FEED, room_id, 0, place, parts))
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
