"""The relay's chats: its own classes, on a log and a clock of the simulation.

``Chats``, ``ConnectionChat`` and ``ConnectionLane`` are the relay's; their coroutines are run by
``coroutines``. What is repeated here is what ``SqliteChatLog`` does with a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast
from unittest import mock

from collab.protocol.members import MemberRow
from collab.protocol.messages import OutcomeCode, Receipt
from collab_server.chat import Chat
from collab_server.chats import Chats
from collab_server.gateway import lane as lane_module
from collab_server.hooks import (
    Accept,
    Answer,
    IncomingMessage,
    Later,
    Postponed,
    Reject,
    Rewrite,
    Ruling,
)
from collab_server.hooks import _answer as answer_of  # how the relay reads a ruling
from collab_server.lanes import LaneKey
from collab_server.log import message_reads, messages
from collab_server.log.chat import ChatBatch
from collab_server.log.chat_port import (
    MARKS_WAIT_S,
    ChatLog,
    ChatState,
    MessagesCallback,
    Page,
    Submission,
)
from collab_server.log.messages import Judged
from collab_server.rooms import Rooms
from collab_server.settings import Settings
from tests.simulation.chat_checkers import ChatChecks
from tests.simulation.chat_plan import ChatPlan, rewritten
from tests.simulation.coroutines import Wait
from tests.simulation.disk import Disk
from tests.simulation.world import Life, World

if TYPE_CHECKING:
    from tests.simulation.relay_log import LogFile
    from tests.simulation.relay_rooms import Loaded, RelayRooms

T = TypeVar("T")

BORN_MS = 1_700_000_000_000  # the wall clock at the beginning of every history


class RelayChatLog:
    """``ChatLog`` of one run: what is queued for the next commit, and what is read."""

    def __init__(
        self,
        world: World,
        disk: Disk[LogFile],
        life: Life,
        *,
        kick: Callable[[], object],
        queued: Callable[[], object],
    ) -> None:
        self._world = world
        self._disk = disk
        self._life = life
        self._kick = kick
        self._queued = queued
        self._submissions: list[Submission] = []
        self._marks: dict[tuple[int, str], tuple[int, int]] = {}
        self._callbacks: list[MessagesCallback] = []
        self.marks_are_due = False
        self._marks_timer = False

    # Writing

    def submit(self, submission: Submission) -> None:
        self._submissions.append(submission)
        self._queued()
        self._kick()

    def mark(self, room_id: int, user: str, *, delivered_upto: int, read_upto: int) -> None:
        _merge(self._marks, (room_id, user), (delivered_upto, read_upto))
        if not self._marks_timer:
            self._marks_timer = True
            self._world.after(MARKS_WAIT_S, self._marks_due, self._life)

    def _marks_due(self) -> None:
        self._marks_timer = False
        if self._marks:
            self.marks_are_due = True
            self._kick()

    def on_messages(self, callback: MessagesCallback) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    # For the commit

    @property
    def is_due(self) -> bool:
        """Whether there is something for which a commit is begun."""
        return bool(self._submissions) or (self.marks_are_due and bool(self._marks))

    def take(self) -> ChatBatch:
        """All that is queued."""
        batch = ChatBatch(self._submissions, [], [], self._marks, self._world.now)
        self._submissions, self._marks = [], {}
        self.marks_are_due = False
        return batch

    def put_back(self, batch: ChatBatch) -> None:
        """The commit failed."""
        self._submissions = [*batch.submissions, *self._submissions]
        marks = dict(batch.marks)
        for key, mark in self._marks.items():
            _merge(marks, key, mark)
        self._marks = marks
        self.marks_are_due = bool(marks)

    def announce(self, batch: ChatBatch, judged: Judged) -> None:
        """It is durable: tell its writers, then the readers."""
        for submission, decision in zip(batch.submissions, judged.decisions, strict=True):
            submission.decided(decision)
        for room_id, (head, added) in judged.rooms.items():
            for callback in tuple(self._callbacks):
                callback(room_id, head, added)

    # Reading

    async def enter(
        self, room_id: int, lane: LaneKey, *, generation: bytes, seq: int, read_upto: int
    ) -> ChatState:
        def read(file: LogFile) -> ChatState:
            return message_reads.enter(
                file.chat, room_id, lane, generation=generation, seq=seq, read_upto=read_upto
            )

        state: ChatState = await self._read(read)
        return state

    async def after(self, room_id: int, seq: int) -> Page:
        self._world.count("chat reader behind the tail")
        page: Page = await self._read(lambda file: message_reads.page(file.chat, room_id, seq))
        return page

    async def page(self, room_id: int, after: int, before: int, *, newest: bool) -> Page:
        page: Page = await self._read(
            lambda file: message_reads.page(file.chat, room_id, after, before, newest=newest)
        )
        return page

    async def members(self, room_id: int) -> list[MemberRow]:
        return []  # nobody is made one here

    async def receipts(self, room_id: int, limit: int) -> list[Receipt]:
        stored = await self._read(lambda file: message_reads.receipts(file.chat, room_id, limit))
        marks = {receipt.user: (receipt.delivered_upto, receipt.read_upto) for receipt in stored}
        for (marked_room, user), mark in self._marks.items():
            if marked_room == room_id:
                _merge(marks, user, mark)
        return [Receipt(user, *mark) for user, mark in marks.items()]

    def _read(self, work: Callable[[LogFile], T]) -> Wait[T]:
        return Wait(lambda then: self._disk.read(self._life, work, then))


class RelayChats(Chats):
    """The relay's chats, with a retention that waits for the simulated disk."""

    def __init__(
        self,
        world: World,
        disk: Disk[LogFile],
        life: Life,
        plan: ChatPlan,
        log: RelayChatLog,
        rooms: RelayRooms,
        checks: ChatChecks,
    ) -> None:
        settings = Settings(
            message_retention_s=plan.retain_s, max_messages_per_room=plan.retain_messages
        )
        super().__init__(cast(ChatLog, log), cast(Rooms, _ById(rooms)), settings)
        log.on_messages(self._committed)
        self._world = world
        self._disk = disk
        self._life = life
        self._checks = checks
        self._under_way: set[int] = set()

    def _retain(self, room_id: int, chat: Chat) -> None:
        if room_id in self._under_way:
            return
        chat.since_retention = 0
        self._under_way.add(room_id)
        settings = self._settings
        oldest_ms = BORN_MS + round((self._world.now - settings.message_retention_s) * 1000)

        def write(file: LogFile) -> tuple[int, bool]:
            at_most = settings.max_messages_per_room
            oldest, over = messages.retain(file.chat, room_id, oldest_ms, at_most)
            if self._checks.retained(file, room_id, oldest):
                self._world.count("messages deleted by retention")
                self._world.note("relay keeps messages of room %d from %d", room_id, oldest)
            return oldest, over

        def over() -> None:
            self._under_way.discard(room_id)

        self._disk.write(self._life, write, lambda _: over(), over)


@dataclass(frozen=True, slots=True)
class _ById:
    """The loaded rooms as ``Chats`` asks for them."""

    rooms: RelayRooms

    def loaded(self, room_id: int) -> Loaded | None:
        return next((one for one in self.rooms.loaded.values() if one.room.id == room_id), None)


class RelayHooks:
    """The application at the relay: it takes its time, and says anything."""

    def __init__(self, world: World, life: Life, plan: ChatPlan) -> None:
        self._world = world
        self._life = life
        self._plan = plan
        self.is_mild = False  # once everything is mended

    async def ask(self, lane: LaneKey, message: IncomingMessage, meta: bytes) -> Answer:
        """What it makes of a message."""
        rng, plan, world = self._world.rng, self._plan, self._world
        delay = plan.hook_delay * rng.choice((0.1, 1.0, 1.0, 10.0))
        what = rng.choices(list(plan.hook), list(plan.hook.values()))[0]
        await Wait[None](lambda then: world.after(delay, lambda: then(None), self._life))
        if self.is_mild and what in ("later", "busy"):
            what = "accept"
        if what != "accept":
            world.count(f"application: {what}")
            world.note("application: %s %s", what, message.body)
        if what == "busy":
            return Postponed(OutcomeCode.BUSY, rng.choice((0, 1_000)), "it failed")
        return answer_of(_ruling(what, message), message.body, meta)


def _ruling(what: str, message: IncomingMessage) -> Ruling:
    match what:
        case "accept":
            return Accept()
        case "reject":
            return Reject("unwelcome", "not here")
        case "rewrite":
            return Rewrite(body=rewritten(message.body))
        case "later":
            return Later(0.5)
        case _:
            raise AssertionError(what)


def _merge(marks: dict[Any, tuple[int, int]], key: Any, mark: tuple[int, int]) -> None:
    delivered, read = marks.get(key, (0, 0))
    marks[key] = (max(delivered, mark[0]), max(read, mark[1]))


@dataclass(frozen=True, slots=True)
class _Time:
    """What the relay's lanes see of ``time``."""

    world: World

    def time_ns(self) -> int:
        return (BORN_MS + int(self.world.now * 1000)) * 1_000_000

    def monotonic(self) -> float:
        return self.world.now


@contextmanager
def virtual_time(world: World) -> Iterator[None]:
    """While this lasts, the relay's lanes read the world's clock."""
    with mock.patch.object(lane_module, "time", _Time(world)):
        yield
