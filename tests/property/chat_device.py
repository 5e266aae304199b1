"""A device's chat without a network or a loop: the machine and the real SQL, stepped by a test.

What the machine decides waits until ``commit``; ``crash`` forgets it with the machine, and begins
again from the file. Not a test.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from collab.errors import CollabError
from collab.protocol import chat_changes as cc
from collab.protocol.chat_sync import ChatFrame, ChatSync, Moment
from collab.protocol.device_clock import Anchor, Reading
from collab.protocol.gaps import Gaps
from collab.protocol.message_state import MessageState
from collab.storage import message_acts
from collab.storage.chat_rows import make_chat
from collab.storage.chat_work import Stored
from collab.storage.message_acts import Draft, OutboxCaps
from collab.storage.message_changes import carry_out
from collab.storage.message_rows import MessageRow, select
from collab.storage.messages import load
from collab.storage.schema import migrations

ROOM = 1


def new_file(epoch: bytes) -> sqlite3.Connection:
    """A device's file with one room."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for migration in migrations(bytes(16)):
        for statement in migration:
            connection.execute(statement)
    connection.execute("INSERT INTO rooms (id, name) VALUES (?, 'room')", (ROOM,))
    make_chat(connection, ROOM, epoch)
    return connection


def copy_of(file: sqlite3.Connection) -> sqlite3.Connection:
    """Another file with the same content."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(file.serialize())
    return connection


@dataclass(frozen=True)
class _Asked:
    """An act of the program."""

    act: Callable[[], Any]
    then: Callable[[Any], None]
    failed: Callable[[], None]


class DeviceModel:
    """One device: a file, and the machine that was loaded from it."""

    def __init__(self, file: sqlite3.Connection, epochs: Callable[[], bytes]) -> None:
        self.file = file
        self.now = 0
        self.shown: list[tuple[cc.Change, Stored]] = []
        self._epochs = epochs
        self.load()

    def load(self) -> None:
        """Begin from the file, as after a start of the program."""
        stored = load(self.file, ROOM)
        assert stored is not None
        self.waiting: list[cc.Change | _Asked] = []
        self.machine = ChatSync(
            lane_epoch=stored.lane_epoch, bound=stored.bound, waiting=stored.waiting,
            slots=stored.slots, generation=stored.generation, seq=stored.seq,
            read_upto=stored.read_upto,
        )  # fmt: skip
        self.put(self.machine.decide(self.now))

    # As the ledger has it: decisions and acts in one order, one transaction, told in that order

    def put(self, changes: Sequence[cc.Change]) -> None:
        self.waiting += changes

    def ask(
        self,
        act: Callable[[], Any],
        then: Callable[[Any], None],
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        self.waiting.append(_Asked(act, then, failed))

    def commit(self) -> None:
        """Everything that waits, and what follows from it, is on the disk."""
        while self.waiting:
            self.commit_once()

    def commit_once(self) -> None:
        batch, self.waiting = self.waiting, []
        self.file.execute("BEGIN")
        results = [
            self._try(item) if isinstance(item, _Asked) else carry_out(self.file, ROOM, item)
            for item in batch
        ]
        self.file.execute("COMMIT")
        for item, result in zip(batch, results, strict=True):
            if not isinstance(item, _Asked):
                self._stored(item, result)
            elif isinstance(result, CollabError):
                item.failed()
                self.decide()
            else:
                item.then(result)
                self.decide()

    def _try(self, asked: _Asked) -> Any:
        self.file.execute("SAVEPOINT act")
        try:
            return asked.act()
        except CollabError as error:
            self.file.execute("ROLLBACK TO act")
            return error
        finally:
            self.file.execute("RELEASE act")

    def _stored(self, change: cc.Change, stored: Stored) -> None:
        self.shown.append((change, stored))
        more = self.machine.stored(
            change, now=self.now, slots=stored.slots, waiting=stored.waiting,
            logged=stored.logged, awaited=stored.awaited,
        )  # fmt: skip
        self.put(more)

    def decide(self) -> None:
        self.put(self.machine.decide(self.now))

    def receive(self, frame: ChatFrame) -> None:
        moment = Moment(self.now, 0.5, self._epochs())
        self.put(self.machine.receive(frame, moment))

    def tick(self, ms: int) -> None:
        self.now += ms
        self.decide()

    # What a program does; see ``collab.chat``

    def anchor(self) -> Anchor:
        return Anchor(self.now, Reading(b"b" * 16, self.now, self.now))

    def send(
        self,
        message_id: bytes,
        body: str,
        ttl_ms: int | None = None,
        then: Callable[[], None] = lambda: None,
        *,
        confirm: bool = False,
    ) -> None:
        draft, anchor = Draft(message_id, body, b"", 0, ttl_ms, confirm), self.anchor()

        def queued(result: tuple[MessageRow, cc.Waiting | None]) -> None:
            if result[1] is not None:
                self.machine.outbox.queued(result[1])
            then()

        self.ask(lambda: message_acts.write(self.file, ROOM, draft, anchor, OutboxCaps()), queued)

    def cancel(self, row: MessageRow) -> None:
        outbox = self.machine.outbox
        outbox.hold(row.id)

        def cancelled(after: MessageRow) -> None:
            if after.state is MessageState.CANCELLED:
                outbox.removed(row.id)
            else:
                outbox.let_go(row.id)
                outbox.given_up(row.id, MessageState.CANCELLED)

        self.ask(
            lambda: message_acts.cancel(self.file, row.row),
            cancelled,
            lambda: outbox.let_go(row.id),
        )

    def retry(self, row: MessageRow) -> None:
        anchor = self.anchor()
        self.ask(
            lambda: message_acts.retry(self.file, ROOM, row.row, anchor),
            lambda result: self.machine.outbox.queued(result[1]),
        )

    def read(self) -> None:
        self.ask(
            lambda: message_acts.read(self.file, ROOM, None),
            lambda result: self.machine.marks.read(result[0]),
        )

    # What is on the disk

    def rows(self, rest: str = "ORDER BY place, tie") -> list[MessageRow]:
        return select(self.file, f"WHERE room_id = 1 {rest}", ())

    def own(self) -> list[MessageRow]:
        return self.rows("AND position IS NOT NULL ORDER BY position")

    def log(self) -> dict[int, MessageRow]:
        return {row.place: row for row in self.rows("AND tie = 0")}

    def gaps(self) -> Gaps:
        stored = load(self.file, ROOM)
        assert stored is not None
        return stored.gaps

    def unread(self) -> int:
        stored = load(self.file, ROOM)
        assert stored is not None
        return stored.unread

    @property
    def seq(self) -> int:
        (seq,) = self.file.execute("SELECT seq FROM chats").fetchone()
        return int(seq)
