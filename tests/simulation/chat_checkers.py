"""What every history's chats are held against, at the moment at which it is broken.

The book is the checks' own: what was sent, what the log's disk held after each transaction. They
look at what the disks hold and at what goes over the wire, never at what the machines believe.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Final

from collab import limits
from collab.errors import CollabError, IdConflict
from collab.protocol import chat_changes as cc
from collab.protocol import frames
from collab.protocol.gaps import Gap
from collab.protocol.message_state import EDGES, PATH, MessageState
from collab.protocol.messages import (
    OutcomeCode,
    Receipt,
    SlotOutcome,
    unpack_messages,
    unpack_receipts,
)
from collab.storage import chat_rows
from collab.storage.chat_work import Stored
from collab.storage.log_messages import OTHER_USER
from collab.storage.message_rows import TAIL, MessageRow, select
from collab_server.log.chat import ChatBatch
from collab_server.log.messages import Judged
from tests.simulation.chat_plan import ChatPlan
from tests.simulation.world import Violation, World

if TYPE_CHECKING:
    from tests.simulation.device_chat import DeviceChat, Letter
    from tests.simulation.device_file import DeviceFile
    from tests.simulation.relay_log import LogFile

IN_LOG: Final = PATH[2:]
_TOLERANCE_MS: Final = 5  # of clocks that are read in whole milliseconds
_BOUND: Final = "SELECT count(*) FROM messages WHERE room_id = ? AND slot IS NOT NULL"
_SHOWN: Final = "SELECT message_id, state FROM messages WHERE id = ?"
_OURS: Final = (
    "SELECT state FROM messages WHERE room_id = ? AND message_id = ? AND position IS NOT NULL"
)
_SENT_FROM: Final = "SELECT message_id FROM messages WHERE position IS NOT NULL"
_AFTER: Final = "SELECT place, mine, kind FROM messages WHERE room_id = ? AND tie = 0 AND place < ?"


@dataclass(frozen=True, slots=True)
class Asked:
    """When a program asked for something, and how far its wall clock had been put forward."""

    at: float
    jumped: float


@dataclass(frozen=True, slots=True)
class _Sent:
    """A message that ``send`` or ``retry`` returned for."""

    number: int  # in the order of all sending
    device: int
    asked: Asked
    ttl_ms: int | None
    boot: bytes
    sender: str  # whom the file named as its writer; "" if nobody knew
    lane: tuple[int, str | None]  # whose order it keeps: a device's, for one user


@dataclass(slots=True)
class _Room:
    """What the log's disk held of one room, ever, in this history of it."""

    head: int = 0
    oldest: int = 1
    ids: dict[bytes, int] = field(default_factory=dict)
    newest: dict[tuple[int, str | None], int] = field(default_factory=dict)  # the last of each lane


@dataclass(frozen=True, slots=True)
class _Told:
    """The receipts that a device has, and at which mark of whose log it was told them."""

    user: str
    generation: bytes
    seq: int
    receipts: dict[str, Receipt]

    def is_of_same(self, before: _Told) -> bool:
        """Whether it goes on from ``before``."""
        same = (self.user, self.generation) == (before.user, before.generation)
        return same and self.seq >= before.seq


class ChatChecks:
    """The book of one history's chats."""

    def __init__(self, world: World, plan: ChatPlan) -> None:
        self._world = world
        self._rooms: dict[int, _Room] = {}
        self._sent: dict[bytes, _Sent] = {}
        self._numbers = 0
        self._any_order_up_to = 0  # numbers of messages that may be logged in any order
        self._any_order: set[bytes] = set()
        self._is_copied = False
        self._is_put_back = False
        self._is_new_log = True
        self._has_signed_in = False  # another user on some device
        # Users who had read in another log than the present one, or in a file that was put back.
        self._unread_again: set[str] = set()
        self._users: dict[int, set[str]] = {}  # for whom a device spoke
        self._forgets_lanes = plan.limits["MAX_LANES_PER_USER"] < 1000
        # What a device has promised: the bodies that a message may have, in their order.
        self._kept: dict[tuple[int, int], dict[bytes, list[str]]] = {}
        self._states: dict[tuple[int, int, int], MessageState] = {}
        self._receipts: dict[tuple[int, int], _Told] = {}
        self._void: set[bytes] = set()  # runs of the relay on a log that is not there any more
        self._generations: set[bytes] = set()
        self.log: Callable[[], LogFile]

    # Faults that are known here

    def log_was_put_back(self) -> None:
        """What the log had may be missing from now on, until it is offered again."""
        self._is_put_back = self._is_new_log = True
        self._any_order_up_to = self._numbers
        self._void = set(self._generations)

    def file_was_copied(self, file: DeviceFile) -> None:
        """Two files speak for one lane, each with all that is in them now.

        Of some of it no program has heard yet: it gets its number later, and is in both.
        """
        self._is_copied = True
        self._any_order_up_to = self._numbers
        self._any_order |= {message_id for (message_id,) in file.chat.execute(_SENT_FROM)}

    def user_signed_in(self) -> None:
        """A device's file is another user's from now on."""
        self._has_signed_in = True

    def file_was_put_back(self, device: int) -> None:
        """A device's file is an older one."""
        self._unread_again |= self._users.get(device, set())
        self._is_copied = True
        self._any_order_up_to = self._numbers
        for book in (self._kept, self._receipts):
            for key in [key for key in book if key[0] == device]:
                del book[key]
        for row in [row for row in self._states if row[0] == device]:
            del self._states[row]

    # The relay's log

    def relay_starts(self, file: LogFile) -> None:
        """What a run of the relay finds on its disk."""
        before, self._rooms = self._rooms, {}
        for (room_id,) in file.chat.execute("SELECT id FROM rooms"):
            room = self._rooms[room_id] = _read(file.chat, room_id)
            known = before.get(room_id)
            if known is None or self._is_new_log:
                continue
            for message_id, seq in known.ids.items():
                if seq >= room.oldest and room.ids.get(message_id) != seq:
                    raise Violation(f"accepted as {seq}, and gone after a start of the relay")
            room.ids = {**known.ids, **room.ids}
            room.newest = known.newest
        self._is_new_log = False

    def run_begins(self, generation: bytes) -> None:
        """A run of the relay has this name."""
        self._generations.add(generation)

    def committed(self, file: LogFile, batch: ChatBatch, judged: Judged) -> None:
        """A transaction of the log has judged ``batch``."""
        for room_id, (head, added) in judged.rooms.items():
            room = self._rooms.setdefault(room_id, _Room())
            if [message.seq for message in added] != list(range(room.head + 1, head + 1)):
                seqs = [message.seq for message in added]
                raise Violation(f"after message {room.head} of a room come {seqs}, head {head}")
            for message in added:
                self._logged(room, message.id, message.seq, message.sender)
            room.head = head
        for submission, decision in zip(batch.submissions, judged.decisions, strict=True):
            if isinstance(decision, SlotOutcome) and decision.code == OutcomeCode.ACCEPTED:
                self._is_logged(file, submission.room_id, decision.message_id, decision.seq)

    def _logged(self, room: _Room, message_id: bytes, seq: int, sender: str) -> None:
        known = room.ids.get(message_id)
        if known is not None:
            # Where two lanes may bring it, retention may be between them.
            two_lanes = self._is_copied or self._has_signed_in
            may_be_forgotten = two_lanes or self._is_put_back or self._forgets_lanes
            if known >= room.oldest or not may_be_forgotten:
                raise Violation(f"message {known} is in the log again, as {seq}")
        room.ids[message_id] = seq
        sent = self._sent.get(message_id)
        if sent is None or message_id in self._any_order or known is not None:
            return  # of what is forgotten the order is, too
        if self._has_signed_in and sender != sent.lane[1]:
            return  # it was on its way, and is retried as another user's now
        newest = room.newest.get(sent.lane, 0)
        if sent.number < newest and sent.number > self._any_order_up_to:
            raise Violation(f"device {sent.device} sent {sent.number} before {newest}")
        room.newest[sent.lane] = max(newest, sent.number)

    def _is_logged(self, file: LogFile, room_id: int, message_id: bytes, seq: int) -> None:
        room = self._rooms[room_id]
        if seq < room.oldest:
            return
        found = file.chat.execute(
            "SELECT seq FROM messages WHERE room_id = ? AND id = ?", (room_id, message_id)
        ).fetchall()
        if found != [(seq,)]:
            raise Violation(f"accepted as {seq}; the log has it as {found}")

    def retained(self, file: LogFile, room_id: int, oldest: int) -> bool:
        """Retention has run. Whether it deleted something."""
        room = self._rooms.get(room_id)
        if room is None:
            return False
        before, now = room.oldest, _read(file.chat, room_id)
        if (now.head, now.oldest) != (room.head, oldest):
            raise Violation(f"retention left {now.oldest} to {now.head}, and says {oldest}")
        room.oldest = oldest
        return oldest > before

    def room_was_deleted(self, room_id: int) -> None:
        """Its rows are gone, and its id is never given again."""
        self._rooms.pop(room_id, None)

    # A device

    def opened(self, chat: DeviceChat) -> None:
        """A program has come up with what its file has of a room."""
        rows = {row.id: row for row in _own(chat)}
        for message_id, bodies in self._kept.get(_key(chat), {}).items():
            row = rows.get(message_id)
            if row is None or (row.body not in bodies and row.state not in IN_LOG):
                raise Violation(f"{_who(chat)} had sent {bodies}, and has {row} after a restart")
        # Whoever looks sees this from now on, also where ``send`` or ``edit`` never returned.
        self._kept[_key(chat)] = {row.id: [row.body] for row in rows.values()}
        known = chat_rows.chat(chat.connection, chat.number)
        if known is not None and known.seq and chat.device.disk.state.epoch(chat.name) is None:
            # It would join whatever room has the name, and take its log for the one it knows.
            raise Violation(f"{_who(chat)} is at {known.seq} of a room whose epoch it lacks")
        check_mark(chat)

    def sent(self, chat: DeviceChat, row: MessageRow, asked: Asked) -> None:
        """``send`` or ``retry`` returns."""
        again = row.id in self._sent
        if again and self._is_copied:
            self._any_order.add(row.id)
        self._numbers += 1
        device = chat.device
        self._sent[row.id] = _Sent(
            self._numbers, device.number, asked, row.ttl_ms, device.boot,
            row.sender, (device.number, row.sender or device.user),
        )  # fmt: skip
        self._may_have(chat, row.id, row.body)

    def _may_have(self, chat: DeviceChat, message_id: bytes, *bodies: str) -> None:
        known = self._kept.setdefault(_key(chat), {}).setdefault(message_id, [])
        known += [body for body in bodies if body not in known]

    def edits(self, chat: DeviceChat, row: MessageRow, body: str) -> None:
        """``edit`` is called: from here on it may be on the disk, even if it never returns.

        Until then the disk keeps what was seen there, also if its ``send`` never returned.
        """
        self._may_have(chat, row.id, row.body, body)

    def edited(self, chat: DeviceChat, row: MessageRow) -> None:
        """``edit`` returns: the message has this body, or that of a later edit."""
        bodies = self._kept[_key(chat)][row.id]
        del bodies[: bodies.index(row.body)]

    def was_not_sent(self, chat: DeviceChat, letter: Letter, error: CollabError) -> None:
        """``send`` raised: nothing of it is stored."""
        if isinstance(error, IdConflict):
            self._world.count("id conflict")
        elif not letter.is_again and select(
            chat.connection, "WHERE room_id = ? AND message_id = ?", (chat.number, letter.id)
        ):
            raise Violation(f"{_who(chat)} has stored what it said it did not")

    def shown(self, chat: DeviceChat, row: MessageRow) -> None:
        """A program is told of a message: it is on the disk, so far at least."""
        found = chat.connection.execute(_SHOWN, (row.row,)).fetchone()
        if found is None:  # what was stored in the same transaction may have made it one with ours
            merged = chat.connection.execute(_OURS, (chat.number, row.id)).fetchone()
            found = merged and (row.id, *merged)
        if found is None or found[0] != row.id or not _leads(row.state, MessageState(found[1])):
            raise Violation(f"{_who(chat)} shows {row.body!r} before it is stored: {found}")
        key = (*_key(chat), row.row)
        before = self._states.get(key, row.state)
        if (
            before is not row.state
            and row.state not in EDGES[before]
            and not _leads(before, row.state)
        ):
            raise Violation(f"{_who(chat)} shows {row.body!r} as {row.state} after {before}")
        self._states[key] = row.state
        kept = self._kept.get(_key(chat), {})
        if row.id in kept and row.position is not None and row.state in IN_LOG:
            kept[row.id] = [row.body]  # the application at the relay may have rewritten it
        self._world.note(
            "device %d: %s is %s %s", chat.device.number, row.body, row.state, row.code
        )

    def stored(self, chat: DeviceChat, change: cc.Change, stored: Stored) -> None:
        """A decision is on the disk, with what came of it."""
        self._world.count(type(change).__name__)
        match change:
            case cc.NewLane(rolled_back=True):
                self._world.count("store rolled back")
                if not self._is_copied:
                    raise Violation(f"{_who(chat)} takes its file for a copy; nobody copied one")
            case cc.NewLane():
                if not (self._is_copied or self._is_put_back or self._forgets_lanes):
                    raise Violation(f"{_who(chat)} begins a lane; the relay forgot none")
            case cc.NewUser():
                self._receipts.pop(_key(chat), None)
                if not self._has_signed_in:
                    raise Violation(f"{_who(chat)} is {change.user}'s; nobody else signed in")
            case cc.Replace():
                self._world.count("history replaced")
                self._receipts.pop(_key(chat), None)
                self._unread_again.add(change.place.user)
                if not self._is_put_back:
                    raise Violation(f"{_who(chat)} takes the relay's log for another one")
            case cc.Bind():
                (bound,) = chat.connection.execute(_BOUND, (chat.number,)).fetchone()
                if bound > limits.LANE_WINDOW:
                    raise Violation(f"{_who(chat)} has bound {bound} at once")
            case cc.Place():
                if stored.receipts is not None or stored.reoffered:
                    self._world.count("log ends before what was known of it")
                    self._receipts.pop(_key(chat), None)
                    if not self._is_put_back:
                        raise Violation(f"{_who(chat)} takes the relay's log for an older one")
            case cc.Expire() | cc.Decide():
                for row in stored.changed:
                    if row.state is MessageState.EXPIRED:
                        self._expired(chat, row, locally=isinstance(change, cc.Expire))
        if stored.gaps:
            self._world.count("gap")
        if stored.lost:
            self._world.count("gap lost")
            self._is_lost(chat, stored.lost)
        moved = isinstance(change, cc.Place | cc.Replace | cc.Receive | cc.Fill)
        if moved or stored.gaps is not None:
            check_mark(chat)
        if stored.unread is not None:
            check_unread(chat)
        if stored.receipts is not None:
            self._rise(chat, stored.receipts)

    def _expired(self, chat: DeviceChat, row: MessageRow, *, locally: bool) -> None:
        self._world.count("message expired")
        if not self._is_copied and row.id in self._ids_in_log(chat):
            raise Violation(f"{_who(chat)} calls {row.body!r} expired, and the log has it")
        sent = self._sent.get(row.id)
        if not locally or sent is None or sent.device != chat.device.number:
            return
        assert sent.ttl_ms is not None
        forward_s = chat.device.jumped - sent.asked.jumped
        if forward_s * 1000 <= limits.CLOCK_SLACK_MS:
            age_ms = (self._world.now - sent.asked.at) * 1000
            if age_ms < sent.ttl_ms - _TOLERANCE_MS and not self._is_copied:
                raise Violation(f"{row.body!r} expired after {age_ms} of {sent.ttl_ms} ms")

    def _is_lost(self, chat: DeviceChat, lost: Iterable[Gap]) -> None:
        room = self._room_of(chat)
        for gap in lost:
            if room is not None and gap.high >= room.oldest:
                raise Violation(f"{_who(chat)} calls {gap} lost; the relay has {room.oldest}")

    def _rise(self, chat: DeviceChat, receipts: Sequence[Receipt]) -> None:
        row = chat_rows.chat(chat.connection, chat.number)
        assert row is not None
        now = _Told(row.user, row.generation, row.seq, {one.user: one for one in receipts})
        known = self._receipts.get(_key(chat))
        # What another user or of another log was told may have been stored, and the device have
        # died before it said so.
        if known is not None and now.is_of_same(known):
            for user, before in known.receipts.items():
                after = now.receipts.get(user, Receipt(user, 0, 0))
                fell = after.delivered_upto < before.delivered_upto
                if fell or after.read_upto < before.read_upto:
                    raise Violation(f"{_who(chat)}: {before} fell to {after}")
        self._receipts[_key(chat)] = now

    # The wire

    def goes_up(self, chat: DeviceChat, frame: frames.Frame) -> None:
        """A device speaks: it says nothing that a crash could take back."""
        connection = chat.connection
        row = chat_rows.chat(connection, chat.number)
        if row is None:
            return  # it was forgotten
        what = f"{_who(chat)} sends {type(frame).__name__}"
        match frame:
            case frames.Enter():
                if frame.lane_epoch != row.lane_epoch:
                    raise Violation(f"{what} for a lane that is not on its disk")
            case frames.Send() | frames.Skip():
                bound = connection.execute(
                    "SELECT message_id, body, giving_up FROM messages"
                    " WHERE room_id = ? AND slot = ?",
                    (chat.number, frame.lane_seq),
                ).fetchone()
                if bound is None or bound[0] != frame.message_id:
                    raise Violation(f"{what} for slot {frame.lane_seq}, which holds {bound}")
                if isinstance(frame, frames.Skip):
                    if bound[2] is None:
                        raise Violation(f"{what} for {bound[1]!r}, which nobody gave up")
                elif bound[1] != frame.body:
                    raise Violation(f"{what} with {frame.body!r}, and has {bound[1]!r}")
                else:
                    self._is_its_writers(chat, frame)
                    self._remains(chat, frame)
            case frames.Mark():
                if frame.delivered_upto > row.seq or frame.read_upto > max(
                    row.read_upto, chat.told_read
                ):
                    raise Violation(f"{frame}; on its disk is {row}")

    def _is_its_writers(self, chat: DeviceChat, frame: frames.Send) -> None:
        """What one user wrote never goes up for another."""
        sent, user = self._sent.get(frame.message_id), chat.device.user
        if sent is None or user is None or self._is_copied:
            return
        if (sent.sender or user) != user:
            raise Violation(f"{_who(chat)} sends what {sent.sender} wrote as {user}'s")
        self._sent[frame.message_id] = replace(sent, sender=user)  # nobody else's from now on

    def _remains(self, chat: DeviceChat, frame: frames.Send) -> None:
        """A wrong clock neither hurries a message nor makes it live for ever."""
        sent = self._sent.get(frame.message_id)
        if (
            sent is None or sent.ttl_ms is None or sent.boot != chat.device.boot
            or sent.device != chat.device.number or self._is_copied or frame.ttl_ms is None
        ):  # fmt: skip
            return
        remains = max(0.0, sent.ttl_ms - (self._world.now - sent.asked.at) * 1000)
        if abs(frame.ttl_ms - remains) > _TOLERANCE_MS:
            raise Violation(f"a message that has {remains} ms goes up with {frame.ttl_ms}")

    def came(self, chat: DeviceChat, frame: frames.Frame) -> None:
        """A device is told something: the log's disk has it."""
        match frame:
            case frames.Entered():
                chat.told_user, chat.told_read = frame.user, frame.read_upto
                self._users.setdefault(chat.device.number, set()).add(frame.user)
            case frames.Receipts():
                receipts = unpack_receipts(frame.data)
                read = [one.read_upto for one in receipts if one.user == chat.told_user]
                chat.told_read = max(chat.told_read, *read, 0)
        room = self._room_of(chat)
        if room is None or chat.generation in self._void:
            return
        told: list[tuple[bytes, int]] = []
        match frame:
            case frames.Outcome(code=OutcomeCode.ACCEPTED):
                told = [(frame.message_id, frame.seq)]
            case frames.Messages() | frames.Page():
                told = [(message.id, message.seq) for message in unpack_messages(frame.data)]
        for message_id, seq in told:
            if seq >= room.oldest and room.ids.get(message_id) != seq:
                raise Violation(f"{_who(chat)} is told of {seq}, which is not in the log")

    # At rest

    def are_level(self, name: str, chats: Sequence[DeviceChat]) -> None:
        """All has healed: everybody has the log, and every message has an end."""
        file = self.log()
        room_id = file.rooms[name].id
        log = _log(file.chat, room_id)
        room = self._rooms.get(room_id, _Room())
        if _seqs(file.chat, room_id) != list(range(room.oldest, room.head + 1)):
            raise Violation(f"the log of {name} has holes")
        for chat in chats:
            if not chat.is_quiet:
                raise Violation(f"{_who(chat)} is not level: {chat.machine.phase}")
            _has_log(chat, log, room)
            self._has_ends(chat, log, room)
            for message_id in self._kept.get(_key(chat), {}):
                if not select(
                    chat.connection, "WHERE room_id = ? AND message_id = ?",
                    (chat.number, message_id),
                ):  # fmt: skip
                    raise Violation(f"{_who(chat)} has lost a message that was sent")
        _receipts_agree(
            chats,
            is_told_again=lambda user: not self._has_signed_in and user not in self._unread_again,
        )

    def _has_ends(
        self, chat: DeviceChat, log: dict[int, tuple[bytes, str, str]], room: _Room
    ) -> None:
        seqs = {message_id: seq for seq, (message_id, _, _) in log.items()}
        user = _user(chat)
        for row in _own(chat):
            what = f"{_who(chat)}: {row.body!r} is {row.state}"
            if row.slot is not None or row.state in (MessageState.QUEUED, MessageState.SENDING):
                raise Violation(f"{what} at slot {row.slot}, and all has healed")
            if row.state in (MessageState.REJECTED, MessageState.STALLED) and not row.code:
                raise Violation(f"{what} for no reason")
            if row.state in IN_LOG:
                if row.id not in seqs and (row.seq is None or row.seq >= room.oldest):
                    raise Violation(f"{what} as {row.seq}, and not in the log")
                is_forgotten = row.seq is not None and row.seq < room.oldest
                is_elsewhere = row.id in seqs and (row.seq != seqs[row.id] or row.replaced)
                if is_elsewhere and not is_forgotten:
                    raise Violation(f"{what} as {row.seq}, and is {seqs[row.id]} in the log")
            elif row.code == OTHER_USER and self._is_copied:
                continue  # the other copy may have sent it for this user
            elif log.get(seqs.get(row.id, 0)) == (row.id, user, row.body):
                raise Violation(f"{what}, and in the log")

    # What the book knows

    def _logged_room(self, chat: DeviceChat) -> int | None:
        """The id of the log's room that a device's room is, while it is there."""
        room = self.log().rooms.get(chat.name)
        epoch = chat.device.disk.state.epoch(chat.name)
        return None if room is None or room.epoch != epoch else room.id

    def _room_of(self, chat: DeviceChat) -> _Room | None:
        room_id = self._logged_room(chat)
        return None if room_id is None else self._rooms.get(room_id)

    def _ids_in_log(self, chat: DeviceChat) -> dict[bytes, int]:
        room = self._room_of(chat)
        return {} if room is None else room.ids


# What always holds of a file


def check_mark(chat: DeviceChat) -> None:
    """Every number up to the mark is here, or in a gap; what is lost is not here."""
    row = chat_rows.chat(chat.connection, chat.number)
    if row is None:
        return
    here = {
        place for (place,) in chat.connection.execute(
            "SELECT place FROM messages WHERE room_id = ? AND tie = 0 AND place < ?",
            (chat.number, TAIL),
        )
    }  # fmt: skip
    gaps = chat_rows.gaps(chat.connection, chat.number)
    missing = {seq for gap in gaps for seq in range(gap.low, gap.high + 1)}
    for seq in range(1, row.seq + 1):
        if seq not in here and seq not in missing:
            raise Violation(f"{_who(chat)} is at {row.seq}, and has no {seq}, nor a gap: {gaps}")
    if missing and max(missing) > row.seq:
        raise Violation(f"{_who(chat)} has a gap beyond its mark {row.seq}: {gaps}")
    for gap in gaps:
        if gap.lost and not here.isdisjoint(range(gap.low, gap.high + 1)):
            raise Violation(f"{_who(chat)} has something that it calls lost: {gap}")


def check_unread(chat: DeviceChat) -> None:
    """Where nothing is hidden in a gap, the unread are those that are here."""
    row = chat_rows.chat(chat.connection, chat.number)
    if row is None:
        return
    gaps = chat_rows.gaps(chat.connection, chat.number)
    if any(gap.high > row.read_upto and not gap.lost for gap in gaps):
        return
    after = chat.connection.execute(_AFTER, (chat.number, TAIL)).fetchall()
    wanted = sum(place > row.read_upto and not mine and kind == 0 for place, mine, kind in after)
    told = chat_rows.unread(chat.connection, chat.number)
    if told != wanted:
        raise Violation(f"{_who(chat)} says {told} unread, and has {wanted}")


def _has_log(chat: DeviceChat, log: dict[int, tuple[bytes, str, str]], room: _Room) -> None:
    connection, number = chat.connection, chat.number
    row = chat_rows.chat(connection, number)
    assert row is not None
    if row.seq != room.head:
        raise Violation(f"{_who(chat)} is at {row.seq}, the log at {room.head}")
    gaps = chat_rows.gaps(connection, number)
    if any(not gap.lost or gap.high >= room.oldest for gap in gaps):
        raise Violation(f"{_who(chat)} has {gaps}; the relay has from {room.oldest} on")
    check_mark(chat)
    here = select(connection, "WHERE room_id = ? AND tie = 0 AND place < ?", (number, TAIL))
    found = {one.place: (one.id, one.sender, one.body) for one in here if one.place >= room.oldest}
    if found != log:
        wrong = sorted(set(found.items()) ^ set(log.items()))
        raise Violation(f"{_who(chat)} and the log differ: {wrong[:4]}")
    if any(one.replaced for one in here):
        raise Violation(f"{_who(chat)} marks as replaced what is in the log")
    misjudged = [one.body for one in here if one.mine != (one.sender == row.user)]
    if misjudged:
        raise Violation(f"{_who(chat)}, who is {row.user}, does not know whose {misjudged} are")
    check_unread(chat)
    if chat.unread != chat_rows.unread(connection, number):
        raise Violation(f"{_who(chat)} shows {chat.unread} unread")


def _receipts_agree(chats: Sequence[DeviceChat], *, is_told_again: Callable[[str], bool]) -> None:
    """``is_told_again``: whether what a user read is told to a relay that lost it."""
    marks: dict[str, tuple[int, int]] = {}
    for chat in chats:
        row = chat_rows.chat(chat.connection, chat.number)
        assert row is not None
        delivered, read = marks.get(row.user, (0, 0))
        marks[row.user] = (max(delivered, row.seq), max(read, row.read_upto))
    for chat in chats:
        row = chat_rows.chat(chat.connection, chat.number)
        assert row is not None
        if row.read_upto != marks[row.user][1] and is_told_again(row.user):
            raise Violation(f"{_who(chat)} has read {row.read_upto}, its user {marks[row.user][1]}")
        told = {one.user: one for one in chat_rows.receipts(chat.connection, chat.number)}
        for user, (delivered, read) in marks.items():
            one = told.get(user, Receipt(user, 0, 0))
            if not is_told_again(user):
                read = max(read, one.read_upto)
            if user != row.user and (one.delivered_upto, one.read_upto) != (delivered, read):
                raise Violation(f"{_who(chat)} has {one}; {user} is at {delivered}, {read}")
        _states_follow(chat, told.values(), row.user)


def _states_follow(chat: DeviceChat, receipts: Iterable[Receipt], user: str) -> None:
    delivered = max((max(o.delivered_upto, o.read_upto) for o in receipts), default=0)
    read = max((one.read_upto for one in receipts), default=0)
    for row in _own(chat):
        if row.state not in IN_LOG or row.seq is None or row.replaced or not row.mine:
            continue
        wanted = PATH[4] if row.seq <= read else PATH[3] if row.seq <= delivered else PATH[2]
        if row.state is not wanted:
            raise Violation(f"{_who(chat)}: {row.body!r} is {row.state}, not {wanted} ({user})")


def _read(connection: sqlite3.Connection, room_id: int) -> _Room:
    """What a log has of a room; a violation if there is a hole."""
    row = connection.execute("SELECT head FROM chats WHERE room_id = ?", (room_id,)).fetchone()
    head = 0 if row is None else row[0]
    rows = connection.execute(
        "SELECT seq, id FROM messages WHERE room_id = ? ORDER BY seq", (room_id,)
    ).fetchall()
    oldest = rows[0][0] if rows else head + 1
    if [seq for seq, _ in rows] != list(range(oldest, head + 1)):
        raise Violation(f"a log with the head {head} has {[seq for seq, _ in rows]}")
    return _Room(head, oldest, {message_id: seq for seq, message_id in rows})


def _seqs(connection: sqlite3.Connection, room_id: int) -> list[int]:
    rows = connection.execute("SELECT seq FROM messages WHERE room_id = ? ORDER BY seq", (room_id,))
    return [seq for (seq,) in rows]


def _log(connection: sqlite3.Connection, room_id: int) -> dict[int, tuple[bytes, str, str]]:
    rows = connection.execute(
        "SELECT seq, id, sender, body FROM messages WHERE room_id = ?", (room_id,)
    )
    return {seq: (message_id, sender, body) for seq, message_id, sender, body in rows}


def _own(chat: DeviceChat) -> list[MessageRow]:
    return select(
        chat.connection, "WHERE room_id = ? AND position IS NOT NULL ORDER BY position",
        (chat.number,),
    )  # fmt: skip


def _user(chat: DeviceChat) -> str:
    row = chat_rows.chat(chat.connection, chat.number)
    return "" if row is None else row.user


def _key(chat: DeviceChat) -> tuple[int, int]:
    return chat.device.number, chat.number


def _who(chat: DeviceChat) -> str:
    return f"device {chat.device.number} in {chat.name}"


@cache
def _leads(old: MessageState, new: MessageState) -> bool:
    """Whether a message may come from one state to another, in however many steps."""
    seen, to_see = {old}, [old]
    while to_see:
        for state in EDGES[to_see.pop()]:
            if state not in seen:
                seen.add(state)
                to_see.append(state)
    return new in seen
